//! The connections of one binding under one Generation, on one worker. Nothing is shared between
//! bindings, and nothing outlives the Generation: retiring it is dropping what is idle.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::body::Upload;
use crate::config::Authority;
use crate::error::ForwardError;
use crate::tls::{Facts, Generation};

use super::connect::Made;
use super::slots::{Hold, Permit, Slots};
use super::{Ask, Published, Settings};

/// The pool.
pub struct Pool {
    settings: Rc<Settings>,
    published: Published,
    worker: usize,
    ask: Rc<Ask>,
    retired: Cell<bool>,
    // How many connections other workers asked for while there was none idle.
    owed: Cell<usize>,
    // When this worker last asked another for a connection that is in use.
    begged: Cell<Option<Instant>>,
    sweeping: Cell<bool>,
    // A binding has few origins; looking through them beats hashing.
    lanes: RefCell<Vec<Lane>>,
}

/// The connections to one origin.
struct Lane {
    target: Arc<Authority>,
    // The one that was used last is used next: the others grow old and are let go.
    idle: Vec<Idle>,
    waiters: VecDeque<oneshot::Sender<Connection>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

struct Connection {
    sender: SendRequest<Upload>,
    task: AbortHandle,
    facts: Arc<Facts>,
    address: SocketAddr,
    born: Instant,
}

/// What a request gets of the pool.
pub enum Acquired {
    /// A connection that has served before.
    Connection(Lease),
    /// The right to open one.
    Permit(Permit),
    /// Nothing: another Generation was published.
    Retired,
}

/// A connection in use. Unless it is given back it is cut off: whatever is still under way on it
/// is wanted no more, and an origin that reads nothing must not keep it alive.
pub struct Lease {
    // `None` once it was given back.
    connection: Option<Connection>,
    target: Arc<Authority>,
    pool: Rc<Pool>,
    reused: bool,
}

impl Pool {
    pub fn new(
        settings: Rc<Settings>,
        published: Published,
        worker: usize,
        ask: Rc<Ask>,
    ) -> Rc<Self> {
        Rc::new(Self {
            settings,
            published,
            worker,
            ask,
            retired: Cell::new(false),
            owed: Cell::new(0),
            begged: Cell::new(None),
            sweeping: Cell::new(false),
            lanes: RefCell::default(),
        })
    }

    pub fn generation(&self) -> &Generation {
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
        let idle: Vec<_> = self
            .lanes
            .borrow_mut()
            .iter_mut()
            .flat_map(|lane| lane.idle.drain(..))
            .collect();
        self.count_idle();
        drop(idle);
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
            lane.map(|lane| lane.idle.remove(0))
        };
        self.count_idle();
        closed.is_some()
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
            return Ok(Acquired::Permit(permit));
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
            if connection.sender.is_closed()
                || connection.born.elapsed() > self.settings.limits.connection_age
            {
                continue;
            }
            // The connection's own task may not have run since its last answer ended.
            if !connection.sender.is_ready() {
                match timeout_at(deadline, connection.sender.ready()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) | Err(_) => continue,
                }
            }
            return Some(self.hand_out(target, connection, true));
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

