//! The count of connections under one Generation, over all workers, and who could give one up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Authority;

/// The right to have one connection; given back when it is dropped.
pub type Permit = OwnedSemaphorePermit;

/// `max_connections` of one binding under one Generation.
#[derive(Debug)]
pub struct Slots {
    most: usize,
    free: Arc<Semaphore>,
    // Requests that wait for a slot, over all workers: how many, and in order of arrival with their
    // origins.
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
    workers: Box<[Holdings]>,
}

/// What one worker holds. Written by that worker only; on a cache line of its own, so that
/// counting costs the others nothing.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Holdings {
    idle: AtomicUsize,
    open: AtomicUsize,
}

/// What a connection keeps while it is open: its slot, and its place in its worker's count.
pub struct Hold {
    slots: Arc<Slots>,
    worker: usize,
    _permit: Permit,
}

#[derive(Debug, Default)]
struct Queue {
    last: u64,
    waiting: BTreeMap<u64, Arc<Authority>>,
}

/// Counts its owner as waiting while it lives.
pub struct Waiting<'a> {
    slots: &'a Slots,
    number: u64,
}

impl Waiting<'_> {
    /// Its number in the queue: the lower, the longer it waits.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Slots {
    /// `most` slots for this many workers.
    pub fn new(most: usize, workers: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            free: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            waiting: AtomicUsize::new(0),
            queue: Mutex::default(),
            workers: (0..workers).map(|_| Holdings::default()).collect(),
        })
    }

    /// How many there are.
    pub fn most(&self) -> usize {
        self.most
    }

    /// A slot, if one is free.
    pub fn try_take(&self) -> Option<Permit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// A slot, as soon as one is free; first come, first served.
    pub async fn take(&self) -> Permit {
        let taken = Arc::clone(&self.free).acquire_owned().await;
        taken.expect("the semaphore is never closed")
    }

    /// Counts the caller as waiting for a connection to `target`.
    pub fn wait(&self, target: &Arc<Authority>) -> Waiting<'_> {
        self.waiting.fetch_add(1, Relaxed);
        let mut queue = self.queue();
        queue.last += 1;
        let number = queue.last;
        queue.waiting.insert(number, Arc::clone(target));
        Waiting {
            slots: self,
            number,
        }
    }

    /// Whether a request for another origin than `target` has waited longer than the one with this
    /// number.
    pub fn is_overtaken(&self, number: u64, target: &Arc<Authority>) -> bool {
        let queue = self.queue();
        let mut earlier = queue.waiting.range(..number);
        earlier.any(|(_, other)| **other != **target)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// The worker that had best give up a connection: one with an idle one, else the one with the
    /// most. `None` when nobody has any.
    pub fn richest(&self) -> Option<usize> {
        let wealth = |holdings: &Holdings| {
            let idle = holdings.idle.load(Relaxed);
            (idle > 0, holdings.open.load(Relaxed).max(idle))
        };
        let (index, holdings) = self
            .workers
            .iter()
            .enumerate()
            .max_by_key(|(_, holdings)| wealth(holdings))?;
        (wealth(holdings) > (false, 0)).then_some(index)
    }

    /// Whether a worker has an idle connection.
    pub fn has_idle(&self, worker: usize) -> bool {
        self.workers[worker].idle.load(Relaxed) > 0
    }

    /// Says how many idle connections a worker has.
    pub fn set_idle(&self, worker: usize, count: usize) {
        self.workers[worker].idle.store(count, Relaxed);
    }

    /// How many connections a worker has altogether.
    pub fn open(&self, worker: usize) -> usize {
        self.workers[worker].open.load(Relaxed)
    }

    /// Counts a connection of this worker, for as long as what it returns lives.
    pub fn hold(slots: &Arc<Self>, worker: usize, permit: Permit) -> Hold {
        slots.workers[worker].open.fetch_add(1, Relaxed);
        Hold {
            slots: Arc::clone(slots),
            worker,
            _permit: permit,
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.slots.workers[self.worker].open.fetch_sub(1, Relaxed);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.slots.queue().waiting.remove(&self.number);
        self.slots.waiting.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_asked_for_before_a_busy_one() {
        let slots = Slots::new(8, 3);
        assert_eq!(slots.richest(), None);
        let held: Vec<_> = [0, 0, 1]
            .into_iter()
            .filter_map(|worker| Some(Slots::hold(&slots, worker, slots.try_take()?)))
            .collect();
        assert_eq!(held.len(), 3);
        assert_eq!(slots.richest(), Some(0));
        slots.set_idle(1, 1);
        assert_eq!(slots.richest(), Some(1));
    }

    #[test]
    fn a_request_for_another_origin_that_waits_longer_comes_first() {
        let name = |text: &str| Arc::new(Authority::parse(text).unwrap());
        let (one, other) = (name("one.example"), name("other.example"));
        let slots = Slots::new(1, 1);
        let first = slots.wait(&one);
        let second = slots.wait(&other);
        let third = slots.wait(&one);
        assert!(!slots.is_overtaken(first.number(), &one));
        assert!(slots.is_overtaken(second.number(), &other));
        assert!(slots.is_overtaken(third.number(), &one));
        drop(second);
        assert!(!slots.is_overtaken(third.number(), &one));
        drop((first, third));
        assert_eq!(slots.waiting(), 0);
    }

    #[test]
    fn there_are_never_more_than_most() {
        let slots = Slots::new(2, 1);
        let held: Vec<_> = (0..3).filter_map(|_| slots.try_take()).collect();
        assert_eq!(held.len(), 2);
        drop(held);
        assert!(slots.try_take().is_some());
    }
}
