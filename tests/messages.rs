//! What a message says about its connection and its framing is true, in every version; and fields
//! that concern one connection or one head pass neither in heads nor in trailers.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::{Ca, Client, Daemon, Http2Origin, Origin, Stream, Then, Tls, binding};

/// How an origin frames its response.
const FRAMINGS: &[(&str, &str, &str)] = &[
    ("/length", "200 OK", "Content-Length: 5\r\n\r\nhello"),
    ("/lengths", "200 OK", "Content-Length: 5, 5\r\n\r\nhello"),
    (
        "/chunked",
        "200 OK",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    ("/end", "200 OK", "Connection: close\r\n\r\nhello"),
    ("/none", "204 No Content", "\r\n"),
    (
        "/unchanged",
        "304 Not Modified",
        "Transfer-Encoding: chunked\r\n\r\n",
    ),
    (
        "/error",
        "500 Internal Server Error",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
];

fn framing_origin(ca: &Ca) -> Origin {
    Origin::with(ca, |request, tls| {
        let Some((path, status, rest)) = FRAMINGS.iter().find(|row| row.0 == request.target())
        else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let rest = match request.method() {
            "HEAD" => &rest[..rest.find("\r\n\r\n").map_or(2, |end| end + 4)],
            _ => rest,
        };
        tls.write_all(format!("HTTP/1.1 {status}\r\n{rest}").as_bytes())?;
        tls.flush()?;
        Ok(match *path {
            "/end" => Then::Close,
            _ => Then::Keep,
        })
    })
}

/// Whether a response says that its connection stays open.
fn says_open(http10: bool, head: &str) -> bool {
    let head = head.to_ascii_lowercase();
    let options: Vec<&str> = head
        .lines()
        .filter_map(|line| line.strip_prefix("connection:"))
        .flat_map(|value| value.split(',').map(str::trim))
        .collect();
    let (close, keep) = (options.contains(&"close"), options.contains(&"keep-alive"));
    assert!(!(close && keep), "it says both: {head}");
    match http10 {
        true => keep,
        false => !close,
    }
}

#[test]
fn a_connection_stays_open_exactly_if_the_response_says_so() {
    let ca = Ca::new();
    let origin = framing_origin(&ca);
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    let clients = [
        (true, "HTTP/1.0", ""),
        (true, "HTTP/1.0", "Connection: keep-alive\r\n"),
        (true, "HTTP/1.0", "Connection: Keep-Alive, x\r\n"),
        (false, "HTTP/1.1", ""),
        (false, "HTTP/1.1", "Connection: keep-alive\r\n"),
        (false, "HTTP/1.1", "Connection: close\r\n"),
    ];
    let mut wrong = Vec::new();
    for (http10, version, options) in clients {
        for method in ["GET", "HEAD", "POST", "OPTIONS"] {
            for (path, status, _) in FRAMINGS {
                let mut client = Client::connect(daemon.address("b"));
                let request = format!(
                    "{method} {path} {version}\r\nHost: localhost\r\nContent-Length: 0\r\n{options}\r\n"
                );
                client.write(request.as_bytes());
                let head = client.head().unwrap();
                let lower = head.to_ascii_lowercase();
                let has_body = method != "HEAD" && !["204", "304"].contains(&&status[..3]);
                let says_open = says_open(http10, &head);
                let delimited = lower.contains("content-length: 5")
                    || lower.contains("transfer-encoding: chunked");
                if has_body && !delimited && says_open {
                    wrong.push(format!("{request:?} is open without an end: {head:?}"));
                    continue;
                }
                if has_body && lower.contains("content-length") {
                    client.exactly(5).unwrap();
                } else if has_body && delimited {
                    client.exactly(b"5\r\nhello\r\n0\r\n\r\n".len()).unwrap();
                } else if has_body {
                    assert_eq!(client.rest().unwrap(), b"hello", "{request:?}");
                }
                // What follows shows whether it is open.
                let _ = client
                    .stream()
                    .write_all(b"GET /length HTTP/1.1\r\nHost: localhost\r\n\r\n");
                let is_open = client.answer().is_ok();
                if is_open != says_open {
                    wrong.push(format!("{request:?}: open {is_open}, but {head:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_response_of_ambiguous_framing_is_a_502_that_says_so() {
    const ROWS: &[(&str, &str, &str)] = &[
        (
            "/lengths",
            "Content-Length: 5, 6\r\n\r\nhello",
            "content-length",
        ),
        (
            "/coded",
            "Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "transfer-encoding",
        ),
        (
            "/two-codings",
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "transfer-encoding",
        ),
        (
            "/identity",
            "Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
            "transfer-encoding",
        ),
    ];
    let ca = Ca::new();
    let origin = Origin::with(&ca, |request, tls| {
        let row = ROWS.iter().find(|row| row.0 == request.target()).unwrap();
        tls.write_all(format!("HTTP/1.1 200 OK\r\n{}", row.1).as_bytes())?;
        tls.flush()?;
        Ok(Then::Close)
    });
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    for (path, _, words) in ROWS {
        let answer = crate::support::get(daemon.address("b"), path);
        assert_eq!(answer.status, 502, "{path}: {answer:?}");
        let body = answer.body.to_ascii_lowercase();
        assert!(body.contains(words), "{path}: {answer:?}");
    }
}

#[test]
fn the_last_recipient_of_options_and_trace_responds() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    let ask = |method: &str, forwards: &str| {
        crate::support::send(
            daemon.address("b"),
            &format!(
                "{method} / HTTP/1.1\r\nHost: localhost:\r\nMax-Forwards: {forwards}\r\nX-A: b\r\n\r\n"
            ),
        )
    };
    let options = ask("OPTIONS", "0");
    assert_eq!(options.status, 200);
    assert!(options.head.contains("allow: GET, "), "{options:?}");
    let trace = ask("TRACE", "0");
    assert!(trace.head.contains("message/http"), "{trace:?}");
    assert!(trace.body.contains("x-a: b"), "{trace:?}");
    assert_eq!(origin.requests().len(), 0);
    assert_eq!(ask("OPTIONS", "5").status, 200);
    assert_eq!(origin.requests()[0].field("max-forwards"), Some("4"));
}

/// Trailers that must not pass, and one that may.
const TRAILERS: &[(&str, &str)] = &[
    ("authorization", "Basic x"),
    ("connection", "x-private"),
    ("content-length", "3"),
    ("cookie", "a=b"),
    ("host", "evil.example"),
    ("keep-alive", "timeout=5"),
    ("proxy-authorization", "Basic x"),
    ("proxy-connection", "close"),
    ("set-cookie", "a=b"),
    ("te", "gzip"),
    ("transfer-encoding", "chunked"),
    ("upgrade", "h2c"),
    ("x-private", "x"),
    ("x-sum", "good"),
];

/// Those that the client library sends in HTTP/2: it refuses fields that concern one connection.
fn trailers() -> HeaderMap {
    let illegal = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
        // Named in `connection` alone.
        "x-private",
    ];
    let sent = TRAILERS.iter().filter(|(name, _)| !illegal.contains(name));
    sent.map(|(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    })
    .collect()
}

fn chunked_with_trailers() -> String {
    let lines: Vec<String> = TRAILERS
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("5\r\nhello\r\n0\r\n{}\r\n", lines.concat())
}

fn declared() -> String {
    let names: Vec<&str> = TRAILERS.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// An origin of HTTP/1.1 that reports the trailers it receives, and sends trailers.
fn http1_origin(ca: &Ca, seen: Sender<Vec<String>>) -> Origin {
    let seen = Mutex::new(seen);
    Origin::raw(ca, move |tls, _, _, _| {
        let mut read = Vec::new();
        while let Some(request) = read_with_trailers(tls, &mut read)? {
            seen.lock().unwrap().send(request).unwrap();
            let head = format!(
                "HTTP/1.1 200 OK\r\nTrailer: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
                declared()
            );
            tls.write_all(format!("{head}{}", chunked_with_trailers()).as_bytes())?;
            tls.flush()?;
        }
        Ok(())
    })
}

/// The trailers of the next request; its body is in chunks.
fn read_with_trailers(tls: &mut Tls, read: &mut Vec<u8>) -> io::Result<Option<Vec<String>>> {
    read.clear();
    let mut byte = [0];
    let end = |read: &[u8]| {
        let text = String::from_utf8_lossy(read);
        let (_, body) = text.split_once("\r\n\r\n")?;
        let (_, trailers) = body.split_once("\r\n0\r\n")?;
        (trailers == "\r\n" || trailers.ends_with("\r\n\r\n")).then(|| {
            trailers
                .lines()
                .filter(|line| !line.is_empty())
                .map(str::to_owned)
                .collect()
        })
    };
    loop {
        if let Some(trailers) = end(read) {
            return Ok(Some(trailers));
        }
        if tls.read(&mut byte)? == 0 {
            return Ok(None);
        }
        read.push(byte[0]);
    }
}

fn lines(trailers: &HeaderMap) -> Vec<String> {
    trailers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect()
}

/// An origin of HTTP/2 that does the same.
fn http2_origin(ca: &Ca, seen: Sender<Vec<String>>) -> Http2Origin {
    let seen = Arc::new(Mutex::new(seen));
    Http2Origin::start(ca, move |mut stream: Stream| {
        let seen = Arc::clone(&seen);
        async move {
            let body = stream.request.body_mut();
            while let Some(piece) = body.data().await {
                let Ok(piece) = piece else { return };
                let _ = body.flow_control().release_capacity(piece.len());
            }
            let Ok(trailers) = body.trailers().await else {
                return;
            };
            let trailers = trailers.as_ref().map(lines).unwrap_or_default();
            seen.lock().unwrap().send(trailers).unwrap();
            // Only trailers that are declared pass into HTTP/1.1.
            let head = Response::builder().header("trailer", declared());
            let mut sending = stream
                .respond
                .send_response(head.body(()).unwrap(), false)
                .unwrap();
            sending
                .send_data(Bytes::from_static(b"hello"), false)
                .unwrap();
            sending.send_trailers(self::trailers()).unwrap();
        }
    })
}

/// Sends trailers as a client of HTTP/1.1, and returns those of the response.
fn exchange_http1(address: SocketAddr) -> Vec<String> {
    let mut client = Client::connect(address);
    let head = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nTrailer: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        declared()
    );
    client.write(format!("{head}{}", chunked_with_trailers()).as_bytes());
    let head = client.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut body = Vec::new();
    while !(body.windows(5).any(|end| end == b"\r\n0\r\n") && body.ends_with(b"\r\n\r\n")) {
        body.extend(client.exactly(1).unwrap());
    }
    let text = String::from_utf8(body).unwrap();
    let (_, trailers) = text.split_once("\r\n0\r\n").unwrap();
    trailers
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The same as a client of HTTP/2.
fn exchange_http2(address: SocketAddr) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let exchange = async {
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
                .await
                .unwrap();
        tokio::spawn(connection);
        let frames = [
            Frame::data(Bytes::from_static(b"hello")),
            Frame::trailers(trailers()),
        ];
        let request = Request::post(format!("http://localhost:{}/", address.port()))
            .header("te", "trailers")
            .header("trailer", declared())
            .body(Frames(frames.into()))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.unwrap();
        body.trailers().map(lines).unwrap_or_default()
    };
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(10), exchange)
            .await
            .expect("a response within 10 s")
    })
}

/// A body of these frames.
struct Frames(VecDeque<Frame<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

#[test]
fn trailers_are_filtered_like_heads_in_every_version() {
    let ca = Ca::new();
    let (sender, seen) = channel();
    let http1 = http1_origin(&ca, sender.clone());
    let http2 = http2_origin(&ca, sender);
    let only = vec!["x-sum: good".to_owned()];
    for (origin, port) in [("http/1.1", http1.port), ("h2", http2.port)] {
        let daemon = Daemon::launch(&[], |directory| {
            std::fs::write(directory.join("client.pem"), ca.issue("client").pem()).unwrap();
            std::fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
            let config = format!(
                "[bindings.b]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{port}\"\n\
                 certificate = \"client.pem\"\nca = \"ca.crt\"\n"
            );
            std::fs::write(directory.join("mtlsd.toml"), config).unwrap();
        });
        daemon.wait_ready();
        for (client, exchange) in [
            ("HTTP/1.1", exchange_http1 as fn(SocketAddr) -> Vec<String>),
            ("HTTP/2", exchange_http2),
        ] {
            // Twice: the connection to the origin is used again.
            for _ in 0..2 {
                let received = exchange(daemon.address("b"));
                assert_eq!(received, only, "response, {client} from {origin}");
                let arrived = seen.recv_timeout(Duration::from_secs(5)).unwrap();
                assert_eq!(arrived, only, "request, {client} to {origin}");
            }
        }
    }
}
