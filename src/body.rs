//! A request body on its way to the origin: watched, so that a stalled one can be told from a
//! slow one, and sent again from its beginning where nobody has read from it, or where what was read
//! is kept.

mod trailers;

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

pub use trailers::response_trailers;

/// The body that is sent to the origin.
pub enum Upload {
    /// None.
    Empty,
    /// What the client sends, for the attempt with this number.
    Streamed(Rc<Streamed>, u32),
}

/// A body that a client is sending, shared between the connection that reads it and the request
/// that waits for the answer.
pub struct Streamed {
    incoming: RefCell<Incoming>,
    stage: Cell<Stage>,
    since: Cell<Instant>,
    // Bytes that were passed on, counted once if they are sent again.
    passed: Rc<Cell<u64>>,
    // Whether anything was read from it.
    touched: Cell<bool>,
    // The current attempt to send it. Earlier ones get nothing more.
    attempt: Cell<u32>,
    // What was read, while it may have to be sent again.
    kept: RefCell<Option<Kept>>,
    // Who waits for the answer and wants to know that the body is over.
    waiting: Cell<Option<Waker>>,
    // Holds the body back until the origin wants it.
    gate: Option<Arc<Gate>>,
    patience: RefCell<Option<Pin<Box<Sleep>>>>,
}

/// The beginning of a body: what the attempts so far were given.
#[derive(Default)]
struct Kept {
    // Most bodies are one piece.
    first: Option<Bytes>,
    others: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    size: usize,
    // How many pieces the current attempt was given.
    given: usize,
}

impl Kept {
    fn pieces(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len() + usize::from(self.trailers.is_some())
    }

