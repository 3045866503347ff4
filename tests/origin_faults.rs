//! Origins that fail, in every way there is, over HTTP/1.1 and HTTP/2: the client always sees an
//! error, never a complete answer that is none; what is left on a connection never reaches the next
//! request; and other requests notice nothing.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::support::{
    Ca, Client, Daemon, Doom, Http2Origin, Origin, Stream, Tls, get_http2, wait_for,
};
use bytes::Bytes;
use http::Response;
use socket2::SockRef;

/// What the client has to see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expect {
    /// An answer that breaks off.
    Broken,
    /// An answer of mtlsd's with this status.
    Explained(u16),
    /// This body, whole, and nothing else.
    Complete(&'static str),
}

use Expect::{Broken, Complete, Explained};

const WAITS: &str = "response_timeout = \"700ms\"\nbody_timeout = \"700ms\"";

/// What an origin of HTTP/1.1 does on a path, and what becomes of it.
#[rustfmt::skip]
const HTTP1: &[(&str, Expect)] = &[
    ("/cut", Broken),             // in the middle of a body, without a word of TLS
    ("/short", Broken),           // less than its length, with an orderly end of TLS
    ("/reset", Broken),           // the same, by a reset
    ("/stall", Broken),           // silence in the middle of a body
    ("/chunks-cut", Broken),      // chunks without a last one
    ("/chunks-bad", Broken),      // a size that is none
    ("/until-cut", Broken),       // a body that the end ends, and the end is none of TLS
    ("/silent", Explained(504)),  // no answer at all
    ("/close", Explained(502)),   // the end in place of an answer
    ("/half", Explained(502)),    // half a head
    ("/garbage", Explained(502)), // not HTTP
    ("/lengths", Explained(502)), // two lengths
    ("/switch", Explained(502)),  // a switch of protocols that nobody asked for
    ("/excess", Complete("hello")), // more than its length
    ("/two", Complete("hello")),  // two answers
    ("/early", Complete("hello")), // an answer to the next request before that was sent
];

fn misbehave(tls: &mut Tls, path: &str) -> io::Result<()> {
    let begin = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let bad = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad";
    let cut = |tls: &mut Tls| {
        tls.flush()?;
        tls.sock.shutdown(Shutdown::Both)
    };
    match path {
        "/cut" => {
            tls.write_all(begin)?;
            return cut(tls);
        }
        "/short" => tls.write_all(begin)?,
        "/reset" => {
            tls.write_all(begin)?;
            tls.flush()?;
            std::thread::sleep(Duration::from_millis(50));
            SockRef::from(&tls.sock).set_linger(Some(Duration::ZERO))?;
            // Without a goodbye.
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        "/stall" => {
            tls.write_all(begin)?;
            tls.flush()?;
            std::thread::sleep(Duration::from_secs(3));
        }
        "/chunks-cut" => {
            tls.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")?;
        }
        "/chunks-bad" => {
            tls.write_all(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
            )?;
        }
        "/until-cut" => {
            tls.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello")?;
            return cut(tls);
        }
        "/silent" => std::thread::sleep(Duration::from_secs(3)),
        "/half" => tls.write_all(b"HTTP/1.1 200 OK\r\nContent-")?,
        "/garbage" => tls.write_all(b"\x00\x01\x02 hello\r\n\r\n")?,
        "/lengths" => {
            tls.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
            )?;
        }
        "/switch" => {
            tls.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            )?;
        }
        "/excess" => tls.write_all(&[&whole[..], &bad[..3]].concat())?,
        "/two" => tls.write_all(&[&whole[..], bad].concat())?,
        "/early" => {
            tls.write_all(whole)?;
            tls.flush()?;
            std::thread::sleep(Duration::from_millis(30));
            tls.write_all(bad)?;
            tls.flush()?;
            std::thread::sleep(Duration::from_millis(100));
        }
        _ => {}
    }
    tls.flush()
}

/// What an origin of HTTP/2 does on a path, and what becomes of it.
#[rustfmt::skip]
const HTTP2: &[(&str, Expect)] = &[
    ("/reset", Broken),            // RST_STREAM in the middle of a body
    ("/goaway", Broken),           // GOAWAY with an error
    ("/cut", Broken),              // the socket is closed
    ("/short", Broken),            // less than its length
    ("/long", Broken),             // more than its length
    ("/stall", Broken),            // silence in the middle of a body
    ("/silent", Explained(504)),   // no answer at all
    ("/refuse", Explained(502)),   // RST_STREAM in place of an answer
    ("/close", Explained(502)),    // the end in place of an answer
];

