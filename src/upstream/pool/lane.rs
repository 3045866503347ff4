//! The connections to one origin, and what is known of it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use hyper::client::conn::http1::SendRequest;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::body::Upload;
use crate::config::Authority;
use crate::tls::Facts;

use super::super::shared::{Flight, Shared, Stream};

/// The connections to one origin.
pub struct Lane {
    pub target: Arc<Authority>,
    // The one that was used last is used next: the others grow old and are let go.
    pub idle: Vec<Idle>,
    pub waiters: VecDeque<oneshot::Sender<Connection>>,
    // HTTP/2 connections, and the one that is being made.
    pub shared: Vec<Rc<Shared>>,
    pub flight: Option<Rc<Flight>>,
    pub knows: Knows,
}

/// What was found out about an origin.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Knows {
    /// It speaks http/1.1 only.
    pub http1_only: bool,
    /// It speaks h2 only.
    pub http2_only: bool,
}

pub struct Idle {
    pub connection: Connection,
    pub since: Instant,
}

pub struct Connection {
    pub sender: SendRequest<Upload>,
    pub task: AbortHandle,
    pub facts: Arc<Facts>,
    pub address: SocketAddr,
    /// When it takes its last request.
    pub ends: Instant,
}

impl Lane {
    pub fn new(target: Arc<Authority>) -> Self {
        Self {
            target,
            idle: Vec::new(),
            waiters: VecDeque::new(),
            shared: Vec::new(),
            flight: None,
            knows: Knows::default(),
        }
    }

    /// A stream, at `now`, on the connection that has the fewest, of those that `suit`.
    pub fn stream(&mut self, now: Instant, suit: impl Fn(&Shared) -> bool) -> Option<Stream> {
        let usable =
            |shared: &&Rc<Shared>| !shared.is_closed() && !shared.is_over(now) && suit(shared);
        let shared = self
            .shared
            .iter()
            .filter(usable)
            .min_by_key(|shared| shared.streams())?;
        Some(shared.open())
    }

    pub fn take_idle_shared(&mut self) -> Option<Rc<Shared>> {
        let at = self
            .shared
            .iter()
            .position(|shared| shared.idle_since().is_some())?;
        Some(self.shared.swap_remove(at))
    }

    pub fn idle_count(&self) -> usize {
        self.idle.len()
            + self
                .shared
                .iter()
                .filter(|shared| shared.idle_since().is_some())
                .count()
    }

    pub fn is_forgettable(&self) -> bool {
        self.idle.is_empty()
            && self.shared.is_empty()
            && self.waiters.is_empty()
            && self.flight.is_none()
            && self.knows == Knows::default()
    }

    pub fn is_for(&self, target: &Arc<Authority>) -> bool {
        // Exact routes share one value, wildcards make one for each request.
        Arc::ptr_eq(&self.target, target) || *self.target == **target
    }
}
