//! What an origin of HTTP/2 says that it has not looked at goes out once more, and nothing else
//! does (RFC 9113 section 8.7).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::support::frames::{self, FrameOrigin};
use crate::support::{Answer, Ca, Client, Daemon, Http2Origin, LeavingOrigin, post_http2};
use h2::Reason;

fn daemon(ca: &Ca, port: u16, lines: &str) -> Daemon {
    let config = format!(
        "workers = 1\n[bindings.b]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{port}\"\n\
         certificate = \"client.pem\"\nca = \"ca.crt\"\nprotocol = \"http2\"\n{lines}\n"
    );
    Daemon::start(ca, &ca.issue("client"), &config)
}

fn ask(daemon: &Daemon, method: &str) -> Answer {
    crate::support::send(
        daemon.address("b"),
        &format!(
            "{method} / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ),
    )
}

#[test]
fn a_refused_stream_is_asked_for_once_more() {
    // How many streams are refused, the key, and what becomes of it after how many tries.
    let rows = [
        ("GET", 1, "", 200, 2),
        ("POST", 1, "", 200, 2),
        ("POST", 2, "", 502, 2),
        ("GET", 1, "retry = \"never\"", 502, 1),
    ];
    let ca = Ca::new();
    for (method, refusals, lines, status, tries) in rows {
        let seen = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&seen);
        let origin = Http2Origin::start(&ca, move |mut stream| {
            let refuse = count.fetch_add(1, Relaxed) < refusals;
            async move {
                match refuse {
                    true => stream.respond.send_reset(Reason::REFUSED_STREAM),
                    false => stream.answer("good"),
                }
            }
        });
        let daemon = daemon(&ca, origin.port, lines);
        let answer = ask(&daemon, method);
        let row = format!("{method}, {refusals} refused, {lines}: {answer:?}");
        assert_eq!(answer.status, status, "{row}");
        assert_eq!(seen.load(Relaxed), tries, "{row}");
        if status == 502 {
            assert!(answer.body.starts_with("mtlsd: "), "{row}");
            assert!(answer.body.contains("refused"), "{row}");
        }
    }
}

#[test]
fn what_came_after_the_last_stream_is_asked_for_on_a_fresh_connection() {
    // The last stream that GOAWAY names; the request's is 1.
    let rows = [
        ("GET", 0, "", 200, 2),
        ("POST", 0, "", 200, 2),
        ("POST", 0, "retry = \"never\"", 502, 1),
        ("POST", 1, "", 502, 1),
        ("POST", 3, "", 502, 1),
    ];
    let ca = Ca::new();
    for (method, last, lines, status, tries) in rows {
        let origin = LeavingOrigin::start(&ca, last);
        let daemon = daemon(&ca, origin.port(), lines);
        let answer = ask(&daemon, method);
        let row = format!("{method}, last stream {last}, {lines}: {answer:?}");
        assert_eq!(answer.status, status, "{row}");
        assert_eq!(origin.accepted(), tries, "{row}");
    }
}

/// How the first connection of an origin refuses a request whose body has begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refusal {
    /// RST_STREAM with REFUSED_STREAM.
    Stream,
    /// GOAWAY with an earlier stream as the last.
    GoAway,
    /// GOAWAY with this stream as the last, and the end: it may have been processed.
    Processed,
}

/// An origin that refuses the first request once it has read `after` bytes of its body, and answers
/// others with the body itself.
fn refusing(ca: &Ca, refusal: Refusal, after: usize) -> FrameOrigin {
    let refused = AtomicUsize::new(0);
    FrameOrigin::start(ca, move |tls, _| {
        let mut body = Vec::new();
        loop {
            let came = frames::read_frame(tls)?;
            match came.kind {
                frames::HEADERS if came.flags & frames::END_STREAM == 0 => body.clear(),
                frames::DATA => body.extend(&came.payload),
                frames::HEADERS => {}
                _ => continue,
            }
            if body.len() >= after && refused.fetch_add(1, Relaxed) == 0 {
                match refusal {
                    Refusal::Stream => {
                        let reason = u32::from(Reason::REFUSED_STREAM).to_be_bytes();
                        let reset = frames::frame(frames::RST_STREAM, 0, came.stream, &reason);
                        std::io::Write::write_all(tls, &reset)?;
                        std::io::Write::flush(tls)?;
                    }
                    Refusal::GoAway => return frames::leave(tls, came.stream.saturating_sub(2)),
                    Refusal::Processed => return frames::leave(tls, came.stream),
                }
                body.clear();
            } else if came.flags & frames::END_STREAM != 0 {
                frames::respond(tls, came.stream, &body)?;
            }
        }
    })
}

#[test]
fn a_body_that_had_begun_goes_along_where_the_origin_processed_nothing() {
    use Refusal::{GoAway, Processed, Stream};
    const KIB: usize = 1024;
    // What the origin does after how much of a body, how long that is, and what becomes of it.
    #[rustfmt::skip]
    let rows = [
        (Stream, 1, 5, 200),
        (Stream, 1, 40 * KIB, 200),
        (Stream, 40 * KIB, 40 * KIB, 200),
        (Stream, 64 * KIB, 64 * KIB, 200),
        (Stream, 100 * KIB, 100 * KIB, 502),
        (GoAway, 1, 5, 200),
        (GoAway, 40 * KIB, 40 * KIB, 200),
        (GoAway, 100 * KIB, 100 * KIB, 502),
        (Processed, 1, 5, 502),
        (Processed, 40 * KIB, 40 * KIB, 502),
    ];
    let ca = Ca::new();
    for (refusal, after, length, status) in rows {
        for (http2, chunked) in [(false, false), (false, true), (true, false)] {
            let row = format!("{refusal:?} after {after} of {length}, {http2}, {chunked}");
            let origin = refusing(&ca, refusal, after);
            let daemon = daemon(&ca, origin.port, "response_timeout = \"5s\"");
            let address = daemon.address("b");
            let body: String = (0..length)
                .map(|at| char::from(b'a' + (at % 23) as u8))
                .collect();
            let (seen, text) = match (http2, chunked) {
                (true, _) => post_http2(address, "/", body.clone()).unwrap(),
                (false, chunked) => {
                    let framing = match chunked {
                        true => "Transfer-Encoding: chunked".to_owned(),
                        false => format!("Content-Length: {length}"),
                    };
                    let mut client = Client::connect(address);
                    client.write(
                        format!("POST / HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n")
                            .as_bytes(),
                    );
                    match chunked {
                        true => {
                            client.write(format!("{length:x}\r\n{body}\r\n0\r\n\r\n").as_bytes())
                        }
                        false => client.write(body.as_bytes()),
                    }
                    let answer = client.answer().unwrap();
                    (answer.status, answer.body)
                }
            };
            assert_eq!(seen, status, "{row}: {text}");
            match status {
                200 => assert!(text == body, "{row}: {} bytes", text.len()),
                // It is told what happened.
                _ if refusal != Processed => {
                    assert!(
                        text.starts_with("mtlsd: the origin did not process the request: "),
                        "{row}: {text}"
                    );
                }
                _ => assert!(
                    text.starts_with("mtlsd: ") && !text.contains("not HTTP"),
                    "{row}: {text}"
                ),
            }
        }
    }
}
