//! What is known about a client connection besides its bytes: what it waits for, and how it is to end.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::Request;
use tokio::time::Instant;

use crate::error::HeadError;

use super::heads::STAND_IN;

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
    last: AtomicBool,
    parking: AtomicBool,
    timed_out: AtomicBool,
    switched: AtomicBool,
    evicted: AtomicBool,
    // Why a head was refused that a stand-in has replaced.
    refused: AtomicBool,
    refusal: Mutex<Option<HeadError>>,
    // When the head began that is under way on a multiplexed connection.
    head: AtomicU64,
    tunneled: bool,
    // Times that everything written so far had gone to the socket while a task waited for that.
    flushes: AtomicU64,
    awaits_flush: AtomicBool,
    awaiting_flush: Mutex<Vec<Waker>>,
    // The task of the connection.
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

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            born: Instant::now(),
            phase: AtomicU8::new(Phase::Idle as u8),
            since: AtomicU64::new(0),
            blocked: AtomicU64::new(NOT),
            answered: AtomicBool::new(false),
            active: AtomicUsize::new(0),
            multiplexes: AtomicBool::new(false),
            reset: AtomicBool::new(false),
            last: AtomicBool::new(false),
            timed_out: AtomicBool::new(false),
            switched: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            refusal: Mutex::default(),
            head: AtomicU64::new(NOT),
            parking: AtomicBool::new(false),
            tunneled: false,
            flushes: AtomicU64::new(0),
            awaits_flush: AtomicBool::new(false),
            awaiting_flush: Mutex::default(),
            connection: Mutex::default(),
        }
    }

    /// That of a connection inside a CONNECT tunnel.
    pub(super) fn tunneled() -> Self {
        Self {
            tunneled: true,
            ..Self::new()
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
        self.moment(&self.blocked)
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
    /// could read differently, or the client has closed its side.
    pub fn is_last(&self) -> bool {
        self.last.load(Relaxed)
    }

    /// Nothing may follow the response that is under way.
    pub(super) fn end_after_this(&self) {
        self.last.store(true, Relaxed);
    }

    /// The client has taken too long over a head: the next read refuses it. Returns `false` if that was
    /// so before.
    pub(super) fn time_out(&self) -> bool {
        !self.timed_out.swap(true, Relaxed)
    }

    pub(super) fn has_timed_out(&self) -> bool {
        self.timed_out.load(Relaxed)
    }

    /// The connection turns into something else.
    pub(super) fn switch(&self) {
        self.switched.store(true, Relaxed);
    }

    pub(super) fn has_switched(&self) -> bool {
        self.switched.load(Relaxed)
    }

    /// A head was refused, and a stand-in for it goes to hyper.
    pub(super) fn refuse(&self, error: HeadError) {
        *lock(&self.refusal) = Some(error);
        self.refused.store(true, Relaxed);
    }

    /// Whether a head was refused.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Relaxed)
    }

    /// Takes the reason for which the head that `request` stands in for was refused.
    pub(super) fn refusal<B>(&self, request: &Request<B>) -> Option<HeadError> {
        let stands_in = self.refused.load(Relaxed) && request.uri().path() == STAND_IN;
        stands_in.then(|| lock(&self.refusal).take()).flatten()
    }

    /// Since when a head is under way on a multiplexed connection.
    pub(super) fn head_since(&self) -> Option<Instant> {
        self.moment(&self.head)
    }

    /// Notes that a head is under way, or that none is.
    pub(super) fn note_head(&self, under_way: bool) {
        let at = match under_way {
            true => self.micros(Instant::now()),
            false => NOT,
        };
        self.head.store(at, Relaxed);
    }

    /// Since when the connection waits for a request, if it does.
    pub fn waits_since(&self) -> Option<Instant> {
        (self.phase() != Phase::Busy && self.is_idle()).then(|| self.since())
    }

    /// Asks for the end of the connection, unless a request comes on it first.
    pub fn evict(&self) {
        self.evicted.store(true, Relaxed);
        if let Some(connection) = &*lock(&self.connection) {
            connection.wake_by_ref();
        }
    }

    /// Whether the connection is to end. That is forgotten if it has a request.
    pub(super) fn is_evicted(&self) -> bool {
        if !self.evicted.load(Relaxed) {
            return false;
        }
        let waits = self.waits_since().is_some();
        if !waits {
            self.evicted.store(false, Relaxed);
        }
        waits
    }

    /// Ready when the connection is to end.
    pub(super) async fn evicted(&self) {
        poll_fn(|cx| {
            self.note_task(cx);
            match self.is_evicted() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// Ready once everything that was written before the first call has gone to the socket. `since`
    /// holds the state between calls and starts as `None`.
    pub fn poll_flushed(&self, cx: &Context<'_>, since: &mut Option<u64>) -> Poll<()> {
        let flushes = self.flushes.load(Relaxed);
        if flushes > *since.get_or_insert(flushes) {
            return Poll::Ready(());
        }
        self.awaits_flush.store(true, Relaxed);
        let mut awaiting = lock(&self.awaiting_flush);
        awaiting.push(cx.waker().clone());
        drop(awaiting);
        if let Some(connection) = &*lock(&self.connection) {
            connection.wake_by_ref();
        }
        Poll::Pending
    }

    /// Notes the task of the connection, which other tasks and threads wake.
    pub(super) fn note_task(&self, cx: &Context<'_>) {
        let mut connection = lock(&self.connection);
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
        let mut awaiting = lock(&self.awaiting_flush);
        for waker in awaiting.drain(..) {
            waker.wake();
        }
    }

    pub(super) fn is_parking(&self) -> bool {
        self.parking.load(Relaxed)
    }

    /// While this is set, the connection stays open though whoever serves it shuts it down.
    pub fn park(&self, parking: bool) {
        self.parking.store(parking, Relaxed);
    }

    pub(super) fn enter(&self, phase: Phase, now: Instant) {
        self.since.store(self.micros(now), Relaxed);
        self.phase.store(phase as u8, Relaxed);
    }

    fn moment(&self, stored: &AtomicU64) -> Option<Instant> {
        match stored.load(Relaxed) {
            NOT => None,
            micros => Some(self.born + Duration::from_micros(micros)),
        }
    }

    fn micros(&self, now: Instant) -> u64 {
        now.duration_since(self.born).as_micros() as u64
    }

    pub(super) fn wrote(&self, pending: bool) {
        let was = self.blocked.load(Relaxed);
        if pending && was == NOT {
            self.blocked.store(self.micros(Instant::now()), Relaxed);
        } else if !pending && was != NOT {
            self.blocked.store(NOT, Relaxed);
        }
    }
}

/// Nothing panics while one of these locks is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// No moment.
const NOT: u64 = u64::MAX;
