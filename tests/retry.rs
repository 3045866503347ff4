//! What goes out a second time, and what never does.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::support::{Ca, Client, Daemon, Origin, Request, Then, Tls, binding, scale, wait_for};

/// How many requests each test sends; CI sends ten thousand.
fn requests() -> usize {
    scale("MTLSD_TEST_REQUESTS", 1000)
}

/// An origin that hangs up after every answer, without having said that it would: at once, or up to
/// five milliseconds later, when the next request may be on its way.
fn hanging_up(ca: &Ca) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::with(ca, move |request, tls| {
        crate::support::answer(tls, &request.serial)?;
        Ok(match count.fetch_add(1, Relaxed) % 6 {
            0 => Then::Close,
            millis => Then::CloseAfter(Duration::from_millis(millis as u64)),
        })
    })
}

#[test]
fn a_get_survives_an_origin_that_hangs_up_after_every_answer() {
    let ca = Ca::new();
    let origin = hanging_up(&ca);
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    let address = daemon.address("b");
    std::thread::scope(|scope| {
        for worker in 0..4 {
            scope.spawn(move || {
                let mut client = Client::connect(address);
                for count in 0..requests() / 4 {
                    let answer = client.get("/").unwrap();
                    assert_eq!(answer.status, 200, "request {count}: {answer:?}");
                    // The pauses sweep over the moments at which the origin hangs up.
                    std::thread::sleep(Duration::from_micros(
                        (count as u64 * 37 + worker * 251) % 6000,
                    ));
                }
            });
        }
    });
    assert!(origin.requests().len() >= requests() / 4 * 4);
}

#[test]
fn a_post_reaches_the_origin_at_most_once() {
    let ca = Ca::new();
    let origin = hanging_up(&ca);
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    let address = daemon.address("b");
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let answered = &answered;
            scope.spawn(move || {
                let mut client = Client::connect(address);
                for count in 0..requests() / 4 {
                    let id = format!("{worker}-{count}");
                    let length = id.len();
                    client.write(format!("POST /{id} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{id}").as_bytes());
                    match client.answer() {
                        Ok(answer) if answer.status == 200 => {
                            answered.fetch_add(1, Relaxed);
                        }
                        // The origin may have taken it, so it is the client's to decide.
                        Ok(answer) => assert_eq!(answer.status, 502, "{answer:?}"),
                        Err(error) => panic!("no answer to {id}: {error}"),
                    }
                    if client.get("/").is_err() {
                        client = Client::connect(address);
                    }
                    std::thread::sleep(Duration::from_micros((count as u64 * 37 + worker * 251) % 6000));
                }
            });
        }
    });
    let mut seen: HashMap<String, usize> = HashMap::new();
    for request in origin
        .requests()
        .iter()
        .filter(|request| request.method() == "POST")
    {
        *seen.entry(request.target().to_owned()).or_default() += 1;
    }
    let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(seen.len() >= answered.load(Relaxed));
    assert!(answered.load(Relaxed) > 0);
}

/// An origin that reads a second request on a connection, and hangs up instead of answering.
fn second_unanswered(ca: &Ca) -> Origin {
    Origin::raw(ca, |tls, serial, connection, note| {
        for count in 0.. {
            let Some(request) = read(tls, serial, connection)? else {
                return Ok(());
            };
            note(Some(&request));
            if count == 1 {
                return Ok(());
            }
            crate::support::answer(tls, "ok")?;
            note(None);
        }
        Ok(())
    })
}

use crate::support::read_request as read;

#[test]
fn what_was_sent_and_not_answered_is_repeated_when_it_is_safe() {
    let ca = Ca::new();
    for (method, status) in [
        ("GET", 200),
        ("OPTIONS", 200),
        ("DELETE", 502),
        ("POST", 502),
        ("PUT", 502),
    ] {
        let origin = second_unanswered(&ca);
        let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
        let mut client = Client::connect(daemon.address("b"));
        assert_eq!(client.get("/first").unwrap().status, 200);
        client.write(
            format!("{method} /second HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
                .as_bytes(),
        );
        assert_eq!(client.answer().unwrap().status, status, "{method}");
        let seen = origin
            .requests()
            .iter()
            .filter(|request| request.target() == "/second")
            .count();
        assert_eq!(seen, if status == 200 { 2 } else { 1 }, "{method}");
    }
}

#[test]
fn a_get_with_a_body_that_was_read_is_not_repeated() {
    let ca = Ca::new();
    let origin = second_unanswered(&ca);
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    let mut client = Client::connect(daemon.address("b"));
    assert_eq!(client.get("/first").unwrap().status, 200);
    client.write(b"GET /second HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(client.answer().unwrap().status, 502);
    assert_eq!(origin.requests().len(), 2);
}

/// Reads the head of a request, and `length` bytes of its body; `None` when the client is done.
fn read_part(
    tls: &mut Tls,
    serial: &str,
    connection: usize,
    length: usize,
) -> io::Result<Option<Request>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match tls.read(&mut byte)? {
            0 => return Ok(None),
            _ => head.push(byte[0]),
        }
    }
    let mut body = vec![0; length];
    tls.read_exact(&mut body)?;
    Ok(Some(Request {
        head: String::from_utf8_lossy(&head).trim_end().to_owned(),
        body,
        serial: serial.to_owned(),
        connection,
    }))
}

