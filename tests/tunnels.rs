//! Connections that turn into something else: CONNECT tunnels, and upgrades to other protocols.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use crate::support::{Ca, Client, Daemon, Origin, Then, answer, binding, read_request, send};

/// An origin that tells the Host and the target it saw.
fn telling(ca: &Ca) -> Origin {
    Origin::with(ca, |request, tls| {
        let host = request.field("host").unwrap_or_default();
        answer(tls, &format!("{host} {}", request.target()))?;
        Ok(Then::Keep)
    })
}

/// Opens a tunnel, and returns the client inside it.
fn tunnel(daemon: &Daemon, authority: &str) -> Client {
    let mut client = Client::connect(daemon.address("b"));
    client.write(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes());
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(client.exactly(1).unwrap());
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    client
}

fn ask(client: &mut Client, target: &str, host: &str) -> (u16, String) {
    client.write(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
    let answer = client.answer().unwrap();
    (answer.status, answer.body)
}

#[test]
fn a_tunnel_to_an_origin_s_own_port_carries_plain_http() {
    let ca = Ca::new();
    let origin = telling(&ca);
    let port = origin.port;
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    let authority = format!("localhost:{port}");
    let mut client = tunnel(&daemon, &authority);
    let own = |path: &str| (200, format!("{authority} {path}"));
    assert_eq!(ask(&mut client, "/a", &authority), own("/a"));
    let url = format!("http://{authority}/b");
    assert_eq!(ask(&mut client, &url, &authority), own("/b"));
    let mut upper = tunnel(&daemon, &authority.to_uppercase());
    assert_eq!(ask(&mut upper, "/c", &authority), own("/c"));
    // Neither another host nor another port is what the tunnel was opened for.
    for host in ["localhost", "localhost:80", "127.0.0.1", "localhost:1"] {
        let (status, text) = ask(&mut client, "/", host);
        assert_eq!(status, 421, "{host}: {text}");
        assert!(
            text.contains(&format!("must be for http://{authority}/")),
            "{text}"
        );
    }
}

#[test]
fn a_tunnel_to_anything_else_is_not_opened() {
    let ca = Ca::new();
    let origin = telling(&ca);
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    for (authority, status) in [
        ("localhost:443", 405),
        ("evil.example:443", 405),
        ("localhost:1", 421),
        ("localhost:22", 421),
        ("evil.example:80", 421),
        ("evil.example:8443", 421),
    ] {
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        let answer = send(daemon.address("b"), &request);
        assert_eq!(answer.status, status, "{authority}: {answer:?}");
    }
    assert!(origin.requests().is_empty());
}

/// The start of a ClientHello, as much as tells it from anything else, and junk to fill it.
fn hello() -> Vec<u8> {
    let mut hello = vec![22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
    hello.resize(517, 7);
    hello
}

#[test]
fn tls_where_plain_http_belongs_gets_an_alert() {
    let ca = Ca::new();
    let origin = telling(&ca);
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    let inside = tunnel(&daemon, &format!("localhost:{}", origin.port));
    let direct = Client::connect(daemon.address("b"));
    for (mut client, reason) in [
        (inside, "it began TLS inside a CONNECT tunnel"),
        (direct, "it began TLS on a listener for plain HTTP"),
    ] {
        client.write(&hello());
        // A fatal alert, and an orderly end.
        assert_eq!(client.rest().unwrap(), [21, 3, 1, 0, 2, 2, 49]);
        crate::support::wait_for("the log line", || {
            let log = daemon.log();
            log.iter()
                .any(|line| line.contains(reason))
                .then_some(())
                .ok_or(log)
        });
    }
    assert!(origin.requests().is_empty());
}

/// An origin that switches to the protocol it is asked for once it has read the whole request, and
/// then sends back every byte, the request's body first.
fn switching(ca: &Ca) -> Origin {
    Origin::raw(ca, |tls, serial, connection, note| {
        let Some(request) = read_request(tls, serial, connection)? else {
            return Ok(());
        };
        note(Some(&request));
        let Some(protocol) = request.field("upgrade") else {
            return answer(tls, "plain");
        };
        let head = format!(
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/x\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        );
        tls.write_all(head.as_bytes())?;
        tls.write_all(&request.body)?;
        tls.flush()?;
        let mut piece = [0; 64];
        loop {
            match tls.read(&mut piece)? {
                0 => return tls.write_all(b"bye"),
                count => tls.write_all(&piece[..count])?,
            }
            tls.flush()?;
        }
    })
}

#[test]
fn an_upgrade_may_have_a_body() {
    let ca = Ca::new();
    let origin = switching(&ca);
    let upgrades = "upgrades = [\"tcp\", \"h2c\"]";
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, upgrades));
    let json = "{\"Detach\":false}";
    let length = format!("Content-Length: {}\r\n\r\n{json}", json.len());
    let chunked = format!(
        "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{json}\r\n0\r\n\r\n",
        json.len()
    );
    let framed = format!("{:x}\r\n{json}\r\n0\r\n\r\n", json.len());
    let cases = [
        ("tcp", "Content-Length: 0\r\n\r\n", ""),
        ("tcp", length.as_str(), json),
        ("TCP", length.as_str(), json),
        ("tcp", chunked.as_str(), framed.as_str()),
        ("h2c", length.as_str(), json),
        ("h2c", "\r\n", ""),
    ];
    for (protocol, rest, body) in cases {
        let mut client = Client::connect(daemon.address("b"));
        client.write(
            format!("POST /exec HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n{rest}").as_bytes(),
        );
        let answer = client.answer().unwrap();
        assert_eq!(answer.status, 101, "{protocol} {rest:?}: {answer:?}");
        assert!(
            answer.head.contains(&format!("upgrade: {protocol}\r\n")),
            "{answer:?}"
        );
        client.write(b"hello");
        let expected = format!("{body}hello");
        assert_eq!(
            client.exactly(expected.len()).unwrap(),
            expected.as_bytes(),
            "{protocol} {rest:?}"
        );
        client.stream().shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.rest().unwrap(), b"bye");
    }
}

