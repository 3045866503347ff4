//! How a request finds its binding, over every kind of listener, and who is turned away.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use crate::support::{Ca, Client, Daemon, Origin, Then, get, send};
use rustix::process::Signal;

/// An origin that tells the Host and the target it saw.
fn telling(ca: &Ca) -> Origin {
    Origin::with(ca, |request, tls| {
        let host = request.field("host").unwrap_or_default();
        crate::support::answer(tls, &format!("{host} {}", request.target()))?;
        Ok(Then::Keep)
    })
}

fn start(ca: &Ca, origin: &Origin, config: &str) -> Daemon {
    let config = config.replace("PORT", &origin.port.to_string());
    Daemon::start(ca, &ca.issue("client"), &config)
}

const FILES: &str =
    "certificate = \"client.pem\"\nca = \"ca.crt\"\nconnect_to = \"127.0.0.1:PORT\"\n";

fn ask(address: SocketAddr, request: &str) -> crate::support::Answer {
    send(address, &format!("{request}\r\nConnection: close\r\n\r\n"))
}

#[test]
fn a_binding_s_own_port() {
    let ca = Ca::new();
    let origin = telling(&ca);
    let daemon = start(
        &ca,
        &origin,
        &format!(
            "[bindings.b]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:PORT/v1\"\nallow = [\"127.0.0.1:PORT\"]\n{FILES}"
        ),
    );
    let address = daemon.address("b");
    let own = format!("localhost:{} /v1/x", origin.port);
    for host in [
        "localhost",
        "127.0.0.1:1",
        "[::1]",
        "any.localhost",
        "b",
        "B.localhost",
    ] {
        assert_eq!(
            ask(address, &format!("GET /x HTTP/1.1\r\nHost: {host}")).body,
            own,
            "{host}"
        );
    }
    // What `allow` names is reached as it is called, without the base path.
    let exact = ask(
        address,
        &format!("GET /x HTTP/1.1\r\nHost: 127.0.0.1:{}", origin.port),
    );
    assert_eq!(exact.body, format!("127.0.0.1:{} /x", origin.port));
    // As a proxy, with a Host, with another one, and (as workerd does) with none at all.
    let proxied = format!("localhost:{} /x", origin.port);
    for fields in ["Host: localhost", "Host: evil.example", "Accept: */*"] {
        for scheme in ["http", "https"] {
            let line = format!(
                "GET {scheme}://localhost:{}/x HTTP/1.1\r\n{fields}",
                origin.port
            );
            assert_eq!(ask(address, &line).body, proxied, "{line}");
        }
    }
    let own_listener = ask(
        address,
        &format!(
            "GET http://localhost:{}/x HTTP/1.1\r\nHost: x",
            address.port()
        ),
    );
    assert_eq!(own_listener.body, own);
}

#[test]
fn names_on_the_shared_listener() {
    let ca = Ca::new();
    let origin = telling(&ca);
    let daemon = start(
        &ca,
        &origin,
        &format!(
            "listen = \"127.0.0.1:0\"\n[bindings.pay_ments]\norigin = \"https://localhost:PORT\"\nallow = [\"127.0.0.1:PORT\"]\n{FILES}\
         [bindings.other]\nhost = [\"other\", \"other.svc.cluster.local\"]\norigin = \"https://127.0.0.1:444\"\n{FILES}"
        ),
    );
    let line = daemon.wait_for_line("listening for every binding");
    let address: SocketAddr = line["listener"].as_str().unwrap().parse().unwrap();
    let ours = format!("localhost:{} /", origin.port);
    for host in [
        "pay_ments",
        "pay-ments",
        &format!("PAY-MENTS.localhost:{}", address.port()),
    ] {
        assert_eq!(
            ask(address, &format!("GET / HTTP/1.1\r\nHost: {host}")).body,
            ours,
            "{host}"
        );
    }
    let prefixed = ask(
        address,
        &format!(
            "GET / HTTP/1.1\r\nHost: pay-ments.127.0.0.1:{}",
            origin.port
        ),
    );
    assert_eq!(prefixed.body, format!("127.0.0.1:{} /", origin.port));
    // The full name is the other binding's; its origin is dialled by `connect_to`.
    assert_eq!(
        ask(address, "GET / HTTP/1.1\r\nHost: other.svc.cluster.local").body,
        "127.0.0.1:444 /"
    );
    let claimed = ask(
        address,
        &format!("GET http://localhost:{}/ HTTP/1.1\r\nHost: x", origin.port),
    );
    assert_eq!(claimed.body, ours);
    for request in [
        "GET / HTTP/1.1\r\nHost: localhost",
        "GET / HTTP/1.1\r\nHost: nobody",
        "GET http://evil.example/ HTTP/1.1\r\nHost: a",
        "GET / HTTP/1.1\r\nHost: other.evil.example",
    ] {
        assert_eq!(ask(address, request).status, 421, "{request}");
    }
    let nobody = ask(address, "GET / HTTP/1.1\r\nHost: nobody");
    assert!(nobody.body.starts_with("mtlsd: \"nobody\" names no binding. The bindings here: other, other.svc.cluster.local, pay-ments."), "{nobody:?}");
    assert!(
        nobody
            .head
            .contains("proxy-status: mtlsd; error=destination_not_found"),
        "{nobody:?}"
    );
}

