//! A request body on its way to the origin: watched, so that a stalled one can be told from a
//! slow one, and kept untouched as long as nobody has read from it, so that it can be sent again.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use crate::head;

/// The body that is sent to the origin.
pub enum Upload {
    /// None.
    Empty,
    /// What the client sends.
    Streamed(Rc<Streamed>),
}

/// A body that a client is sending, shared between the connection that reads it and the request
/// that waits for the answer.
pub struct Streamed {
    incoming: RefCell<Incoming>,
    stage: Cell<Stage>,
    since: Cell<Instant>,
    // Whether anything was read from it: then it cannot be sent a second time.
    touched: Cell<bool>,
    // Who waits for the answer and wants to know that the body is over.
    waiting: Cell<Option<Waker>>,
    // Holds the body back until the origin wants it.
    gate: Option<Arc<Gate>>,
    patience: RefCell<Option<Pin<Box<Sleep>>>>,
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
        Self::Streamed(Rc::new(Streamed {
            incoming: RefCell::new(incoming),
            stage: Cell::new(Stage::Untouched),
            since: Cell::new(now),
            touched: Cell::new(false),
            waiting: Cell::new(None),
            gate: expects.then(Arc::default),
            patience: RefCell::default(),
        }))
    }

    /// The same body again: to be sent once more when this one was not touched, or to be watched.
    pub fn share(&self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Streamed(streamed) => Self::Streamed(Rc::clone(streamed)),
        }
    }

    /// Whether all of it can still be sent on another connection.
    pub fn is_untouched(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streamed(streamed) => !streamed.touched.get(),
        }
    }

    /// What holds it back, if anything does.
    pub fn gate(&self) -> Option<&Arc<Gate>> {
        match self {
            Self::Empty => None,
            Self::Streamed(streamed) => streamed.gate.as_ref(),
        }
    }

    /// How far it has got.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Empty => Stage::Finished,
            Self::Streamed(streamed) => streamed.stage.get(),
        }
    }

    /// Since when it is at that stage; `None` when there is no body.
    pub fn since(&self) -> Option<Instant> {
        match self {
            Self::Empty => None,
            Self::Streamed(streamed) => Some(streamed.since.get()),
        }
    }

    /// Wakes the task of `cx` when the body is over.
    pub fn wake_at_end(&self, cx: &Context<'_>) {
        if let Self::Streamed(streamed) = self
            && streamed.stage.get() != Stage::Finished
        {
            streamed.waiting.set(Some(cx.waker().clone()));
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
        let streamed = match &*self {
            Self::Empty => return Poll::Ready(None),
            Self::Streamed(streamed) => streamed,
        };
        ready!(streamed.poll_gate(cx));
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
            Self::Streamed(streamed) => streamed.incoming.borrow().is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streamed(streamed) => streamed.incoming.borrow().size_hint(),
        }
    }
}

/// The frame without trailers that must not pass; `None` if nothing is left of it.
fn filtered(frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            head::request_trailers(&mut trailers);
            (!trailers.is_empty()).then(|| Frame::trailers(trailers))
        }
        Err(frame) => Some(frame),
    }
}

/// How long an origin is waited for that was asked whether it wants a body. As long as curl waits
/// for a server.
const EXPECTATION: Duration = Duration::from_secs(1);
