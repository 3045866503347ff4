//! Letting go of connections that nobody used for a while.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::config::Authority;
use crate::metrics::Closed;

use super::super::shared::Shared;
use super::super::story::reason;
use super::Pool;
use super::lane::{Idle, Lane};

impl Pool {
    /// Lets go of what has been idle for too long, for as long as anything is idle: one timer for
    /// all of them.
    pub(super) fn sweep(self: &Rc<Self>) {
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
        let mut overdue = Vec::new();
        let mut ended = Vec::new();
        let mut left = false;
        {
            let mut lanes = self.lanes.borrow_mut();
            for lane in lanes.iter_mut() {
                let over = |one: &mut Idle| {
                    now - one.since > idle || one.until <= now || one.connection.sender.is_closed()
                };
                let target = &lane.target;
                overdue.extend(lane.idle.extract_if(.., over).inspect(|one| {
                    let closed = one.connection.sender.is_closed();
                    let reason = reason_of(closed, now - one.since > idle);
                    self.log_closed(target, one.connection.address, reason);
                }));
                let over = |one: &mut Rc<Shared>| {
                    one.idle_since().is_some_and(|since| now - since > idle)
                        || one.is_over(now)
                        || one.is_closed()
                };
                ended.extend(lane.shared.extract_if(.., over).inspect(|one| {
                    let reason = reason_of(one.is_closed(), !one.is_over(now));
                    self.log_closed(target, one.address(), reason);
                }));
                left |= !lane.idle.is_empty() || !lane.shared.is_empty();
            }
            lanes.forget_all();
        }
        for shared in &ended {
            shared.set_listed(false);
            let reason = match shared.is_over(now) {
                true => Closed::Age,
                false => Closed::Idle,
            };
            self.count_closed(reason, usize::from(!shared.is_closed()));
        }
        for one in &overdue {
            let reason = match now - one.since > idle {
                true => Closed::Idle,
                false => Closed::Age,
            };
            self.count_closed(reason, usize::from(!one.connection.sender.is_closed()));
        }
        self.add_idle(0, overdue.len());
        drop((overdue, ended));
        left
    }
}

impl Pool {
    /// Tells of every idle connection of `lane` that it is closed.
    pub(super) fn log_all_closed(&self, lane: &Lane, reason: &str) {
        for idle in &lane.idle {
            self.log_closed(&lane.target, idle.connection.address, reason);
        }
        let idle = lane.shared.iter().filter(|one| one.idle_since().is_some());
        for shared in idle {
            self.log_closed(&lane.target, shared.address(), reason);
        }
    }

    /// Tells that a connection to `target` is closed.
    pub(super) fn log_closed(&self, target: &Authority, address: SocketAddr, reason: &str) {
        let generation = self.generation().number();
        self.settings
            .log_closed(target, address, generation, reason);
    }

    /// Tells that a connection to `target` waits for another request.
    pub(super) fn log_returned(&self, target: &Authority, address: SocketAddr) {
        let generation = self.generation().number();
        self.settings.log_returned(target, address, generation);
    }
}

/// Why a connection that is swept up is closed.
fn reason_of(is_closed: bool, is_idle: bool) -> &'static str {
    match (is_closed, is_idle) {
        (true, _) => reason::ORIGIN,
        (false, true) => reason::IDLE,
        (false, false) => reason::AGE,
    }
}
