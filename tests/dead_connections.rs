//! Connections to an origin that fall silent are found out: at most one request is lost on each, and
//! none of them is kept. A slow origin is not taken for a dead one.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::support::frames::{self, FrameOrigin};
use crate::support::{
    Ca, Client, Daemon, Http2Origin, Origin, Relay, Then, get, get_http2, post_http2, send,
    wait_for,
};

/// `connect_timeout` is also how long a suspected connection may take to show a sign of life.
const WAITS: &str =
    "connect_timeout = \"600ms\"\nresponse_timeout = \"1s\"\nbody_timeout = \"1500ms\"";

fn daemon(ca: &Ca, origin: u16, relay: u16, lines: &str) -> Daemon {
    let config = format!(
        "workers = 1\n[bindings.b]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{origin}\"\n\
         connect_to = \"127.0.0.1:{relay}\"\ncertificate = \"client.pem\"\nca = \"ca.crt\"\n{WAITS}\n{lines}\n"
    );
    Daemon::start(ca, &ca.issue("client"), &config)
}

/// An origin of either version, and a relay in front of it.
enum AnyOrigin {
    Http1(Origin),
    Http2(Http2Origin),
}

impl AnyOrigin {
    /// Answers, after as many milliseconds as the path says.
    fn start(ca: &Ca, http2: bool) -> Self {
        let pause = |path: &str| {
            let millis = path.trim_start_matches('/').parse().unwrap_or_default();
            Duration::from_millis(millis)
        };
        match http2 {
            true => Self::Http2(Http2Origin::start(ca, move |stream| async move {
                tokio::time::sleep(pause(stream.request.uri().path())).await;
                stream.answer("good");
            })),
            false => Self::Http1(Origin::with(ca, move |request, tls| {
                std::thread::sleep(pause(request.target()));
                crate::support::answer(tls, "good")?;
                Ok(Then::Keep)
            })),
        }
    }

    fn port(&self) -> u16 {
        match self {
            Self::Http1(origin) => origin.port,
            Self::Http2(origin) => origin.port,
        }
    }
}

fn ask(http2: bool, address: SocketAddr, path: &str) -> u16 {
    match http2 {
        true => get_http2(address, path).unwrap().0,
        false => get(address, path).status,
    }
}

fn post(http2: bool, address: SocketAddr) -> u16 {
    match http2 {
        true => post_http2(address, "/", "body".to_owned()).unwrap().0,
        false => {
            send(
                address,
                "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody",
            )
            .status
        }
    }
}

/// Every way through: the client's version, and the origin's.
const WAYS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

fn protocol(http2: bool) -> &'static str {
    match http2 {
        true => "protocol = \"http2\"",
        false => "protocol = \"http1\"",
    }
}

#[test]
fn a_silent_connection_costs_one_request() {
    let ca = Ca::new();
    for (client, upstream) in WAYS {
        for safe in [true, false] {
            let row = format!("client {client}, origin {upstream}, safe {safe}");
            let origin = AnyOrigin::start(&ca, upstream);
            let relay = Relay::to(origin.port());
            let daemon = daemon(&ca, origin.port(), relay.port, protocol(upstream));
            let address = daemon.address("b");
            // Several connections of HTTP/1.1, one of HTTP/2.
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| assert_eq!(ask(client, address, "/50"), 200, "{row}"));
                }
            });
            let dead = relay.accepted();
            relay.silence();
            // Its machine has acknowledged the request, so it is not repeated.
            let seen = match safe {
                true => ask(client, address, "/"),
                false => post(client, address),
            };
            assert_eq!(seen, 504, "{row}");
            assert_eq!(relay.accepted(), dead, "{row}");
            for _ in 0..3 {
                let began = Instant::now();
                assert_eq!(post(client, address), 200, "{row}");
                assert!(began.elapsed() < Duration::from_millis(900), "{row}");
            }
            wait_for("the dead connections to close", || match relay.open() {
                open if open <= relay.accepted() - dead => Ok(()),
                open => Err((row.clone(), open)),
            });
        }
    }
}

#[test]
fn a_client_that_gives_up_first_is_enough_to_find_a_dead_connection() {
    let ca = Ca::new();
    let origin = AnyOrigin::start(&ca, true);
    let relay = Relay::to(origin.port());
    let lines = "protocol = \"http2\"\nresponse_timeout = \"60s\"";
    let lines = format!("{lines}\n");
    let config = daemon_with_long_response(&ca, &origin, &relay, &lines);
    let address = config.address("b");
    assert_eq!(ask(false, address, "/"), 200);
    relay.silence();
    let mut client = Client::connect(address);
    client.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    std::thread::sleep(Duration::from_millis(1300));
    drop(client);
    wait_for("the connection to close", || match relay.open() {
        0 => Ok(()),
        open => Err(open),
    });
    assert_eq!(ask(false, address, "/"), 200);
}

