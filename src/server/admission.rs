//! How many client connections there may be, in all and of one listener. At a limit, the connection
//! that has waited longest for a request makes room for a new one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::activity::Activity;

/// Admits client connections. Shared by the acceptor and every worker.
#[derive(Debug)]
pub struct Admission(Mutex<State>);

#[derive(Debug)]
struct State {
    limit: usize,
    open: HashMap<u64, Entry>,
    by_listener: HashMap<usize, usize>,
    next: u64,
    // Connections that were asked to end and have not ended yet.
    leaving: usize,
}

#[derive(Debug)]
struct Entry {
    listener: usize,
    // None until a worker has it.
    activity: Option<Arc<Activity>>,
    leaving: bool,
}

/// One client connection's place; given up when it is dropped.
#[derive(Debug)]
pub struct Seat {
    admission: Arc<Admission>,
    key: u64,
}

/// No connection can make room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full(pub usize);

impl Admission {
    /// Admits up to `limit` connections.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            limit,
            open: HashMap::new(),
            by_listener: HashMap::new(),
            next: 0,
            leaving: 0,
        })))
    }

    /// Admits up to `limit` connections from here on.
    pub fn limit(&self, limit: usize) {
        self.state().limit = limit;
    }

    /// Admits one more connection of the listener with this number, which shares the limit with others
    /// if there are `several`. May wait for a moment, until a connection that makes room has ended.
    ///
    /// # Errors
    ///
    /// Returns `Full` if every connection has a request, or if none ends in time.
    pub fn admit(self: &Arc<Self>, listener: usize, several: bool) -> Result<Seat, Full> {
        for _ in 0..WAITS {
            if let Some(admitted) = self.try_admit(listener, several) {
                return admitted;
            }
            std::thread::sleep(WAIT);
        }
        Err(Full(self.state().limit))
    }

    /// Asks the connection to end that has waited longest for a request, if there is one. For when
    /// descriptors run out below the limit.
    pub fn relieve(&self) {
        let mut state = self.state();
        state.restore_busy();
        if state.leaving == 0 {
            state.make_room(None);
        }
    }

    /// `None` while it is worth waiting: too many connections are about to end, or no worker has
    /// those yet that may make room.
    fn try_admit(self: &Arc<Self>, listener: usize, several: bool) -> Option<Result<Seat, Full>> {
        let mut state = self.state();
        state.restore_busy();
        // One busy listener must not keep clients away from the others.
        let own = match several {
            true => state.limit - state.limit / 4,
            false => state.limit,
        };
        let of_listener = state.by_listener.get(&listener).copied().unwrap_or(0);
        let leaving = state.leaving;
        let full = state.open.len() - leaving >= state.limit;
        if full || of_listener >= own {
            if leaving >= (state.limit / 8).clamp(1, MOST_LEAVING) {
                return None;
            }
            let only = (!full).then_some(listener);
            if !state.make_room(only) {
                let arriving = state.is_any_arriving(only);
                return (!arriving).then_some(Err(Full(state.limit)));
            }
        }
        let key = state.next;
        state.next += 1;
        state.open.insert(
            key,
            Entry {
                listener,
                activity: None,
                leaving: false,
            },
        );
        *state.by_listener.entry(listener).or_default() += 1;
        drop(state);
        Some(Ok(Seat {
            admission: Arc::clone(self),
            key,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Asks the connection to end that has waited longest, `only` of one listener if that is given.
    fn make_room(&mut self, only: Option<usize>) -> bool {
        let candidates = self.open.values_mut().filter(|entry| {
            !entry.leaving && only.is_none_or(|listener| listener == entry.listener)
        });
        let waiting = candidates.filter_map(|entry| {
            let since = entry.activity.as_ref()?.waits_since()?;
            Some((since, entry))
        });
        let Some((_, entry)) = waiting.min_by_key(|(since, _)| *since) else {
            return false;
        };
        entry.leaving = true;
        if let Some(activity) = &entry.activity {
            activity.evict();
        }
        let listener = entry.listener;
        self.leaving += 1;
        self.leave(listener);
        true
    }

    /// Whether a connection is on its way to a worker, `only` of one listener if that is given.
    fn is_any_arriving(&self, only: Option<usize>) -> bool {
        self.open.values().any(|entry| {
            entry.activity.is_none() && only.is_none_or(|listener| listener == entry.listener)
        })
    }

    /// Counts connections as staying that received a request when they were about to end.
    fn restore_busy(&mut self) {
        if self.leaving == 0 {
            return;
        }
        for entry in self.open.values_mut().filter(|entry| entry.leaving) {
            let activity = entry.activity.as_ref();
            if activity.is_some_and(|activity| !activity.is_evicted()) {
                entry.leaving = false;
                self.leaving -= 1;
                *self.by_listener.entry(entry.listener).or_default() += 1;
            }
        }
    }

    fn leave(&mut self, listener: usize) {
        if let Some(count) = self.by_listener.get_mut(&listener) {
            *count -= 1;
            if *count == 0 {
                self.by_listener.remove(&listener);
            }
        }
    }
}

impl Seat {
    /// A worker has the connection, which tells by `activity` what it waits for.
    pub fn occupy(&self, activity: &Arc<Activity>) {
        if let Some(entry) = self.admission.state().open.get_mut(&self.key) {
            entry.activity = Some(Arc::clone(activity));
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        let Some(entry) = state.open.remove(&self.key) else {
            return;
        };
        match entry.leaving {
            true => state.leaving -= 1,
            false => state.leave(entry.listener),
        }
    }
}

/// Connections that may be about to end at the same time, beyond the limit.
const MOST_LEAVING: usize = 16;
const WAIT: Duration = Duration::from_millis(2);
/// Together a second: a loaded machine needs some time to end a connection.
const WAITS: u32 = 500;

#[cfg(test)]
mod tests {
    use super::*;

    fn seated(admission: &Arc<Admission>, listener: usize) -> (Seat, Arc<Activity>) {
        let seat = admission.admit(listener, true).unwrap();
        let activity = Arc::new(Activity::new());
        seat.occupy(&activity);
        (seat, activity)
    }

    #[tokio::test]
    async fn the_connection_that_waits_longest_makes_room_and_busy_ones_stay() {
        let admission = Admission::new(4);
        let busy = seated(&admission, 1);
        busy.1.request_began();
        let first = seated(&admission, 2);
        let second = seated(&admission, 2);
        let third = seated(&admission, 1);
        assert!(!first.1.is_evicted());
        let fourth = seated(&admission, 2);
        assert!(first.1.is_evicted() && !second.1.is_evicted() && !busy.1.is_evicted());
        // A limit this small has one connection at a time make room.
        assert!(admission.try_admit(1, true).is_none());
        assert!(!second.1.is_evicted() && !third.1.is_evicted());
        drop(first);
        second.1.request_began();
        let fifth = seated(&admission, 1);
        assert!(third.1.is_evicted() && !second.1.is_evicted());
        drop(third);
        for (_, activity) in [&fourth, &fifth] {
            activity.request_began();
        }
        assert_eq!(admission.admit(1, true).unwrap_err(), Full(4));
        drop(second);
        assert!(admission.admit(1, true).is_ok());
    }

    #[tokio::test]
    async fn a_request_keeps_a_connection_that_was_about_to_end() {
        let admission = Admission::new(2);
        let (first, second) = (seated(&admission, 1), seated(&admission, 1));
        let third = seated(&admission, 1);
        assert!(first.1.is_evicted());
        first.1.request_began();
        assert!(!first.1.is_evicted());
        // Another makes room in its place.
        assert!(matches!(admission.try_admit(1, false), Some(Ok(_))));
        assert!(second.1.is_evicted() && !third.1.is_evicted());
    }

    #[tokio::test]
    async fn a_connection_on_its_way_to_a_worker_is_waited_for() {
        let admission = Admission::new(1);
        let arriving = admission.admit(1, false).unwrap();
        assert!(admission.try_admit(1, false).is_none());
        let activity = Arc::new(Activity::new());
        arriving.occupy(&activity);
        assert!(matches!(admission.try_admit(1, false), Some(Ok(_))));
        assert!(activity.is_evicted());
    }

    #[tokio::test]
    async fn descriptors_that_run_out_end_one_connection_at_a_time() {
        let admission = Admission::new(4);
        let busy = seated(&admission, 1);
        busy.1.request_began();
        let (first, second) = (seated(&admission, 1), seated(&admission, 1));
        admission.relieve();
        admission.relieve();
        assert!(first.1.is_evicted() && !second.1.is_evicted());
        drop(first);
        admission.relieve();
        assert!(second.1.is_evicted() && !busy.1.is_evicted());
    }

    #[tokio::test]
    async fn one_listener_leaves_room_for_others() {
        let admission = Admission::new(4);
        let own: Vec<_> = (0..3).map(|_| seated(&admission, 1)).collect();
        for (_, activity) in &own {
            activity.request_began();
        }
        assert_eq!(admission.admit(1, true).unwrap_err(), Full(4));
        assert!(admission.admit(2, true).is_ok());
        assert!(admission.admit(1, false).is_ok());
        drop(own);
        assert!(admission.admit(1, true).is_ok());
    }
}
