//! What a browser may do with a binding: which pages are refused, and what a site needs to work.

use std::io::Write;
use std::net::SocketAddr;

use crate::support::{Answer, Ca, Client, Daemon, Origin, Then, answer, binding};

/// An origin that sends back the head of each request as it read it.
fn telling(ca: &Ca) -> Origin {
    Origin::with(ca, |request, tls| {
        answer(tls, &request.head)?;
        Ok(Then::Keep)
    })
}

fn ask(address: SocketAddr, request: &[u8]) -> Answer {
    let mut client = Client::connect(address);
    client.write(request);
    client.write(b"\r\nConnection: close\r\n\r\n");
    client.answer().unwrap()
}

const CHROME: &str = "User-Agent: Mozilla/5.0\r\nAccept-Language: en\r\nAccept-Encoding: gzip";

#[test]
fn mapped_addresses_and_names_of_others_are_no_way_in() {
    let ca = Ca::new();
    let origin = telling(&ca);
    let config = "listen = \"127.0.0.1:0\"\n[bindings.secret-name]\norigin = \"https://localhost:PORT\"\n\
         certificate = \"client.pem\"\nca = \"ca.crt\"\nlisten = \"127.0.0.1:0\"\n";
    let config = config.replace("PORT", &origin.port.to_string());
    let daemon = Daemon::start(&ca, &ca.issue("client"), &config);
    let shared = daemon.wait_for_line("listening for every binding");
    let shared: SocketAddr = shared["listener"].as_str().unwrap().parse().unwrap();
    for address in [daemon.address("secret-name"), shared] {
        for host in [
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "evil.example",
            "0.0.0.0",
        ] {
            let plain = ask(
                address,
                format!("GET / HTTP/1.1\r\nHost: {host}").as_bytes(),
            );
            assert_eq!(plain.status, 421, "{host}: {plain:?}");
            assert!(plain.body.contains("secret-name"), "{plain:?}");
            for fields in [
                CHROME,
                "Origin: http://evil.example",
                "Sec-Fetch-Site: same-origin",
                "Accept-Language: en\r\nAccept-Encoding: gzip\r\nUser-Agent: x",
                "User-Agent: Mozilla/5.0\r\nAccept: application/json",
            ] {
                let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{fields}");
                let page = ask(address, request.as_bytes());
                assert_eq!(page.status, 421, "{request}: {page:?}");
                let told = format!("{}{}", page.head, page.body);
                for secret in ["secret-name", &origin.port.to_string(), "allow", "bindings"] {
                    assert!(!told.contains(secret), "{secret}: {request}: {page:?}");
                }
            }
        }
    }
    daemon.wait_for_line("browser request rejected");
    assert!(origin.requests().is_empty());
}

#[test]
fn a_browser_gets_nothing_by_a_name_that_it_does_not_trust() {
    let ca = Ca::new();
    let origin = telling(&ca);
    let daemon = Daemon::start(
        &ca,
        &ca.issue("client"),
        &binding(&origin, "host = [\"b\", \"api.example\"]"),
    );
    let address = daemon.address("b");
    let port = origin.port;
    // Its own name, another that it is called by, and a browser that has mtlsd as its proxy.
    let url = format!("http://localhost:{port}/");
    for line in [
        "GET / HTTP/1.1\r\nHost: b".to_owned(),
        "GET / HTTP/1.1\r\nHost: api.example:8001".to_owned(),
        "GET http://api.example/ HTTP/1.1\r\nHost: api.example".to_owned(),
        "POST / HTTP/1.1\r\nContent-Length: 0\r\nHost: api.example:8001\r\nOrigin: http://api.example:8001".to_owned(),
        "GET / HTTP/1.1\r\nHost: localhost.".to_owned(),
    ] {
        let refused = ask(address, format!("{line}\r\n{CHROME}").as_bytes());
        assert_eq!(refused.status, 403, "{line}: {refused:?}");
        assert!(refused.body.contains("address bar"), "{refused:?}");
        assert!(!refused.body.contains("\"any\""), "{refused:?}");
    }
    for line in [
        "GET / HTTP/1.1\r\nHost: api.example:8001".to_owned(),
        format!("GET {url} HTTP/1.1\r\nHost: localhost:{port}"),
    ] {
        assert_eq!(ask(address, line.as_bytes()).status, 200, "{line}");
    }
}

