//! Request heads that cannot be served, whoever finds that out: each response says which field,
//! character or limit it is, and what to do, in its body and in `Proxy-Status`, and the log says it too.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use crate::support::{Ca, Client, Daemon, Origin, Then, binding, wait_for};

/// What is sent, the status, and words of the explanation.
type Row = (&'static str, String, u16, &'static [&'static str]);

fn rows() -> Vec<Row> {
    let get = |fields: &str| format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    let target = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    vec![
        (
            "a space in the target",
            target("/a b"),
            400,
            &["a space", "%20"],
        ),
        (
            "a control in the target",
            target("/a\x01"),
            400,
            &["0x01", "%01"],
        ),
        (
            "an invalid URL",
            target("http://[::1/"),
            400,
            &["not a valid URI"],
        ),
        (
            "no version",
            "GET /\r\n\r\n".to_owned(),
            400,
            &["no HTTP version"],
        ),
        (
            "another version",
            "GET / HTTP/3.0\r\n\r\n".to_owned(),
            400,
            &["\"HTTP/3.0\""],
        ),
        (
            "the method",
            "G(T / HTTP/1.1\r\n\r\n".to_owned(),
            400,
            &["method", "character ("],
        ),
        (
            "a field name",
            get("X(A): b\r\n"),
            400,
            &["\"X(A)\"", "character ("],
        ),
        (
            "whitespace before a colon",
            get("X-A : b\r\n"),
            400,
            &["\"X-A\"", "whitespace"],
        ),
        (
            "obs-fold",
            get("X-A: b\r\n c\r\n"),
            400,
            &["\"X-A\"", "obs-fold"],
        ),
        ("no colon", get("X-A\r\n"), 400, &["no colon"]),
        ("no name", get(": b\r\n"), 400, &["no name"]),
        (
            "a NUL byte",
            get("X-A: a\x00b\r\n"),
            400,
            &["\"X-A\"", "NUL"],
        ),
        (
            "a carriage return",
            get("X-A: a\rb\r\n"),
            400,
            &["\"X-A\"", "carriage return"],
        ),
        (
            "a length",
            post("Content-Length: +5\r\n"),
            400,
            &["Content-Length"],
        ),
        (
            "a list of lengths",
            post("Content-Length: 5, 5\r\n"),
            400,
            &["Content-Length"],
        ),
        (
            "two lengths",
            post("Content-Length: 5\r\nContent-Length: 6\r\n"),
            400,
            &["differ"],
        ),
        (
            "a coding",
            post("Transfer-Encoding: gzip, chunked\r\n"),
            400,
            &["Transfer-Encoding"],
        ),
        (
            "no host",
            "GET / HTTP/1.1\r\n\r\n".to_owned(),
            400,
            &["Host"],
        ),
        (
            "user information",
            target("http://u:p@localhost/"),
            400,
            &["user information", "Authorization"],
        ),
        (
            "many fields",
            get(&"X-A: b\r\n".repeat(1000)),
            431,
            &["1000 fields", "max_header_fields"],
        ),
        (
            "many bytes",
            get(&format!("X-A: {}\r\n", "b".repeat(70_000))),
            431,
            &["max_header_size"],
        ),
        (
            "endless fields",
            format!(
                "GET / HTTP/1.1\r\n{}",
                format!("X-A: {}\r\n", "b".repeat(100)).repeat(700)
            ),
            431,
            &["max_header_size"],
        ),
        (
            "a long target",
            target(&format!("/{}", "a".repeat(65_600))),
            414,
            &["65534"],
        ),
        (
            "an endless target",
            format!("GET /{}", "a".repeat(70_000)),
            414,
            &["65534"],
        ),
    ]
}

#[test]
fn every_refusal_names_its_cause_and_its_cure() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    for (name, sent, status, words) in rows() {
        let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
        let mut client = Client::connect(daemon.address("b"));
        client.write(sent.as_bytes());
        let answer = client
            .answer()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        let field = |field: &str| {
            let lines = answer.head.lines();
            lines
                .filter(|line| line.starts_with(field))
                .collect::<String>()
        };
        for word in words {
            assert!(answer.body.contains(word), "{name}: {answer:?}");
        }
        let proxy_status = field("proxy-status: ").replace("\\\"", "\"");
        assert!(proxy_status.contains(words[0]), "{name}: {answer:?}");
        assert!(
            answer.body.contains("binding: b") || name == "no host" || name == "user information",
            "{name}: {answer:?}"
        );
        assert!(
            field("connection: ").contains("close"),
            "{name}: {answer:?}"
        );
        assert!(client.rest().unwrap().is_empty(), "{name}");
        wait_for(name, || {
            let log = daemon.log().join("\n").replace("\\\"", "\"");
            match log.contains(words[0]) {
                true => Ok(()),
                false => Err(log),
            }
        });
    }
    assert!(origin.requests().is_empty());
}

#[test]
fn a_refusal_comes_in_its_turn_and_in_the_form_that_was_asked_for() {
    let ca = Ca::new();
    let origin = Origin::with(&ca, |request, tls| {
        std::thread::sleep(Duration::from_millis(100));
        crate::support::answer(tls, request.target())?;
        Ok(Then::Keep)
    });
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    let mut client = Client::connect(daemon.address("b"));
    let bad = "GET /b HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nX : y\r\n\r\n";
    client.write(format!("GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n{bad}").as_bytes());
    assert_eq!(client.answer().unwrap().body, "/a");
    let refused = client.answer().unwrap();
    assert_eq!(refused.status, 400);
    assert!(refused.body.starts_with('{'), "{refused:?}");
    // A HEAD has no body, and HTTP/1.0 gets its version.
    let mut client = Client::connect(daemon.address("b"));
    client.write(b"HEAD /a b HTTP/1.0\r\n\r\n");
    let head = client.head().unwrap();
    assert!(head.starts_with("HTTP/1.0 400 "), "{head}");
    assert!(client.rest().unwrap().is_empty());
}

#[test]
fn characters_that_people_type_are_forwarded_encoded() {
    let ca = Ca::new();
    let origin = Origin::with(&ca, |request, tls| {
        crate::support::answer(tls, request.target())?;
        Ok(Then::Keep)
    });
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    for (sent, arrived) in [
        ("/db/_view?key=\"a\"", "/db/_view?key=%22a%22"),
        ("/query?q=up<1", "/query?q=up%3C1"),
        ("/a`b<c>", "/a%60b%3Cc%3E"),
        ("/a\"b?`", "/a%22b?%60"),
        ("/{a}|\\^?{b}|", "/{a}|\\^?{b}|"),
    ] {
        assert_eq!(crate::support::get(daemon.address("b"), sent).body, arrived);
    }
}

#[test]
fn a_client_that_has_sent_its_request_may_close_its_side() {
    let ca = Ca::new();
    let origin = Origin::with(&ca, |request, tls| {
        std::thread::sleep(Duration::from_millis(200));
        crate::support::answer(tls, &String::from_utf8_lossy(&request.body))?;
        Ok(Then::Keep)
    });
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    let chunked = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for (rest, body) in [
        ("\r\n", ""),
        ("Content-Length: 5\r\n\r\nhello", "hello"),
        (chunked, "5\r\nhello\r\n0\r\n\r\n"),
    ] {
        let mut client = Client::connect(daemon.address("b"));
        client.write(format!("POST / HTTP/1.1\r\nHost: localhost\r\n{rest}").as_bytes());
        client.stream().shutdown(Shutdown::Write).unwrap();
        let answer = client.answer().unwrap();
        assert_eq!((answer.status, &*answer.body), (200, body), "{rest:?}");
        assert!(answer.head.contains("connection: close"), "{answer:?}");
        assert!(client.rest().unwrap().is_empty());
    }
    // Half a request is none.
    let mut client = Client::connect(daemon.address("b"));
    client.write(b"GET / HTTP/1.1\r\nHost: loc");
    client.stream().shutdown(Shutdown::Write).unwrap();
    let answer = client.answer().unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("incomplete"), "{answer:?}");
    let mut client = Client::connect(daemon.address("b"));
    client.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhal");
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.answer().unwrap().status, 400);
}

