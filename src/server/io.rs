//! A client's socket, and what is known about the silence on it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::accept::Accepted;
use super::heads::Heads;

/// A client's connection. Its type is `Send`, as hyper demands of what it may upgrade, though it
/// never leaves its worker.
pub struct Socket {
    stream: Stream,
    // What was read of it already, by whoever had it before.
    pending: Bytes,
    heads: Heads,
    activity: Arc<Activity>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What a client connection is waiting for, and since when. Written by the socket and by whoever
/// answers, read by the connection's clock.
#[derive(Debug)]
pub struct Activity {
    born: Instant,
    phase: AtomicU8,
    // Microseconds after `born`.
    since: AtomicU64,
    blocked: AtomicU64,
    answered: AtomicBool,
    // Requests under way: at most one, unless the connection multiplexes.
    active: AtomicUsize,
    multiplexes: AtomicBool,
    reset: AtomicBool,
    ambiguous: AtomicBool,
    parking: AtomicBool,
    tunneled: bool,
    // Answers a piece of which was handed over and no further piece asked for, and when that was
    // last so.
    untaken: AtomicUsize,
    handed: AtomicU64,
    // Times that everything written so far had gone to the socket while a task waited for that.
    flushes: AtomicU64,
    awaits_flush: AtomicBool,
    awaiting_flush: Mutex<Vec<Waker>>,
    // The task that writes, where another one waits for that.
    connection: Mutex<Option<Waker>>,
}

/// What a client connection is waiting for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// The first byte of a request.
    Idle,
    /// The rest of a request's head.
    Head,
    /// The answer.
    Busy,
}

impl Socket {
    /// Takes an accepted connection into the runtime of this thread.
    ///
    /// # Errors
    ///
    /// When it cannot be registered there.
    pub fn new(accepted: Accepted) -> io::Result<Self> {
        let stream = match accepted {
            Accepted::Tcp(stream) => {
                stream.set_nodelay(true)?;
                Stream::Tcp(TcpStream::from_std(stream)?)
            }
            Accepted::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        };
        Ok(Self {
            stream,
            pending: Bytes::new(),
            heads: Heads::new(),
            activity: Arc::new(Activity::new()),
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

    /// Gives back what was read of it, to be read again.
    pub fn give_back(mut self, read: Bytes) -> Self {
        // An empty one may hold on to all the memory that it was a part of.
        self.pending = match read.is_empty() {
            true => Bytes::new(),
            false => read,
        };
        self.heads = Heads::new();
        self
    }

    /// Returns the same socket as a new connection inside a CONNECT tunnel. It begins with `read`,
    /// which has already been read from it.
    pub fn begin_tunnel(mut self, read: Bytes) -> Self {
        self.activity = Arc::new(Activity {
            tunneled: true,
            ..Activity::new()
        });
        self.give_back(read)
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
            _ if !self.pending.is_empty() => Ok(()),
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
        if self.activity.reset.load(Relaxed)
            && let Stream::Tcp(stream) = &self.stream
        {
            let _ = stream.set_zero_linger();
        }
    }
}

impl Activity {
    fn new() -> Self {
        Self {
            born: Instant::now(),
            phase: AtomicU8::new(Phase::Idle as u8),
            since: AtomicU64::new(0),
            blocked: AtomicU64::new(NOT),
            answered: AtomicBool::new(false),
            active: AtomicUsize::new(0),
            multiplexes: AtomicBool::new(false),
            reset: AtomicBool::new(false),
            ambiguous: AtomicBool::new(false),
            parking: AtomicBool::new(false),
            tunneled: false,
            untaken: AtomicUsize::new(0),
            handed: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            awaits_flush: AtomicBool::new(false),
            awaiting_flush: Mutex::default(),
            connection: Mutex::default(),
        }
    }

    /// Whether the connection is a CONNECT tunnel through mtlsd.
    pub fn is_tunneled(&self) -> bool {
        self.tunneled
    }

    /// What is waited for.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Idle,
            1 => Phase::Head,
            _ => Phase::Busy,
        }
    }

    /// Since when.
    pub fn since(&self) -> Instant {
        self.born + Duration::from_micros(self.since.load(Relaxed))
    }

    /// Since when the client has taken nothing of what is ready for it.
    pub fn blocked_since(&self) -> Option<Instant> {
        match self.blocked.load(Relaxed) {
            NOT => None,
            micros => Some(self.born + Duration::from_micros(micros)),
        }
    }

    /// Whether a request came on it yet.
    pub fn has_answered(&self) -> bool {
        self.answered.load(Relaxed)
    }

    /// Whether anything came on it yet.
    pub fn has_begun(&self) -> bool {
        self.phase() != Phase::Idle
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.active.load(Relaxed) == 0
    }

    /// Many requests are under way at once from here on, and bytes that come between them are no
    /// request's head.
    pub fn multiplexes(&self) {
        self.multiplexes.store(true, Relaxed);
        self.enter(Phase::Idle, Instant::now());
    }

    /// A request's head is complete.
    pub fn request_began(&self) {
        self.answered.store(true, Relaxed);
        self.active.fetch_add(1, Relaxed);
        self.phase.store(Phase::Busy as u8, Relaxed);
    }

    /// Its answer is over, at `now`.
    pub fn request_ended(&self, now: Instant) {
        if self.active.fetch_sub(1, Relaxed) == 1 {
            self.enter(Phase::Idle, now);
        }
    }

    /// The answer broke off: the connection must end in a reset, because to an HTTP/1.0 client an
    /// orderly end would mean that the answer is complete.
    pub fn reset_at_end(&self) {
        self.reset.store(true, Relaxed);
    }

    /// Whether it must.
    pub fn resets_at_end(&self) -> bool {
        self.reset.load(Relaxed)
    }

    /// Whether nothing may follow the response that is under way: a message came that two parsers
    /// could read differently.
    pub fn is_last(&self) -> bool {
        self.ambiguous.load(Relaxed)
    }

    /// Whether many requests are under way at once, so that the socket does not show which of them
    /// is stuck: then [`Activity::handed`] and [`Activity::taken`] do.
    pub fn is_multiplexed(&self) -> bool {
        self.multiplexes.load(Relaxed)
    }

    /// A piece of an answer was handed over, at `now`.
    pub fn handed(&self, now: Instant) {
        self.handed.store(self.micros(now), Relaxed);
        self.untaken.fetch_add(1, Relaxed);
    }

    /// The next piece was asked for, or the answer is over.
    pub fn taken(&self) {
        self.untaken.fetch_sub(1, Relaxed);
    }

    /// Since when all answers that are under way wait for the client to take what it was handed.
    pub fn stuck_since(&self) -> Option<Instant> {
        let untaken = self.untaken.load(Relaxed);
        let stuck = untaken > 0 && untaken == self.active.load(Relaxed);
        stuck.then(|| self.born + Duration::from_micros(self.handed.load(Relaxed)))
    }

    /// Ready once everything that was written before the first call has gone to the socket. `since`
    /// holds the state between calls and starts as `None`.
    pub fn poll_flushed(&self, cx: &Context<'_>, since: &mut Option<u64>) -> Poll<()> {
        let flushes = self.flushes.load(Relaxed);
        if flushes > *since.get_or_insert(flushes) {
            return Poll::Ready(());
        }
        self.awaits_flush.store(true, Relaxed);
        let mut awaiting = self
            .awaiting_flush
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        awaiting.push(cx.waker().clone());
        drop(awaiting);
        let connection = self.connection.lock();
        if let Some(connection) = &*connection.unwrap_or_else(PoisonError::into_inner) {
            connection.wake_by_ref();
        }
        Poll::Pending
    }

    /// Notes the task of a multiplexed connection, which other tasks wake.
    pub(super) fn note_task(&self, cx: &Context<'_>) {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match &mut *connection {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *connection = Some(cx.waker().clone()),
        }
    }