#[test]
fn an_own_page_is_the_origin_s_own() {
    let ca = Ca::new();
    let origin = telling(&ca);
    let config = binding(&origin, "allow_web_origins = \"https://app.example\"");
    let config = config.replace(
        &format!("localhost:{}", origin.port),
        &format!("localhost:{}/v1", origin.port),
    );
    let daemon = Daemon::start(&ca, &ca.issue("client"), &config);
    let address = daemon.address("b");
    let target = format!("https://localhost:{}", origin.port);
    let own = format!("http://localhost:{}", address.port());
    let host = format!("localhost:{}", address.port());
    let foreign = "https://app.example";
    // Origin, Referer, and what becomes of both.
    let cases = [
        (
            own.as_str(),
            format!("{own}/login?x"),
            target.as_str(),
            format!("{target}/v1/login?x"),
        ),
        ("", format!("{own}/"), "", format!("{target}/v1/")),
        (
            foreign,
            format!("{foreign}/a"),
            foreign,
            format!("{foreign}/a"),
        ),
        (foreign, format!("{own}/a"), foreign, format!("{own}/a")),
        ("", format!("{foreign}/a"), "", format!("{foreign}/a")),
    ];
    for (page, referer, as_page, as_referer) in cases {
        let mut request =
            format!("POST /f HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nReferer: {referer}");
        if !page.is_empty() {
            request.push_str(&format!("\r\nOrigin: {page}"));
        }
        let head = ask(address, request.as_bytes()).body.to_ascii_lowercase();
        let wanted = match as_page {
            "" => !head.contains("\norigin:"),
            page => head.contains(&format!("\norigin: {page}\r")),
        };
        assert!(wanted, "{request}\n{head}");
        // It may be the last line.
        let head = format!("{head}\r\n");
        assert!(
            head.contains(&format!("\nreferer: {as_referer}\r")),
            "{request}\n{head}"
        );
    }
    let preserving = config.replace("[bindings.b]", "[bindings.b]\nhost_header = \"preserve\"");
    let daemon = Daemon::start(&ca, &ca.issue("client"), &preserving);
    let own = format!("http://localhost:{}", daemon.address("b").port());
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nOrigin: {own}", &own[7..]);
    let head = ask(daemon.address("b"), request.as_bytes()).body;
    assert!(head.contains(&format!("origin: {own}")), "{head}");
}

#[test]
fn own_errors_are_readable_for_an_allowed_page_only() {
    let ca = Ca::new();
    let origin = telling(&ca);
    let config = binding(&origin, "allow_web_origins = \"https://app.example\"");
    // Nothing listens there.
    let config = format!("{config}connect_to = \"127.0.0.1:1\"\n");
    let daemon = Daemon::start(&ca, &ca.issue("client"), &config);
    let address = daemon.address("b");
    let from = |page: &str| format!("GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: {page}");
    let allowed = ask(address, from("https://app.example").as_bytes());
    assert_eq!(allowed.status, 502);
    for line in [
        "access-control-allow-origin: https://app.example\r\n",
        "vary: Origin\r\n",
    ] {
        assert!(allowed.head.contains(line), "{allowed:?}");
    }
    let refused = ask(address, from("https://evil.example").as_bytes());
    assert_eq!(refused.status, 403);
    assert!(!refused.head.contains("access-control"), "{refused:?}");
    // A page that is refused in a window of its own asks for no icon.
    let policy = "content-security-policy: default-src 'none'; sandbox\r\n";
    assert!(refused.head.contains(policy), "{refused:?}");
    let program = ask(address, b"GET / HTTP/1.1\r\nHost: localhost");
    assert!(!program.head.contains("access-control"), "{program:?}");
}

