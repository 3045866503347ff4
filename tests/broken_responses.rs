//! Responses whose head arrives whole and whose body does not: the client receives the head, sees that
//! the body is incomplete, and is not kept waiting for the end of the connection.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::SockRef;

use crate::support::{
    Ca, Client, Daemon, Doom, Http2Origin, Origin, Stream, Tls, binding, read_request,
};

/// How a client asks.
#[derive(Clone, Copy, Debug)]
enum Version {
    Http10,
    Http10KeepAlive,
    Http11,
    Http2,
}

const VERSIONS: [Version; 4] = [
    Version::Http10,
    Version::Http10KeepAlive,
    Version::Http11,
    Version::Http2,
];

/// What follows the head, and how the connection ends then.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Closed in TLS.
    Orderly,
    /// Closed without a close_notify.
    Cut,
    /// Reset.
    Reset,
    /// Left open.
    Open,
}

struct Row {
    path: &'static str,
    framing: &'static str,
    body: &'static [u8],
    end: End,
}

const fn row(path: &'static str, framing: &'static str, body: &'static [u8], end: End) -> Row {
    Row {
        path,
        framing,
        body,
        end,
    }
}

const LENGTH: &str = "Content-Length: 10\r\n";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
const CLOSE: &str = "Connection: close\r\n";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("/length-orderly", LENGTH, b"", End::Orderly),
    row("/length-cut", LENGTH, b"", End::Cut),
    row("/length-reset", LENGTH, b"", End::Reset),
    row("/length-silent", LENGTH, b"", End::Open),
    row("/length-part", LENGTH, b"hello", End::Cut),
    row("/chunks-orderly", CHUNKED, b"", End::Orderly),
    row("/chunks-cut", CHUNKED, b"", End::Cut),
    row("/chunks-silent", CHUNKED, b"", End::Open),
    row("/chunks-no-size", CHUNKED, b"zz\r\nhello\r\n0\r\n\r\n", End::Open),
    row("/chunks-large-size", CHUNKED, b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n", End::Open),
    row("/chunks-bare-lf", CHUNKED, b"5\nhello\n0\n\n", End::Open),
    row("/chunks-short", CHUNKED, b"3\r\nhello\r\n0\r\n\r\n", End::Open),
    row("/chunks-part", CHUNKED, b"5\r\nhello\r\n", End::Cut),
    row("/end-cut", CLOSE, b"", End::Cut),
    row("/end-part", CLOSE, b"hello", End::Cut),
];

fn misbehave(tls: &mut Tls, row: &Row, status: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nLocation: /made\r\nContent-Type: text/plain\r\n{}\r\n",
        row.framing
    );
    tls.write_all(&[head.as_bytes(), row.body].concat())?;
    tls.flush()?;
    match row.end {
        End::Orderly => Ok(()),
        End::Cut => {
            tls.sock.shutdown(Shutdown::Both)?;
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        End::Reset => {
            std::thread::sleep(Duration::from_millis(50));
            SockRef::from(&tls.sock).set_linger(Some(Duration::ZERO))?;
            Err(io::ErrorKind::ConnectionReset.into())
        }
        End::Open => {
            std::thread::sleep(Duration::from_secs(3));
            Ok(())
        }
    }
}

/// What a client saw of a response.
#[derive(Debug)]
struct Seen {
    status: u16,
    location: Option<String>,
    complete: bool,
}

/// A POST by a client of this version.
fn ask(version: Version, address: SocketAddr, path: &str) -> Seen {
    let line = match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http10KeepAlive => "HTTP/1.0\r\nConnection: keep-alive",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => return ask_http2(address, path),
    };
    let mut client = Client::connect(address);
    client.write(
        format!("POST {path} {line}\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").as_bytes(),
    );
    let head = client.head().unwrap_or_default();
    let status = head.get(9..12).and_then(|status| status.parse().ok());
    let field = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name).map(str::to_owned))
    };
    // A body without a length is complete when its connection ends, unless that is by a reset.
    let rest = client.rest();
    let complete = match field("content-length: ").and_then(|length| length.parse::<usize>().ok()) {
        Some(length) => rest.is_ok_and(|rest| rest.len() == length),
        None if field("transfer-encoding: ").is_some() => {
            rest.is_ok_and(|rest| rest.ends_with(b"0\r\n\r\n"))
        }
        None => rest.is_ok(),
    };
    Seen {
        status: status.unwrap_or_default(),
        location: field("location: "),
        complete,
    }
}

fn ask_http2(address: SocketAddr, path: &str) -> Seen {
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
        let request = Request::post(format!("http://localhost:{}{path}", address.port()))
            .body(Empty::<Bytes>::new())
            .unwrap();
        let Ok(response) = sender.send_request(request).await else {
            return Seen {
                status: 0,
                location: None,
                complete: false,
            };
        };
        Seen {
            status: response.status().as_u16(),
            location: response
                .headers()
                .get("location")
                .map(|location| location.to_str().unwrap().to_owned()),
            complete: response.into_body().collect().await.is_ok(),
        }
    };
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(10), exchange)
            .await
            .unwrap()
    })
}

/// Checks every path with every version.
fn every_row<'p>(address: SocketAddr, paths: impl Iterator<Item = &'p str> + Clone, status: u16) {
    let mut wrong = Vec::new();
    for version in VERSIONS {
        for path in paths.clone() {
            let began = Instant::now();
            let seen = ask(version, address, path);
            let location = seen.location.as_deref() == Some("/made");
            // A silent origin is given up after `body_timeout`.
            let prompt = began.elapsed() < Duration::from_millis(1900);
            if seen.status != status || !location || seen.complete || !prompt {
                wrong.push((version, path, seen, began.elapsed()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

const WAITS: &str = "body_timeout = \"300ms\"";

#[test]
fn the_head_of_a_broken_http1_response_reaches_the_client() {
    // An error page is read before its head is sent on.
    for (status, number) in [("201 Created", 201), ("403 Forbidden", 403)] {
        let ca = Ca::new();
        let origin = Origin::raw(&ca, move |tls, serial, connection, _| {
            let Some(request) = read_request(tls, serial, connection)? else {
                return Ok(());
            };
            let row = ROWS.iter().find(|row| row.path == request.target());
            misbehave(tls, row.unwrap(), status)
        });
        let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, WAITS));
        every_row(daemon.address("b"), ROWS.iter().map(|row| row.path), number);
    }
}

async fn misbehave_in_http2(mut stream: Stream) {
    let path = stream.request.uri().path().to_owned();
    let head = Response::builder().status(201).header("location", "/made");
    let head = match path.as_str() {
        "/length" => head.header("content-length", "10"),
        _ => head,
    };
    let mut sending = stream
        .respond
        .send_response(head.body(()).unwrap(), false)
        .unwrap();
    match path.as_str() {
        "/length" => sending.send_data(Bytes::new(), true).unwrap(),
        "/reset" => sending.send_reset(h2::Reason::INTERNAL_ERROR),
        "/goaway" => stream.doom(Doom::GoAway),
        "/cut" => stream.doom(Doom::Cut),
        _ => {}
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    drop(sending);
}

#[test]
fn the_head_of_a_broken_http2_response_reaches_the_client() {
    let ca = Ca::new();
    let origin = Http2Origin::start(&ca, misbehave_in_http2);
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
    // A reset that is sent at once replaces the head at the origin, so it is not among these.
    let paths = ["/length", "/goaway", "/cut", "/silent"];
    every_row(daemon.address("b"), paths.into_iter(), 201);
}