#[test]
fn strangers_are_turned_away_and_told_why() {
    let ca = Ca::new();
    let origin = telling(&ca);
    let daemon = start(
        &ca,
        &origin,
        &format!(
            "[bindings.b]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:PORT\"\n{FILES}"
        ),
    );
    let address = daemon.address("b");
    let rebound = ask(address, "GET / HTTP/1.1\r\nHost: evil.example");
    assert_eq!(rebound.status, 421);
    assert_eq!(
        rebound.body,
        format!(
            "mtlsd: binding \"b\" does not go by \"evil.example\" and may not reach it; it leads to https://localhost:{}. If this \
             is a name that clients call mtlsd by, add host = [\"evil.example\"] to [bindings.b]; if it is an origin for this \
             certificate, add allow = [\"evil.example\"]\n",
            origin.port
        )
    );
    for (fields, message) in [
        (
            "Sec-Fetch-Site: cross-site",
            "a web page of another site may not use binding \"b\". If one should, list its origin in allow_web_origins of [bindings.b], and have it send requests that name it (CORS)",
        ),
        (
            "Origin: https://evil.example",
            "a web page of https://evil.example may not use binding \"b\". If it should, add allow_web_origins = [\"https://evil.example\"] to [bindings.b]",
        ),
    ] {
        let answer = ask(
            address,
            &format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{fields}"),
        );
        assert_eq!(answer.status, 403, "{fields}");
        assert_eq!(
            answer.body,
            format!(
                "mtlsd: {message}\n  binding: b\n  origin: https://localhost:{}\n",
                origin.port
            )
        );
    }
    let own = format!(
        "GET / HTTP/1.1\r\nHost: localhost:{0}\r\nOrigin: http://localhost:{0}",
        address.port()
    );
    assert_eq!(ask(address, &own).status, 200);
    let tunnel = ask(
        address,
        "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443",
    );
    assert!(
        tunnel.head.starts_with(
            "HTTP/1.1 405 CONNECT is not served, use an http:// URL and mtlsd adds the TLS\r\n"
        ),
        "{tunnel:?}"
    );
    assert_eq!(
        ask(
            address,
            "CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example:80"
        )
        .status,
        421
    );
    for request in [
        "GET / HTTP/1.1",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a",
        "GET / HTTP/1.1\r\nHost: u@localhost",
        "GET http://u@localhost/ HTTP/1.1\r\nHost: a",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked",
    ] {
        let answer = ask(address, request);
        assert_eq!(answer.status, 400, "{request}");
        assert!(answer.head.contains("connection: close"), "{answer:?}");
    }
    assert_eq!(
        origin.requests().len(),
        1,
        "only the page of its own got through"
    );
}

