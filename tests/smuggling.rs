//! Messages that two parsers could read differently: each is refused, or reaches the origin as
//! exactly one unambiguous message. What arrives there is compared byte by byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Ca, Daemon, Origin, binding};

/// What has to become of a message.
enum Expect {
    /// This status, the end of the connection, and nothing at the origin.
    Refused(u16),
    /// Exactly these bytes at the origin (`HOST` stands for its host), and the connection goes on.
    Passed(&'static str),
    /// The same, and the connection ends after the answer.
    Last(&'static str),
}

use Expect::{Last, Passed, Refused};

struct Row {
    /// The section of the RFC, or the weakness, that the row comes from.
    source: &'static str,
    sent: &'static str,
    expect: Expect,
}

const fn row(source: &'static str, sent: &'static str, expect: Expect) -> Row {
    Row {
        source,
        sent,
        expect,
    }
}

const GET: &str = "GET / HTTP/1.1\r\nhost: HOST\r\n\r\n";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // Lengths.
    row("RFC 9112 6.3", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", Passed("POST / HTTP/1.1\r\nhost: HOST\r\ncontent-length: 5\r\n\r\nhello")),
    row("RFC 9112 6.3, equal lengths", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", Last("POST / HTTP/1.1\r\nhost: HOST\r\ncontent-length: 5\r\n\r\nhello")),
    row("RFC 9112 6.3, unequal lengths", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", Refused(400)),
    row("RFC 9110 8.6, a list", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5, 5\r\n\r\nhello", Refused(400)),
    row("RFC 9110 8.6, a sign", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n\r\nhello", Refused(400)),
    row("RFC 9110 8.6, negative", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\nhello", Refused(400)),
    row("RFC 9110 8.6, hexadecimal", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0x5\r\n\r\nhello", Refused(400)),
    row("RFC 9110 8.6, a fraction", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5.0\r\n\r\nhello", Refused(400)),
    row("RFC 9110 8.6, empty", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: \r\n\r\nhello", Refused(400)),
    row("RFC 9110 8.6, a space within", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5 5\r\n\r\nhello", Refused(400)),
    row("RFC 9110 8.6, overflow", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 18446744073709551621\r\n\r\nhello", Refused(400)),
    row("RFC 9110 8.6, overflow to five", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4294967301000000000000\r\n\r\nhello", Refused(400)),
    // Codings.
    row("RFC 9112 7.1", "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Passed("POST / HTTP/1.1\r\nhost: HOST\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")),
    row("RFC 9112 6.1, CL.TE", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Last("POST / HTTP/1.1\r\nhost: HOST\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")),
    row("RFC 9112 6.1, TE.CL", "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Last("POST / HTTP/1.1\r\nhost: HOST\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")),
    row("RFC 9112 6.1, TE.TE", "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", Refused(400)),
    row("RFC 9112 6.1, TE.TE reversed", "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused(400)),
    row("RFC 9112 6.1, twice in a list", "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", Refused(400)),
    row("RFC 9112 6.1, twice in two fields", "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused(400)),
    row("RFC 9112 6.1, another coding first", "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Refused(400)),
    row("RFC 9112 6.1, chunked not last", "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", Refused(400)),
    row("RFC 9112 6.1, identity", "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello", Refused(400)),
    row("CVE-2019-16276 and kin, an obscured coding", "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\nhello", Refused(400)),
    row("CVE-2020-7238, a vertical tab", "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", Refused(400)),
    row("an obscured coding, quoted", "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", Refused(400)),
    row("RFC 9112 6.1, with a parameter", "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", Refused(400)),
    row("RFC 9112 6.1, in HTTP/1.0", "POST / HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused(400)),
    row("RFC 9112 6.1, letter case", "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", Passed("POST / HTTP/1.1\r\nhost: HOST\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")),
    // Fields.
    row("RFC 9112 5.1, a space before the colon", "GET / HTTP/1.1\r\nHost: localhost\r\nX-A : b\r\n\r\n", Refused(400)),
    row("RFC 9112 5.1, the same before a coding's", "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", Refused(400)),
    row("RFC 9112 5.1, a tab before the colon", "GET / HTTP/1.1\r\nHost: localhost\r\nX-A\t: b\r\n\r\n", Refused(400)),
    row("RFC 9112 5.2, obs-fold", "GET / HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n c\r\n\r\n", Refused(400)),
    row("RFC 9112 5.2, obs-fold of a coding", "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", Refused(400)),
    row("RFC 9112 2.2, a space before the first field", "GET / HTTP/1.1\r\n Host: localhost\r\n\r\n", Refused(400)),
    row("RFC 9110 5.5, NUL in a value", "GET / HTTP/1.1\r\nHost: localhost\r\nX-A: a\x00b\r\n\r\n", Refused(400)),
    row("RFC 9110 5.1, NUL in a name", "GET / HTTP/1.1\r\nHost: localhost\r\nX\x00A: b\r\n\r\n", Refused(400)),
    row("RFC 9112 2.2, a bare CR in a value", "GET / HTTP/1.1\r\nHost: localhost\r\nX-A: a\rb\r\n\r\n", Refused(400)),
    row("RFC 9112 2.2, a bare CR as line end", "GET / HTTP/1.1\r\nHost: localhost\rX-A: b\r\n\r\n", Refused(400)),
    row("RFC 9112 2.2, a bare LF as line end", "GET / HTTP/1.1\nHost: localhost\n\n", Last(GET)),
    row("RFC 9112 2.2, a bare LF after one field", "GET / HTTP/1.1\r\nHost: localhost\nX-A: b\r\n\r\n", Last("GET / HTTP/1.1\r\nhost: HOST\r\nx-a: b\r\n\r\n")),
    row("RFC 9112 2.2, a bare LF after the fields", "GET / HTTP/1.1\r\nHost: localhost\r\n\n", Last(GET)),
    row("RFC 9112 2.2, an empty line first", "\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n", Passed(GET)),
    row("RFC 9110 5.1, no name", "GET / HTTP/1.1\r\nHost: localhost\r\n: b\r\n\r\n", Refused(400)),
    row("RFC 9110 5.1, no colon", "GET / HTTP/1.1\r\nHost: localhost\r\nX-A\r\n\r\n", Refused(400)),
    row("RFC 9110 5.1, a name that is no token", "GET / HTTP/1.1\r\nHost: localhost\r\nX(A): b\r\n\r\n", Refused(400)),
    row("RFC 9110 5.5, bytes beyond ASCII pass as they are", "GET / HTTP/1.1\r\nHost: localhost\r\nX-A: \u{e9}\r\n\r\n", Passed("GET / HTTP/1.1\r\nhost: HOST\r\nx-a: \u{e9}\r\n\r\n")),
    // Connection.
    row("RFC 9110 7.6.1, a field of the connection", "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: X-A\r\nX-A: b\r\n\r\n", Passed(GET)),
    row("RFC 9110 7.6.1, abuse: Host", "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Host\r\n\r\n", Passed(GET)),
    row("RFC 9110 7.6.1, abuse: the length", "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\nhello", Passed("POST / HTTP/1.1\r\nhost: HOST\r\ncontent-length: 5\r\n\r\nhello")),
    row("RFC 9110 7.6.1, abuse: the coding", "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Passed("POST / HTTP/1.1\r\nhost: HOST\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")),
    row("RFC 9110 7.6.1, abuse: credentials", "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Authorization, Cookie\r\nAuthorization: x\r\nCookie: y\r\n\r\n", Passed("GET / HTTP/1.1\r\nhost: HOST\r\ncookie: y\r\nauthorization: x\r\n\r\n")),
    row("RFC 9113 3.1, h2c", "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", Passed(GET)),
    // Hosts.
    row("RFC 9112 3.2, no Host", "GET / HTTP/1.1\r\n\r\n", Refused(400)),
    row("RFC 9112 3.2, two Hosts", "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", Refused(400)),
    row("RFC 9112 3.2, two Hosts beside a URL", "GET http://localhost:PORT/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Refused(400)),
    row("RFC 9112 3.2, an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", Refused(400)),
    row("RFC 9110 7.2, a list of Hosts", "GET / HTTP/1.1\r\nHost: localhost, evil\r\n\r\n", Refused(400)),
    row("RFC 9110 4.2.4, user information", "GET / HTTP/1.1\r\nHost: u@localhost\r\n\r\n", Refused(400)),
    row("RFC 3986 3.2.3, a port that is none", "GET / HTTP/1.1\r\nHost: localhost:port\r\n\r\n", Refused(400)),
    row("RFC 3986 3.2.2, a path in Host", "GET / HTTP/1.1\r\nHost: localhost/x\r\n\r\n", Refused(400)),
    row("RFC 9112 3.2, Host in HTTP/1.0 may be missing", "GET / HTTP/1.0\r\n\r\n", Last(GET)),
    row("RFC 9112 3.2.2, the URL decides", "GET http://localhost:PORT/x HTTP/1.1\r\nHost: evil\r\n\r\n", Passed("GET /x HTTP/1.1\r\nhost: HOST\r\n\r\n")),
    row("RFC 9110 4.2.4, user information in the URL", "GET http://u:p@localhost:PORT/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    // Targets.
    row("RFC 9112 3.2.1, a relative target", "GET x HTTP/1.1\r\nHost: localhost\r\n\r\n", Refused(400)),
    row("RFC 9112 3.2, another scheme", "GET ftp://localhost:PORT/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    row("RFC 9112 3.2.4, an asterisk", "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", Passed("OPTIONS * HTTP/1.1\r\nhost: HOST\r\n\r\n")),
    row("RFC 9112 3.2.4, an asterisk elsewhere", "GET * HTTP/1.1\r\nHost: localhost\r\n\r\n", Refused(400)),
    row("RFC 9112 3.2, a space in the target", "GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n", Refused(400)),
    row("RFC 9112 3.2, NUL in the target", "GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n", Refused(400)),
    row("RFC 3986 6.2.2, dots and escapes stay as they are", "GET /a/../%2e%2E/%2F?x=%0d%0a HTTP/1.1\r\nHost: localhost\r\n\r\n", Passed("GET /a/../%2e%2E/%2F?x=%0d%0a HTTP/1.1\r\nhost: HOST\r\n\r\n")),
    // Request lines.
    row("RFC 9112 2.3, no version", "GET /\r\nHost: localhost\r\n\r\n", Refused(400)),
    row("RFC 9112 2.3, a version to come", "GET / HTTP/1.2\r\nHost: localhost\r\n\r\n", Refused(400)),
    row("RFC 9112 2.3, HTTP/2 in words", "GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", Refused(400)),
    row("RFC 9112 3, two spaces", "GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n", Refused(400)),
    row("RFC 9112 3, a tab", "GET\t/ HTTP/1.1\r\nHost: localhost\r\n\r\n", Refused(400)),
    row("RFC 9110 9.1, a method that is no token", "G(T / HTTP/1.1\r\nHost: localhost\r\n\r\n", Refused(400)),
    row("RFC 9110 9.1, an unknown method", "BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n", Passed("BREW / HTTP/1.1\r\nhost: HOST\r\n\r\n")),
    row("RFC 9110 9.1, an overlong method", concat!("BREWBREWBREWBREWBREWBREWBREWBREWBREWBREWBREWBREWBREWBREWBREWBREWB", " / HTTP/1.1\r\nHost: localhost\r\n\r\n"), Refused(400)),
    row("RFC 9112 3, an empty method", " / HTTP/1.1\r\nHost: localhost\r\n\r\n", Refused(400)),
];

/// Chunks that are none: the head is good, so the request is on its way when they are found out;
/// the origin must never see the end of such a body.
#[rustfmt::skip]
const BROKEN_BODIES: &[(&str, &str)] = &[
    ("RFC 9112 7.1, a size that is none", "zz\r\nhello\r\n0\r\n\r\n"),
    ("RFC 9112 7.1, 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
    ("RFC 9112 7.1, negative", "-5\r\nhello\r\n0\r\n\r\n"),
    ("RFC 9112 7.1, overflow", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    ("RFC 9112 7.1, empty size", "\r\nhello\r\n0\r\n\r\n"),
    ("RFC 9112 7.1, data longer than its size", "3\r\nhello\r\n0\r\n\r\n"),
    ("RFC 9112 7.1, no CRLF after the data", "5\r\nhelloX0\r\n\r\n"),
    ("CVE-2022-35256 and kin, LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
    ("RFC 9112 7.1, a bare CR after the size", "5\rhello\r\n0\r\n\r\n"),
];

/// Reads until the peer has nothing more to say for a moment; the flag tells whether it ended.
fn drain(stream: &mut TcpStream, enough: impl Fn(&[u8]) -> bool) -> (Vec<u8>, bool) {
    let mut read = Vec::new();
    let mut piece = [0; 4096];
    while !enough(&read) {
        match stream.read(&mut piece) {
            Ok(0) => return (read, true),
            Ok(count) => read.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                return (read, true);
            }
            Err(_) => break,
        }
    }
    (read, false)
}

struct Bench {
    daemon: Daemon,
    port: u16,
    arrived: Arc<Mutex<Vec<u8>>>,
}

/// A daemon in front of an origin that writes down every byte, and answers whatever ends like a
/// message.
fn bench() -> Bench {
    let ca = Ca::new();
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let written = Arc::clone(&arrived);
    let origin = Origin::raw(&ca, move |tls, _, _, _| {
        let mut piece = [0; 4096];
        let mut message: Vec<u8> = Vec::new();
        loop {
            let count = tls.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            written.lock().unwrap().extend_from_slice(&piece[..count]);
            message.extend_from_slice(&piece[..count]);
            let text = String::from_utf8_lossy(&message);
            let complete = match text.split_once("\r\n\r\n") {
                Some((head, body)) if head.contains("transfer-encoding") => {
                    body.ends_with("0\r\n\r\n")
                }
                Some((head, body)) if head.contains("content-length: 5") => body.len() >= 5,
                Some(_) => true,
                None => false,
            };
            if complete {
                message.clear();
                tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
                tls.flush()?;
            }
        }
    });
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, "via = false"));
    Bench {
        daemon,
        port: origin.port,
        arrived,
    }
}

impl Bench {
    fn connect(&self) -> TcpStream {
        self.arrived.lock().unwrap().clear();
        let address: SocketAddr = self.daemon.address("b");
        let stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(1500)))
            .unwrap();
        stream
    }

    fn arrived(&self) -> String {
        String::from_utf8_lossy(&self.arrived.lock().unwrap()).into_owned()
    }
}

#[test]
fn every_row_is_refused_or_reaches_the_origin_as_one_message() {
    const { assert!(ROWS.len() >= 60) };
    let bench = bench();
    let mut wrong = Vec::new();
    for Row {
        source,
        sent,
        expect,
    } in ROWS
    {
        let mut stream = bench.connect();
        let sent = sent.replace("PORT", &bench.port.to_string());
        stream.write_all(sent.as_bytes()).unwrap();
        let answered = |read: &[u8]| read.ends_with(b"\r\n\r\nok");
        let (answer, mut ended) = drain(&mut stream, answered);
        if answered(&answer) {
            // Whether the connection goes on shows in a second request.
            let next = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
            bench.arrived.lock().unwrap().extend_from_slice(b"|");
            let sent = stream.write_all(next);
            let (second, over) = drain(&mut stream, answered);
            ended = sent.is_err() || over || !answered(&second);
        }
        let status = String::from_utf8_lossy(&answer)
            .get(9..12)
            .unwrap_or("none")
            .to_owned();
        let arrived = bench
            .arrived()
            .replace(&format!("localhost:{}", bench.port), "HOST");
        let (first, _) = arrived.split_once('|').unwrap_or((&arrived, ""));
        let fine = match expect {
            Refused(expected) => status == expected.to_string() && ended && arrived.is_empty(),
            Passed(message) => status == "200" && first == *message && !ended,
            Last(message) => status == "200" && first == *message && ended,
        };
        if !fine {
            wrong.push(format!("{source}\n  sent    {sent:?}\n  status  {status}, ended {ended}\n  arrived {arrived:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} rows:\n{}",
        wrong.len(),
        ROWS.len(),
        wrong.join("\n")
    );
}

#[test]
fn a_broken_body_never_ends_at_the_origin() {
    let bench = bench();
    for (source, body) in BROKEN_BODIES {
        let mut stream = bench.connect();
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream
            .write_all(format!("{head}{body}").as_bytes())
            .unwrap();
        let (answer, _) = drain(&mut stream, |_| false);
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{source}: {answer}"
        );
        assert!(
            !bench.arrived().ends_with("0\r\n\r\n"),
            "{source}: {:?}",
            bench.arrived()
        );
    }
}