async fn misbehave_in_http2(stream: Stream, path: String) {
    let hello = || Bytes::from_static(b"hello");
    let mut stream = stream;
    let mut begin = |length: &str| {
        let head = Response::builder().header("content-length", length);
        let mut sending = stream
            .respond
            .send_response(head.body(()).unwrap(), false)
            .unwrap();
        sending.send_data(hello(), false).unwrap();
        sending
    };
    let pause = tokio::time::sleep(Duration::from_millis(50));
    match path.as_str() {
        "/reset" => {
            let mut sending = begin("10");
            pause.await;
            sending.send_reset(h2::Reason::INTERNAL_ERROR);
        }
        "/goaway" | "/cut" => {
            let _sending = begin("10");
            stream.doom(if path == "/cut" {
                Doom::Cut
            } else {
                Doom::GoAway
            });
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        "/short" => begin("10").send_data(Bytes::new(), true).unwrap(),
        "/long" => begin("8").send_data(hello(), true).unwrap(),
        "/stall" => {
            let _sending = begin("10");
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        "/silent" => tokio::time::sleep(Duration::from_secs(3)).await,
        "/refuse" => stream.respond.send_reset(h2::Reason::INTERNAL_ERROR),
        "/close" => {
            stream.doom(Doom::Cut);
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        _ => {}
    }
}

/// A GET by a client of this version, and its answer if that is complete.
fn ask(http2: bool, address: SocketAddr, path: &str) -> Option<(u16, String)> {
    match http2 {
        true => get_http2(address, path).ok(),
        false => {
            let answer = Client::connect(address).get(path).ok()?;
            Some((answer.status, answer.body))
        }
    }
}

/// Puts every row to the origin by clients of both versions.
fn every_row(rows: &[(&str, Expect)], daemon: &Daemon) {
    let address = daemon.address("b");
    let mut wrong = Vec::new();
    for http2 in [false, true] {
        for (path, expect) in rows {
            let (seen, other) = std::thread::scope(|scope| {
                // Another request of the same binding is under way all the time.
                let other = scope.spawn(|| ask(false, address, "/slow"));
                (ask(http2, address, path), other.join().unwrap())
            });
            let next = ask(http2, address, "/good");
            let fine = match (expect, &seen) {
                (Broken, None) => true,
                (Explained(status), Some((seen, body))) => {
                    status == seen && body.starts_with("mtlsd: ")
                }
                (Complete(body), Some((200, seen))) => body == seen,
                _ => false,
            };
            let good = Some((200, "good".to_owned()));
            // A connection that has failed is not used again: the next request has another one,
            // which may be that of the other request.
            if !fine || next != good || other != Some((200, "slow".to_owned())) {
                wrong.push((http2, *path, *expect, seen, other, next));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_origin_of_http1_that_fails_is_never_taken_for_a_good_one() {
    let ca = Ca::new();
    let failed = Arc::new(AtomicUsize::new(usize::MAX));
    let bad = Arc::clone(&failed);
    let reused = Arc::new(AtomicBool::new(false));
    let used_again = Arc::clone(&reused);
    let origin = Origin::raw(&ca, move |tls, serial, connection, _| {
        while let Some(request) = crate::support::read_request(tls, serial, connection)? {
            if bad.load(Relaxed) == connection {
                used_again.store(true, Relaxed);
            }
            match request.target() {
                "/good" => crate::support::answer(tls, "good")?,
                "/slow" => {
                    std::thread::sleep(Duration::from_millis(200));
                    crate::support::answer(tls, "slow")?;
                }
                path => {
                    bad.store(connection, Relaxed);
                    misbehave(tls, path)?;
                    // Ends, unless it is to be seen whether the connection is used again.
                    if !["/excess", "/two", "/early"].contains(&path) {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    });
    let daemon = Daemon::start(
        &ca,
        &ca.issue("client"),
        &crate::support::binding(&origin, WAITS),
    );
    every_row(HTTP1, &daemon);
    assert!(
        !reused.load(Relaxed),
        "a connection that had failed was used again"
    );
}

#[test]
fn an_origin_of_http2_that_fails_is_never_taken_for_a_good_one() {
    let ca = Ca::new();
    let origin = Http2Origin::start(&ca, |stream| async move {
        match stream.request.uri().path().to_owned().as_str() {
            "/good" => stream.answer("good"),
            "/slow" => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                stream.answer("slow");
            }
            path => misbehave_in_http2(stream, path.to_owned()).await,
        }
    });
    let daemon = Daemon::launch(&[], |directory| {
        std::fs::write(directory.join("client.pem"), ca.issue("client").pem()).unwrap();
        std::fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
        let config = format!(
            "[bindings.b]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{}\"\n\
             certificate = \"client.pem\"\nca = \"ca.crt\"\n{WAITS}\n",
            origin.port
        );
        std::fs::write(directory.join("mtlsd.toml"), config).unwrap();
    });
    daemon.wait_ready();
    every_row(HTTP2, &daemon);
}

#[test]
fn a_client_of_http2_that_goes_away_takes_its_stream_along() {
    let ca = Ca::new();
    let cancelled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&cancelled);
    let origin = Http2Origin::start(&ca, move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            let mut sending = stream
                .respond
                .send_response(Response::new(()), false)
                .unwrap();
            sending
                .send_data(Bytes::from_static(b"hello"), false)
                .unwrap();
            let reset = std::future::poll_fn(|cx| sending.poll_reset(cx)).await;
            if reset.is_ok() {
                count.fetch_add(1, Relaxed);
            }
        }
    });
    let daemon = Daemon::launch(&[], |directory| {
        std::fs::write(directory.join("client.pem"), ca.issue("client").pem()).unwrap();
        std::fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
        let config = format!(
            "workers = 1\n[bindings.b]\nlisten = \"127.0.0.1:0\"\n\
             origin = \"https://localhost:{}\"\ncertificate = \"client.pem\"\n\
             ca = \"ca.crt\"\nprotocol = \"http2\"\n",
            origin.port
        );
        std::fs::write(directory.join("mtlsd.toml"), config).unwrap();
    });
    daemon.wait_ready();
    for round in 1..=3 {
        let mut client = Client::connect(daemon.address("b"));
        client.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        // As soon as its answer has begun.
        client.exactly(20).unwrap();
        drop(client);
        wait_for("the end of the stream", || match cancelled.load(Relaxed) {
            count if count >= round => Ok(()),
            count => Err(count),
        });
    }
    // The connection lives on.
    assert_eq!(origin.accepted(), 1);
}