    /// Keeps a piece of the body; `false` where that would be too much.
    fn add(&mut self, frame: &Frame<Bytes>) -> bool {
        if let Some(data) = frame.data_ref() {
            self.size += data.len();
            if self.size > MOST_KEPT || self.pieces() >= MOST_PIECES {
                return false;
            }
            match self.first {
                None => self.first = Some(data.clone()),
                Some(_) => self.others.push(data.clone()),
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
        self.given = self.pieces();
        true
    }

    /// The next piece that the current attempt was not given yet.
    fn next(&mut self) -> Option<Frame<Bytes>> {
        let at = self.given;
        if at >= self.pieces() {
            return None;
        }
        self.given += 1;
        match at.checked_sub(1).map(|at| self.others.get(at)) {
            None => self.first.clone().map(Frame::data),
            Some(Some(data)) => Some(Frame::data(data.clone())),
            Some(None) => self.trailers.clone().map(Frame::trailers),
        }
    }

    /// How many bytes the current attempt was not given yet.
    fn left(&self) -> u64 {
        let pieces = self.first.iter().chain(&self.others).skip(self.given);
        pieces.map(|data| data.len() as u64).sum()
    }

    fn is_given(&self) -> bool {
        self.given >= self.pieces()
    }
}

/// Holds a body back until the origin has said that it wants it (RFC 9110 section 10.1.1), or has
/// said nothing for a while. Nothing is read from the client meanwhile, so the client is not told
/// to go on either.
#[derive(Debug, Default)]
pub struct Gate {
    open: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

impl Gate {
    /// Lets the body through.
    pub fn open(&self) {
        self.open.store(true, Relaxed);
        if let Some(waiting) = self.waiting().take() {
            waiting.wake();
        }
    }

    fn is_open(&self, cx: &Context<'_>) -> bool {
        *self.waiting() = Some(cx.waker().clone());
        self.open.load(Relaxed)
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Waker>> {
        // Nothing panics while it is held.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far a body has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Nobody has looked at it yet.
    Untouched,
    /// The origin takes what there is; the client is waited for.
    AwaitingClient,
    /// The client sends; the origin is waited for.
    AwaitingOrigin,
    /// All of it has gone to the connection.
    Finished,
    /// The client broke off.
    Failed,
}

impl Upload {
    /// The upload of what a client sends, at `now`; held back at a gate when the client `expects`
    /// to be told to go on.
    pub fn new(incoming: Incoming, expects: bool, now: Instant) -> Self {
        if incoming.is_end_stream() {
            return Self::Empty;
        }
        let streamed = Streamed {
            incoming: RefCell::new(incoming),
            stage: Cell::new(Stage::Untouched),
            since: Cell::new(now),
            passed: Rc::default(),
            touched: Cell::new(false),
            attempt: Cell::new(0),
            kept: RefCell::default(),
            waiting: Cell::new(None),
            gate: expects.then(Arc::default),
            patience: RefCell::default(),
        };
        Self::Streamed(Rc::new(streamed), 0)
    }

    /// The same body again, for the current attempt: to be sent, or to be watched.
    pub fn share(&self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Streamed(streamed, _) => {
                Self::Streamed(Rc::clone(streamed), streamed.attempt.get())
            }
        }
    }

    /// Keeps what is read from here on, up to `MOST_KEPT` bytes, so that it can be sent again.
    pub fn keep(&self) {
        if let Self::Streamed(streamed, _) = self
            && !streamed.touched.get()
        {
            streamed.kept.replace(Some(Kept::default()));
        }
    }

    /// Drops what was kept: the response has begun.
    pub fn release(&self) {
        if let Self::Streamed(streamed, _) = self {
            streamed.kept.replace(None);
        }
    }

    /// Whether all of it can still be sent from its beginning.
    pub fn is_whole(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streamed(streamed, _) => {
                !streamed.touched.get() || streamed.kept.borrow().is_some()
            }
        }
    }

    /// Begins another attempt to send it; `false` where its beginning is gone.
    pub fn rewind(&self) -> bool {
        let Self::Streamed(streamed, _) = self else {
            return true;
        };
        match &mut *streamed.kept.borrow_mut() {
            Some(kept) => kept.given = 0,
            None if streamed.touched.get() => return false,
            None => {}
        }
        streamed.attempt.set(streamed.attempt.get() + 1);
        if streamed.stage.get() != Stage::Failed {
            streamed.enter(Stage::Untouched);
        }
        true
    }

    /// Whether all of it can still be sent on another connection.
    pub fn is_untouched(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streamed(streamed, _) => !streamed.touched.get(),
        }
    }

    /// What holds it back, if anything does.
    pub fn gate(&self) -> Option<&Arc<Gate>> {
        match self {
            Self::Empty => None,
            Self::Streamed(streamed, _) => streamed.gate.as_ref(),
        }
    }

    /// Whether it is held back until the origin wants it: then the client does not send it.
    pub fn is_held_back(&self) -> bool {
        self.gate().is_some_and(|gate| !gate.open.load(Relaxed))
    }

    /// Whether nobody else has it: the connection to the origin reads no more of it.
    pub fn is_last(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streamed(streamed, _) => Rc::strong_count(streamed) == 1,
        }
    }

    /// Returns the count of bytes that were passed on. It is not a share of the body.
    pub fn passed(&self) -> Rc<Cell<u64>> {
        match self {
            Self::Empty => Rc::default(),
            Self::Streamed(streamed, _) => Rc::clone(&streamed.passed),
        }
    }

    /// How far it has got.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Empty => Stage::Finished,
            Self::Streamed(streamed, _) => streamed.stage.get(),
        }
    }

    /// Since when it is at that stage; `None` when there is no body.
    pub fn since(&self) -> Option<Instant> {
        match self {
            Self::Empty => None,
            Self::Streamed(streamed, _) => Some(streamed.since.get()),
        }
    }

    /// Wakes the task of `cx` when the body is over.
    pub fn wake_at_end(&self, cx: &Context<'_>) {
        if let Self::Streamed(streamed, _) = self
            && streamed.stage.get() != Stage::Finished
        {
            streamed.waiting.set(Some(cx.waker().clone()));
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Who waits may be the last to have it.
        if let Self::Streamed(streamed, _) = self
            && let Some(waiting) = streamed.waiting.take()
        {
            waiting.wake();
        }
    }
}