fn daemon_with_long_response(ca: &Ca, origin: &AnyOrigin, relay: &Relay, lines: &str) -> Daemon {
    let config = format!(
        "workers = 1\n[bindings.b]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{}\"\n\
         connect_to = \"127.0.0.1:{}\"\ncertificate = \"client.pem\"\nca = \"ca.crt\"\n\
         connect_timeout = \"600ms\"\n{lines}",
        origin.port(),
        relay.port
    );
    Daemon::start(ca, &ca.issue("client"), &config)
}

#[test]
fn a_slow_origin_is_not_taken_for_a_dead_one() {
    let ca = Ca::new();
    let origin = AnyOrigin::start(&ca, true);
    let relay = Relay::to(origin.port());
    let daemon = daemon(&ca, origin.port(), relay.port, protocol(true));
    let address = daemon.address("b");
    assert_eq!(ask(false, address, "/"), 200);
    for _ in 0..2 {
        assert_eq!(ask(false, address, "/1300"), 504);
        // It answers the PING.
        wait_for("the connection to be used", || {
            let before = relay.accepted();
            assert_eq!(ask(false, address, "/"), 200);
            match relay.accepted() == before {
                true => Ok(()),
                false => Err(before),
            }
        });
    }
    // Longer than a suspected connection may take.
    std::thread::sleep(Duration::from_millis(700));
    assert!(relay.open() >= 1);
    assert_eq!(relay.open(), relay.accepted());
}

#[test]
fn a_safe_request_of_which_nothing_is_acknowledged_costs_nothing() {
    let ca = Ca::new();
    let origin = AnyOrigin::start(&ca, true);
    let relay = Relay::to(origin.port());
    let daemon = daemon(&ca, origin.port(), relay.port, protocol(true));
    let address = daemon.address("b");
    assert_eq!(ask(false, address, "/"), 200);
    relay.silence();
    // An upload that fills whatever takes it: from there on nothing is acknowledged.
    let mut upload = Client::connect(address);
    upload.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n");
    let pump = std::thread::spawn(move || {
        let piece = [b'x'; 16 * 1024];
        for _ in 0..250 {
            if upload.stream().write_all(&piece).is_err() {
                break;
            }
        }
        upload.answer()
    });
    std::thread::sleep(Duration::from_millis(400));
    for http2 in [false, true] {
        assert_eq!(ask(http2, address, "/"), 200);
    }
    let _ = pump.join().unwrap();
    // The upload kept its connection until its own time was over.
    assert_eq!(relay.accepted(), 2);
    wait_for("the dead connection to close", || connected(&daemon, 1));
}

/// Whether the daemon has so many sockets towards its origin; the relay does not see a connection
/// close whose window is closed.
fn connected(daemon: &Daemon, count: usize) -> Result<(), usize> {
    let idle = daemon.sockets();
    match idle == count + 1 {
        true => Ok(()),
        false => Err(idle),
    }
}

#[test]
fn quiet_connections_get_no_ping() {
    let ca = Ca::new();
    let pings = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&pings);
    let origin = FrameOrigin::start(&ca, move |tls, _| {
        loop {
            let came = frames::read_frame(tls)?;
            match came.kind {
                frames::PING => {
                    seen.fetch_add(1, Relaxed);
                }
                frames::HEADERS => {
                    // The body goes on, without a word.
                    tls.write_all(&frames::frame(
                        frames::HEADERS,
                        frames::END_HEADERS,
                        came.stream,
                        &[0x88],
                    ))?;
                    tls.flush()?;
                }
                _ => {}
            }
        }
    });
    let relay = Relay::to(origin.port);
    let lines = "protocol = \"http2\"\nmax_connections = 1";
    let config = daemon(&ca, origin.port, relay.port, lines);
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(config.address("b"));
        client.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(client.exactly(15).unwrap().starts_with(b"HTTP/1.1 200"));
        clients.push(client);
        std::thread::sleep(Duration::from_millis(350));
    }
    assert_eq!(pings.load(Relaxed), 0);
    // `body_timeout` is what makes them suspect.
    wait_for("a PING", || match pings.load(Relaxed) {
        0 => Err(()),
        _ => Ok(()),
    });
}