    /// The connection was polled: unless the socket is full, nothing is left to write.
    pub(super) fn note_turn(&self) {
        if !self.awaits_flush.load(Relaxed) || self.blocked_since().is_some() {
            return;
        }
        self.awaits_flush.store(false, Relaxed);
        self.flushes.fetch_add(1, Relaxed);
        let mut awaiting = self
            .awaiting_flush
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for waker in awaiting.drain(..) {
            waker.wake();
        }
    }

    /// While this is set, the connection stays open though whoever serves it shuts it down.
    pub fn park(&self, parking: bool) {
        self.parking.store(parking, Relaxed);
    }

    fn enter(&self, phase: Phase, now: Instant) {
        self.since.store(self.micros(now), Relaxed);
        self.phase.store(phase as u8, Relaxed);
    }

    fn micros(&self, now: Instant) -> u64 {
        now.duration_since(self.born).as_micros() as u64
    }

    fn wrote(&self, pending: bool) {
        let was = self.blocked.load(Relaxed);
        if pending && was == NOT {
            self.blocked.store(self.micros(Instant::now()), Relaxed);
        } else if !pending && was != NOT {
            self.blocked.store(NOT, Relaxed);
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = match &mut this.stream {
            _ if !this.pending.is_empty() => {
                let piece = this
                    .pending
                    .split_to(this.pending.len().min(buffer.remaining()));
                buffer.put_slice(&piece);
                if this.pending.is_empty() {
                    this.pending = Bytes::new();
                }
                Poll::Ready(Ok(()))
            }
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        let read = &buffer.filled()[before..];
        if polled.is_ready() && !read.is_empty() && !this.activity.multiplexes.load(Relaxed) {
            let between = this.activity.phase() == Phase::Idle;
            this.heads.see(read, between);
            if this.heads.is_ambiguous() {
                this.activity.ambiguous.store(true, Relaxed);
            }
            if between {
                this.activity.enter(Phase::Head, Instant::now());
            }
        }
        polled
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
        if this.activity.parking.load(Relaxed) {
            return Poll::Ready(Ok(()));
        }
        if this.activity.reset.load(Relaxed) {
            // An orderly end first would make the reset that follows unnoticed.
            return Poll::Ready(Ok(()));
        }
        match &mut this.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// No moment.
const NOT: u64 = u64::MAX;
