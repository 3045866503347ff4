//! A client's socket, and the checks on what is read from it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::accept::{Accepted, ClientStream};
use super::activity::{Activity, Phase};
use super::admission::Seat;
use super::frames::Frames;
use super::half_closed;
use super::heads::{HeadLimits, Heads};

/// A client's connection. Its type is `Send`, as hyper demands of what it may upgrade, though it
/// never leaves its worker.
pub struct Socket {
    stream: Stream,
    // What was read of it already, by whoever had it before.
    pending: Bytes,
    reads: Reads,
    // Whether the client has closed its side.
    ended: bool,
    activity: Arc<Activity>,
    // Its place among the client connections, where they are counted.
    seat: Option<Seat>,
}

/// What is done with the bytes that come.
enum Reads {
    /// Nothing.
    Plain,
    /// The heads of HTTP/1 are judged; and how long one may take.
    Http1(Box<Heads>, Duration),
    /// The frames of HTTP/2 are followed; and which head was under way last.
    Http2(Box<Frames>, Option<u64>),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Takes an accepted connection into the runtime of this thread.
    ///
    /// # Errors
    ///
    /// When it cannot be registered there.
    pub fn new(accepted: Accepted) -> io::Result<Self> {
        let Accepted { client, seat } = accepted;
        let activity = Arc::new(Activity::new());
        if let Some(seat) = &seat {
            seat.occupy(&activity);
        }
        let stream = match client {
            ClientStream::Tcp(stream) => {
                stream.set_nodelay(true)?;
                Stream::Tcp(TcpStream::from_std(stream)?)
            }
            ClientStream::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        };
        Ok(Self {
            stream,
            pending: Bytes::new(),
            reads: Reads::Plain,
            ended: false,
            activity,
            seat,
        })
    }

    /// The address that the client connected to; `None` on a unix socket.
    pub fn local(&self) -> Option<SocketAddr> {
        match &self.stream {
            Stream::Tcp(stream) => stream.local_addr().ok(),
            Stream::Unix(_) => None,
        }
    }

    /// The client's address; `None` on a unix socket.
    pub fn peer(&self) -> Option<SocketAddr> {
        match &self.stream {
            Stream::Tcp(stream) => stream.peer_addr().ok(),
            Stream::Unix(_) => None,
        }
    }

    /// Serves HTTP/1 from here on: `read` was read of it, and its heads are judged by `limits`.
    pub fn begin_http1(mut self, read: Bytes, limits: HeadLimits, patience: Duration) -> Self {
        self.pending = read;
        self.reads = Reads::Http1(Box::new(Heads::new(limits)), patience);
        self
    }

    /// Serves HTTP/2 from here on: `read` was read of it.
    pub fn begin_http2(mut self, read: Bytes) -> Self {
        self.pending = read;
        self.reads = Reads::Http2(Box::new(Frames::new()), None);
        self
    }

    /// Gives back what hyper has read of it and not used.
    pub fn give_back(mut self, read: &[u8]) -> Self {
        if let Reads::Http1(heads, _) = &mut self.reads {
            heads.put_back(read);
        }
        self
    }

    /// Returns the same socket as a new connection inside a CONNECT tunnel. It begins with `read`,
    /// which has already been read from it.
    pub fn begin_tunnel(mut self, read: &[u8]) -> Self {
        self.activity = Arc::new(Activity::tunneled());
        if let Some(seat) = &self.seat {
            seat.occupy(&self.activity);
        }
        let mut pending = BytesMut::from(read);
        if let Reads::Http1(heads, _) = std::mem::replace(&mut self.reads, Reads::Plain) {
            pending.extend_from_slice(&heads.into_rest());
        }
        pending.extend_from_slice(&self.pending);
        self.pending = pending.freeze();
        self
    }

    /// Reads without any checks from here on.
    pub fn stop_checking(&mut self) {
        self.reads = Reads::Plain;
    }

    /// What it is waiting for.
    pub fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }

    /// Waits until there is something to read, or the end.
    ///
    /// # Errors
    ///
    /// When the connection is broken.
    pub async fn readable(&self) -> io::Result<()> {
        match &self.stream {
            _ if !self.pending.is_empty() || self.has_ready() => Ok(()),
            Stream::Tcp(stream) => stream.readable().await,
            Stream::Unix(stream) => stream.readable().await,
        }
    }

    /// Writes `bytes` if they can be written at once.
    pub fn try_write(&self, bytes: &[u8]) {
        // Whoever does not take it has been told enough by the end of the connection.
        let _ = match &self.stream {
            Stream::Tcp(stream) => stream.try_write(bytes),
            Stream::Unix(stream) => stream.try_write(bytes),
        };
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.activity.resets_at_end()
            && let Stream::Tcp(stream) = &self.stream
        {
            let _ = stream.set_zero_linger();
        }
    }
}

