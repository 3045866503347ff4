//! Origins that respond before they have read the body: the response arrives, the rest of the body goes
//! where it is still read, and no later request on the client's connection is lost.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::support::{Ca, Client, Daemon, Origin, Tls, binding, wait_for};

/// What an origin does about the body once it has responded.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Then {
    /// Reads it, and keeps the connection.
    Reads,
    /// Reads nothing more, and closes the connection in TLS.
    Closes,
    /// Says so before.
    SaysClose,
    /// Does neither.
    Waits,
    /// Closes the socket while the body is unread, which resets the connection.
    Resets,
}

const ALL: [Then; 5] = [
    Then::Reads,
    Then::Closes,
    Then::SaysClose,
    Then::Waits,
    Then::Resets,
];
const SIZE: usize = 3 * 1024 * 1024;

fn head(tls: &mut Tls) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if tls.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

fn serve(tls: &mut Tls, then: Then, read: &AtomicUsize) -> io::Result<()> {
    while let Some(head) = head(tls)? {
        if head.starts_with("GET") {
            crate::support::answer(tls, "next")?;
            continue;
        }
        let close = match then {
            Then::SaysClose => "Connection: close\r\n",
            _ => "",
        };
        let response = format!("HTTP/1.1 202 Accepted\r\n{close}Content-Length: 5\r\n\r\nearly");
        tls.write_all(response.as_bytes())?;
        tls.flush()?;
        match then {
            Then::Reads => {
                let mut left = SIZE;
                let mut piece = vec![0; 64 * 1024];
                while left > 0 {
                    let most = piece.len().min(left);
                    let size = tls.read(&mut piece[..most])?;
                    if size == 0 {
                        return Ok(());
                    }
                    left -= size;
                    read.fetch_add(size, Relaxed);
                }
                let mut rest = Vec::new();
                let chunked = head.contains("transfer-encoding");
                while chunked && !rest.ends_with(b"0\r\n\r\n") {
                    let mut byte = [0];
                    tls.read_exact(&mut byte)?;
                    rest.push(byte[0]);
                }
            }
            Then::Closes | Then::SaysClose => {
                // As nginx does: what still comes is read for a while, so that nothing is reset.
                tls.conn.send_close_notify();
                tls.flush()?;
                tls.sock.shutdown(std::net::Shutdown::Write)?;
                let mut waste = vec![0; 64 * 1024];
                tls.sock.set_read_timeout(Some(Duration::from_secs(1)))?;
                while matches!(tls.sock.read(&mut waste), Ok(1..)) {}
                return Ok(());
            }
            // Long enough for the response to arrive first.
            Then::Resets => {
                std::thread::sleep(Duration::from_millis(100));
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Then::Waits => {
                std::thread::sleep(Duration::from_secs(5));
                return Ok(());
            }
        }
    }
    Ok(())
}

#[test]
fn no_request_after_an_early_response_is_lost() {
    let ca = Ca::new();
    for then in ALL {
        let read = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&read);
        let origin = Origin::raw(&ca, move |tls, _, _, _| serve(tls, then, &counted));
        let config = binding(&origin, "body_timeout = \"500ms\"");
        let daemon = Daemon::start(&ca, &ca.issue("client"), &config);
        for chunked in [false, true] {
            let before = read.load(Relaxed);
            let mut client = Client::connect(daemon.address("b"));
            let framing = match chunked {
                true => format!("Transfer-Encoding: chunked\r\n\r\n{SIZE:x}\r\n"),
                false => format!("Content-Length: {SIZE}\r\n\r\n"),
            };
            let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\n{framing}");
            client.write(head.as_bytes());
            // Like Python's client, it sends everything before it looks at the response.
            client.write(&vec![b'x'; SIZE]);
            if chunked {
                client.write(b"\r\n0\r\n\r\n");
            }
            let answer = client
                .answer()
                .unwrap_or_else(|error| panic!("{then:?}: {error}"));
            assert_eq!((answer.status, &*answer.body), (202, "early"), "{then:?}");
            if answer.head.contains("connection: close") {
                assert!(client.rest().unwrap().is_empty(), "{then:?}");
            } else {
                let next = client
                    .get("/")
                    .unwrap_or_else(|error| panic!("{then:?}: {error}"));
                assert_eq!(next.body, "next", "{then:?}");
            }
            if then == Then::Reads && !chunked {
                wait_for("the rest of the body", || {
                    match read.load(Relaxed) - before {
                        SIZE => Ok(()),
                        less => Err(less),
                    }
                });
            }
        }
    }
}

/// The same for responses of mtlsd's own.
#[test]
fn no_request_after_an_error_is_lost() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    for (body, chunked) in [
        (5, false),
        (5, true),
        (100_000, false),
        (SIZE, false),
        (SIZE, true),
    ] {
        let mut client = Client::connect(daemon.address("b"));
        let framing = match chunked {
            true => format!("Transfer-Encoding: chunked\r\n\r\n{body:x}\r\n"),
            false => format!("Content-Length: {body}\r\n\r\n"),
        };
        let head = format!("POST / HTTP/1.1\r\nHost: unknown.example\r\n{framing}");
        client.write(&[head.as_bytes(), &vec![b'x'; body]].concat());
        if chunked {
            client.write(b"\r\n0\r\n\r\n");
        }
        let answer = client.answer().unwrap();
        assert_eq!(answer.status, 421, "{body}: {answer:?}");
        match answer.head.contains("connection: close") {
            true => assert!(body > 5 && client.rest().unwrap().is_empty(), "{body}"),
            false => assert_eq!(client.get("/").unwrap().status, 200, "{body}"),
        }
    }
}

/// A client that waits to be told to send its body is not told, and its connection ends.
#[test]
fn an_expectation_that_fails_ends_the_connection() {
    let ca = Ca::new();
    let origin = Origin::raw(&ca, |tls, _, _, _| {
        while head(tls)?.is_some() {
            tls.write_all(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno")?;
            tls.flush()?;
        }
        Ok(())
    });
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    for (host, status) in [("localhost", 417), ("unknown.example", 421)] {
        let mut client = Client::connect(daemon.address("b"));
        client.write(
            format!(
                "POST / HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
            )
            .as_bytes(),
        );
        let answer = client.answer().unwrap();
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.head.contains("connection: close"), "{answer:?}");
        assert!(client.rest().unwrap().is_empty());
    }
}
