//! The connections to one origin, and what is known of it.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::body::Upload;
use crate::config::Authority;
use crate::tls::Facts;

use super::super::shared::{Flight, Shared, Stream};
use super::super::task::Owner;
use super::keep_alive::KeepAlive;

/// The connections to one origin.
pub struct Lane {
    pub target: Arc<Authority>,
    // The one that was used last is used next: the others grow old and are closed.
    pub idle: Vec<Idle>,
    // Requests that wait for one, with their numbers in the queue of the binding.
    pub waiters: VecDeque<(u64, oneshot::Sender<Connection>)>,
    // HTTP/2 connections, and the one that is being made.
    pub shared: Vec<Rc<Shared>>,
    pub flight: Option<Rc<Flight>>,
    known: Option<(Knows, Instant)>,
}

/// What was found out about an origin in a handshake that was completed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Knows {
    /// It speaks http/1.1 only.
    pub http1_only: bool,
    /// It speaks h2 only.
    pub http2_only: bool,
}

pub struct Idle {
    pub connection: Connection,
    pub since: Instant,
    /// When it can no longer be used.
    pub until: Instant,
}

pub struct Connection {
    pub sender: SendRequest<Upload>,
    pub owner: Owner,
    pub facts: Arc<Facts>,
    pub address: SocketAddr,
    /// When it takes its last request.
    pub ends: Instant,
    /// What the origin says of how long it keeps it.
    pub keep_alive: KeepAlive,
}

impl Lane {
    pub fn new(target: Arc<Authority>) -> Self {
        Self {
            target,
            idle: Vec::new(),
            waiters: VecDeque::new(),
            shared: Vec::new(),
            flight: None,
            known: None,
        }
    }

    /// What is known of the origin at `now`. It may have changed since it was learnt.
    pub fn knows(&self, now: Instant) -> Knows {
        match self.known {
            Some((knows, learnt)) if now - learnt < KNOWN_FOR => knows,
            _ => Knows::default(),
        }
    }

    pub fn learn(&mut self, knows: Knows, now: Instant) {
        self.known = (knows != Knows::default()).then_some((knows, now));
    }

    /// A stream, at `now`, on the connection that has the fewest, of those that `suit`.
    pub fn stream(&self, now: Instant, suit: impl Fn(&Shared) -> bool) -> Option<Stream> {
        let shared = self
            .shared
            .iter()
            .filter(|shared| shared.is_usable(now) && suit(shared))
            .min_by_key(|shared| shared.streams())?;
        Some(shared.open())
    }

    pub fn take_idle_shared(&mut self) -> Option<Rc<Shared>> {
        let at = self
            .shared
            .iter()
            .position(|shared| shared.idle_since().is_some())?;
        let shared = self.shared.swap_remove(at);
        shared.set_listed(false);
        Some(shared)
    }

    /// Whether there is nothing to keep it for. What is known of the origin is learnt again.
    pub fn is_forgettable(&self) -> bool {
        self.idle.is_empty()
            && self.shared.is_empty()
            && self.waiters.is_empty()
            && self.flight.is_none()
    }

    fn is_for(&self, target: &Arc<Authority>) -> bool {
        // Exact routes share one value, wildcards make one for each request.
        Arc::ptr_eq(&self.target, target) || *self.target == **target
    }
}

/// All lanes of a pool. Most bindings have few origins, and looking through those beats hashing; a
/// wildcard may have any number.
#[derive(Default)]
pub struct Lanes {
    few: Vec<Lane>,
    many: HashMap<Arc<Authority>, Lane>,
}

impl Lanes {
    pub fn get(&self, target: &Arc<Authority>) -> Option<&Lane> {
        let few = self.few.iter().find(|lane| lane.is_for(target));
        match few {
            None if !self.many.is_empty() => self.many.get(target),
            few => few,
        }
    }

    pub fn get_mut(&mut self, target: &Arc<Authority>) -> Option<&mut Lane> {
        match self.few.iter().position(|lane| lane.is_for(target)) {
            Some(at) => self.few.get_mut(at),
            None if self.many.is_empty() => None,
            None => self.many.get_mut(target),
        }
    }

    /// The lane for `target`, a new one if there is none.
    pub fn entry(&mut self, target: &Arc<Authority>) -> &mut Lane {
        if let Some(at) = self.few.iter().position(|lane| lane.is_for(target)) {
            return &mut self.few[at];
        }
        if self.few.len() < FEW && !self.many.contains_key(target) {
            self.few.push(Lane::new(Arc::clone(target)));
            let last = self.few.len() - 1;
            return &mut self.few[last];
        }
        let lane = self.many.entry(Arc::clone(target));
        lane.or_insert_with(|| Lane::new(Arc::clone(target)))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.few.iter().chain(self.many.values())
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.few.iter_mut().chain(self.many.values_mut())
    }

    /// Drops the lane for `target` if there is nothing to keep it for.
    pub fn forget(&mut self, target: &Arc<Authority>) {
        if !self.get(target).is_some_and(Lane::is_forgettable) {
            return;
        }
        match self.few.iter().position(|lane| lane.is_for(target)) {
            Some(at) => drop(self.few.swap_remove(at)),
            None => drop(self.many.remove(target)),
        }
    }

    /// Drops every lane that there is nothing to keep for.
    pub fn forget_all(&mut self) {
        self.few.retain(|lane| !lane.is_forgettable());
        self.many.retain(|_, lane| !lane.is_forgettable());
        if self.many.is_empty() {
            self.many = HashMap::new();
        }
    }
}

/// So many lanes are looked through.
const FEW: usize = 8;
/// How long what was learnt of an origin is relied on.
const KNOWN_FOR: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_found_among_few_and_many_and_forgotten_when_it_is_empty() {
        let name = |at: usize| -> Arc<Authority> {
            Arc::new(Authority::parse(&format!("host-{at}.example:443")).unwrap())
        };
        let mut lanes = Lanes::default();
        for at in 0..4 * FEW {
            lanes.entry(&name(at)).flight = Some(Rc::default());
            assert!(lanes.get(&name(at)).is_some());
            assert!(lanes.get_mut(&name(at)).is_some());
        }
        assert_eq!(lanes.iter().count(), 4 * FEW);
        lanes.forget(&name(0));
        assert!(lanes.get(&name(0)).is_some());
        for at in [0, 3 * FEW] {
            lanes.entry(&name(at)).flight = None;
            lanes.forget(&name(at));
            assert!(lanes.get(&name(at)).is_none());
        }
        for lane in lanes.iter_mut() {
            lane.flight = None;
        }
        lanes.forget_all();
        assert_eq!(lanes.iter().count(), 0);
    }

    #[test]
    fn what_was_learnt_is_relied_on_for_a_while() {
        let target = Arc::new(Authority::parse("a.example:443").unwrap());
        let mut lane = Lane::new(target);
        let now = Instant::now();
        let knows = Knows {
            http2_only: true,
            ..Knows::default()
        };
        lane.learn(knows, now);
        assert_eq!(lane.knows(now), knows);
        assert_eq!(lane.knows(now + KNOWN_FOR), Knows::default());
        assert!(lane.is_forgettable());
    }
}