/// What an origin does to the first connection upon its first request.
fn never_ending_head(kind: &str, tls: &mut crate::support::Tls, stream: u32) -> io::Result<()> {
    let headers = |flags, block: &[u8]| frames::frame(frames::HEADERS, flags, stream, block);
    let more = |flags, block: &[u8]| frames::frame(frames::CONTINUATION, flags, stream, block);
    match kind {
        // A head that never ends, and keeps every other stream from being heard.
        "trickle" => {
            tls.write_all(&headers(0, &[0x88]))?;
            for _ in 0..4 {
                tls.flush()?;
                std::thread::sleep(Duration::from_millis(400));
                tls.write_all(&more(0, &[0x00, 1, b'a', 1, b'b']))?;
            }
            std::thread::sleep(Duration::from_secs(3));
        }
        "flood" => {
            tls.write_all(&headers(0, &[0x88]))?;
            // A field of one letter, again and again.
            let block = [0x00, 1, b'a', 1, b'b'].repeat(3000);
            for _ in 0..2000 {
                tls.write_all(&more(0, &block))?;
                tls.flush()?;
            }
        }
        // Interim responses without end.
        "interim" => {
            for _ in 0..100 {
                let block = [&[0x08, 3][..], b"103"].concat();
                tls.write_all(&headers(frames::END_HEADERS, &block))?;
                tls.flush()?;
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        _ => unreachable!(),
    }
    Ok(())
}

#[test]
fn a_head_of_http2_that_never_ends_costs_one_request() {
    let ca = Ca::new();
    for (kind, statuses) in [
        ("trickle", &[504][..]),
        ("flood", &[502, 504]),
        ("interim", &[504]),
    ] {
        let origin = FrameOrigin::start(&ca, move |tls, connection| {
            loop {
                let came = frames::read_frame(tls)?;
                if came.kind != frames::HEADERS {
                    continue;
                }
                if connection == 0 {
                    never_ending_head(kind, tls, came.stream)?;
                }
                frames::respond(tls, came.stream, b"good")?;
            }
        });
        let relay = Relay::to(origin.port);
        let daemon = daemon(&ca, origin.port, relay.port, protocol(true));
        let address = daemon.address("b");
        let began = Instant::now();
        let status = ask(false, address, "/");
        assert!(
            statuses.contains(&status),
            "{kind}: {status} {:?}",
            daemon.log()
        );
        assert!(began.elapsed() < Duration::from_secs(3), "{kind}");
        for http2 in [false, true] {
            assert_eq!(ask(http2, address, "/"), 200, "{kind}");
        }
        wait_for("the connection to close", || match relay.open() {
            open if open < relay.accepted() || relay.accepted() == 1 => Ok(()),
            open => Err((kind, open)),
        });
    }
}

#[test]
fn a_head_of_http1_that_never_ends_costs_one_request() {
    let ca = Ca::new();
    for begin in [
        "HTTP/1.1 200 OK\r\nX-Slow: ",
        "HTTP/1.1 103 Early Hints\r\n\r\n",
    ] {
        let origin = Origin::raw(&ca, move |tls, serial, connection, note| {
            while let Some(request) = crate::support::read_request(tls, serial, connection)? {
                note(Some(&request));
                if request.target() == "/good" {
                    crate::support::answer(tls, "good")?;
                    continue;
                }
                for _ in 0..100 {
                    let piece = if begin.ends_with("\r\n\r\n") {
                        begin
                    } else {
                        "x"
                    };
                    tls.write_all(piece.as_bytes())?;
                    tls.flush()?;
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            Ok(())
        });
        let relay = Relay::to(origin.port);
        let daemon = daemon(&ca, origin.port, relay.port, protocol(false));
        let address = daemon.address("b");
        for http2 in [false, true] {
            let began = Instant::now();
            let status = ask(http2, address, "/bad");
            assert!([502, 504].contains(&status), "{begin}: {status}");
            assert!(began.elapsed() < Duration::from_secs(3), "{begin}");
            assert_eq!(ask(http2, address, "/good"), 200, "{begin}");
        }
    }
}

#[test]
fn a_stuck_connection_is_closed_with_its_certificate() {
    let ca = Ca::new();
    let origin = AnyOrigin::start(&ca, true);
    let relay = Relay::to(origin.port());
    // Nothing but its owner ends a connection that waits for this origin.
    let daemon = daemon(&ca, origin.port(), relay.port, protocol(true));
    let address = daemon.address("b");
    assert_eq!(ask(false, address, "/"), 200);
    relay.silence();
    let mut upload = Client::connect(address);
    upload.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n");
    let filled = std::thread::spawn(move || {
        let stream = upload.stream();
        let wait = Some(Duration::from_millis(300));
        stream.set_write_timeout(wait).unwrap();
        let piece = [b'x'; 16 * 1024];
        while stream.write_all(&piece).is_ok() {}
    });
    filled.join().unwrap();
    std::fs::write(daemon.path("client.pem"), ca.issue("new").pem()).unwrap();
    wait_for("the connection of the old certificate to close", || {
        connected(&daemon, 0)
    });
    assert_eq!(ask(false, address, "/"), 200);
}
