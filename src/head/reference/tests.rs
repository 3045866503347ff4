use super::*;

fn path_of(url: &[u8], target: &str, host: Option<&str>, base_path: &str) -> Option<Vec<u8>> {
    let target = Authority::parse(target).unwrap();
    let host = host.map(|host| HeaderValue::from_str(host).unwrap());
    let reach = Reach {
        target: &target,
        host: host.as_ref(),
        base_path,
    };
    reach.path_of(url)
}

/// A URL, a base path, and the path that it becomes, if it becomes one.
type Case = (&'static [u8], &'static str, Option<&'static [u8]>);

fn check(target: &str, host: Option<&str>, cases: &[Case]) {
    for (url, base_path, expected) in cases {
        let path = path_of(url, target, host, base_path);
        let shown = String::from_utf8_lossy(url);
        assert_eq!(path.as_deref(), *expected, "{shown:?} behind {base_path:?}");
    }
}

#[test]
fn urls_of_the_origin_become_paths() {
    check(
        "api.example:8443",
        None,
        &[
            (b"https://api.example:8443/a?b#c", "", Some(b"/a?b#c")),
            (b"https://API.example:8443", "", Some(b"/")),
            (b"https://api.example.:8443/a", "", Some(b"/a")),
            (b"HTTPS://api.example:8443/a", "", Some(b"/a")),
            (b"https://api.example:8443?q", "", Some(b"/?q")),
            (b"https://api.example:8443#f", "", Some(b"/#f")),
            (b"  https://api.example:8443/a\t", "", Some(b"/a")),
            (
                b"https://api.example:8443/a%2Fb/../c",
                "",
                Some(b"/a%2Fb/../c"),
            ),
            (b"//api.example:8443/a", "", Some(b"/a")),
            (b"//api.example:8443", "", Some(b"/")),
            (b"http://api.example:8443/a", "", Some(b"/a")),
            // Raw UTF-8, Latin-1, and what else is not ASCII.
            (
                "https://api.example:8443/größe?ü#ß".as_bytes(),
                "",
                Some("/größe?ü#ß".as_bytes()),
            ),
            (
                b"https://api.example:8443/gr\xf6\xdfe",
                "",
                Some(b"/gr\xf6\xdfe"),
            ),
            (
                "//api.example:8443/日本".as_bytes(),
                "",
                Some("/日本".as_bytes()),
            ),
            // Other origins.
            (b"https://api.example/a", "", None),
            (b"http://api.example/a", "", None),
            (b"//api.example/a", "", None),
            (b"https://other.example:8443/a", "", None),
            (b"https://api.example:8443@evil.example/a", "", None),
            (b"https://user@api.example:8443/a", "", None),
            (b"https://api.example:8443.evil.example/a", "", None),
            (b"https://api.example:8443\\.evil.example/a", "", None),
            (b"https://api.example:84430/a", "", None),
            ("https://api.exämple:8443/a".as_bytes(), "", None),
            (b"ftp://api.example:8443/a", "", None),
            (b"mailto:a@api.example", "", None),
            (b"javascript://api.example:8443/%0aalert(1)", "", None),
            // References that mean the same here.
            (b"/a", "", None),
            (b"a/b", "", None),
            (b"../a", "", None),
            (b"?q", "", None),
            (b"#f", "", None),
            (b"", "", None),
            (b"https:a", "", None),
            (b"https:/api.example:8443/a", "", None),
        ],
    );
    check(
        "api.example",
        None,
        &[
            (b"https://api.example/a", "", Some(b"/a")),
            (b"https://api.example:443/a", "", Some(b"/a")),
            (b"https://api.example:/a", "", Some(b"/a")),
            (b"http://api.example/a", "", Some(b"/a")),
            (b"http://api.example:80/a", "", Some(b"/a")),
            (b"http://api.example:443/a", "", Some(b"/a")),
            (b"http://api.example:8080/a", "", None),
            (b"https://api.example:80/a", "", None),
            (b"//api.example:443/a", "", Some(b"/a")),
        ],
    );
    check(
        "[::1]:8443",
        None,
        &[
            (b"https://[::1]:8443/a", "", Some(b"/a")),
            (b"https://[0:0:0:0:0:0:0:1]:8443/a", "", Some(b"/a")),
            (b"https://[::2]:8443/a", "", None),
        ],
    );
}

#[test]
fn no_path_leads_to_another_host() {
    for path in [
        &b"//evil.example/"[..],
        b"/\\evil.example/",
        b"///evil.example/",
        b"/\t/evil.example/",
        b"/\t\\evil.example/",
        b"/ /evil.example/",
        b"/\x0b/evil.example/",
        b"//..",
        b"/\\..",
        b"/.//evil.example/",
        b"/%2E/\\evil.example/",
        b"/..//evil.example/",
        b"/a/..//evil.example/",
        b"/a/.%2e/\t/evil.example/",
    ] {
        for before in [
            &b"https://api.example"[..],
            b"http://api.example",
            b"//api.example",
        ] {
            let url = [before, path].concat();
            assert_eq!(path_of(&url, "api.example", None, ""), None, "{url:?}");
            let url = [before, b"/v1", path].concat();
            assert_eq!(path_of(&url, "api.example", None, "/v1"), None, "{url:?}");
        }
        let below = [&b"/v1"[..], path].concat();
        assert_eq!(
            path_of(&below, "api.example", None, "/v1"),
            None,
            "{below:?}"
        );
    }
}

#[test]
fn empty_segments_further_on_are_harmless() {
    for path in [
        "/",
        "/a//b",
        "/a/",
        "/./",
        "/a/..",
        "/a?//evil.example",
        "/#//x",
        "/a/../b//",
    ] {
        let url = format!("https://api.example{path}");
        let seen = path_of(url.as_bytes(), "api.example", None, "");
        assert_eq!(seen.as_deref(), Some(path.as_bytes()), "{path}");
    }
}

#[test]
fn base_paths_are_removed_where_they_stand_whole() {
    check(
        "api.example",
        None,
        &[
            (b"https://api.example/v1/a", "/v1", Some(b"/a")),
            (b"//api.example/v1/a", "/v1", Some(b"/a")),
            (b"https://api.example/v1", "/v1", Some(b"/")),
            (b"https://api.example/v1?q", "/v1", Some(b"/?q")),
            (b"https://api.example/v10/a", "/v1", None),
            (b"https://api.example/a", "/v1", None),
            (b"/v1/a", "/v1", Some(b"/a")),
            ("/v1/ä".as_bytes(), "/v1", Some("/ä".as_bytes())),
            (b"/v1/gr\xf6\xdfe", "/v1", Some(b"/gr\xf6\xdfe")),
            (b"/v1#f", "/v1", Some(b"/#f")),
            (b"/other", "/v1", None),
            (b"/v1/../a", "/v1", None),
            (b"/v1/%2E%2e/a", "/v1", None),
            (b"/v1/a?..", "/v1", Some(b"/a?..")),
            (b"a", "/v1", None),
        ],
    );
}

#[test]
fn the_host_that_the_origin_read_is_its_own() {
    check(
        "api.example",
        Some("localhost:8001"),
        &[
            (b"https://localhost:8001/a", "", Some(b"/a")),
            (b"http://localhost:8001/a", "", Some(b"/a")),
            (b"https://api.example/a", "", Some(b"/a")),
            (b"https://localhost/a", "", None),
        ],
    );
}

fn localized(name: HeaderName, lines: &[&str]) -> Vec<String> {
    let target = Authority::parse("api.example").unwrap();
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(name.clone(), HeaderValue::from_str(line).unwrap());
    }
    localize(
        &mut headers,
        Reach {
            target: &target,
            host: None,
            base_path: "/v1",
        },
    );
    let lines = headers.get_all(name).iter();
    lines
        .map(|line| line.to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_field_with_a_url_is_rewritten_on_every_line() {
    let other = "https://other.example/v1/a";
    let own = "https://api.example/v1/a";
    for name in [LOCATION, CONTENT_LOCATION] {
        assert_eq!(localized(name, &[other, own, own]), [other, "/a", "/a"]);
    }
    for (before, after) in [
        ("5; url=https://api.example/v1/a", "5; url=/a"),
        ("5;URL='https://api.example/v1/a'", "5;URL='/a'"),
        (
            "0; Url = \"https://api.example/v1/a\" x",
            "0; Url = \"/a\" x",
        ),
        ("5, https://api.example/v1/a", "5, /a"),
        ("5.5 https://api.example/v1/a", "5.5 /a"),
        ("; url=//api.example/v1/a", "; url=/a"),
        ("5; url=/v1/a", "5; url=/a"),
        ("5; url=urls/v1", "5; url=urls/v1"),
        (
            "5; url=https://other.example/v1/a",
            "5; url=https://other.example/v1/a",
        ),
        (
            "5; url=https://api.example/v1/\\evil.example",
            "5; url=https://api.example/v1/\\evil.example",
        ),
        ("5", "5"),
        ("", ""),
        ("5; url=", "5; url="),
        ("5; url='", "5; url='"),
    ] {
        assert_eq!(localized(REFRESH, &["x", before]), ["x", after]);
    }
    for (before, after) in [
        (
            "<https://api.example/v1/a?page=2>; rel=\"next\"",
            "</a?page=2>; rel=\"next\"",
        ),
        (
            "</v1/a>; rel=next, <//api.example/v1/b>;rel=prev",
            "</a>; rel=next, </b>;rel=prev",
        ),
        (
            "<https://other.example/v1>; rel=x, </v1>",
            "<https://other.example/v1>; rel=x, </>",
        ),
        (
            "<a>; title=\"</v1/a>, \\\" </v1/b>\", </v1/c>",
            "<a>; title=\"</v1/a>, \\\" </v1/b>\", </c>",
        ),
        (
            "</v1/a>; Anchor=\"https://api.example/v1/b\"",
            "</a>; Anchor=\"/b\"",
        ),
        ("</v1/a", "</a"),
        ("<>", "<>"),
        ("<a>; x=\"", "<a>; x=\""),
        ("<a>; x=\"\\", "<a>; x=\"\\"),
    ] {
        assert_eq!(localized(LINK, &[before]), [after]);
    }
}

#[test]
fn webdav_fields_lead_to_the_origin() {
    let host = HeaderValue::from_static("api.example:8443");
    let resolved = |name: &'static str, value: &[u8]| {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_bytes(value).unwrap());
        resolve(&mut headers, &host, "/dav", |https, authority| {
            match (https, authority.host(), authority.port()) {
                (false, "localhost", Some(8001)) => Some("/dav"),
                (_, "api.example", _) => Some(""),
                _ => None,
            }
        });
        headers[name].as_bytes().to_vec()
    };
    let cases: &[(&[u8], &[u8])] = &[
        (
            b"http://localhost:8001/b",
            b"https://api.example:8443/dav/b",
        ),
        (
            b"HTTP://localhost:8001/b%20c",
            b"https://api.example:8443/dav/b%20c",
        ),
        (
            b"http://localhost:8001/gr\xf6\xdfe",
            b"https://api.example:8443/dav/gr\xf6\xdfe",
        ),
        (b"http://localhost:8001", b"https://api.example:8443/dav/"),
        (
            b"http://localhost:8001?a",
            b"https://api.example:8443/dav/?a",
        ),
        (b"/b", b"https://api.example:8443/dav/b"),
        (b"http://api.example/b", b"https://api.example:8443/b"),
        (b"http://other.example/b", b"http://other.example/b"),
        (b"https://localhost:8001/b", b"https://localhost:8001/b"),
        (
            b"http://user@localhost:8001/b",
            b"http://user@localhost:8001/b",
        ),
        (b"//localhost:8001/b", b"//localhost:8001/b"),
        (b"b", b"b"),
    ];
    for (before, after) in cases {
        let shown = String::from_utf8_lossy(before);
        assert_eq!(resolved("destination", before), *after, "{shown}");
    }
    assert_eq!(
        resolved("if", b"<http://localhost:8001/a> (<urn:uuid:1> [\"x\"]) <http://other.example/b> (Not <http://localhost:8001/c>)"),
        b"<https://api.example:8443/dav/a> (<urn:uuid:1> [\"x\"]) <http://other.example/b> (Not <http://localhost:8001/c>)"
    );
}

#[test]
fn no_text_breaks_the_readers_or_becomes_another_host() {
    const PARTS: &[&str] = &[
        "https://api.example",
        "http://api.example",
        "//",
        "api.example",
        "/v1",
        "/",
        "\\",
        "\t",
        " ",
        ".",
        "..",
        "%2e",
        "<",
        ">",
        "\"",
        "\\\"",
        "(",
        ")",
        ";",
        ",",
        "=",
        "'",
        "url",
        "anchor=",
        "5",
        "?",
        "#",
        "@",
        ":443",
        "evil.example",
        "ä",
    ];
    let target = Authority::parse("api.example").unwrap();
    // A linear congruential generator (Knuth's MMIX) is random enough, and the same each time.
    let mut state = 1_u64;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut rewritten = 0;
    for _ in 0..50_000 {
        let count = 1 + next(8);
        let text: String = (0..count).map(|_| PARTS[next(PARTS.len())]).collect();
        let base_path = ["", "/v1"][next(2)];
        let reach = Reach {
            target: &target,
            host: None,
            base_path,
        };
        if let Some(path) = reach.path_of(text.as_bytes()) {
            rewritten += 1;
            let plain: Vec<u8> = path.iter().copied().filter(|byte| *byte > b' ').collect();
            let second = plain.get(1).copied().unwrap_or_default();
            assert!(
                plain[0] == b'/' && !b"/\\".contains(&second),
                "{text:?} becomes {path:?}"
            );
        }
        let Ok(value) = HeaderValue::from_str(&text) else {
            continue;
        };
        let mut headers = HeaderMap::new();
        for name in [LOCATION, REFRESH, LINK, HeaderName::from_static("if")] {
            headers.insert(name, value.clone());
        }
        localize(&mut headers, reach);
        resolve(&mut headers, &value, base_path, |_, _| Some(""));
    }
    assert!(rewritten > 100, "{rewritten}");
}