impl Streamed {
    /// Ready once the body may be read.
    fn poll_gate(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(gate) = self.gate.as_ref().filter(|gate| !gate.is_open(cx)) else {
            return Poll::Ready(());
        };
        let mut patience = self.patience.borrow_mut();
        let patience = patience.get_or_insert_with(|| Box::pin(sleep(EXPECTATION)));
        ready!(patience.as_mut().poll(cx));
        // Many origins never say it.
        gate.open();
        Poll::Ready(())
    }

    /// The next piece of what has to be sent again.
    fn again(&self) -> Option<Frame<Bytes>> {
        let frame = self.kept.borrow_mut().as_mut()?.next()?;
        let over = (frame.is_trailers() || self.incoming.borrow().is_end_stream())
            && self.kept.borrow().as_ref().is_none_or(Kept::is_given);
        self.enter(match over {
            true => Stage::Finished,
            false => Stage::AwaitingOrigin,
        });
        Some(frame)
    }

    /// Keeps a piece that was read, where it may have to be sent again.
    fn note(&self, frame: &Frame<Bytes>) {
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        self.passed.set(self.passed.get() + bytes);
        let mut kept = self.kept.borrow_mut();
        if kept.as_mut().is_some_and(|kept| !kept.add(frame)) {
            *kept = None;
        }
    }

    fn enter(&self, stage: Stage) {
        self.stage.set(stage);
        self.since.set(Instant::now());
        if matches!(stage, Stage::Finished | Stage::Failed)
            && let Some(waiting) = self.waiting.take()
        {
            waiting.wake();
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let (streamed, attempt) = match &*self {
            Self::Empty => return Poll::Ready(None),
            Self::Streamed(streamed, attempt) => (streamed, *attempt),
        };
        if attempt != streamed.attempt.get() {
            // Its connection is told in another way that this attempt is over.
            return Poll::Pending;
        }
        ready!(streamed.poll_gate(cx));
        if let Some(frame) = streamed.again() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let mut incoming = streamed.incoming.borrow_mut();
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        if polled.is_pending() {
            // The clock of the client's silence starts once, not at every look.
            if streamed.stage.get() != Stage::AwaitingClient {
                streamed.enter(Stage::AwaitingClient);
            }
            return Poll::Pending;
        }
        let frame = ready!(polled).and_then(|frame| frame.map(filtered).transpose());
        streamed.touched.set(true);
        if let Some(Ok(frame)) = &frame {
            streamed.note(frame);
        }
        streamed.enter(match &frame {
            None => Stage::Finished,
            Some(Err(_)) => Stage::Failed,
            // Nothing follows trailers, and nobody asks for more.
            Some(Ok(frame)) if frame.is_trailers() || incoming.is_end_stream() => Stage::Finished,
            Some(Ok(_)) => Stage::AwaitingOrigin,
        });
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streamed(streamed, _) => {
                let kept = streamed.kept.borrow();
                kept.as_ref().is_none_or(Kept::is_given)
                    && streamed.incoming.borrow().is_end_stream()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streamed(streamed, _) => {
                let mut hint = streamed.incoming.borrow().size_hint();
                let left = streamed.kept.borrow().as_ref().map_or(0, Kept::left);
                if left > 0 {
                    // The upper bound first: the lower one is never above it.
                    if let Some(upper) = hint.upper() {
                        hint.set_upper(upper + left);
                    }
                    hint.set_lower(hint.lower() + left);
                }
                hint
            }
        }
    }
}

/// The frame without trailers that must not pass; `None` if nothing is left of it.
fn filtered(frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            trailers::request_trailers(&mut trailers);
            (!trailers.is_empty()).then(|| Frame::trailers(trailers))
        }
        Err(frame) => Some(frame),
    }
}

/// So many bytes of a body are kept until the response begins.
const MOST_KEPT: usize = 64 * 1024;
/// In so many pieces at most: each keeps the buffer that it is a part of.
const MOST_PIECES: usize = 64;

/// How long an origin is waited for that was asked whether it wants a body. As long as curl waits
/// for a server.
const EXPECTATION: Duration = Duration::from_secs(1);