/// An origin whose answer has these fields.
fn sending(ca: &Ca, fields: fn(&str) -> Vec<u8>) -> Origin {
    Origin::with(ca, move |request, tls| {
        let host = request.field("host").unwrap_or_default();
        tls.write_all(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n")?;
        tls.write_all(&fields(host))?;
        tls.write_all(b"\r\n")?;
        Ok(Then::Keep)
    })
}

/// The head of an answer, in bytes.
fn raw_head(address: SocketAddr) -> Vec<u8> {
    let mut client = Client::connect(address);
    client.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    client.rest().unwrap()
}

fn has(head: &[u8], line: &[u8]) -> bool {
    head.windows(line.len()).any(|window| window == line)
}

#[test]
fn the_origin_s_own_urls_lead_back_with_their_bytes_kept() {
    let ca = Ca::new();
    let origin = sending(&ca, |host| {
        let mut fields = Vec::new();
        for line in [
            &b"Location: //HOST/gr\xf6\xdfe?\xc3\xbc#f\r\n"[..],
            b"Location: https://HOST/\\evil.example/\r\n",
            b"Content-Location: http://HOST/a\r\n",
            b"Refresh: 5; url=https://HOST/b\r\n",
            b"Link: <https://HOST/c>; rel=next, <https://other.example/>; rel=prev\r\n",
            b"Set-Cookie: a=b; Domain=localhost; Secure; HttpOnly\r\n",
        ] {
            let mut rest = line;
            while let Some(at) = rest.windows(4).position(|window| window == b"HOST") {
                fields.extend_from_slice(&rest[..at]);
                fields.extend_from_slice(host.as_bytes());
                rest = &rest[at + 4..];
            }
            fields.extend_from_slice(rest);
        }
        fields
    });
    let host = format!("localhost:{}", origin.port);
    let start = |lines: &str| {
        let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, lines));
        let address = daemon.address("b");
        (daemon, raw_head(address))
    };
    let (_daemon, head) = start("");
    let shown = String::from_utf8_lossy(&head);
    for line in [
        &b"location: /gr\xf6\xdfe?\xc3\xbc#f\r\n"[..],
        format!("location: https://{host}/\\evil.example/\r\n").as_bytes(),
        b"content-location: /a\r\n",
        b"refresh: 5; url=/b\r\n",
        b"link: </c>; rel=next, <https://other.example/>; rel=prev\r\n",
        b"set-cookie: a=b; Domain=localhost; Secure; HttpOnly\r\n",
    ] {
        let line_shown = String::from_utf8_lossy(line);
        assert!(has(&head, line), "{line_shown}\n{shown}");
    }
    let (_daemon, head) = start("rewrite_location = false\nrewrite_cookies = true");
    let shown = String::from_utf8_lossy(&head);
    assert!(
        has(
            &head,
            format!("refresh: 5; url=https://{host}/b").as_bytes()
        ),
        "{shown}"
    );
    assert!(has(&head, b"set-cookie: a=b; HttpOnly\r\n"), "{shown}");
}

