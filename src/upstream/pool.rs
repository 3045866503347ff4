//! The connections of one binding under one Generation, on one worker. Nothing is shared between
//! bindings, and nothing outlives the Generation: retiring it is dropping what is idle.

mod keep_alive;
mod lane;
mod lease;
mod streams;
mod sweep;
mod wait;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, timeout_at};

use crate::config::Authority;
use crate::error::ForwardError;
use crate::metrics::{Closed, Connections, Meter};
use crate::tls::Generation;

use super::connect::{Made, Wire};
use super::shared::Shared;
use super::slots::{Hold, Permit, Slots};
use super::story::reason;
use super::{House, Published, Settings};

use keep_alive::KeepAlive;
use lane::{Connection, Idle, Lanes};
use lease::Held;

pub use lane::Knows;
pub use lease::Lease;
pub use streams::Launch;

/// The pool.
pub struct Pool {
    settings: Rc<Settings>,
    published: Published,
    worker: usize,
    house: Rc<dyn House>,
    meter: Rc<Meter>,
    retired: Cell<bool>,
    // How many connections other workers asked for while there was none idle.
    owed: Cell<usize>,
    // When this worker last asked another for a connection that is in use.
    begged: Cell<Option<Instant>>,
    sweeping: Cell<bool>,
    lanes: RefCell<Lanes>,
    // How many connections in the lanes are idle, of HTTP/1.1 and of HTTP/2.
    idle_own: Cell<usize>,
    idle_shared: Rc<Cell<usize>>,
}

/// What a connection has to be for a request that is sent again.
#[derive(Clone, Copy)]
pub struct Fresh {
    /// It was made after this.
    pub since: Instant,
    /// The request is the first on it: an origin that ends its connections after a few requests
    /// processes that one.
    pub first: bool,
}

/// What a request gets of the pool.
pub enum Acquired {
    /// A connection that has served before.
    Connection(Lease),
    /// The right to open one, and where to tell what became of it, when others wait for it.
    Permit(Permit, Option<Launch>),
    /// Nothing yet: ask again, things have changed (the one with a Generation was published, or a
    /// connection was made).
    Again,
}

impl Pool {
    pub fn new(
        settings: Rc<Settings>,
        published: Published,
        worker: usize,
        house: Rc<dyn House>,
        meter: Rc<Meter>,
    ) -> Rc<Self> {
        Rc::new(Self {
            settings,
            published,
            worker,
            house,
            meter,
            retired: Cell::new(false),
            owed: Cell::new(0),
            begged: Cell::new(None),
            sweeping: Cell::new(false),
            lanes: RefCell::default(),
            idle_own: Cell::new(0),
            idle_shared: Rc::default(),
        })
    }

    pub fn generation(&self) -> &Arc<Generation> {
        &self.published.generation
    }

    /// The count of its connections, over all workers.
    pub fn slots(&self) -> &Arc<Slots> {
        &self.published.slots
    }

    /// No request takes a connection from here any more, and none is given back.
    pub fn retire(&self) {
        self.retired.set(true);
        let lanes = self.lanes.take();
        for lane in lanes.iter() {
            self.log_all_closed(lane, reason::CERTIFICATE);
            for shared in &lane.shared {
                shared.set_listed(false);
                self.count_closed(Closed::Certificate, 1);
            }
        }
        self.count_closed(Closed::Certificate, self.idle_own.get());
        self.idle_own.set(0);
        self.count_idle();
        // Requests that wait here are woken by this, and ask the next pool.
        drop(lanes);
    }

    /// Closes every idle connection.
    pub fn close_idle(&self) {
        let mut closed = Vec::new();
        let mut ended = Vec::new();
        for lane in self.lanes.borrow_mut().iter_mut() {
            self.log_all_closed(lane, reason::STOPPING);
            closed.append(&mut lane.idle);
            ended.append(&mut lane.shared);
        }
        for shared in &ended {
            shared.set_listed(false);
        }
        self.idle_own.set(0);
        self.count_idle();
        drop((closed, ended));
    }

    /// Closes the connections to `target` that were idle at `moment` already: one like them was found
    /// dead.
    pub fn close_idle_since(&self, target: &Arc<Authority>, moment: Instant) {
        let closed: Vec<_> = {
            let mut lanes = self.lanes.borrow_mut();
            let Some(lane) = lanes.get_mut(target) else {
                return;
            };
            lane.idle
                .extract_if(.., |idle| idle.since <= moment)
                .collect()
        };
        for idle in &closed {
            self.log_closed(target, idle.connection.address, reason::DEAD);
        }
        self.add_idle(0, closed.len());
        drop(closed);
    }

    /// Closes an idle connection, or the next one that would become idle.
    pub fn give_up_one(&self) {
        if !self.close_one() && self.open() > self.owed.get() {
            self.owed.set(self.owed.get() + 1);
            self.yield_one(None);
        }
    }

