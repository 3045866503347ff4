//! Clients that misbehave: each is cut off or bounded, and costs the others nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GET, HEADERS, PING, POST, PREFACE, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, connect, frame, head,
};
use crate::support::{Ca, Client, Daemon, Origin, Then, binding, wait_for};
use rustix::process::Signal;

/// What the operator is told of an attacker.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Told {
    /// A warning with these words in its reason.
    Cut(&'static str),
    /// Nothing: it is bounded, and may go on.
    Bounded,
}
use Told::{Bounded, Cut};

type Attack = fn(SocketAddr);

const WAITS: &str =
    "header_timeout = \"500ms\"\nbody_timeout = \"500ms\"\nclient_idle_timeout = \"1s\"";
const MANY: usize = 20_000;
/// How much more memory an attacker may cost, in KiB.
const BOUND: u64 = 32 * 1024;

#[test]
fn abuse_of_http2_is_bounded_and_told() {
    let rows: &[(&str, Attack, Told)] = &[
        ("rapid reset", rapid_reset, Cut("flooded")),
        ("endless CONTINUATION", continuation, Cut("flooded")),
        ("references to one large field", hpack_bomb, Bounded),
        ("PING flood", ping, Bounded),
        ("SETTINGS flood", settings, Bounded),
        ("empty DATA", empty_data, Cut("flooded")),
        ("WINDOW_UPDATE flood", window_update, Bounded),
        ("WINDOW_UPDATE overflow", overflow, Cut("rules")),
        ("PRIORITY flood", priority, Bounded),
        ("too many streams", streams, Bounded),
        ("windows that never open", zero_window, Bounded),
        ("a preface and silence", silence, Bounded),
        ("half a preface", half_preface, Cut("preface")),
        ("a head that never ends", half_head, Cut("header_timeout")),
        (
            "a head that trickles in",
            trickling_head,
            Cut("header_timeout"),
        ),
        (
            "one stream that reads beside forty that do not",
            one_reader,
            Cut("took nothing"),
        ),
    ];
    every_row(rows);
}

#[test]
fn abuse_of_http1_is_bounded_and_told() {
    let rows: &[(&str, Attack, Told)] = &[
        ("slow head", slow_head, Cut("header_timeout")),
        ("endless fields", endless_fields, Cut("max_header_size")),
        ("slow body", slow_body, Bounded),
        ("endless chunk extension", chunk_extension, Bounded),
        ("huge chunk size", huge_chunk, Bounded),
        ("endless trailers", trailers, Bounded),
        ("an answer that is not read", unread, Cut("took nothing")),
        ("pipelining", pipelining, Bounded),
        ("idle connections", idle, Bounded),
    ];
    every_row(rows);
}

/// Whoever opens no window is let go of, though its socket takes everything that comes.
#[test]
fn streams_whose_windows_never_open_are_ended() {
    let ca = Ca::new();
    let origin = Origin::with(&ca, |_, tls| {
        crate::support::answer(tls, &"x".repeat(8 * 1024 * 1024))?;
        Ok(Then::Keep)
    });
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, WAITS));
    until_cut(never_opening(daemon.address("b")));
    wait_for("its reason", || match reasons(&daemon) {
        reasons if reasons.iter().any(|reason| reason.contains("took nothing")) => Ok(()),
        _ => Err(daemon.log()),
    });
}

/// Each row has a daemon of its own, so that its memory and its log are its own too.
fn every_row(rows: &[(&str, Attack, Told)]) {
    let ca = Ca::new();
    let origin = Origin::with(&ca, |request, tls| {
        match request.target() {
            "/large" => crate::support::answer(tls, &"x".repeat(8 * 1024 * 1024))?,
            _ => crate::support::answer(tls, "good")?,
        }
        Ok(Then::Keep)
    });
    for (row, attack, told) in rows {
        let config = format!("workers = 1\n{}", binding(&origin, WAITS));
        let mut daemon = Daemon::start(&ca, &ca.issue("client"), &config);
        let memory = under(&daemon, *attack);
        assert!(memory <= BOUND, "{row}: {memory} KiB more");
        match told {
            Cut(words) => wait_for(row, || match reasons(&daemon) {
                reasons if reasons.iter().any(|reason| reason.contains(words)) => Ok(()),
                _ => Err(daemon.log()),
            }),
            Bounded => {}
        }
        daemon.signal(Signal::TERM);
        assert!(daemon.wait().success(), "{row}: {:?}", daemon.log());
        let log = daemon.log().join("\n");
        assert!(!log.contains("panicked"), "{row}: {log}");
    }
}