#[test]
fn only_listed_protocols_are_switched_to() {
    let ca = Ca::new();
    let origin = switching(&ca);
    let upgrades = [
        ("", "websocket", true),
        ("", "WebSocket", true),
        ("", "spdy/3.1", true),
        ("", "h2c", false),
        ("", "H2C", false),
        ("", "http/2.0", false),
        ("", "x, H2c", false),
        ("upgrades = []", "websocket", false),
        ("upgrades = \"h2c\"", "H2C", true),
        (
            "upgrades = \"h2c\"",
            "h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
            false,
        ),
    ];
    for (config, offer, passes) in upgrades {
        let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, config));
        let mut client = Client::connect(daemon.address("b"));
        client.write(
            format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade, http2-settings\r\nUpgrade: {offer}\r\n\r\n")
                .as_bytes(),
        );
        let answer = client.answer().unwrap();
        let expected = if passes { 101 } else { 200 };
        assert_eq!(answer.status, expected, "{config} {offer:?}: {answer:?}");
    }
}

#[test]
fn a_connection_stays_open_where_the_origin_does_not_switch() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    let settings =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n";
    let forms = [
        ("GET", settings, ""),
        ("POST", settings, "body"),
        ("GET", "Connection: upgrade\r\nUpgrade: websocket\r\n", ""),
        ("POST", "Connection: upgrade\r\nUpgrade: tcp\r\n", "body"),
        ("GET", "Upgrade: websocket\r\n", ""),
        ("CONNECT", "", ""),
    ];
    for (method, fields, body) in forms {
        let target = match method {
            "CONNECT" => "elsewhere.example:80",
            _ => "/",
        };
        let mut client = Client::connect(daemon.address("b"));
        for offers in [true, false, true] {
            let (method, target, fields) = match offers {
                true => (method, target, fields),
                false => ("GET", "/", ""),
            };
            let length = body.len();
            let request = format!(
                "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
            );
            client.write(request.as_bytes());
            let answer = client.answer().unwrap();
            let expected = if method == "CONNECT" { 421 } else { 200 };
            assert_eq!(answer.status, expected, "{request}: {answer:?}");
            if answer.head.contains("connection: close") {
                assert_eq!(method, "CONNECT", "{answer:?}");
                break;
            }
            // Longer than a connection keeps its state while it is idle.
            let silence = Some(Duration::from_millis(600));
            client.stream().set_read_timeout(silence).unwrap();
            let end = client.stream().read(&mut [0]).map_err(|error| error.kind());
            assert_eq!(end, Err(ErrorKind::WouldBlock), "{request}");
            client.stream().set_read_timeout(None).unwrap();
        }
    }
}