    /// Closes the idle connection that was used least recently; `false` when there is none.
    pub fn close_one(&self) -> bool {
        if self.idle_own.get() + self.idle_shared.get() == 0 {
            return false;
        }
        let closed = {
            let mut lanes = self.lanes.borrow_mut();
            let lane = lanes
                .iter_mut()
                .filter(|lane| !lane.idle.is_empty())
                .min_by_key(|lane| lane.idle[0].since);
            match lane {
                Some(lane) => {
                    let idle = lane.idle.remove(0);
                    self.log_closed(&lane.target, idle.connection.address, reason::RECLAIMED);
                    (Some(idle), None)
                }
                None => {
                    let taken = lanes.iter_mut().find_map(|lane| {
                        let shared = lane.take_idle_shared()?;
                        self.log_closed(&lane.target, shared.address(), reason::RECLAIMED);
                        Some(shared)
                    });
                    (None, taken)
                }
            }
        };
        self.add_idle(0, usize::from(closed.0.is_some()));
        let has_closed = closed.0.is_some() || closed.1.is_some();
        self.count_closed(Closed::Reclaimed, usize::from(has_closed));
        has_closed
    }

    fn count_closed(&self, reason: Closed, count: usize) {
        self.meter.counters().closed(reason, count as u64);
    }

    /// What is known of `target` at `now`.
    pub fn knows(&self, target: &Arc<Authority>, now: Instant) -> Knows {
        let lanes = self.lanes.borrow();
        let lane = lanes.get(target);
        lane.map_or(Knows::default(), |lane| lane.knows(now))
    }

    /// Remembers what was found out about `target`, for as long as it is in use.
    pub fn learn(&self, target: &Arc<Authority>, knows: Knows) {
        if self.knows(target, Instant::now()) != knows {
            let mut lanes = self.lanes.borrow_mut();
            lanes.entry(target).learn(knows, Instant::now());
            lanes.forget(target);
        }
    }

    /// An idle connection to `target` that can be used at once, at `now`.
    pub fn ready(self: &Rc<Self>, target: &Arc<Authority>, now: Instant) -> Option<Lease> {
        loop {
            let idle = self.pop(target, now)?;
            if idle.connection.sender.is_ready() {
                return Some(self.hand_out(target, idle.connection, true));
            }
            if idle.connection.sender.is_closed() {
                self.log_closed(target, idle.connection.address, reason::ORIGIN);
                continue;
            }
            // Its own task has not run since its last answer ended. Whoever has the time waits.
            self.lanes.borrow_mut().entry(target).idle.push(idle);
            self.add_idle(1, 0);
            return None;
        }
    }

    /// An idle connection to `target` (unless `fresh`), else the right to open one, as soon as
    /// either is there.
    pub async fn acquire(
        self: &Rc<Self>,
        target: &Arc<Authority>,
        fresh: bool,
        deadline: Instant,
    ) -> Result<Acquired, ForwardError> {
        if !fresh && let Some(lease) = self.take_idle(target, deadline).await {
            return Ok(Acquired::Connection(lease));
        }
        if let Some(permit) = self.slots().try_take() {
            return Ok(Acquired::Permit(permit, None));
        }
        self.wait(target, fresh, deadline).await
    }

    async fn take_idle(
        self: &Rc<Self>,
        target: &Arc<Authority>,
        deadline: Instant,
    ) -> Option<Lease> {
        loop {
            let mut connection = self.pop(target, Instant::now())?.connection;
            if let Ok(Ok(())) = timeout_at(deadline, connection.sender.ready()).await {
                return Some(self.hand_out(target, connection, true));
            }
        }
    }

    /// The idle connection to `target` that was used last, if one is good at `now`.
    fn pop(&self, target: &Arc<Authority>, now: Instant) -> Option<Idle> {
        loop {
            let idle = self.lanes.borrow_mut().get_mut(target)?.idle.pop()?;
            self.add_idle(0, 1);
            if !idle.connection.sender.is_closed() && now < idle.until {
                return Some(idle);
            }
            let reason = match idle.connection.sender.is_closed() {
                true => reason::ORIGIN,
                false => reason::AGE,
            };
            self.log_closed(target, idle.connection.address, reason);
        }
    }

    /// What a connection keeps while it is open.
    pub fn hold(&self, permit: Permit) -> Hold {
        Slots::hold(&self.published.slots, self.worker, permit)
    }

    /// When a connection that is made now takes its last request: when it has reached its age, or
    /// before its certificate expires, so that no origin meets an expired one. A certificate that
    /// is in use though it has expired sets no end.
    fn ends(&self) -> Instant {
        let age = self.settings.limits.connection_age;
        let leaf = self.generation().identity().leaf();
        let left = leaf.not_after.duration_since(SystemTime::now());
        let left = left.map_or(age, |left| left.saturating_sub(BEFORE_EXPIRY));
        Instant::now() + age.min(left)
    }

