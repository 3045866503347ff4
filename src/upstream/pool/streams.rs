//! Streams on the HTTP/2 connections of a pool, which requests share.

use std::rc::Rc;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use crate::config::Authority;
use crate::error::{ForwardError, Phase};

use super::super::Trace;
use super::super::shared::{Flight, Shared, Stream};
use super::super::story::reason;
use super::lease::Held;
use super::{Acquired, Fresh, Lease, Pool};

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
        {
            let mut lanes = self.pool.lanes.borrow_mut();
            if let Some(lane) = lanes.get_mut(&self.target)
                && let Some(flight) = &lane.flight
                && Rc::ptr_eq(flight, &self.flight)
            {
                lane.flight = None;
                lanes.forget(&self.target);
            }
        }
        self.flight.land(self.failed.take());
    }
}

impl Pool {
    /// A stream to `target` on a connection that others use too, and that is `fresh` enough, else the
    /// right to open one; waits for one that is being made already.
    pub async fn acquire_stream(
        self: &Rc<Self>,
        target: &Arc<Authority>,
        fresh: Option<Fresh>,
        deadline: Instant,
        trace: &Trace,
    ) -> Result<Acquired, ForwardError> {
        let suits = |shared: &Shared| fresh.is_none_or(|fresh| shared.is_newer_than(fresh.since));
        let shares = !fresh.is_some_and(|fresh| fresh.first);
        let ready = self.stream(target, Instant::now(), |shared| {
            shares && suits(shared) && shared.has_room()
        });
        if let Some(lease) = ready {
            return Ok(Acquired::Connection(lease));
        }
        if let Some(flight) = self.flight(target).filter(|_| shares) {
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
        if let Some(permit) = self.slots().try_take() {
            return Ok(Acquired::Permit(permit, Some(self.launch(target))));
        }
        // At the limit, a full connection is better than none: what is too much for the origin
        // waits its turn in there.
        match self.stream(target, Instant::now(), suits) {
            Some(lease) => Ok(Acquired::Connection(lease)),
            None => self.wait(target, true, deadline).await,
        }
    }

    fn flight(&self, target: &Arc<Authority>) -> Option<Rc<Flight>> {
        self.lanes.borrow().get(target)?.flight.clone()
    }

    fn launch(self: &Rc<Self>, target: &Arc<Authority>) -> Launch {
        let flight = Rc::new(Flight::default());
        self.lanes.borrow_mut().entry(target).flight = Some(Rc::clone(&flight));
        Launch {
            pool: Rc::clone(self),
            target: Arc::clone(target),
            flight,
            failed: None,
        }
    }

    fn stream(
        self: &Rc<Self>,
        target: &Arc<Authority>,
        now: Instant,
        suit: impl Fn(&Shared) -> bool,
    ) -> Option<Lease> {
        let stream = self.lanes.borrow().get(target)?.stream(now, suit)?;
        Some(self.hand_out_stream(target, stream))
    }

    pub(super) fn hand_out_stream(
        self: &Rc<Self>,
        target: &Arc<Authority>,
        stream: Stream,
    ) -> Lease {
        self.count_idle();
        Lease {
            reused: stream.has_served(),
            held: Some(Held::Stream(stream)),
            target: Arc::clone(target),
            pool: Rc::clone(self),
            asked: None,
        }
    }

    /// A stream to `target` on a connection that others use too and that can be used at once.
    pub fn ready_stream(self: &Rc<Self>, target: &Arc<Authority>, now: Instant) -> Option<Lease> {
        self.stream(target, now, Shared::has_room)
    }

    /// Has a shared connection to another origin than `target` finish what is under way on it, so
    /// that its slot becomes free: one that is always busy would never become idle.
    pub(super) fn yield_one(&self, target: Option<&Arc<Authority>>) {
        let now = Instant::now();
        let lanes = self.lanes.borrow();
        let others = lanes
            .iter()
            .filter(|lane| target.is_none_or(|target| *lane.target != **target));
        let shared: Vec<_> = others.flat_map(|lane| &lane.shared).collect();
        if shared.iter().any(|shared| shared.yields(now)) {
            return;
        }
        if let Some(shared) = shared.iter().min_by_key(|shared| shared.streams()) {
            // If its streams do not end by then, taking no more of them was of no use.
            shared.yield_until(now + self.settings.timeouts.connect);
        }
    }

    /// A stream of `shared` has ended. A connection that yields closes when it has none left.
    pub(super) fn stream_ended(&self, target: &Arc<Authority>, shared: &Rc<Shared>) {
        if shared.idle_since().is_some() && shared.yields(Instant::now()) {
            self.log_closed(target, shared.address(), reason::RECLAIMED);
            let mut lanes = self.lanes.borrow_mut();
            if let Some(lane) = lanes.get_mut(target) {
                lane.shared.retain(|one| !Rc::ptr_eq(one, shared));
            }
            shared.set_listed(false);
            self.owed.set(self.owed.get().saturating_sub(1));
        } else if shared.idle_since().is_some() {
            match (self.retired.get(), shared.is_closed()) {
                (true, _) => self.log_closed(target, shared.address(), reason::CERTIFICATE),
                (false, true) => self.log_closed(target, shared.address(), reason::ORIGIN),
                (false, false) => self.log_returned(target, shared.address()),
            }
        }
        self.count_idle();
    }
}
