//! Waiting for a connection where there are as many as there may be.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::Authority;
use crate::error::ForwardError;

use super::{Acquired, Pool};

impl Pool {
    /// Waits, at the limit, for a connection of this worker to become idle or for any to close.
    pub(super) async fn wait(
        self: &Rc<Self>,
        target: &Arc<Authority>,
        fresh: bool,
        deadline: Instant,
    ) -> Result<Acquired, ForwardError> {
        let slots = Arc::clone(&self.published.slots);
        let waiting = slots.wait(target);
        let (sender, mut handed) = oneshot::channel();
        let _waiter = (!fresh).then(|| {
            let mut lanes = self.lanes.borrow_mut();
            let waiters = &mut lanes.entry(target).waiters;
            waiters.push_back((waiting.number(), sender));
            Waiter {
                pool: Rc::clone(self),
                target: Arc::clone(target),
                number: waiting.number(),
            }
        });
        let mut permit = pin!(slots.take());
        let mut give_up = pin!(sleep_until(deadline));
        let mut ask_again = pin!(sleep(Duration::ZERO));
        let pause = self.settings.timeouts.connect / 8;
        let pause = pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        poll_fn(|cx| {
            if let Poll::Ready(permit) = permit.as_mut().poll(cx) {
                return Poll::Ready(Ok(Acquired::Permit(permit, None)));
            }
            if !fresh {
                match Pin::new(&mut handed).poll(cx) {
                    Poll::Ready(Ok(connection)) => {
                        return Poll::Ready(Ok(Acquired::Connection(
                            self.hand_out(target, connection, true),
                        )));
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Ok(Acquired::Again)),
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
                self.reclaim(target, pause);
            }
            Poll::Pending
        })
        .await
    }

    /// Has a connection closed that somebody can spare: an idle one of this worker or another. A
    /// worker that has none at all, and so will never be handed one that becomes idle, also gets
    /// the next one that the richest is done with.
    fn reclaim(&self, target: &Arc<Authority>, pause: Duration) {
        if self.close_one() {
            return;
        }
        self.yield_one(Some(target));
        let Some(richest) = self
            .slots()
            .richest()
            .filter(|richest| *richest != self.worker)
        else {
            return;
        };
        let begged_lately = self.begged.get().is_some_and(|when| when.elapsed() < pause);
        if self.slots().has_idle(richest) {
            self.house.give_up_one(richest);
        } else if self.open() == 0 && !begged_lately {
            self.begged.set(Some(Instant::now()));
            self.house.give_up_one(richest);
        }
    }
}

/// A request that waits asks for a connection this often. Each that is ahead of it may hold one for as
/// long, so that a sibling's turn comes within a few of these.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// A request's place among those that wait for a connection to one origin; given up when dropped.
struct Waiter {
    pool: Rc<Pool>,
    target: Arc<Authority>,
    number: u64,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut lanes = self.pool.lanes.borrow_mut();
        if let Some(lane) = lanes.get_mut(&self.target) {
            lane.waiters.retain(|(number, _)| *number != self.number);
            lanes.forget(&self.target);
        }
    }
}
