//! The connections of one binding under one Generation, on one worker. Nothing is shared between
//! bindings, and nothing outlives the Generation: retiring it is dropping what is idle.

mod lane;
mod lease;
mod sweep;
mod wait;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, timeout_at};

use crate::config::Authority;
use crate::error::{ForwardError, Phase};
use crate::tls::Generation;

use super::connect::{Made, Wire};
use super::shared::{Flight, Shared, Stream};
use super::slots::{Hold, Permit, Slots};
use super::{House, Published, Settings, Trace};

use lane::{Connection, Idle, Lane};
use lease::Held;

pub use lane::Knows;
pub use lease::Lease;

/// The pool.
pub struct Pool {
    settings: Rc<Settings>,
    published: Published,
    worker: usize,
    house: Rc<dyn House>,
    retired: Cell<bool>,
    // How many connections other workers asked for while there was none idle.
    owed: Cell<usize>,
    // When this worker last asked another for a connection that is in use.
    begged: Cell<Option<Instant>>,
    sweeping: Cell<bool>,
    // A binding has few origins; looking through them beats hashing.
    lanes: RefCell<Vec<Lane>>,
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

/// The duty to tell others that a connection was made, or failed.
pub struct Launch {
    pool: Rc<Pool>,
    target: Arc<Authority>,
    flight: Rc<Flight>,
    failed: Option<(ForwardError, Trace)>,
}

impl Launch {
    /// The connection failed.
    pub fn fail(&mut self, error: &ForwardError, trace: &Trace) {
        self.failed = Some((error.clone(), trace.clone()));
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        self.pool.with_lane(&self.target, |lane| {
            if lane
                .flight
                .as_ref()
                .is_some_and(|flight| Rc::ptr_eq(flight, &self.flight))
            {
                lane.flight = None;
            }
        });
        self.flight.land(self.failed.take());
    }
}

impl Pool {
    pub fn new(
        settings: Rc<Settings>,
        published: Published,
        worker: usize,
        house: Rc<dyn House>,
    ) -> Rc<Self> {
        Rc::new(Self {
            settings,
            published,
            worker,
            house,
            retired: Cell::new(false),
            owed: Cell::new(0),
            begged: Cell::new(None),
            sweeping: Cell::new(false),
            lanes: RefCell::default(),
        })
    }

    pub fn generation(&self) -> &Arc<Generation> {
        &self.published.generation
    }

    fn slots(&self) -> &Slots {
        &self.published.slots
    }

    /// No request takes a connection from here any more, and none is given back.
    pub fn retire(&self) {
        self.retired.set(true);
        let lanes = self.lanes.take();
        self.count_idle();
        // Requests that wait here are woken by this, and ask the next pool.
        drop(lanes);
    }

    /// Closes every idle connection.
    pub fn close_idle(&self) {
        let mut closed = Vec::new();
        let mut ended = Vec::new();
        for lane in self.lanes.borrow_mut().iter_mut() {
            closed.append(&mut lane.idle);
            ended.append(&mut lane.shared);
        }
        self.count_idle();
        drop((closed, ended));
    }

    /// Closes an idle connection, or the next one that would become idle.
    pub fn give_up_one(&self) {
        if !self.close_one() && self.open() > self.owed.get() {
            self.owed.set(self.owed.get() + 1);
        }
    }

    /// Closes the idle connection that was used least recently; `false` when there is none.
    fn close_one(&self) -> bool {
        let closed = {
            let mut lanes = self.lanes.borrow_mut();
            let lane = lanes
                .iter_mut()
                .filter(|lane| !lane.idle.is_empty())
                .min_by_key(|lane| lane.idle[0].since);
            match lane {
                Some(lane) => (Some(lane.idle.remove(0)), None),
                None => (None, lanes.iter_mut().find_map(Lane::take_idle_shared)),
            }
        };
        self.count_idle();
        closed.0.is_some() || closed.1.is_some()
    }

    /// What is known of `target`.
    pub fn knows(&self, target: &Arc<Authority>) -> Knows {
        let lanes = self.lanes.borrow();
        let lane = lanes.iter().find(|lane| lane.is_for(target));
        lane.map_or(Knows::default(), |lane| lane.knows)
    }

    /// Remembers what was found out about `target`.
    pub fn learn(&self, target: &Arc<Authority>, knows: Knows) {
        self.with_lane(target, |lane| lane.knows = knows);
    }

    /// A stream to `target` on a connection that others use too (unless `fresh`), else the right
    /// to open one; waits for one that is being made already.
    pub async fn acquire_stream(
        self: &Rc<Self>,
        target: &Arc<Authority>,
        fresh: bool,
        deadline: Instant,
        trace: &Trace,
    ) -> Result<Acquired, ForwardError> {
        if !fresh {
            if let Some(lease) = self.ready_stream(target, Instant::now()) {
                return Ok(Acquired::Connection(lease));
            }
            if let Some(flight) = self.with_lane(target, |lane| lane.flight.clone()) {
                return match timeout_at(deadline, flight.landed()).await {
                    Ok(Ok(())) => Ok(Acquired::Again),
                    Ok(Err((error, told))) => {
                        trace.follow(told);
                        Err(error)
                    }
                    Err(_) => Err(ForwardError::TimeoutConnecting(
                        self.settings.timeouts.connect,
                        Phase::Tcp,
                    )),
                };
            }
        }
        if let Some(permit) = self.slots().try_take() {
            let flight = Rc::new(Flight::default());
            self.with_lane(target, |lane| lane.flight = Some(Rc::clone(&flight)));
            let launch = Launch {
                pool: Rc::clone(self),
                target: Arc::clone(target),
                flight,
                failed: None,
            };
            return Ok(Acquired::Permit(permit, Some(launch)));
        }
        // At the limit, a full connection is better than none: what is too much for the origin
        // waits its turn in there.
        let now = Instant::now();
        match self.with_lane(target, |lane| lane.stream(now, |_| !fresh)) {
            Some(stream) => Ok(Acquired::Connection(self.hand_out_stream(target, stream))),
            None => self.wait(target, true, deadline).await,
        }
    }

