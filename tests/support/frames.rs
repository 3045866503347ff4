//! HTTP/2 by hand: frames that no library would send.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use rustls::{ServerConnection, StreamOwned};

use super::origin::{Tls, server_config};
use super::pki::Ca;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// One frame (RFC 9113 section 4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The head of a request in HPACK: static fields, and literals that the table does not keep.
pub fn head(method: u8, path: &str) -> Vec<u8> {
    let mut head = vec![method, 0x86];
    head.extend(literal(4, path));
    head.extend(literal(1, "localhost"));
    head
}

pub const GET: u8 = 0x82;
pub const POST: u8 = 0x83;

/// A field whose name the static table has, and whose value is shorter than 127 bytes.
fn literal(name: u8, value: &str) -> Vec<u8> {
    let mut field = vec![name, value.len() as u8];
    field.extend(value.as_bytes());
    field
}

/// A connection that has sent its preface and these settings.
pub fn connect(address: SocketAddr, settings: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let wait = Some(Duration::from_secs(15));
    stream.set_read_timeout(wait).unwrap();
    stream.set_write_timeout(wait).unwrap();
    stream.write_all(PREFACE).unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, settings)).unwrap();
    stream
}

/// One frame as it came.
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// Reads a frame.
pub fn read_frame(tls: &mut Tls) -> io::Result<Frame> {
    let mut front = [0; 9];
    tls.read_exact(&mut front)?;
    let length = u32::from_be_bytes([0, front[0], front[1], front[2]]) as usize;
    let mut payload = vec![0; length];
    tls.read_exact(&mut payload)?;
    Ok(Frame {
        kind: front[3],
        flags: front[4],
        stream: u32::from_be_bytes([front[5], front[6], front[7], front[8]]),
        payload,
    })
}

/// Answers a stream with `:status: 200`, and this body.
pub fn respond(tls: &mut Tls, stream: u32, body: &[u8]) -> io::Result<()> {
    tls.write_all(&frame(HEADERS, END_HEADERS, stream, &[0x88]))?;
    for piece in body.chunks(16 * 1024) {
        tls.write_all(&frame(DATA, 0, stream, piece))?;
    }
    tls.write_all(&frame(DATA, END_STREAM, stream, b""))?;
    tls.flush()
}

/// An origin that does with each connection, by its number, what a test does, once the settings are
/// sent.
pub struct FrameOrigin {
    pub port: u16,
    accepted: Arc<AtomicUsize>,
}

impl FrameOrigin {
    pub fn start(
        ca: &Ca,
        serve: impl Fn(&mut Tls, usize) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let mut config =
            (*server_config(ca, &ca.issue("origin"), true, rustls::ALL_VERSIONS)).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (count, serve) = (Arc::clone(&accepted), Arc::new(serve));
        std::thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                let number = count.fetch_add(1, Relaxed);
                let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || {
                    let mut tls = StreamOwned::new(tls, tcp);
                    // How it ends is for the test to judge, from the other side.
                    let _ = begin(&mut tls).and_then(|()| serve(&mut tls, number));
                });
            }
        });
        Self { port, accepted }
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Relaxed)
    }
}

/// Reads the preface, and allows a megabyte for each body.
fn begin(tls: &mut Tls) -> io::Result<()> {
    tls.read_exact(&mut [0; PREFACE.len()])?;
    // SETTINGS_INITIAL_WINDOW_SIZE.
    tls.write_all(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0x10, 0, 0]))?;
    tls.write_all(&frame(WINDOW_UPDATE, 0, 0, &[0, 0x10, 0, 0]))?;
    tls.flush()
}

/// An origin whose first connection goes away upon its first request, naming `last` as the last
/// stream that it has looked at; the others answer.
pub struct LeavingOrigin(FrameOrigin);

impl LeavingOrigin {
    pub fn start(ca: &Ca, last: u32) -> Self {
        Self(FrameOrigin::start(ca, move |tls, connection| {
            loop {
                let came = read_frame(tls)?;
                if came.kind != HEADERS {
                    continue;
                }
                if connection > 0 {
                    respond(tls, came.stream, b"")?;
                    continue;
                }
                return leave(tls, last);
            }
        }))
    }

    pub fn port(&self) -> u16 {
        self.0.port
    }

    pub fn accepted(&self) -> usize {
        self.0.accepted()
    }
}

/// Sends GOAWAY with `last` as the last stream that was looked at, and ends the connection.
pub fn leave(tls: &mut Tls, last: u32) -> io::Result<()> {
    let mut payload = last.to_be_bytes().to_vec();
    payload.extend(0u32.to_be_bytes());
    tls.write_all(&frame(GOAWAY, 0, 0, &payload))?;
    tls.conn.send_close_notify();
    tls.flush()
}
