//! However many clients connect, those with requests are served, and files are read again.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::support::{Ca, Client, Daemon, Origin, Then, binding, get, wait_for};

#[test]
fn silent_clients_cannot_use_up_the_descriptors() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let line = format!("ulimit -n 256; exec {} run", env!("CARGO_BIN_EXE_mtlsd"));
    let config = format!("workers = 2\n{}", binding(&origin, ""));
    let daemon = Daemon::launch_as(&line, &[], |directory| {
        fs::write(directory.join("mtlsd.toml"), config).unwrap();
        fs::write(directory.join("client.pem"), ca.issue("client").pem()).unwrap();
        fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
    });
    daemon.wait_ready();
    let address = daemon.address("b");
    let mut kept = Client::connect(address);
    assert_eq!(kept.get("/").unwrap().status, 200);
    // Some say nothing, some begin a head.
    let silent: Vec<TcpStream> = (0..400)
        .map(|count| {
            let mut stream = TcpStream::connect(address).unwrap();
            if count % 3 == 0 {
                let _ = stream.write_all(b"GET / HTTP/1.1\r\n");
            }
            stream
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(get(address, "/").status, 200);
    }
    let new = ca.issue("new");
    fs::write(daemon.path("client.pem"), new.pem()).unwrap();
    daemon.wait_for_line("published");
    assert_eq!(get(address, "/").body, new.serial);
    assert!(
        daemon.lines("cannot accept").is_empty(),
        "{:?}",
        daemon.log()
    );
    drop(silent);
    assert_eq!(get(address, "/").status, 200);
}

#[test]
fn the_longest_idle_client_makes_room_and_busy_ones_stay() {
    let ca = Ca::new();
    let release = Arc::new(AtomicBool::new(false));
    let released = Arc::clone(&release);
    let origin = Origin::with(&ca, move |request, tls| {
        while request.target() == "/slow" && !released.load(Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        crate::support::answer(tls, "good")?;
        Ok(Then::Keep)
    });
    let config = format!("max_client_connections = 4\n{}", binding(&origin, ""));
    let daemon = Daemon::start(&ca, &ca.issue("client"), &config);
    let address = daemon.address("b");
    let mut busy: Vec<Client> = (0..3)
        .map(|_| {
            let mut client = Client::connect(address);
            client.write(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n");
            client
        })
        .collect();
    wait_for("the slow requests", || match origin.requests().len() {
        3 => Ok(()),
        less => Err(less),
    });
    // One after the other takes the fourth place.
    let mut idle = Client::connect(address);
    assert_eq!(idle.get("/").unwrap().status, 200);
    assert_eq!(Client::connect(address).get("/").unwrap().status, 200);
    assert!(idle.rest().unwrap().is_empty());
    // When all are busy, a new one is told so.
    let mut last = Client::connect(address);
    last.write(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wait_for("the last request", || match origin.requests().len() {
        6 => Ok(()),
        less => Err(less),
    });
    let mut refused = String::new();
    let mut stream = TcpStream::connect(address).unwrap();
    let _ = stream.read_to_string(&mut refused);
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("max_client_connections"), "{refused}");
    release.store(true, Relaxed);
    for client in busy.iter_mut().chain([&mut last]) {
        assert_eq!(client.answer().unwrap().body, "good");
    }
    assert_eq!(get(address, "/").status, 200);
}

#[test]
fn field_names_keep_their_case_where_that_is_configured() {
    let ca = Ca::new();
    let origin = Origin::with(&ca, |_, tls| {
        tls.write_all(b"HTTP/1.1 200 OK\r\nX-CamelCase: b\r\nContent-Length: 2\r\n\r\nok")?;
        tls.flush()?;
        Ok(Then::Keep)
    });
    for (line, name) in [
        ("", "x-camelcase"),
        ("header_case = \"lower\"", "x-camelcase"),
        ("header_case = \"preserve\"", "X-CamelCase"),
    ] {
        let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, line));
        let answer = crate::support::send(
            daemon.address("b"),
            "GET / HTTP/1.1\r\nHost: localhost\r\nX-CamelCase: a\r\n\r\n",
        );
        assert!(
            answer.head.contains(&format!("{name}: b")),
            "{line}: {answer:?}"
        );
        let head = origin.requests().pop().unwrap().head;
        assert!(head.contains(&format!("{name}: a")), "{line}: {head}");
    }
}
