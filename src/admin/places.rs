//! The connections of one admin listener: a bounded number, of which the longest idle makes room.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The connections that are open. Clients that say nothing must not keep others out.
#[derive(Default)]
pub struct Places(RefCell<Vec<Rc<Use>>>);

/// One connection's place among them.
pub struct Place {
    places: Rc<Places>,
    used: Rc<Use>,
}

/// What a connection is doing.
struct Use {
    busy: Cell<bool>,
    // Since when it is not busy.
    since: Cell<Instant>,
    evicted: Notify,
}

impl Places {
    /// Takes a place for a new connection. Where there is none, the connection that has been idle
    /// longest is told to end; `None` where all are busy.
    pub fn take(self: &Rc<Self>) -> Option<Place> {
        let mut uses = self.0.borrow_mut();
        if uses.len() >= MOST {
            let idle = (0..uses.len())
                .filter(|at| !uses[*at].busy.get())
                .min_by_key(|at| uses[*at].since.get())?;
            uses.remove(idle).evicted.notify_one();
        }
        let used = Rc::new(Use {
            busy: Cell::new(false),
            since: Cell::new(Instant::now()),
            evicted: Notify::new(),
        });
        uses.push(Rc::clone(&used));
        Some(Place {
            places: Rc::clone(self),
            used,
        })
    }
}

impl Place {
    /// Ready when the connection has to make room.
    pub async fn evicted(&self) {
        self.used.evicted.notified().await;
    }

    /// Counts the connection as busy during `work`.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        self.used.busy.set(true);
        let done = work.await;
        self.used.busy.set(false);
        self.used.since.set(Instant::now());
        done
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut uses = self.places.0.borrow_mut();
        uses.retain(|used| !Rc::ptr_eq(used, &self.used));
    }
}

/// Connections at once.
const MOST: usize = 16;

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_connection_makes_room_and_busy_ones_stay() {
        let places = Rc::new(Places::default());
        let mut cx = Context::from_waker(Waker::noop());
        let mut taken = Vec::new();
        for _ in 0..MOST {
            taken.push(places.take().expect("there is room"));
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
        }
        let mut busy = pin!(taken[0].during(pending::<()>()));
        assert!(busy.as_mut().poll(&mut cx).is_pending());
        // The first is busy, and the second has just done something.
        taken[1].during(async {}).await;
        let new = places.take();
        assert!(new.is_some());
        taken[2].evicted().await;
        for place in &taken[..2] {
            assert!(pin!(place.evicted()).poll(&mut cx).is_pending());
        }
        assert_eq!(places.0.borrow().len(), MOST);
        drop(new);
        assert_eq!(places.0.borrow().len(), MOST - 1);
    }

    #[tokio::test]
    async fn where_all_are_busy_a_new_connection_is_refused() {
        let places = Rc::new(Places::default());
        let mut cx = Context::from_waker(Waker::noop());
        let taken: Vec<Place> = (0..MOST).filter_map(|_| places.take()).collect();
        let mut busy: Vec<_> = taken
            .iter()
            .map(|place| Box::pin(place.during(pending::<()>())))
            .collect();
        for work in &mut busy {
            assert!(work.as_mut().poll(&mut cx).is_pending());
        }
        assert!(places.take().is_none());
    }
}