/// The most memory that `attack` costs, in KiB, while an honest client is served throughout.
fn under(daemon: &Daemon, attack: Attack) -> u64 {
    let address = daemon.address("b");
    let mut honest = Client::connect(address);
    assert_eq!(honest.get("/").unwrap().body, "good");
    let (_, _, before) = daemon.holds();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _over = crate::support::OnDrop(|| over.store(true, Relaxed));
            attack(address);
        });
        while !over.load(Relaxed) {
            assert_eq!(honest.get("/").unwrap().body, "good");
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    assert_eq!(honest.get("/").unwrap().body, "good");
    daemon.peak_memory().saturating_sub(before)
}

fn reasons(daemon: &Daemon) -> Vec<String> {
    let lines = daemon.lines("cut off a client");
    let warnings = lines.iter().filter(|line| line["level"] == "WARN");
    warnings
        .filter(|line| line["binding"] == "b")
        .filter(|line| line["peer"].is_string() && line["listener"].is_string())
        .filter_map(|line| Some(line["reason"].as_str()?.to_owned()))
        .collect()
}

/// Sends what `piece` makes until it is cut off or has sent `MANY`. What comes back is read, or
/// the attacker would only hold itself up.
fn flood(stream: &mut TcpStream, piece: impl Fn(u32) -> Vec<u8>) {
    let mut reading = stream.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut waste = vec![0; 64 * 1024];
        while matches!(reading.read(&mut waste), Ok(1..)) {}
    });
    for count in 0..MANY as u32 / 50 {
        let pieces: Vec<u8> = (count * 50..count * 50 + 50).flat_map(&piece).collect();
        if stream.write_all(&pieces).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(std::net::Shutdown::Write);
    reader.join().unwrap();
}

fn opened(stream: u32, flags: u8, method: u8, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &head(method, path))
}

fn rapid_reset(address: SocketAddr) {
    flood(&mut connect(address, &[]), |count| {
        let mut both = opened(count * 2 + 1, END_STREAM, GET, "/");
        both.extend(frame(RST_STREAM, 0, count * 2 + 1, &[0, 0, 0, 8]));
        both
    });
}

fn continuation(address: SocketAddr) {
    let mut stream = connect(address, &[]);
    let _ = stream.write_all(&frame(HEADERS, END_STREAM, 1, &head(GET, "/")));
    flood(&mut stream, |_| {
        frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b")
    });
}

fn hpack_bomb(address: SocketAddr) {
    flood(&mut connect(address, &[]), |count| {
        let mut fields = head(GET, "/");
        // `a: xxx...` is kept, and then meant four thousand times.
        fields.extend(b"\x40\x01a\x7f\xa1\x1e");
        fields.extend([b'x'; 4000]);
        fields.extend([0xbe; 4000]);
        frame(HEADERS, END_HEADERS | END_STREAM, count * 2 + 1, &fields)
    });
}

fn ping(address: SocketAddr) {
    flood(&mut connect(address, &[]), |_| frame(PING, 0, 0, &[7; 8]));
}

fn settings(address: SocketAddr) {
    flood(&mut connect(address, &[]), |_| {
        frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])
    });
}

fn empty_data(address: SocketAddr) {
    let mut stream = connect(address, &[]);
    let _ = stream.write_all(&opened(1, 0, POST, "/"));
    flood(&mut stream, |_| frame(DATA, 0, 1, &[]));
}

fn window_update(address: SocketAddr) {
    flood(&mut connect(address, &[]), |_| {
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])
    });
}

fn overflow(address: SocketAddr) {
    flood(&mut connect(address, &[]), |_| {
        frame(WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255])
    });
}

fn priority(address: SocketAddr) {
    flood(&mut connect(address, &[]), |count| {
        frame(PRIORITY, 0, count * 2 + 1, &[0, 0, 0, 0, 1])
    });
}

fn streams(address: SocketAddr) {
    flood(&mut connect(address, &[]), |count| {
        opened(count * 2 + 1, 0, POST, "/")
    });
}

fn zero_window(address: SocketAddr) {
    let stream = never_opening(address);
    std::thread::sleep(Duration::from_secs(2));
    drop(stream);
}

