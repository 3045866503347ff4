//! HTTP/2 connections: one carries many requests, so a request borrows a stream of it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use hyper::client::conn::http2::SendRequest;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::body::Upload;
use crate::error::ForwardError;
use crate::tls::Facts;

use super::Trace;

/// One HTTP/2 connection. It ends when nobody holds it any more and its streams are over.
pub struct Shared {
    sender: SendRequest<Upload>,
    facts: Arc<Facts>,
    address: SocketAddr,
    ends: Instant,
    // What the origin allows at once (RFC 9113 section 5.1.2); kept up to date by the connection.
    most: Rc<Cell<usize>>,
    streams: Cell<usize>,
    idle_since: Cell<Instant>,
    served: Cell<bool>,
}

/// One request's stream.
pub struct Stream(Rc<Shared>);

/// A connection that is being made, and that others wait for instead of making their own.
#[derive(Default)]
pub struct Flight {
    landed: Notify,
    failed: RefCell<Option<(ForwardError, Trace)>>,
}

impl Shared {
    pub fn new(
        sender: SendRequest<Upload>,
        facts: Arc<Facts>,
        address: SocketAddr,
        most: Rc<Cell<usize>>,
        ends: Instant,
    ) -> Rc<Self> {
        Rc::new(Self {
            sender,
            facts,
            address,
            ends,
            most,
            streams: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            served: Cell::new(false),
        })
    }

    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether the origin would take one more request on it now.
    pub fn has_room(&self) -> bool {
        self.streams.get() < self.most.get()
    }

    pub fn is_over(&self, now: Instant) -> bool {
        self.ends <= now
    }

    /// Since when nothing is under way on it; `None` while something is.
    pub fn idle_since(&self) -> Option<Instant> {
        (self.streams.get() == 0).then(|| self.idle_since.get())
    }

    pub fn streams(&self) -> usize {
        self.streams.get()
    }

    /// A stream of it.
    pub fn open(self: &Rc<Self>) -> Stream {
        self.streams.set(self.streams.get() + 1);
        Stream(Rc::clone(self))
    }
}

impl Stream {
    pub fn sender(&self) -> SendRequest<Upload> {
        self.0.sender.clone()
    }

    pub fn facts(&self) -> &Arc<Facts> {
        &self.0.facts
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Whether the connection has served a request before.
    pub fn has_served(&self) -> bool {
        self.0.served.get()
    }

    /// An answer came on it.
    pub fn answered(&self) {
        self.0.served.set(true);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let left = self.0.streams.get() - 1;
        self.0.streams.set(left);
        if left == 0 {
            self.0.idle_since.set(Instant::now());
        }
    }
}

impl Flight {
    /// Waits until the connection is there or has failed.
    pub async fn landed(&self) -> Result<(), (ForwardError, Trace)> {
        self.landed.notified().await;
        match &*self.failed.borrow() {
            Some(failed) => Err(failed.clone()),
            None => Ok(()),
        }
    }

    /// Tells everybody who waits.
    pub fn land(&self, failed: Option<(ForwardError, Trace)>) {
        *self.failed.borrow_mut() = failed;
        self.landed.notify_waiters();
    }
}