#[test]
fn a_webdav_destination_is_the_origin_s() {
    let ca = Ca::new();
    let origin = telling(&ca);
    let config = binding(&origin, "host = \"dav\"").replace(
        &format!("localhost:{}", origin.port),
        &format!("localhost:{}/dav", origin.port),
    );
    let daemon = Daemon::start(&ca, &ca.issue("client"), &config);
    let address = daemon.address("b");
    let port = address.port();
    let target = format!("https://localhost:{}", origin.port);
    for (destination, expected) in [
        (
            format!("http://localhost:{port}/b"),
            format!("{target}/dav/b"),
        ),
        (
            format!("http://127.0.0.1:{port}/b%20c"),
            format!("{target}/dav/b%20c"),
        ),
        (
            format!("http://dav.localhost:{port}/b"),
            format!("{target}/dav/b"),
        ),
        ("/b".to_owned(), format!("{target}/dav/b")),
        (
            format!("http://localhost:{}/b", origin.port),
            format!("{target}/b"),
        ),
        (format!("{target}/b"), format!("{target}/b")),
        (
            "http://other.example/b".to_owned(),
            "http://other.example/b".to_owned(),
        ),
    ] {
        let request = format!(
            "MOVE /a HTTP/1.1\r\nHost: localhost:{port}\r\nDestination: {destination}\r\nIf: <{destination}> (<urn:x>)"
        );
        let head = ask(address, request.as_bytes()).body;
        assert!(
            head.contains(&format!("destination: {expected}\r\n")),
            "{destination}: {head}"
        );
        if destination != "/b" {
            assert!(
                head.contains(&format!("if: <{expected}> (<urn:x>)")),
                "{destination}: {head}"
            );
        }
    }
}

#[test]
fn a_target_is_never_empty() {
    let ca = Ca::new();
    let origin = telling(&ca);
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    let host = format!("localhost:{}", origin.port);
    for (rest, expected) in [
        ("", "/"),
        ("#x", "/"),
        ("?x", "/?x"),
        ("?", "/?"),
        ("?x#y", "/?x"),
        ("/#x", "/"),
    ] {
        for scheme in ["http", "https"] {
            let request = format!("GET {scheme}://{host}{rest} HTTP/1.1\r\nHost: {host}");
            let head = ask(daemon.address("b"), request.as_bytes()).body;
            assert!(
                head.starts_with(&format!("GET {expected} HTTP/1.1\r\n")),
                "{request}: {head}"
            );
        }
    }
}

#[test]
fn http2_has_the_same_checks() {
    let ca = Ca::new();
    let origin = telling(&ca);
    let daemon = Daemon::start(
        &ca,
        &ca.issue("client"),
        &binding(&origin, "host = \"api.example\""),
    );
    let address = daemon.address("b");
    const BROWSER: &[(&str, &str)] = &[
        ("user-agent", "Mozilla/5.0"),
        ("accept-language", "en"),
        ("accept-encoding", "gzip"),
    ];
    type Sent = &'static [(&'static str, &'static str)];
    let cases: &[(&str, &str, Sent, u16)] = &[
        ("GET", "http://localhost/", &[], 200),
        ("GET", "http://localhost/", BROWSER, 200),
        (
            "GET",
            "http://localhost/",
            &[("sec-fetch-site", "cross-site")],
            403,
        ),
        (
            "GET",
            "http://localhost/",
            &[("origin", "https://evil.example")],
            403,
        ),
        ("GET", "http://api.example/", &[], 200),
        ("GET", "http://api.example/", BROWSER, 403),
        (
            "GET",
            "http://api.example/",
            &[("origin", "http://api.example")],
            403,
        ),
        ("GET", "http://evil.example/", &[], 421),
        ("GET", "http://[::ffff:127.0.0.1]/", &[], 421),
        ("GET", "ftp://localhost/", &[], 400),
        ("GET", "http://localhost/", &[("host", "evil.example")], 400),
        ("OPTIONS", "http://localhost/", &[], 200),
    ];
    for (method, url, fields, status) in cases {
        let outcome = crate::support::ask_http2(address, method, url, fields).unwrap();
        assert_eq!(outcome.0, *status, "{method} {url} {fields:?}: {outcome:?}");
    }
    // An own page is the origin's here too.
    let own = format!("http://localhost:{}", address.port());
    let (_, head) =
        crate::support::ask_http2(address, "GET", &format!("{own}/"), &[("origin", &own)]).unwrap();
    let expected = format!("origin: https://localhost:{}", origin.port);
    assert!(head.contains(&expected), "{head}");
}