const MISDIRECTED: &[u8] = b"HTTP/1.1 421 Misdirected Request\r\nContent-Length: 0\r\n\r\n";

#[test]
fn a_post_is_not_sent_twice_once_a_byte_of_its_body_was() {
    let ca = Ca::new();
    // How much of the body the client has sent by the time that the origin has had enough, what it
    // says then, and what the client is told. Either would be met by another try, had there been
    // no body.
    for (sent, said, status) in [
        ("h", MISDIRECTED, 421),
        ("hi", MISDIRECTED, 421),
        ("h", b"", 502),
        ("hi", b"", 502),
    ] {
        let origin = Origin::raw(&ca, move |tls, serial, connection, note| {
            let Some(first) = read(tls, serial, connection)? else {
                return Ok(());
            };
            note(Some(&first));
            crate::support::answer(tls, "ok")?;
            note(None);
            if let Some(second) = read_part(tls, serial, connection, sent.len())? {
                note(Some(&second));
                tls.write_all(said)?;
            }
            Ok(())
        });
        let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
        let mut client = Client::connect(daemon.address("b"));
        assert_eq!(client.get("/first").unwrap().status, 200);
        let head = "POST /second HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n";
        client.write(format!("{head}{sent}").as_bytes());
        let answer = client.answer().unwrap();
        let row = format!("{sent:?}, then {status}: {answer:?}");
        assert_eq!(answer.status, status, "{row}");
        let seen: Vec<_> = origin
            .requests()
            .into_iter()
            .map(|request| (request.connection, request.target().to_owned()))
            .collect();
        let expected = [(0, "/first".to_owned()), (0, "/second".to_owned())];
        assert_eq!(seen, expected, "{row}");
    }
}

#[test]
fn a_post_whose_body_was_not_begun_goes_out_again_and_takes_its_body_along() {
    let ca = Ca::new();
    for (expect, retry, tries) in [
        ("", "safe", 2),
        ("Expect: 100-continue\r\n", "safe", 2),
        ("Expect: 100-continue\r\n", "never", 1),
    ] {
        // The first connection is the wrong one for all but its first request, and says so without
        // having seen a byte of the body.
        let origin = Origin::raw(&ca, move |tls, serial, connection, note| {
            if connection > 0 {
                let Some(request) = read_part(tls, serial, connection, 0)? else {
                    return Ok(());
                };
                note(Some(&request));
                tls.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                let mut body = [0; 4];
                tls.read_exact(&mut body)?;
                return crate::support::answer(tls, &String::from_utf8_lossy(&body));
            }
            for count in 0.. {
                let Some(request) = read_part(tls, serial, connection, 0)? else {
                    break;
                };
                note(Some(&request));
                match count {
                    0 => crate::support::answer(tls, "ok")?,
                    _ => tls.write_all(MISDIRECTED)?,
                }
                note(None);
            }
            Ok(())
        });
        let lines = format!("retry = \"{retry}\"");
        let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, &lines));
        let mut client = Client::connect(daemon.address("b"));
        assert_eq!(client.get("/first").unwrap().status, 200);
        client.write(
            format!(
                "POST /second HTTP/1.1\r\nHost: localhost\r\n{expect}Content-Length: 4\r\n\r\n"
            )
            .as_bytes(),
        );
        let posts = || {
            let requests = origin.requests();
            let posts = requests.iter().filter(|request| request.method() == "POST");
            posts.map(|request| request.connection).collect::<Vec<_>>()
        };
        let row = format!("{expect:?}, retry = {retry}");
        wait_for(&row, || match posts() {
            posts if posts.len() == tries => Ok(()),
            posts => Err(posts),
        });
        if tries == 1 {
            assert_eq!(client.answer().unwrap().status, 421, "{row}");
            assert_eq!(posts(), [0], "{row}");
            continue;
        }
        if !expect.is_empty() {
            assert_eq!(client.answer().unwrap().status, 100, "{row}");
        }
        client.write(b"body");
        let answer = client.answer().unwrap();
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "body"),
            "{row}"
        );
        assert_eq!(posts(), [0, 1], "{row}");
    }
}

#[test]
fn retry_never_means_never() {
    let ca = Ca::new();
    let origin = second_unanswered(&ca);
    let daemon = Daemon::start(
        &ca,
        &ca.issue("client"),
        &binding(&origin, "retry = \"never\""),
    );
    let mut client = Client::connect(daemon.address("b"));
    assert_eq!(client.get("/first").unwrap().status, 200);
    assert_eq!(client.get("/second").unwrap().status, 502);
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn a_misdirected_answer_is_asked_for_once_more_on_a_fresh_connection() {
    let ca = Ca::new();
    let origin = Origin::with(&ca, |request, tls| {
        match request.target() {
            "/wrong" => tls.write_all(MISDIRECTED)?,
            _ => crate::support::answer(tls, &request.connection.to_string())?,
        }
        Ok(Then::Keep)
    });
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    let mut client = Client::connect(daemon.address("b"));
    assert_eq!(client.get("/").unwrap().body, "0");
    assert_eq!(client.get("/wrong").unwrap().status, 421);
    let connections: Vec<_> = origin
        .requests()
        .iter()
        .map(|request| request.connection)
        .collect();
    assert_eq!(connections, [0, 0, 1]);
}
