//! How origins share what a binding may use, what is kept of them, and for how long.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::support::frames::{self, FrameOrigin};
use crate::support::{
    Answer, Ca, Client, Daemon, Http2Origin, OnDrop, Origin, Relay, Then, get, get_http2,
    post_http2, send, wait_for,
};

fn daemon(ca: &Ca, table: &str) -> Daemon {
    let config = format!(
        "workers = 1\n[bindings.b]\nlisten = \"127.0.0.1:0\"\ncertificate = \"client.pem\"\n\
         ca = \"ca.crt\"\n{table}\n"
    );
    Daemon::start(ca, &ca.issue("client"), &config)
}

fn post(client: &mut Client) -> Answer {
    client.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi");
    client.answer().unwrap()
}

/// An origin whose responses say `Keep-Alive: SAID`, and which closes a connection after `serves`
/// requests or `idle`, without saying so.
fn keeping(ca: &Ca, said: &'static [&'static str], serves: usize, idle: Duration) -> Origin {
    Origin::raw(ca, move |tls, serial, connection, note| {
        tls.sock.set_read_timeout(Some(idle))?;
        for count in 0..serves {
            let Some(request) = crate::support::read_request(tls, serial, connection)? else {
                return Ok(());
            };
            note(Some(&request));
            let field = said[count.min(said.len() - 1)];
            let head =
                format!("HTTP/1.1 200 OK\r\nKeep-Alive: {field}\r\nContent-Length: 2\r\n\r\nok");
            tls.write_all(head.as_bytes())?;
            tls.flush()?;
        }
        // Takes what comes, and answers nothing.
        let _ = tls.read(&mut [0; 1024]);
        Ok(())
    })
}

#[test]
fn an_origins_keep_alive_is_heeded() {
    let ca = Ca::new();
    let long = Duration::from_secs(30);
    // What it says, how many requests it takes on a connection, how long it waits for the next, the
    // pauses between requests, and how many connections that makes.
    #[rustfmt::skip]
    let rows: [(&[&str], usize, Duration, u64, usize); 5] = [
        (&["timeout=1"], 100, Duration::from_secs(1), 750, 4),
        (&["timeout=5"], 100, Duration::from_secs(5), 100, 1),
        (&["timeout=5, max=2"], 2, long, 0, 2),
        (&["max=2", "max=1", "max=0"], 3, long, 0, 2),
        (&["max=1"], 1, long, 0, 4),
    ];
    for (said, serves, idle, pause, connections) in rows {
        let origin = keeping(&ca, said, serves, idle);
        let table = format!(
            "origin = \"https://localhost:{}\"\nresponse_timeout = \"2s\"",
            origin.port
        );
        let daemon = daemon(&ca, &table);
        let mut client = Client::connect(daemon.address("b"));
        for _ in 0..4 {
            let answer = post(&mut client);
            assert_eq!(answer.status, 200, "{said:?}: {answer:?}");
            std::thread::sleep(Duration::from_millis(pause));
        }
        assert_eq!(origin.accepted(), connections, "{said:?}");
    }
}

#[test]
fn uploads_survive_an_origin_that_counts_the_requests_of_a_connection() {
    // Also where it takes fewer than come at once.
    for takes in [10, 3] {
        uploads_survive(takes);
    }
}

fn uploads_survive(takes: usize) {
    let ca = Ca::new();
    // As nginx does with `keepalive_requests`: what comes after the last stream is ignored.
    let origin = FrameOrigin::start(&ca, move |tls, _| {
        let (mut count, mut last, mut left) = (0, u32::MAX, 0);
        loop {
            let came = frames::read_frame(tls)?;
            if came.stream > last || ![frames::HEADERS, frames::DATA].contains(&came.kind) {
                continue;
            }
            if came.kind == frames::HEADERS {
                count += 1;
                left += 1;
                if count == takes {
                    last = came.stream;
                    let payload = [last.to_be_bytes(), [0; 4]].concat();
                    tls.write_all(&frames::frame(frames::GOAWAY, 0, 0, &payload))?;
                    tls.flush()?;
                }
            }
            if came.flags & frames::END_STREAM != 0 {
                frames::respond(tls, came.stream, b"good")?;
                left -= 1;
                if last != u32::MAX && left == 0 {
                    tls.conn.send_close_notify();
                    tls.flush()?;
                    // What is unread at the close would reset the connection, responses included.
                    tls.sock.shutdown(std::net::Shutdown::Write)?;
                    while tls.sock.read(&mut [0; 4096])? > 0 {}
                    return Ok(());
                }
            }
        }
    });
    let table = format!(
        "origin = \"https://localhost:{}\"\nprotocol = \"http2\"\nresponse_timeout = \"10s\"",
        origin.port
    );
    let daemon = daemon(&ca, &table);
    let address = daemon.address("b");
    let body = "x".repeat(20_000);
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (body, daemon) = (&body, &daemon);
            scope.spawn(move || {
                let mut client = Client::connect(address);
                for count in 0..25 {
                    let row = format!("{worker}, {count}");
                    if worker % 2 == 0 {
                        let seen = post_http2(address, "/", body.clone()).unwrap();
                        assert_eq!(seen.0, 200, "{row}: {seen:?}");
                        continue;
                    }
                    let length = body.len();
                    client.write(
                        format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
                            .as_bytes(),
                    );
                    let answer = client.answer().unwrap_or_else(|error| {
                        panic!("{row}: {error}: {:#?}", daemon.log());
                    });
                    assert_eq!(answer.status, 200, "{row}: {answer:?}");
                }
            });
        }
    });
    // Those that were refused together share the next connection.
    let most = 1200 / takes;
    assert!(origin.accepted() <= most, "{}", origin.accepted());
}