    /// Waits, at the limit, for a connection of this worker to become idle or for any to close.
    async fn wait(
        self: &Rc<Self>,
        target: &Arc<Authority>,
        fresh: bool,
        deadline: Instant,
    ) -> Result<Acquired, ForwardError> {
        let slots = Arc::clone(&self.published.slots);
        let _waiting = slots.wait();
        let (sender, mut handed) = oneshot::channel();
        if !fresh {
            self.with_lane(target, |lane| lane.waiters.push_back(sender));
        }
        let mut permit = pin!(slots.take());
        let mut give_up = pin!(sleep_until(deadline));
        let mut ask_again = pin!(sleep(Duration::ZERO));
        let pause = (self.settings.timeouts.connect / 8).max(Duration::from_millis(10));
        poll_fn(|cx| {
            if let Poll::Ready(permit) = permit.as_mut().poll(cx) {
                return Poll::Ready(Ok(Acquired::Permit(permit)));
            }
            if !fresh {
                match std::pin::Pin::new(&mut handed).poll(cx) {
                    Poll::Ready(Ok(connection)) => {
                        return Poll::Ready(Ok(Acquired::Connection(
                            self.hand_out(target, connection, true),
                        )));
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Ok(Acquired::Retired)),
                    Poll::Pending => {}
                }
            }
            if give_up.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(ForwardError::NoConnection(slots.most())));
            }
            // At once, and then again and again: the worker that was asked may have had its last
            // connection close meanwhile.
            while ask_again.as_mut().poll(cx).is_ready() {
                ask_again.as_mut().reset(Instant::now() + pause);
                self.reclaim(pause);
            }
            Poll::Pending
        })
        .await
    }

    /// Has a connection closed that somebody can spare: an idle one of this worker or another. A
    /// worker that has none at all, and so will never be handed one that becomes idle, also gets
    /// the next one that the richest is done with.
    fn reclaim(&self, pause: Duration) {
        if self.close_one() {
            return;
        }
        let Some(richest) = self
            .slots()
            .richest()
            .filter(|richest| *richest != self.worker)
        else {
            return;
        };
        let begged_lately = self.begged.get().is_some_and(|when| when.elapsed() < pause);
        if self.slots().has_idle(richest) {
            (self.ask)(richest);
        } else if self.open() == 0 && !begged_lately {
            self.begged.set(Some(Instant::now()));
            (self.ask)(richest);
        }
    }

    /// What a connection keeps while it is open.
    pub fn hold(&self, permit: Permit) -> Hold {
        Slots::hold(&self.published.slots, self.worker, permit)
    }

    fn open(&self) -> usize {
        self.slots().open(self.worker)
    }

    /// A lease on a new connection.
    pub fn lease(self: &Rc<Self>, target: &Arc<Authority>, made: Made) -> Lease {
        let connection = Connection {
            sender: made.sender,
            task: made.task,
            facts: made.facts,
            address: made.address,
            born: Instant::now(),
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
            connection: Some(connection),
            target: Arc::clone(target),
            pool: Rc::clone(self),
            reused,
        }
    }

    fn take_back(self: &Rc<Self>, target: &Arc<Authority>, connection: Connection) {
        let too_old = connection.born.elapsed() > self.settings.limits.connection_age;
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
            since: Instant::now(),
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

    /// Lets go of what has been idle for too long, for as long as anything is idle: one timer for
    /// all of them.
    fn sweep(self: &Rc<Self>) {
        if self.sweeping.replace(true) {
            return;
        }
        let pool = Rc::downgrade(self);
        let idle = self.settings.timeouts.idle;
        let pause = (idle / 8).clamp(Duration::from_millis(10), Duration::from_secs(1));
        tokio::task::spawn_local(async move {
            loop {
                sleep(pause).await;
                let Some(pool) = pool.upgrade() else { return };
                if !pool.drop_overdue(idle) {
                    pool.sweeping.set(false);
                    return;
                }
            }
        });
    }

    /// Whether any is left idle.
    fn drop_overdue(&self, idle: Duration) -> bool {
        let now = Instant::now();
        let age = self.settings.limits.connection_age;
        let mut overdue = Vec::new();
        let mut left = false;
        {
            let mut lanes = self.lanes.borrow_mut();
            for lane in lanes.iter_mut() {
                let over = |one: &mut Idle| {
                    now - one.since > idle
                        || now - one.connection.born > age
                        || one.connection.sender.is_closed()
                };
                overdue.extend(lane.idle.extract_if(.., over));
                left |= !lane.idle.is_empty();
            }
            lanes.retain(|lane| !lane.idle.is_empty() || !lane.waiters.is_empty());
        }
        self.count_idle();
        left
    }

    fn with_lane<T>(&self, target: &Arc<Authority>, act: impl FnOnce(&mut Lane) -> T) -> T {
        let mut lanes = self.lanes.borrow_mut();
        let at = match lanes.iter().position(|lane| lane.is_for(target)) {
            Some(at) => at,
            None => {
                lanes.push(Lane {
                    target: Arc::clone(target),
                    idle: Vec::new(),
                    waiters: VecDeque::new(),
                });
                lanes.len() - 1
            }
        };
        act(&mut lanes[at])
    }

    fn count_idle(&self) {
        let count = self.lanes.borrow().iter().map(|lane| lane.idle.len()).sum();
        self.slots().set_idle(self.worker, count);
    }
}

impl Lane {
    fn is_for(&self, target: &Arc<Authority>) -> bool {
        // Exact routes share one value, wildcards make one for each request.
        Arc::ptr_eq(&self.target, target) || *self.target == **target
    }
}

impl Lease {
    /// Whether it has served before.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// The address it leads to.
    pub fn address(&self) -> SocketAddr {
        self.live().address
    }

    /// What it has gone through.
    pub fn facts(&self) -> Arc<Facts> {
        Arc::clone(&self.live().facts)
    }

    pub(super) fn sender(&mut self) -> &mut SendRequest<Upload> {
        let connection = self.connection.as_mut();
        &mut connection
            .expect("a lease holds its connection until it is given back")
            .sender
    }

    fn live(&self) -> &Connection {
        let connection = self.connection.as_ref();
        connection.expect("a lease holds its connection until it is given back")
    }

    /// Gives the connection back: its request was sent and its answer read, to the last byte.
    pub fn give_back(mut self) {
        if let Some(connection) = self.connection.take() {
            let pool = Rc::clone(&self.pool);
            pool.take_back(&self.target, connection);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.task.abort();
        }
    }
}

/// So many idle connections to one origin are kept per worker.
const MOST_IDLE: usize = 256;
