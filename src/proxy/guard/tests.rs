use http::{HeaderName, Request};

use super::*;
use crate::config::WebOrigin;

type Sent = &'static [(&'static str, &'static str)];

/// What Chromium and Firefox send with every request.
const BROWSER: Sent = &[
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)"),
    ("accept-language", "en"),
    ("accept-encoding", "gzip, deflate"),
];

fn check(host: &str, fields: &[(&'static str, &'static str)], allowed: &WebOrigins) -> String {
    let mut request = Request::get("/").header("host", host);
    for (name, value) in fields {
        request = request.header(HeaderName::from_static(name), *value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    let fields = Fields::of(&head.headers);
    let message = Message::of(&head, fields).unwrap();
    match browser(&head.headers, fields, &message, allowed, "payments") {
        Ok(page) => format!("{page:?}"),
        Err(error) => error.to_string(),
    }
}

const SITE: &str = "sec-fetch-site";
const OWN: &str = "http://localhost:8001";
const EVIL: &str = "https://evil.example";

#[test]
fn pages_of_other_sites_are_refused_where_browsers_name_them() {
    let cases: &[(Sent, bool)] = &[
        (&[], true),
        (BROWSER, true),
        (&[(SITE, "same-origin")], true),
        (&[(SITE, "none")], true),
        (&[(SITE, "cross-site")], false),
        (&[(SITE, "same-site")], false),
        (&[(SITE, "whatever")], false),
        (&[(SITE, "Same-Origin")], false),
        (&[(SITE, "")], false),
        (&[(SITE, "none"), (SITE, "cross-site")], false),
        (&[(SITE, "none"), (SITE, "none")], false),
        // An Origin has to be right whatever else is said.
        (&[(SITE, "same-origin"), ("origin", EVIL)], false),
        (&[(SITE, "none"), ("origin", EVIL)], false),
        (
            &[(SITE, "none"), ("origin", "chrome-extension://abc")],
            false,
        ),
        (&[(SITE, "none"), ("origin", "null")], false),
        (&[(SITE, "same-origin"), ("origin", "null")], true),
        (&[(SITE, "same-origin"), ("origin", OWN)], true),
        (&[(SITE, "none"), ("origin", OWN)], true),
        (&[(SITE, "cross-site"), ("origin", OWN)], false),
        (&[(SITE, "same-site"), ("origin", OWN)], false),
        (&[(SITE, "cross-site"), ("origin", EVIL)], false),
        (&[("origin", OWN)], true),
        (&[("origin", "http://LOCALHOST:8001")], true),
        (&[("origin", "https://localhost:8001")], false),
        (&[("origin", "http://localhost")], false),
        (&[("origin", "http://localhost:8002")], false),
        (&[("origin", "http://127.0.0.1:8001")], false),
        (&[("origin", "http://localhost:8001/")], false),
        (&[("origin", "http://u@localhost:8001")], false),
        (&[("origin", EVIL)], false),
        (&[("origin", "null")], false),
        (&[("origin", "")], false),
        (&[("origin", OWN), ("origin", OWN)], false),
        (&[("origin", OWN), ("origin", EVIL)], false),
        (&[("origin", "http://a\"b")], false),
    ];
    for (fields, admitted) in cases {
        let outcome = check("localhost:8001", fields, &WebOrigins::Own);
        assert_eq!(outcome == "Own", *admitted, "{fields:?}: {outcome}");
        assert!(!outcome.contains("\"any\""), "{outcome}");
    }
    assert_eq!(
        check(
            "localhost:80",
            &[("origin", "http://localhost")],
            &WebOrigins::Own
        ),
        "Own"
    );
    assert_eq!(
        check(
            "[::1]:8001",
            &[("origin", "http://[::1]:8001")],
            &WebOrigins::Own
        ),
        "Own"
    );
}

#[test]
fn browsers_are_refused_where_they_do_not_name_pages() {
    for host in [
        "api.example:8001",
        "payments",
        "192.0.2.1:8001",
        "[::ffff:127.0.0.1]:8001",
        "localhost.",
        "localhost.:8001",
        "localhost.example",
    ] {
        let own: &'static str = format!("http://{host}").leak();
        let with = |fields: &[(&'static str, &'static str)]| [BROWSER, fields].concat();
        let refused = [
            with(&[]),
            with(&[("origin", own)]),
            vec![("origin", own)],
            vec![("origin", EVIL)],
            vec![("origin", "null")],
            with(&[(SITE, "cross-site")]),
            with(&[("user-agent", "curl")]),
        ];
        for fields in refused {
            let outcome = check(host, &fields, &WebOrigins::Own);
            assert!(outcome.len() > 20, "{host} {fields:?}: {outcome}");
            assert!(!outcome.contains("\"any\""), "{outcome}");
        }
        // Programs that have one or the other of a browser's fields.
        for fields in [
            vec![],
            vec![BROWSER[0]],
            vec![BROWSER[0], BROWSER[2]],
            vec![("user-agent", "node"), BROWSER[1], BROWSER[2]],
        ] {
            let outcome = check(host, &fields, &WebOrigins::Own);
            assert_eq!(outcome, "Unknown", "{host} {fields:?}");
        }
        assert_eq!(check(host, &with(&[]), &WebOrigins::Any), "Unknown");
        let listed = WebOrigins::Listed(vec![WebOrigin::parse("https://app.example").unwrap()]);
        let page = with(&[("origin", "https://app.example")]);
        assert_eq!(
            check(host, &page, &listed),
            "Listed(\"https://app.example\")"
        );
        assert_ne!(check(host, &with(&[]), &listed), "Unknown");
    }
}

#[test]
fn refusals_say_what_to_do() {
    let cases: &[(&str, Sent, &str)] = &[
        (
            "localhost:8001",
            &[(SITE, "cross-site"), ("origin", EVIL)],
            "a web page of https://evil.example may not use binding \"payments\". If it should, \
             add allow_web_origins = [\"https://evil.example\"] to [bindings.payments]",
        ),
        (
            "localhost:8001",
            &[(SITE, "cross-site")],
            "a web page of another site may not use binding \"payments\". If one should, list its \
             origin in allow_web_origins of [bindings.payments], and have it send requests that \
             name it (CORS)",
        ),
        (
            "localhost:8001",
            &[
                (SITE, "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("origin", EVIL),
            ],
            "a page of another site may not open binding \"payments\". If you want to, enter the \
             address in the address bar",
        ),
        (
            "api.example:8001",
            BROWSER,
            "browsers do not tell which page sends a request to http://api.example:8001, so binding \
             \"payments\" takes none from them. Use localhost, payments.localhost or a loopback \
             address in place of api.example:8001; to open a page, enter the address in the \
             address bar",
        ),
    ];
    for (host, fields, expected) in cases {
        assert_eq!(check(host, fields, &WebOrigins::Own), *expected);
    }
}

#[test]
fn listed_pages_are_let_through() {
    let listed = WebOrigins::Listed(vec![WebOrigin::parse("https://app.example").unwrap()]);
    let cases: &[(Sent, bool)] = &[
        (&[("origin", "https://app.example")], true),
        (
            &[(SITE, "cross-site"), ("origin", "https://app.example")],
            true,
        ),
        (&[(SITE, "cross-site")], false),
        (
            &[("origin", "https://app.example"), ("origin", EVIL)],
            false,
        ),
        (&[("origin", "https://app.example.evil")], false),
    ];
    for (fields, admitted) in cases {
        let outcome = check("localhost:8001", fields, &listed);
        assert_eq!(
            outcome.starts_with("Listed"),
            *admitted,
            "{fields:?}: {outcome}"
        );
    }
    let null: Sent = &[("origin", "null"), (SITE, "cross-site")];
    assert_eq!(
        check("localhost:8001", null, &WebOrigins::Any),
        "Listed(\"null\")"
    );
}