    /// How many connections there are on this worker.
    pub fn connections(&self) -> Connections {
        let lanes = self.lanes.borrow();
        let mut connections = Connections::default();
        for lane in lanes.iter() {
            connections.http1_idle += lane.idle.len();
            for shared in &lane.shared {
                match shared.streams() == 0 {
                    true => connections.http2_idle += 1,
                    false => connections.http2_active += 1,
                }
            }
        }
        let counted = connections.http1_idle + connections.http2_idle + connections.http2_active;
        connections.http1_active = self.open().saturating_sub(counted);
        connections
    }

    /// How many requests wait for a connection, on all workers.
    pub fn waiting(&self) -> usize {
        self.slots().waiting()
    }

    fn open(&self) -> usize {
        self.slots().open(self.worker)
    }

    /// A lease on a new connection.
    pub fn lease(self: &Rc<Self>, target: &Arc<Authority>, made: Made) -> Lease {
        let (sender, owner) = match made.wire {
            Wire::Http1(sender, owner) => (sender, owner),
            Wire::Http2(wire) => {
                let idle = Rc::clone(&self.idle_shared);
                let shared = Shared::new(wire, made.facts, made.address, self.ends(), idle);
                let stream = shared.open();
                if !self.retired.get() {
                    shared.set_listed(true);
                    self.lanes.borrow_mut().entry(target).shared.push(shared);
                    self.sweep();
                }
                return self.hand_out_stream(target, stream);
            }
        };
        let connection = Connection {
            sender,
            owner,
            facts: made.facts,
            address: made.address,
            ends: self.ends(),
            keep_alive: KeepAlive::default(),
        };
        self.hand_out(target, connection, false)
    }

    fn hand_out(
        self: &Rc<Self>,
        target: &Arc<Authority>,
        connection: Connection,
        reused: bool,
    ) -> Lease {
        Lease {
            held: Some(Held::Own(connection)),
            target: Arc::clone(target),
            pool: Rc::clone(self),
            reused,
            asked: None,
        }
    }

    fn take_back(self: &Rc<Self>, target: &Arc<Authority>, connection: Connection, now: Instant) {
        let until = match connection.keep_alive.idle() {
            Some(idle) => connection.ends.min(now + idle),
            None => connection.ends,
        };
        let address = connection.address;
        if self.retired.get() {
            self.count_closed(Closed::Certificate, 1);
            self.log_closed(target, address, reason::CERTIFICATE);
            return;
        }
        if connection.sender.is_closed() {
            self.log_closed(target, address, reason::ORIGIN);
            return;
        }
        if until <= now {
            self.count_closed(Closed::Age, 1);
            self.log_closed(target, address, reason::AGE);
            return;
        }
        if self.owed.get() > 0 {
            self.count_closed(Closed::Reclaimed, 1);
            self.log_closed(target, address, reason::RECLAIMED);
            self.owed.set(self.owed.get() - 1);
            return;
        }
        let Some(connection) = self.pass_on(target, connection) else {
            self.log_returned(target, address);
            return;
        };
        if self.slots().waiting() > 0 {
            self.log_closed(target, address, reason::RECLAIMED);
            // Whoever waits can open one in its place.
            return;
        }
        let idle = Idle {
            connection,
            since: now,
            until,
        };
        let excess = {
            let mut lanes = self.lanes.borrow_mut();
            let lane = lanes.entry(target);
            lane.idle.push(idle);
            (lane.idle.len() > MOST_IDLE).then(|| lane.idle.remove(0))
        };
        self.log_returned(target, address);
        if let Some(excess) = &excess {
            self.log_closed(target, excess.connection.address, reason::EXCESS);
        }
        self.add_idle(1, usize::from(excess.is_some()));
        self.sweep();
    }

    /// Gives the connection to the request that waits longest for it; returns it when there is none,
    /// or when a request for another origin has waited longer, whose turn it is.
    fn pass_on(&self, target: &Arc<Authority>, connection: Connection) -> Option<Connection> {
        let mut lanes = self.lanes.borrow_mut();
        let Some(lane) = lanes.get_mut(target) else {
            return Some(connection);
        };
        let mut connection = connection;
        while let Some((number, waiter)) = lane.waiters.pop_front() {
            if waiter.is_closed() {
                continue;
            }
            if self.slots().is_overtaken(number, target) {
                lane.waiters.push_front((number, waiter));
                break;
            }
            match waiter.send(connection) {
                Ok(()) => return None,
                // It gave up waiting.
                Err(back) => connection = back,
            }
        }
        Some(connection)
    }

    fn add_idle(&self, more: usize, fewer: usize) {
        self.idle_own.set(self.idle_own.get() + more - fewer);
        self.count_idle();
    }

    fn count_idle(&self) {
        let count = self.idle_own.get() + self.idle_shared.get();
        self.slots().set_idle(self.worker, count);
    }
}

/// So long before its certificate expires a connection is done.
const BEFORE_EXPIRY: Duration = Duration::from_secs(5);
/// So many idle connections to one origin are kept per worker.
const MOST_IDLE: usize = 256;
