//! How much a binding may use at once, and how long what it keeps may live.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::{Ca, Client, Daemon, Origin, Then, binding, get, wait_for};
use rustix::process::Signal;

/// An origin that takes its time over `/slow`.
fn slow(ca: &Ca) -> Origin {
    Origin::with(ca, |request, tls| {
        if request.target() == "/slow" {
            std::thread::sleep(Duration::from_millis(1500));
        }
        crate::support::answer(tls, &request.serial)?;
        Ok(Then::Keep)
    })
}

#[test]
fn one_connection_serves_serial_clients_of_four_workers() {
    let ca = Ca::new();
    let origin = slow(&ca);
    let config = format!("workers = 4\n{}", binding(&origin, "max_connections = 1"));
    let daemon = Daemon::start(&ca, &ca.issue("client"), &config);
    for count in 0..200 {
        let answer = get(daemon.address("b"), "/");
        assert_eq!(answer.status, 200, "request {count}: {answer:?}");
    }
    // The idle connection of one worker made room for another's.
    assert!(origin.accepted() > 1);
    assert_eq!(origin.open(), 1);
}

#[test]
fn many_clients_share_few_connections_without_losing_any() {
    let ca = Ca::new();
    let origin = slow(&ca);
    let config = format!("workers = 4\n{}", binding(&origin, "max_connections = 2"));
    let daemon = Daemon::start(&ca, &ca.issue("client"), &config);
    let address = daemon.address("b");
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(move || {
                let mut client = Client::connect(address);
                for _ in 0..20 {
                    assert_eq!(client.get("/").unwrap().status, 200);
                }
            });
        }
    });
}

#[test]
fn rotation_at_the_limit_fails_nobody() {
    let ca = Ca::new();
    let origin = slow(&ca);
    let old = ca.issue("old");
    let daemon = Daemon::start(&ca, &old, &binding(&origin, "max_connections = 1"));
    let address = daemon.address("b");
    std::thread::scope(|scope| {
        let busy = scope.spawn(move || get(address, "/slow"));
        wait_for("the slow request", || match origin.requests().len() {
            0 => Err(0),
            count => Ok(count),
        });
        let new = ca.issue("new");
        fs::write(daemon.path("client.pem"), new.pem()).unwrap();
        daemon.wait_for_line("published");
        // The connection of the Generation before is busy, and does not count.
        let began = Instant::now();
        assert_eq!(get(address, "/").body, new.serial);
        assert!(began.elapsed() < Duration::from_secs(1));
        assert_eq!(busy.join().unwrap().body, old.serial);
    });
}

#[test]
fn who_waits_in_vain_is_told_when_to_come_back() {
    let ca = Ca::new();
    let origin = slow(&ca);
    let config = binding(&origin, "max_connections = 1\nconnect_timeout = \"300ms\"");
    let daemon = Daemon::start(&ca, &ca.issue("client"), &config);
    let address = daemon.address("b");
    std::thread::scope(|scope| {
        let busy = scope.spawn(move || get(address, "/slow"));
        wait_for("the slow request", || origin.requests().pop().ok_or(0));
        let began = Instant::now();
        let answer = get(address, "/");
        assert_eq!(answer.status, 503);
        assert!(answer.head.contains("\r\nretry-after: 1\r\n"), "{answer:?}");
        assert!(
            answer.head.contains("error=connection_limit_reached"),
            "{answer:?}"
        );
        assert!(
            answer
                .body
                .starts_with("mtlsd: all 1 connections are busy (`max_connections`)\n"),
            "{answer:?}"
        );
        let waited = began.elapsed();
        assert!(waited >= Duration::from_millis(300), "{waited:?}");
        assert_eq!(busy.join().unwrap().status, 200);
    });
}

#[test]
fn too_many_requests_are_turned_away_at_once() {
    let ca = Ca::new();
    let origin = slow(&ca);
    let daemon = Daemon::start(
        &ca,
        &ca.issue("client"),
        &binding(&origin, "max_requests_in_flight = 1"),
    );
    let address = daemon.address("b");
    std::thread::scope(|scope| {
        let busy = scope.spawn(move || get(address, "/slow"));
        wait_for("the slow request", || origin.requests().pop().ok_or(0));
        let answer = get(address, "/");
        assert_eq!(answer.status, 503);
        assert!(answer.head.contains("\r\nretry-after: 1\r\n"), "{answer:?}");
        assert_eq!(busy.join().unwrap().status, 200);
    });
    assert_eq!(get(address, "/").status, 200);
}

#[test]
fn idle_connections_are_let_go() {
    let ca = Ca::new();
    let origin = slow(&ca);
    let daemon = Daemon::start(
        &ca,
        &ca.issue("client"),
        &binding(&origin, "idle_timeout = \"100ms\""),
    );
    assert_eq!(get(daemon.address("b"), "/").status, 200);
    wait_for("the connection to close", || match origin.open() {
        0 => Ok(()),
        count => Err(count),
    });
}

#[test]
fn old_connections_take_no_further_request() {
    let ca = Ca::new();
    let origin = slow(&ca);
    let daemon = Daemon::start(
        &ca,
        &ca.issue("client"),
        &binding(&origin, "max_connection_age = \"200ms\""),
    );
    let mut client = Client::connect(daemon.address("b"));
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(700) {
        assert_eq!(client.get("/").unwrap().status, 200);
    }
    assert!(origin.accepted() >= 3, "{}", origin.accepted());
}

#[test]
fn bindings_share_no_connection() {
    let ca = Ca::new();
    let origin = slow(&ca);
    let (one, two) = (ca.issue("one"), ca.issue("two"));
    let table = |name: &str| {
        format!(
            "[bindings.{name}]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{}\"\ncertificate = \"{name}.pem\"\nca = \"ca.crt\"\n",
            origin.port
        )
    };
    let daemon = Daemon::launch(&[], |directory| {
        fs::write(
            directory.join("mtlsd.toml"),
            format!("workers = 1\n{}{}", table("one"), table("two")),
        )
        .unwrap();
        fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
        fs::write(directory.join("one.pem"), one.pem()).unwrap();
        fs::write(directory.join("two.pem"), two.pem()).unwrap();
    });
    daemon.wait_ready();
    for _ in 0..3 {
        assert_eq!(get(daemon.address("one"), "/").body, one.serial);
        assert_eq!(get(daemon.address("two"), "/").body, two.serial);
    }
    assert_eq!(origin.accepted(), 2);
}

#[test]
fn a_client_that_pauses_is_served_again() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let lines = "client_idle_timeout = \"2s\"";
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, lines));
    let address = daemon.address("b");
    let mut client = Client::connect(address);
    // Long enough for the connection to be parked in between.
    for _ in 0..3 {
        assert_eq!(client.get("/").unwrap().status, 200);
        std::thread::sleep(Duration::from_millis(600));
    }
    // In two pieces, the first of which wakes it.
    client.write(b"GET / HTTP/1.1\r\nHo");
    std::thread::sleep(Duration::from_millis(400));
    client.write(b"st: localhost\r\n\r\n");
    assert_eq!(client.answer().unwrap().status, 200);
    // Then it is idle for too long, and is told so by an orderly end.
    assert_eq!(client.rest().unwrap(), b"");
}

#[test]
fn a_client_that_pauses_does_not_hold_up_the_end() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let mut daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    let mut client = Client::connect(daemon.address("b"));
    assert_eq!(client.get("/").unwrap().status, 200);
    std::thread::sleep(Duration::from_millis(600));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(0));
    assert_eq!(client.rest().unwrap(), b"");
}
