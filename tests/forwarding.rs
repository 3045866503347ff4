//! Messages on their way: whole, in order, bounded, and never taken for complete when they are not.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::support::{Ca, Client, Daemon, Origin, Then, binding, get, scale, send, wait_for};

/// A daemon in front of an origin that does what `handle` does.
fn daemon(
    lines: &str,
    handle: impl Fn(&crate::support::Request, &mut crate::support::Tls) -> std::io::Result<Then>
    + Send
    + Sync
    + 'static,
) -> (Daemon, Origin) {
    let ca = Ca::new();
    let origin = Origin::with(&ca, handle);
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, lines));
    (daemon, origin)
}

fn ok(lines: &str) -> (Daemon, Origin) {
    daemon(lines, |_, tls| {
        crate::support::answer(tls, "ok")?;
        Ok(Then::Keep)
    })
}

#[test]
fn the_origin_sees_the_request_as_if_the_client_had_sent_it_there() {
    let (daemon, origin) = ok("");
    let address = daemon.address("b");
    send(
        address,
        "GET /a/b?c=%20d HTTP/1.1\r\nHost: localhost:8001\r\nUser-Agent: x\r\nX-Twice: 1\r\nX-Twice: 2\r\n\
         Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
         Upgrade: h2c\r\nHTTP2-Settings: AAM\r\nTE: trailers, gzip\r\nAccept-Encoding: br\r\n\r\n",
    );
    let request = origin.requests().remove(0);
    assert_eq!(
        request.head.lines().next(),
        Some("GET /a/b?c=%20d HTTP/1.1")
    );
    let mut fields: Vec<_> = request
        .head
        .lines()
        .skip(1)
        .map(str::to_ascii_lowercase)
        .collect();
    fields.sort();
    let expected = [
        "accept-encoding: br".to_owned(),
        "connection: te".to_owned(),
        format!("host: localhost:{}", origin.port),
        "te: trailers".to_owned(),
        "user-agent: x".to_owned(),
        "via: 1.1 mtlsd".to_owned(),
        "x-twice: 1".to_owned(),
        "x-twice: 2".to_owned(),
    ];
    assert_eq!(fields, expected);
}