#[test]
fn plain_http_inside_a_tunnel_to_port_80() {
    let ca = Ca::new();
    let origin = telling(&ca);
    let daemon = start(
        &ca,
        &origin,
        &format!(
            "[bindings.b]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost\"\nallow = [\"127.0.0.1\"]\n{FILES}"
        ),
    );
    let mut client = Client::connect(daemon.address("b"));
    client.write(b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        std::io::Read::read_exact(client.stream(), &mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(
        head.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&head)
    );
    assert_eq!(client.get("/a").unwrap().body, "localhost /a");
    assert_eq!(client.get("/b").unwrap().body, "localhost /b");
    // Another host, though the binding may reach it, is not what the tunnel was opened for.
    client.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let answer = client.answer().unwrap();
    assert_eq!(answer.status, 421);
    assert!(
        answer.body.starts_with(
            "mtlsd: a request inside a CONNECT tunnel to localhost:80 must be for http://localhost:80/\n"
        ),
        "{answer:?}"
    );
}

#[test]
fn a_wildcard_does_not_lead_to_private_addresses() {
    let ca = Ca::new();
    let origin = telling(&ca);
    // The resolver reads `127.1` as 127.0.0.1 (inet_aton(3)); a wildcard covers it as the name it
    // is, as it would cover any name that somebody else points at this machine.
    let table = "[bindings.b]\nlisten = \"127.0.0.1:0\"\nallow = [\"*.1:PORT\"]\ncertificate = \"client.pem\"\nca = \"ca.crt\"\n";
    let daemon = start(&ca, &origin, table);
    let request = format!("GET http://127.1:{}/ HTTP/1.1\r\nHost: a", origin.port);
    let refused = ask(daemon.address("b"), &request);
    assert_eq!(refused.status, 502);
    assert!(
        refused.head.contains("error=destination_ip_prohibited"),
        "{refused:?}"
    );
    assert!(
        refused
            .body
            .starts_with("mtlsd: 127.1 leads only to addresses that are not public\n"),
        "{refused:?}"
    );
    for consent in ["allow_private = true", "connect_to = \"127.0.0.1:PORT\""] {
        let daemon = start(&ca, &origin, &format!("{table}{consent}\n"));
        let answer = ask(daemon.address("b"), &request);
        // It gets as far as TLS, which has no such name.
        assert!(
            answer.head.contains("error=proxy_configuration_error"),
            "{consent}: {answer:?}"
        );
    }
    assert!(origin.requests().is_empty());
}

#[test]
fn web_pages_that_are_listed_may_use_it() {
    let ca = Ca::new();
    let origin = telling(&ca);
    let daemon = start(
        &ca,
        &origin,
        &format!(
            "[bindings.b]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:PORT\"\nallow_web_origins = [\"https://app.example\"]\n{FILES}"
        ),
    );
    let address = daemon.address("b");
    let from = |origin: &str| {
        format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\nOrigin: {origin}"
        )
    };
    assert_eq!(ask(address, &from("https://app.example")).status, 200);
    assert_eq!(ask(address, &from("https://evil.example")).status, 403);
}

#[test]
fn a_unix_socket() {
    let ca = Ca::new();
    let origin = telling(&ca);
    let config = format!(
        "[bindings.b]\nlisten = \"unix:b.sock\"\norigin = \"https://localhost:PORT\"\n{FILES}"
    );
    let config = config.replace("PORT", &origin.port.to_string());
    // What a killed process leaves behind.
    let mut daemon = Daemon::launch(&[], |directory| {
        fs::write(directory.join("mtlsd.toml"), &config).unwrap();
        fs::write(directory.join("client.pem"), ca.issue("client").pem()).unwrap();
        fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
        drop(UnixListener::bind(directory.join("b.sock")).unwrap());
    });
    daemon.wait_ready();
    let path = daemon.path("b.sock");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o660
    );
    let mut client = Client::over(UnixStream::connect(&path).unwrap());
    client.write(b"GET /x HTTP/1.1\r\nHost: whatever\r\nSec-Fetch-Site: cross-site\r\n\r\n");
    assert_eq!(
        client.answer().unwrap().body,
        format!("localhost:{} /x", origin.port)
    );
    // A second one on a live socket is an error, and leaves it alone.
    let mut second = Daemon::launch_as(
        &format!(
            "cd {} && exec {} run",
            daemon.directory.path().display(),
            env!("CARGO_BIN_EXE_mtlsd")
        ),
        &[],
        |_| {},
    );
    assert_eq!(second.wait().code(), Some(1));
    second.wait_for_line("unix:./b.sock is taken: another program listens there");
    assert!(UnixStream::connect(&path).is_ok());
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn localhost_is_every_family_there_is() {
    let ca = Ca::new();
    let origin = telling(&ca);
    let daemon = start(
        &ca,
        &origin,
        &format!(
            "[bindings.b]\nlisten = \"localhost:0\"\norigin = \"https://localhost:PORT\"\n{FILES}"
        ),
    );
    let lines = daemon.lines("serving");
    let listen = lines[0]["listen"].as_str().unwrap();
    let addresses: Vec<SocketAddr> = listen
        .split(' ')
        .map(|address| address.parse().unwrap())
        .collect();
    assert!(
        addresses
            .iter()
            .all(|address| address.port() == addresses[0].port()),
        "{listen}"
    );
    for address in addresses {
        assert_eq!(get(address, "/").status, 200, "{address}");
    }
    assert!(TcpStream::connect(("127.0.0.1", daemon.address("b").port())).is_ok());
}