/// Many streams that each ask for a large answer, and leave it no room.
fn never_opening(address: SocketAddr) -> TcpStream {
    // SETTINGS_INITIAL_WINDOW_SIZE of nothing.
    let mut stream = connect(address, &[0, 4, 0, 0, 0, 0]);
    for count in 0..50 {
        let _ = stream.write_all(&opened(count * 2 + 1, END_STREAM, GET, "/large"));
    }
    stream
}

fn half_head(address: SocketAddr) {
    let mut stream = connect(address, &[]);
    let head = frame(HEADERS, END_STREAM, 1, &head(GET, "/"));
    stream.write_all(&head).unwrap();
    until_cut(stream);
}

fn trickling_head(address: SocketAddr) {
    let mut stream = connect(address, &[]);
    stream
        .write_all(&frame(HEADERS, END_STREAM, 1, &head(GET, "/")))
        .unwrap();
    let more = frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b").repeat(10);
    for byte in more {
        if stream.write_all(&[byte]).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    until_cut(stream);
}

/// Each response that is not read is reset, though another one of the same connection goes on.
fn one_reader(address: SocketAddr) {
    let mut stream = connect(address, &[0, 4, 0, 0, 0, 0]);
    let reader = 81;
    for count in 0..=40 {
        let request = opened(count * 2 + 1, END_STREAM, GET, "/large");
        stream.write_all(&request).unwrap();
    }
    let mut writing = stream.try_clone().unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                for scope in [0, reader] {
                    let room = frame(WINDOW_UPDATE, 0, scope, &4000u32.to_be_bytes());
                    let _ = writing.write_all(&room);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let _over = crate::support::OnDrop(|| over.store(true, Relaxed));
        let mut reset = std::collections::BTreeSet::new();
        let mut came = 0;
        while reset.len() < 40 {
            let mut front = [0; 9];
            stream.read_exact(&mut front).unwrap();
            let length = u32::from_be_bytes([0, front[0], front[1], front[2]]) as usize;
            stream.read_exact(&mut vec![0; length]).unwrap();
            let number = u32::from_be_bytes([front[5], front[6], front[7], front[8]]);
            match front[3] {
                RST_STREAM => drop(reset.insert(number)),
                DATA => came += length,
                _ => {}
            }
        }
        assert!(!reset.contains(&reader), "{reset:?}");
        assert!(came > 0);
    });
}

fn silence(address: SocketAddr) {
    until_cut(connect(address, &[]));
}

fn half_preface(address: SocketAddr) {
    send(address, &PREFACE[..10]);
}

fn send(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(bytes).unwrap();
    until_cut(stream);
}

/// Reads until the daemon ends the connection, which it must.
fn until_cut(mut stream: TcpStream) {
    let wait = Some(Duration::from_secs(15));
    stream.set_read_timeout(wait).unwrap();
    let mut waste = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut waste) {
            Ok(1..) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("it is not cut off")
            }
            Ok(0) | Err(_) => return,
        }
    }
}

fn slow_head(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).unwrap();
    for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "
        .iter()
        .cycle()
        .take(300)
    {
        if stream.write_all(&[*byte]).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("it is not cut off");
}

fn endless(address: SocketAddr, start: &str, piece: &'static str) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(15)))
        .unwrap();
    stream
        .set_write_timeout(Some(Duration::from_secs(15)))
        .unwrap();
    stream.write_all(start.as_bytes()).unwrap();
    flood(&mut stream, |_| piece.repeat(20).into_bytes());
}

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";

fn endless_fields(address: SocketAddr) {
    endless(address, "GET / HTTP/1.1\r\nHost: localhost\r\n", "a: b\r\n");
}

fn chunk_extension(address: SocketAddr) {
    endless(address, &format!("{CHUNKED}1;"), "aaaa");
}

fn trailers(address: SocketAddr) {
    endless(address, &format!("{CHUNKED}0\r\n"), "a: b\r\n");
}

fn huge_chunk(address: SocketAddr) {
    send(
        address,
        format!("{CHUNKED}ffffffffffffffffff\r\n").as_bytes(),
    );
}

fn slow_body(address: SocketAddr) {
    send(
        address,
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\na",
    );
}

fn unread(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    std::thread::sleep(Duration::from_secs(2));
}

fn pipelining(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).unwrap();
    let requests = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2000);
    stream.write_all(requests.as_bytes()).unwrap();
    until_cut(stream);
}

fn idle(address: SocketAddr) {
    let crowd: Vec<_> = (0..500)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    crowd.into_iter().for_each(until_cut);
}