#[test]
fn a_slow_head_is_told_so() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let config = binding(&origin, "header_timeout = \"300ms\"");
    let daemon = Daemon::start(&ca, &ca.issue("client"), &config);
    let mut client = Client::connect(daemon.address("b"));
    client.write(b"GET / HTTP/1.1\r\nHost: loc");
    let answer = client.answer().unwrap();
    assert_eq!(answer.status, 408);
    assert!(
        answer.body.contains("within 300ms (`header_timeout`)"),
        "{answer:?}"
    );
    // The same on a connection that has served.
    let mut client = Client::connect(daemon.address("b"));
    assert_eq!(client.get("/").unwrap().status, 200);
    client.stream().write_all(b"GET / HTTP/1.1\r\n").unwrap();
    assert_eq!(client.answer().unwrap().status, 408);
}

#[test]
fn a_thousand_fields_pass_both_ways() {
    let ca = Ca::new();
    let origin = Origin::with(&ca, |request, tls| {
        let fields = request.all("x-a").len();
        let head = format!("HTTP/1.1 200 OK\r\n{}", "X-B: c\r\n".repeat(990));
        let body = fields.to_string();
        tls.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
        tls.flush()?;
        Ok(Then::Keep)
    });
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    let sent = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
        "X-A: b\r\n".repeat(990)
    );
    let answer = crate::support::send(daemon.address("b"), &sent);
    assert_eq!((answer.status, &*answer.body), (200, "990"));
    assert_eq!(answer.head.matches("x-b: c").count(), 990);
}