/// The protocols that a binding's two origins speak.
enum Busy {
    Http1(Origin),
    Http2(Http2Origin),
}

impl Busy {
    fn start(ca: &Ca, http2: bool) -> Self {
        let pause = Duration::from_millis(100);
        match http2 {
            true => Self::Http2(Http2Origin::start(ca, move |stream| async move {
                tokio::time::sleep(pause).await;
                stream.answer("good");
            })),
            false => Self::Http1(Origin::with(ca, move |_, tls| {
                std::thread::sleep(pause);
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

/// A request for the binding's origin on this port.
fn ask_origin(http2: bool, address: SocketAddr, port: u16) -> u16 {
    let url = format!("http://127.0.0.1:{port}/");
    match http2 {
        true => {
            crate::support::ask_http2(address, "GET", &url, &[])
                .unwrap()
                .0
        }
        false => {
            let request = format!(
                "GET {url} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
            );
            send(address, &request).status
        }
    }
}

#[test]
fn a_busy_origin_leaves_its_siblings_their_turn() {
    let ca = Ca::new();
    for (http2, connections) in [(false, 1), (false, 2), (true, 1)] {
        let (busy, sibling) = (Busy::start(&ca, http2), Busy::start(&ca, http2));
        let version = if http2 { "http2" } else { "http1" };
        let table = format!(
            "allow = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\nprotocol = \"{version}\"\n\
             max_connections = {connections}\nconnect_timeout = \"8s\"",
            busy.port(),
            sibling.port()
        );
        let daemon = daemon(&ca, &table);
        let address = daemon.address("b");
        let done = AtomicBool::new(false);
        let served = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            // Also where an assertion fails.
            let _done = OnDrop(|| done.store(true, Relaxed));
            for _ in 0..4 {
                scope.spawn(|| {
                    while !done.load(Relaxed) {
                        assert_eq!(ask_origin(http2, address, busy.port()), 200);
                        served.fetch_add(1, Relaxed);
                    }
                });
            }
            wait_for("the busy origin", || match served.load(Relaxed) {
                0..4 => Err(()),
                _ => Ok(()),
            });
            for _ in 0..3 {
                let (began, before) = (Instant::now(), served.load(Relaxed));
                let status = ask_origin(http2, address, sibling.port());
                // Those before it take a tenth of a second each. A loaded machine takes longer over
                // them, but no more of them are served meanwhile.
                let (waited, overtaking) = (began.elapsed(), served.load(Relaxed) - before);
                assert_eq!(status, 200, "{version}, {connections}: {waited:?}");
                assert!(
                    waited < Duration::from_secs(2) || overtaking <= 12,
                    "{version}, {connections}: {waited:?}, {overtaking}"
                );
            }
        });
    }
}

#[test]
fn one_alert_about_the_protocol_is_not_believed_for_ever() {
    let ca = Ca::new();
    for http2 in [false, true] {
        let origin = Busy::start(&ca, http2);
        let port = origin.port();
        // Anybody on the way can send that.
        let relay = Relay::with(move |mut client, number| {
            if number == 0 {
                let _ = client.read(&mut [0; 4096])?;
                client.write_all(&[21, 3, 3, 0, 2, 2, 120])?;
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
            Ok((client, TcpStream::connect(("127.0.0.1", port))?))
        });
        let table = format!(
            "origin = \"https://localhost:{port}\"\nconnect_to = \"127.0.0.1:{}\"",
            relay.port
        );
        let daemon = daemon(&ca, &table);
        let address = daemon.address("b");
        let first = get(address, "/").status;
        assert!([200, 502].contains(&first), "{first}");
        for _ in 0..3 {
            assert_eq!(
                get(address, "/").status,
                200,
                "an origin of HTTP/2: {http2}"
            );
            assert_eq!(
                get_http2(address, "/").unwrap().0,
                200,
                "an origin of HTTP/2: {http2}"
            );
        }
    }
}

#[test]
fn names_below_a_wildcard_leave_nothing_behind() {
    const NAMES: usize = 400;
    let ca = Ca::new();
    let served = ca.issue_with("origin", |params| {
        let name = "*.w.example".to_owned().try_into().unwrap();
        params.subject_alt_names.push(rcgen::SanType::DnsName(name));
    });
    let origin = Origin::presenting(&ca, &served);
    let table = format!(
        "allow = [\"*.w.example\"]\nconnect_to = \"127.0.0.1:{}\"\nmax_connections = 16\n\
         idle_timeout = \"200ms\"",
        origin.port
    );
    let daemon = daemon(&ca, &table);
    let address = daemon.address("b");
    let ask_all = |round: usize| {
        for at in 0..NAMES {
            let url = format!("http://host-{round}-{at}.w.example/");
            let request = format!("GET {url} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let seen = send(address, &request);
            assert_eq!(seen.status, 200, "{url}: {seen:?}");
        }
        wait_for("the connections to close", || match origin.open() {
            0 => Ok(()),
            open => Err(open),
        });
    };
    ask_all(0);
    let (files, _, memory) = daemon.holds();
    ask_all(1);
    // The last client's connection closes when its response has ended.
    let memory_after = wait_for("descriptors to close", || match daemon.holds() {
        (after, _, memory) if after <= files => Ok(memory),
        (after, ..) => Err(format!("{files} files, then {after}")),
    });
    // In KiB; a name with its state took about one.
    assert!(
        memory_after < memory + 2048,
        "{memory} KiB, then {memory_after}"
    );
}

#[test]
fn a_machine_without_descriptors_says_so() {
    let ca = Ca::new();
    let release = Arc::new(AtomicBool::new(false));
    let released = Arc::clone(&release);
    let origin = Origin::with(&ca, move |request, tls| {
        while request.target() == "/slow" && !released.load(Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
        }
        crate::support::answer(tls, "good")?;
        Ok(Then::Keep)
    });
    let launch = |limit: usize| {
        let line = format!(
            "ulimit -n {limit}; exec {} run",
            env!("CARGO_BIN_EXE_mtlsd")
        );
        let daemon = Daemon::launch_as(&line, &[], |directory| {
            let config = format!(
                "workers = 1\n[bindings.b]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{}\"\n\
                 certificate = \"client.pem\"\nca = \"ca.crt\"\nidle_timeout = \"500ms\"\n",
                origin.port
            );
            std::fs::write(directory.join("mtlsd.toml"), config).unwrap();
            std::fs::write(directory.join("client.pem"), ca.issue("client").pem()).unwrap();
            std::fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
        });
        daemon.wait_ready();
        daemon
    };
    let daemon = launch(128);
    let address = daemon.address("b");
    // One client connection with many streams: what is used up is used up towards the origin.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (status, text, head) = runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(tcp);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (sender, connection) = hyper::client::conn::http2::handshake(executor, io)
            .await
            .unwrap();
        let driven = tokio::spawn(connection);
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..150 {
            let mut sender = sender.clone();
            let url = format!("http://localhost:{}/slow", address.port());
            let request = http::Request::get(url)
                .body(http_body_util::Empty::<bytes::Bytes>::new())
                .unwrap();
            waiting.spawn(async move { sender.send_request(request).await });
        }
        let first = tokio::time::timeout(Duration::from_secs(20), waiting.join_next());
        let response = first.await.unwrap().unwrap().unwrap().unwrap();
        let status = response.status().as_u16();
        let head = format!("{:?}", response.headers());
        let body = http_body_util::BodyExt::collect(response.into_body());
        let text = String::from_utf8_lossy(&body.await.unwrap().to_bytes()).into_owned();
        driven.abort();
        (status, text, head)
    });
    drop(runtime);
    release.store(true, Relaxed);
    assert_eq!(status, 503, "{text}");
    assert!(
        text.starts_with("mtlsd: cannot connect to the origin: mtlsd has reached its limit of 128 open file descriptors"),
        "{text}"
    );
    assert!(text.contains("LimitNOFILE="), "{text}");
    assert!(
        head.contains("retry-after") && head.contains("file_descriptors"),
        "{head}"
    );
    // It is said, and not ten times a second.
    let lines = daemon.lines("request failed");
    let said = lines
        .iter()
        .filter(|line| line["cause"] == "file_descriptors");
    assert_eq!(said.count(), 1, "{lines:?}");
    // Nothing is left of it.
    wait_for("a response", || match get(address, "/").status {
        200 => Ok(()),
        other => Err(other),
    });
}