impl Socket {
    fn has_ready(&self) -> bool {
        matches!(&self.reads, Reads::Http1(heads, _) if heads.has_ready())
    }

    fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            _ if !self.pending.is_empty() => {
                let size = self.pending.len().min(buffer.remaining());
                buffer.put_slice(&self.pending.split_to(size));
                if self.pending.is_empty() {
                    // It may hold on to all the memory that it was a part of.
                    self.pending = Bytes::new();
                }
                Poll::Ready(Ok(()))
            }
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }

    /// Reads what hyper may see.
    fn poll_http1(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let phase = self.activity.phase();
            let Reads::Http1(heads, patience) = &mut self.reads else {
                return self.poll_stream(cx, buffer);
            };
            if heads.has_ready() {
                heads.take_ready(buffer);
                if phase == Phase::Idle {
                    self.activity.enter(Phase::Head, Instant::now());
                }
                return Poll::Ready(Ok(()));
            }
            if heads.is_refused() {
                // The response to the stand-in ends the connection.
                return Poll::Pending;
            }
            if heads.is_undecided() && self.activity.has_switched() {
                heads.open();
                continue;
            }
            if heads.is_undecided() && phase == Phase::Idle {
                heads.resume();
                continue;
            }
            if self.activity.has_timed_out() {
                heads.time_out(*patience);
                self.note_refusal();
                continue;
            }
            if self.ended {
                return match phase == Phase::Busy {
                    true => Poll::Pending,
                    false => Poll::Ready(Ok(())),
                };
            }
            let before = buffer.filled().len();
            ready!(self.poll_stream(cx, buffer))?;
            if buffer.filled().len() == before {
                if !self.end(phase) {
                    return Poll::Ready(Ok(()));
                }
            } else if self.check(buffer, before, phase) {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Judges what has come behind `before`. Returns whether hyper may read any of it as it is.
    fn check(&mut self, buffer: &mut ReadBuf<'_>, before: usize, phase: Phase) -> bool {
        let Reads::Http1(heads, _) = &mut self.reads else {
            return true;
        };
        let passed = heads.pass(&buffer.filled()[before..]);
        buffer.set_filled(before + passed);
        if heads.is_ambiguous() {
            self.activity.end_after_this();
        }
        if phase == Phase::Idle {
            self.activity.enter(Phase::Head, Instant::now());
        }
        self.note_refusal();
        passed > 0
    }

    /// The client has closed its side. Returns whether hyper need not know yet: a client may do that
    /// when it has sent its request, and wait for the response.
    fn end(&mut self, phase: Phase) -> bool {
        let Reads::Http1(heads, _) = &mut self.reads else {
            return false;
        };
        if heads.end() {
            self.note_refusal();
            return true;
        }
        if phase != Phase::Busy || !heads.is_between() || !self.is_half_open() {
            return false;
        }
        self.ended = true;
        self.activity.end_after_this();
        true
    }

    /// Whether a client that has closed its side can still read.
    fn is_half_open(&self) -> bool {
        match &self.stream {
            Stream::Tcp(stream) => match (stream.peer_addr(), stream.local_addr()) {
                (Ok(peer), Ok(local)) => half_closed::is_open(peer, local),
                _ => false,
            },
            // Nothing can be written once the client has closed its socket.
            Stream::Unix(stream) => unix_is_open(stream),
        }
    }

    fn note_refusal(&mut self) {
        if let Reads::Http1(heads, _) = &mut self.reads
            && let Some(error) = heads.take_refusal()
        {
            self.activity.refuse(error);
        }
    }
}

fn unix_is_open(stream: &UnixStream) -> bool {
    let mut polled = [PollFd::new(stream, PollFlags::OUT)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let _ = poll(&mut polled, Some(&now));
    !polled[0]
        .revents()
        .intersects(PollFlags::HUP | PollFlags::ERR)
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if matches!(this.reads, Reads::Http1(..)) {
            return this.poll_http1(cx, buffer);
        }
        let before = buffer.filled().len();
        ready!(this.poll_stream(cx, buffer))?;
        let read = &buffer.filled()[before..];
        match &mut this.reads {
            Reads::Http2(frames, last) => {
                let head = frames.see(read);
                if head != *last {
                    *last = head;
                    this.activity.note_head(head.is_some());
                }
            }
            _ if !read.is_empty() && this.activity.phase() == Phase::Idle => {
                this.activity.enter(Phase::Head, Instant::now());
            }
            _ => {}
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = match &mut this.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, data),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, data),
        };
        this.activity.wrote(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = match &mut this.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, data),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, data),
        };
        this.activity.wrote(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sockets hold nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.activity.is_parking() {
            return Poll::Ready(Ok(()));
        }
        if this.activity.resets_at_end() {
            // An orderly end first would make the reset that follows unnoticed.
            return Poll::Ready(Ok(()));
        }
        match &mut this.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