/// Heads of responses that cannot be forwarded, and those that can be repaired.
#[test]
fn a_malformed_response_is_explained_or_repaired() {
    const ROWS: &[(&str, &str, &str)] = &[
        (
            "/space",
            "HTTP/1.1 200 OK\r\nX-A : b\r\nContent-Length: 2\r\n\r\nok",
            "",
        ),
        (
            "/tab",
            "HTTP/1.1 200 OK\r\nX-A\t: b\r\nContent-Length : 2\r\n\r\nok",
            "",
        ),
        (
            "/fold",
            "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok",
            "obs-fold",
        ),
        ("/name", "HTTP/1.1 200 OK\r\nX(A): b\r\n\r\n", "\"X(A)\""),
        ("/value", "HTTP/1.1 200 OK\r\nX-A: \x01\r\n\r\n", "\"X-A\""),
        (
            "/length",
            "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
            "Content-Length",
        ),
        ("/colon", "HTTP/1.1 200 OK\r\nX-A\r\n\r\n", "no colon"),
        ("/status", "HTTP/1.1 20 OK\r\n\r\n", "three digits"),
        ("/garbage", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1"),
    ];
    let ca = Ca::new();
    let origin = Origin::with(&ca, |request, tls| {
        let fields = "X-B: c\r\n".repeat(1001);
        let head = match request.target() {
            "/many" => format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok"),
            "/large" => format!("HTTP/1.1 200 OK\r\nX-B: {}\r\n\r\n", "c".repeat(70_000)),
            path => ROWS.iter().find(|row| row.0 == path).unwrap().1.to_owned(),
        };
        tls.write_all(head.as_bytes())?;
        tls.flush()?;
        Ok(Then::Close)
    });
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    let limits = [
        ("/many", "", "max_header_fields"),
        ("/large", "", "max_header_size"),
    ];
    for (path, _, words) in ROWS.iter().chain(&limits) {
        let answer = crate::support::get(daemon.address("b"), path);
        match words.is_empty() {
            true => {
                assert_eq!(
                    (answer.status, &*answer.body),
                    (200, "ok"),
                    "{path}: {answer:?}"
                );
                assert!(answer.head.contains("\r\nx-a: b\r\n"), "{path}: {answer:?}");
            }
            false => {
                assert_eq!(answer.status, 502, "{path}: {answer:?}");
                assert!(answer.body.contains(words), "{path}: {answer:?}");
                assert!(answer.body.contains("next step: "), "{path}: {answer:?}");
            }
        }
    }
}
