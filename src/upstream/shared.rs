//! HTTP/2 connections: one carries many requests, so a request borrows a stream of it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http2::SendRequest;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::body::Upload;
use crate::error::{Failure, ForwardError};
use crate::tls::Facts;

use super::Trace;
use super::ping::Pinger;
use super::task::Owner;

/// One HTTP/2 connection. It closes when nobody holds it any more.
pub struct Shared {
    wire: Multiplexed,
    facts: Arc<Facts>,
    address: SocketAddr,
    born: Instant,
    ends: Instant,
    // Until when it takes no new stream, so that another origin gets its turn.
    yields_until: Cell<Option<Instant>>,
    streams: Cell<usize>,
    idle_since: Cell<Instant>,
    served: Cell<bool>,
    // How many of its pool's connections are idle; it counts itself while it is listed there.
    idle: Rc<Cell<usize>>,
    listed: Cell<bool>,
    // How often it was suspected.
    suspicions: Cell<u32>,
}

/// What an HTTP/2 connection is used by.
pub struct Multiplexed {
    pub sender: SendRequest<Upload>,
    pub owner: Owner,
    pub pinger: Arc<Pinger>,
    /// What the origin allows at once (RFC 9113 section 5.1.2); kept up to date by the connection.
    pub most: Rc<Cell<usize>>,
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
    /// A new connection of a pool that has so many `idle` ones, good until `ends`.
    pub fn new(
        wire: Multiplexed,
        facts: Arc<Facts>,
        address: SocketAddr,
        ends: Instant,
        idle: Rc<Cell<usize>>,
    ) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Self {
            wire,
            facts,
            address,
            born: now,
            ends,
            yields_until: Cell::new(None),
            streams: Cell::new(0),
            idle_since: Cell::new(now),
            served: Cell::new(false),
            idle,
            listed: Cell::new(false),
            suspicions: Cell::new(0),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn is_closed(&self) -> bool {
        self.wire.sender.is_closed()
    }

    /// Whether the origin would take one more request on it now.
    pub fn has_room(&self) -> bool {
        self.streams.get() < self.wire.most.get()
    }

    pub fn is_over(&self, now: Instant) -> bool {
        self.ends <= now
    }

    /// Whether a new request may use it, at `now`.
    pub fn is_usable(&self, now: Instant) -> bool {
        !self.is_closed()
            && !self.is_over(now)
            && !self.wire.pinger.is_suspected()
            && !self.yields(now)
    }

    /// Whether it was made after `moment`.
    pub fn is_newer_than(&self, moment: Instant) -> bool {
        self.born > moment
    }

    /// Takes no new stream until then, and closes as soon as it has none.
    pub fn yield_until(&self, until: Instant) {
        self.yields_until.set(Some(until));
    }

    pub fn yields(&self, now: Instant) -> bool {
        self.yields_until.get().is_some_and(|until| now < until)
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
        if self.listed.get() && self.streams.get() == 0 {
            self.idle.set(self.idle.get() - 1);
        }
        self.streams.set(self.streams.get() + 1);
        Stream(Rc::clone(self))
    }

    /// The pool has it in its list from now on, or has it no more.
    pub fn set_listed(&self, listed: bool) {
        if self.listed.replace(listed) == listed || self.streams.get() > 0 {
            return;
        }
        let idle = self.idle.get();
        self.idle.set(if listed { idle + 1 } else { idle - 1 });
    }

    /// Something should have come on it and did not. It takes no new stream until something comes,
    /// and is closed if nothing does within `bound`; it is asked for a sign of life.
    pub fn suspect(self: &Rc<Self>, bound: Duration) {
        if self.wire.pinger.is_suspected() || self.is_closed() {
            return;
        }
        self.wire.pinger.suspect();
        let number = self.suspicions.get() + 1;
        self.suspicions.set(number);
        let suspect = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            loop {
                sleep(bound).await;
                let Some(suspect) = suspect.upgrade() else {
                    return;
                };
                if !suspect.wire.pinger.is_suspected() || suspect.suspicions.get() != number {
                    return;
                }
                if !suspect.has_closed_window() {
                    suspect.facts.fail(Failure::Unresponsive(bound));
                    suspect.wire.owner.end();
                    return;
                }
            }
        });
    }

    /// Whether the origin's machine is alive, and the origin reads nothing: then no PING reaches it,
    /// and the requests under way have timeouts of their own.
    fn has_closed_window(&self) -> bool {
        let queue = self.facts.send_queue();
        let closed =
            queue.is_some_and(|queue| queue.unsent > 0 && queue.unsent == queue.unacknowledged);
        closed && self.streams.get() > 0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.set_listed(false);
        if self.wire.pinger.is_suspected() {
            // There is nobody to say goodbye to.
            self.wire.owner.end();
        }
    }
}

impl Stream {
    pub fn sender(&self) -> SendRequest<Upload> {
        self.0.wire.sender.clone()
    }

    pub fn connection(&self) -> &Rc<Shared> {
        &self.0
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

    /// A response came on it.
    pub fn answered(&self) {
        self.0.served.set(true);
        self.heard();
    }

    /// A frame came on it.
    pub fn heard(&self) {
        self.0.wire.pinger.heard();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let left = self.0.streams.get() - 1;
        self.0.streams.set(left);
        if left == 0 {
            self.0.idle_since.set(Instant::now());
            if self.0.listed.get() {
                self.0.idle.set(self.0.idle.get() + 1);
            }
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
