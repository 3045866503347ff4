//! What outlives a request is served by what is configured now: CONNECT tunnels, switched
//! protocols, kept connections of both versions of HTTP.

use std::io::{Read, Write};
use std::time::Duration;

use crate::config_reload::{bench, free_port, local};
use crate::support::{Ca, Client, Origin, Then, answer};

/// One binding on the shared listener or its own.
fn config(origin: &Origin, shared: bool, port: u16, lines: &str) -> String {
    let listen = format!("listen = \"127.0.0.1:{port}\"\n");
    let (top, own) = match shared {
        true => (listen.as_str(), ""),
        false => ("", listen.as_str()),
    };
    format!(
        "{top}[bindings.b]\n{own}origin = \"https://origin.test\"\nserver_name = \"localhost\"\n\
         connect_to = \"127.0.0.1:{}\"\ncertificate = \"client.pem\"\nca = \"ca.crt\"\n{lines}\n",
        origin.port
    )
}

/// Opens a tunnel to `host`, which is a name without its port.
fn tunnel(port: u16, host: &str) -> Client {
    let mut client = Client::connect(local(port));
    client.write(format!("CONNECT {host}:80 HTTP/1.1\r\nHost: {host}:80\r\n\r\n").as_bytes());
    let head = read_head(&mut client);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    client
}

fn read_head(client: &mut Client) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(client.exactly(1).unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn inside(client: &mut Client, host: &str) -> (u16, String) {
    client.write(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
    let answer = client.answer().unwrap();
    (answer.status, answer.body)
}

#[test]
fn a_tunnel_serves_each_request_by_what_is_configured_now() {
    for shared in [false, true] {
        let port = free_port();
        let allow = "allow = [\"other.test\"]\n";
        let bench = bench(|origin| config(origin, shared, port, allow));
        let name = "origin.test";
        let mut client = tunnel(port, name);
        let (status, first) = inside(&mut client, name);
        assert_eq!(status, 200, "{first}");

        // Another certificate.
        let newer = bench.ca.issue("newer");
        std::fs::write(bench.daemon.path("newer.pem"), newer.pem()).unwrap();
        let text = config(&bench.origin, shared, port, allow).replace("client.pem", "newer.pem");
        bench.use_config(&text);
        assert_eq!(inside(&mut client, name), (200, newer.serial.clone()));

        // Another origin.
        let other = Origin::start(&bench.ca);
        bench.use_config(&config(&other, shared, port, allow));
        assert_eq!(inside(&mut client, name).0, 200);
        assert_eq!(other.requests().len(), 1);

        // A name that is no longer allowed.
        let mut to_other = tunnel(port, "other.test");
        bench.use_config(&config(&other, shared, port, ""));
        assert_eq!(inside(&mut to_other, "other.test").0, 421);
        assert_eq!(inside(&mut client, name).0, 200);

        // The binding goes, and with it its tunnels.
        let rest = config(&other, shared, port, "").replace("bindings.b", "bindings.c");
        bench.use_config(&rest);
        assert_eq!(client.rest().unwrap(), b"", "shared: {shared}");
        assert_eq!(to_other.rest().unwrap(), b"", "shared: {shared}");
    }
}

/// An origin that switches protocols, and then sends back what it is sent.
fn echoing(ca: &Ca) -> Origin {
    Origin::with(ca, |request, tls| {
        if request.field("upgrade").is_none() {
            answer(tls, "plain")?;
            return Ok(Then::Keep);
        }
        tls.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        )?;
        loop {
            let mut byte = [0];
            if tls.read(&mut byte)? == 0 {
                return Ok(Then::Close);
            }
            tls.write_all(&byte)?;
        }
    })
}

fn switched(port: u16) -> Client {
    let mut client = Client::connect(local(port));
    client.write(b"GET / HTTP/1.1\r\nHost: b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let head = read_head(&mut client);
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    client.write(b"x");
    assert_eq!(client.exactly(1).unwrap(), b"x");
    client
}

#[test]
fn a_switched_protocol_ends_when_its_binding_changes_or_goes() {
    for shared in [false, true] {
        let port = free_port();
        let bench = bench(|origin| config(origin, shared, port, ""));
        let origin = echoing(&bench.ca);
        bench.use_config(&config(&origin, shared, port, ""));
        let mut client = switched(port);
        // A change elsewhere leaves it alone.
        let more = config(&origin, shared, port, "").replace(
            "[bindings.b]",
            &format!(
                "[bindings.more]\n{}origin = \"https://more.test\"\ncertificate = \"client.pem\"\nca = \"ca.crt\"\n[bindings.b]",
                match shared {
                    true => "",
                    false => "listen = \"127.0.0.1:0\"\n",
                }
            ),
        );
        bench.use_config(&more);
        client.write(b"y");
        assert_eq!(client.exactly(1).unwrap(), b"y");
        bench.use_config(&config(&origin, shared, port, "via = false"));
        client
            .stream()
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        assert_eq!(
            client.rest().unwrap(),
            b"",
            "after a change, shared: {shared}"
        );
        let mut client = switched(port);
        bench.use_config(&config(&origin, shared, port, "").replace("bindings.b", "bindings.c"));
        client
            .stream()
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        assert_eq!(
            client.rest().unwrap(),
            b"",
            "after its end, shared: {shared}"
        );
    }
}