#[test]
fn the_client_sees_the_answer_as_it_was_sent() {
    let (daemon, origin) = daemon("", |request, tls| {
        let host = request.field("host").unwrap_or_default();
        let head = format!(
            "HTTP/1.1 302 Found\r\nLocation: https://{host}/next?x\r\nSet-Cookie: a=b; Secure\r\nSet-Cookie: c=d\r\n\
             Strict-Transport-Security: max-age=1\r\nAlt-Svc: h3=\":443\"\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\
             Date: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n"
        );
        tls.write_all(head.as_bytes())?;
        Ok(Then::Keep)
    });
    let mut client = Client::connect(daemon.address("b"));
    let answer = client.get("/").unwrap();
    let expected = "HTTP/1.1 302 Found\r\nlocation: /next?x\r\nset-cookie: a=b; Secure\r\nset-cookie: c=d\r\n\
                    date: Mon, 01 Jan 2024 00:00:00 GMT\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(answer.head, expected);
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn bodies_arrive_however_they_are_framed() {
    let (daemon, origin) = ok("");
    let mut client = Client::connect(daemon.address("b"));
    let cases = [
        ("POST", "Content-Length: 5\r\n\r\nhello", "hello"),
        (
            "POST",
            "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        ),
        ("GET", "Content-Length: 5\r\n\r\nhello", "hello"),
        (
            "GET",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
        ("DELETE", "Content-Length: 0\r\n\r\n", ""),
        ("BREW", "Content-Length: 2\r\n\r\nhi", "hi"),
    ];
    for (index, (method, rest, body)) in cases.into_iter().enumerate() {
        client.write(format!("{method} / HTTP/1.1\r\nHost: localhost\r\n{rest}").as_bytes());
        assert_eq!(client.answer().unwrap().body, "ok", "{method} {rest:?}");
        let request = origin.requests().remove(index);
        assert_eq!(
            (
                request.method(),
                String::from_utf8_lossy(&request.body).as_ref()
            ),
            (method, body)
        );
    }
}

#[test]
fn answers_without_a_body_have_none() {
    let (daemon, _origin) = daemon("", |request, tls| {
        match request.target() {
            "/204" => tls.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?,
            "/304" => tls.write_all(b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n")?,
            "/head" => tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")?,
            _ => crate::support::answer(tls, "after")?,
        }
        Ok(Then::Keep)
    });
    let mut client = Client::connect(daemon.address("b"));
    assert_eq!(client.get("/204").unwrap().status, 204);
    assert_eq!(client.get("/304").unwrap().status, 304);
    client.write(
        b"HEAD /head HTTP/1.1\r\nHost: localhost\r\n\r\nGET /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
    // The head says what a GET would have had; the next answer follows at once.
    let mut seen = Vec::new();
    while !seen.ends_with(b"after") {
        let mut byte = [0];
        client.stream().read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    let seen = String::from_utf8(seen).unwrap();
    assert!(
        seen.starts_with("HTTP/1.1 200 OK\r\ncontent-length: 12345\r\n\r\nHTTP/1.1 200 OK\r\n"),
        "{seen}"
    );
}

#[test]
fn an_answer_cut_short_is_an_error_at_the_client() {
    let (daemon, origin) = daemon("", |request, tls| {
        let head = match request.target() {
            "/length" => "Content-Length: 10\r\n\r\nhello",
            "/chunked" => "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            _ => "\r\nhello",
        };
        tls.write_all(format!("HTTP/1.1 200 OK\r\n{head}").as_bytes())?;
        tls.flush()?;
        // Without close_notify the end of a body that the end delimits could be anybody's.
        Ok(Then::Cut)
    });
    let address = daemon.address("b");
    for path in ["/length", "/chunked", "/close"] {
        for version in ["1.1", "1.0"] {
            let mut client = Client::connect(address);
            client
                .write(format!("GET {path} HTTP/{version}\r\nHost: localhost\r\n\r\n").as_bytes());
            let answer = client.answer();
            assert!(answer.is_err(), "{path} for HTTP/{version}: {answer:?}");
        }
    }
    assert_eq!(
        origin.requests().len(),
        6,
        "an answer that began is not asked for again"
    );
}

#[test]
fn an_answer_that_the_end_of_the_connection_ends_is_complete() {
    let (daemon, _origin) = daemon("", |_, tls| {
        tls.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello")?;
        Ok(Then::Close)
    });
    assert_eq!(get(daemon.address("b"), "/").body, "hello");
    let old = send(
        daemon.address("b"),
        "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n",
    );
    assert_eq!(old.body, "hello");
}

#[test]
fn length_beside_chunks_is_one_message_and_the_last_on_its_connection() {
    let (daemon, origin) = ok("");
    let mut client = Client::connect(daemon.address("b"));
    client.write(
        b"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
          0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
    assert_eq!(client.answer().unwrap().status, 200);
    assert_eq!(client.rest().unwrap_or_default(), b"");
    let requests = origin.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!(requests[0].all("content-length"), [""; 0]);
    assert_eq!(requests[0].all("transfer-encoding"), ["chunked"]);
}

#[test]
fn every_wait_ends() {
    let lines = "response_timeout = \"200ms\"\nbody_timeout = \"250ms\"\nheader_timeout = \"300ms\"\nclient_idle_timeout = \"600ms\"";
    let (daemon, _origin) = daemon(lines, |request, tls| {
        match request.target() {
            "/silent" => std::thread::sleep(Duration::from_secs(2)),
            "/stalls" => {
                tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")?;
                tls.flush()?;
                std::thread::sleep(Duration::from_secs(2));
            }
            _ => crate::support::answer(tls, "ok")?,
        }
        Ok(Then::Keep)
    });
    let address = daemon.address("b");
    let answer = get(address, "/silent");
    assert_eq!(answer.status, 504);
    assert!(
        answer.head.contains("error=http_response_timeout"),
        "{answer:?}"
    );
    let mut client = Client::connect(address);
    assert!(client.get("/stalls").is_err());
    // A slow head is told so; an idle client is just let go, and later.
    let mut client = Client::connect(address);
    client.write(b"GET / HT");
    assert_eq!(client.answer().unwrap().status, 408);
    let mut client = Client::connect(address);
    assert_eq!(client.get("/").unwrap().status, 200);
    let began = Instant::now();
    assert_eq!(client.rest().unwrap(), b"");
    assert!(
        began.elapsed() >= Duration::from_millis(590),
        "{:?}",
        began.elapsed()
    );
    // A client that stops in the middle of its body.
    let mut client = Client::connect(address);
    client.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello");
    assert_eq!(client.answer().unwrap().status, 408);
}

#[test]
fn an_upload_waits_for_the_origin_to_want_it() {
    let ca = Ca::new();
    let origin = Origin::raw(&ca, |tls, _, _, _| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tls.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        if head.starts_with(b"POST /refused") {
            tls.write_all(
                b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            )?;
            return tls.flush();
        }
        tls.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        tls.flush()?;
        let mut body = [0; 5];
        tls.read_exact(&mut body)?;
        crate::support::answer(tls, std::str::from_utf8(&body).unwrap_or("?"))
    });
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    let mut client = Client::connect(daemon.address("b"));
    client.write(head("/refused").as_bytes());
    // No 100 comes before the refusal.
    assert_eq!(client.answer().unwrap().status, 413);
    let mut client = Client::connect(daemon.address("b"));
    client.write(head("/wanted").as_bytes());
    assert_eq!(client.answer().unwrap().status, 100);
    client.write(b"hello");
    assert_eq!(client.answer().unwrap().body, "hello");
}

#[test]
fn a_client_that_is_busy_uploading_learns_that_it_was_refused() {
    let ca = Ca::new();
    let origin = Origin::raw(&ca, |tls, _, _, _| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tls.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        tls.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")?;
        tls.flush()?;
        // It reads nothing of the body, and closes when mtlsd does.
        let _ = tls.sock.peek(&mut [0]);
        std::thread::sleep(Duration::from_millis(100));
        Ok(())
    });
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    let mut client = Client::connect(daemon.address("b"));
    let length = 32 << 20;
    let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    client.write(head.as_bytes());
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..length >> 20 {
        client.write(&piece);
    }
    let answer = client.answer().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (413, "no"));
}

#[test]
fn protocols_switch_only_when_both_sides_say_so() {
    let ca = Ca::new();
    let origin = Origin::raw(&ca, |tls, serial, connection, note| {
        let Some(request) = crate::support::read_request(tls, serial, connection)? else {
            return Ok(());
        };
        note(Some(&request));
        match request.target() {
            "/other" => tls.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n")?,
            "/plain" => return crate::support::answer(tls, "no"),
            _ => tls.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhi")?,
        }
        tls.flush()?;
        let mut piece = [0; 64];
        loop {
            match tls.read(&mut piece)? {
                0 => return tls.write_all(b"bye"),
                count => tls.write_all(&piece[..count])?,
            }
            tls.flush()?;
        }
    });
    let upgrades = "upgrades = [\"echo\", \"other\"]";
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, upgrades));
    let ask = |path: &str, fields: &str| {
        let mut client = Client::connect(daemon.address("b"));
        client.write(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").as_bytes());
        let answer = client.answer().unwrap();
        (client, answer)
    };
    let offer = "Connection: Upgrade\r\nUpgrade: echo\r\n";
    let (mut client, answer) = ask("/", offer);
    assert_eq!(answer.status, 101);
    assert!(answer.head.contains("upgrade: echo\r\n"), "{answer:?}");
    client.write(b"hello");
    assert_eq!(client.exactly(7).unwrap(), b"hihello");
    // Each side ends its half on its own.
    client.stream().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.rest().unwrap(), b"bye");
    assert_eq!(ask("/plain", offer).1.body, "no");
    // Nobody asked, or for something else: that is an error, and not a byte passes.
    for (path, fields) in [
        ("/", ""),
        ("/other", offer),
        ("/", "Upgrade: echo\r\n"),
        ("/", "Connection: Upgrade\r\nUpgrade: h2c\r\n"),
    ] {
        let (_, answer) = ask(path, fields);
        assert_eq!(answer.status, 502, "{path} {fields:?}: {answer:?}");
        assert!(
            answer.head.contains("error=http_upgrade_failed"),
            "{answer:?}"
        );
    }
}

#[test]
fn a_client_that_goes_away_takes_its_request_along() {
    let ca = Ca::new();
    let origin = Origin::with(&ca, |_, tls| {
        let mut piece = [0; 1];
        // The end of the connection ends this.
        let _ = tls.read(&mut piece);
        Ok(Then::Close)
    });
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    let mut client = Client::connect(daemon.address("b"));
    client.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wait_for("the request", || origin.requests().pop().ok_or(0));
    drop(client);
    wait_for("the connection to the origin to end", || {
        match origin.open() {
            0 => Ok(()),
            count => Err(count),
        }
    });
}

/// How much each of the big transfers moves; CI moves 10 GiB.
fn volume() -> usize {
    match scale("MTLSD_TEST_GIB", 0) {
        0 => 64 << 20,
        gib => gib << 30,
    }
}

#[test]
fn a_slow_reader_holds_the_origin_back_and_not_the_memory() {
    let (daemon, _origin) = daemon("", |_, tls| {
        tls.write_all(
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", volume()).as_bytes(),
        )?;
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..volume() >> 20 {
            tls.write_all(&piece)?;
        }
        tls.flush()?;
        Ok(Then::Keep)
    });
    let mut client = Client::connect(daemon.address("b"));
    client.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut piece = vec![0; 1 << 20];
    let mut left = volume();
    // Slow at first: whatever lies between the two has time to pile up.
    std::thread::sleep(Duration::from_millis(500));
    while left > 0 {
        let count = client.stream().read(&mut piece).unwrap();
        assert!(count > 0, "{left} bytes are missing");
        left = left.saturating_sub(count);
    }
    assert!(
        daemon.peak_memory() < 50 << 10,
        "{} KiB",
        daemon.peak_memory()
    );
}

#[test]
fn a_slow_origin_holds_the_client_back_and_not_the_memory() {
    let ca = Ca::new();
    let origin = Origin::raw(&ca, |tls, _, _, _| {
        std::thread::sleep(Duration::from_millis(500));
        let mut piece = vec![0; 1 << 20];
        let mut left = volume();
        while left > 0 {
            left = left.saturating_sub(tls.read(&mut piece)?);
        }
        crate::support::answer(tls, "taken")
    });
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    let mut client = Client::connect(daemon.address("b"));
    client.write(
        format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
            volume()
        )
        .as_bytes(),
    );
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..volume() >> 20 {
        client.write(&piece);
    }
    assert_eq!(client.answer().unwrap().body, "taken");
    assert!(
        daemon.peak_memory() < 50 << 10,
        "{} KiB",
        daemon.peak_memory()
    );
}
