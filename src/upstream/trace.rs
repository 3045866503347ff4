//! What is known about an attempt to send a request.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::tls::{Facts, Generation};

/// What is known about an attempt, for the log, whatever became of it.
#[derive(Clone, Default)]
pub struct Trace {
    /// The address, and whether the connection had served before.
    pub upstream: Cell<Option<(SocketAddr, bool)>>,
    /// The Generation that was presented.
    pub generation: Cell<Option<u64>>,
    /// What there is to explain a failure with; only there after one.
    pub evidence: RefCell<Option<Evidence>>,
}

/// What is known of a connection that failed somebody.
#[derive(Clone)]
pub struct Evidence {
    /// What it had gone through.
    pub facts: Arc<Facts>,
    /// Whose certificate it presented.
    pub generation: Arc<Generation>,
}

impl Trace {
    /// Keeps what there is to explain a failure with.
    pub(super) fn keep(&self, facts: Arc<Facts>, generation: &Arc<Generation>) {
        let generation = Arc::clone(generation);
        let evidence = Evidence { facts, generation };
        self.evidence.replace(Some(evidence));
    }

    /// Becomes a copy of `other`, which is the trace of a request that tried for both.
    pub(super) fn follow(&self, other: Self) {
        self.upstream.set(other.upstream.get());
        self.generation.set(other.generation.get());
        self.evidence.replace(other.evidence.into_inner());
    }
}