    fn hand_out_stream(self: &Rc<Self>, target: &Arc<Authority>, stream: Stream) -> Lease {
        self.count_idle();
        Lease {
            reused: stream.has_served(),
            held: Some(Held::Stream(stream)),
            target: Arc::clone(target),
            pool: Rc::clone(self),
        }
    }

    /// An idle connection to `target` that can be used at once, at `now`.
    pub fn ready(self: &Rc<Self>, target: &Arc<Authority>, now: Instant) -> Option<Lease> {
        loop {
            let idle = self.pop(target)?;
            let connection = &idle.connection;
            if connection.sender.is_closed() || connection.ends <= now {
                continue;
            }
            if connection.sender.is_ready() {
                return Some(self.hand_out(target, idle.connection, true));
            }
            // Its own task has not run since its last answer ended. Whoever has the time waits.
            self.with_lane(target, |lane| lane.idle.push(idle));
            self.count_idle();
            return None;
        }
    }

    /// A stream to `target` on a connection that others use too and that can be used at once.
    pub fn ready_stream(self: &Rc<Self>, target: &Arc<Authority>, now: Instant) -> Option<Lease> {
        let stream = self.with_lane(target, |lane| lane.stream(now, Shared::has_room))?;
        Some(self.hand_out_stream(target, stream))
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
            let mut connection = self.pop(target)?.connection;
            if connection.sender.is_closed() || connection.ends <= Instant::now() {
                continue;
            }
            if let Ok(Ok(())) = timeout_at(deadline, connection.sender.ready()).await {
                return Some(self.hand_out(target, connection, true));
            }
        }
    }

    fn pop(&self, target: &Arc<Authority>) -> Option<Idle> {
        let popped = {
            let mut lanes = self.lanes.borrow_mut();
            lanes
                .iter_mut()
                .find(|lane| lane.is_for(target))?
                .idle
                .pop()
        };
        self.count_idle();
        popped
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

    fn open(&self) -> usize {
        self.slots().open(self.worker)
    }

    /// A lease on a new connection.
    pub fn lease(self: &Rc<Self>, target: &Arc<Authority>, made: Made) -> Lease {
        let sender = match made.wire {
            Wire::Http1(sender) => sender,
            Wire::Http2(sender, most) => {
                let shared = Shared::new(sender, made.facts, made.address, most, self.ends());
                let stream = shared.open();
                if !self.retired.get() {
                    self.with_lane(target, |lane| lane.shared.push(shared));
                    self.sweep();
                }
                return self.hand_out_stream(target, stream);
            }
        };
        let connection = Connection {
            sender,
            task: made.task,
            facts: made.facts,
            address: made.address,
            ends: self.ends(),
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
        }
    }

    fn take_back(self: &Rc<Self>, target: &Arc<Authority>, connection: Connection, now: Instant) {
        let too_old = connection.ends <= now;
        if self.retired.get() || too_old || connection.sender.is_closed() {
            return;
        }
        if self.owed.get() > 0 {
            self.owed.set(self.owed.get() - 1);
            return;
        }
        let Some(connection) = self.pass_on(target, connection) else {
            return;
        };
        if self.slots().waiting() > 0 {
            // Whoever waits can open one in its place.
            return;
        }
        let idle = Idle {
            connection,
            since: now,
        };
        self.with_lane(target, |lane| {
            lane.idle.push(idle);
            if lane.idle.len() > MOST_IDLE {
                lane.idle.remove(0);
            }
        });
        self.count_idle();
        self.sweep();
    }

    /// Gives the connection to a request that waits for it; returns it when there is none.
    fn pass_on(&self, target: &Arc<Authority>, connection: Connection) -> Option<Connection> {
        let mut connection = connection;
        self.with_lane(target, |lane| {
            while let Some(waiter) = lane.waiters.pop_front() {
                match waiter.send(connection) {
                    Ok(()) => return None,
                    // It gave up waiting.
                    Err(back) => connection = back,
                }
            }
            Some(connection)
        })
    }

    fn with_lane<T>(&self, target: &Arc<Authority>, act: impl FnOnce(&mut Lane) -> T) -> T {
        let mut lanes = self.lanes.borrow_mut();
        let at = match lanes.iter().position(|lane| lane.is_for(target)) {
            Some(at) => at,
            None => {
                lanes.push(Lane::new(Arc::clone(target)));
                lanes.len() - 1
            }
        };
        act(&mut lanes[at])
    }

    fn count_idle(&self) {
        let count = self.lanes.borrow().iter().map(Lane::idle_count).sum();
        self.slots().set_idle(self.worker, count);
    }
}

/// So long before its certificate expires a connection is done.
const BEFORE_EXPIRY: Duration = Duration::from_secs(5);
/// So many idle connections to one origin are kept per worker.
const MOST_IDLE: usize = 256;
