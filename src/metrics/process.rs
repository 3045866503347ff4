//! What is counted for the whole process, because it is rare and belongs to no binding.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of the whole process.
#[derive(Default, Debug)]
pub struct Process {
    refused: Mutex<BTreeMap<&'static str, u64>>,
    cutoffs: Mutex<BTreeMap<&'static str, u64>>,
    dropped: [AtomicU64; 2],
    panics: AtomicU64,
}

/// The values of [`Process`] at one moment.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ProcessSample {
    /// Requests that were refused before a binding was found, by error type (RFC 9209).
    pub refused: BTreeMap<&'static str, u64>,
    /// Client connections that were cut off, by reason.
    pub cutoffs: BTreeMap<&'static str, u64>,
    /// Log lines that were dropped: of diagnostics, and of requests.
    pub dropped: [u64; 2],
    /// Panics that were caught.
    pub panics: u64,
}

/// The reasons for cutting a client off.
pub const CUTOFF_REASONS: [&str; 9] = [
    "slow_head",
    "slow_preface",
    "slow_reader",
    "large_head",
    "malformed_http1",
    "http2_flood",
    "malformed_http2",
    "tls",
    "other",
];

/// The counters of this process.
pub fn process() -> &'static Process {
    static PROCESS: Process = Process {
        refused: Mutex::new(BTreeMap::new()),
        cutoffs: Mutex::new(BTreeMap::new()),
        dropped: [AtomicU64::new(0), AtomicU64::new(0)],
        panics: AtomicU64::new(0),
    };
    &PROCESS
}

impl Process {
    /// Counts a request that was refused before its binding was known.
    pub fn refused(&self, error: &'static str) {
        count(&self.refused, error);
    }

    /// Counts a client connection that was cut off.
    pub fn cut_off(&self, reason: &'static str) {
        count(&self.cutoffs, reason);
    }

    /// Counts dropped lines of the diagnostic log, or of the access log.
    pub fn dropped(&self, access: bool, lines: u64) {
        self.dropped[usize::from(access)].fetch_add(lines, Relaxed);
    }

    /// Counts a panic that was caught.
    pub fn panicked(&self) {
        self.panics.fetch_add(1, Relaxed);
    }

    /// The values at this moment.
    pub fn sample(&self) -> ProcessSample {
        let copy = |counts: &Mutex<BTreeMap<&'static str, u64>>| {
            counts
                .lock()
                .unwrap_or_else(|lock| lock.into_inner())
                .clone()
        };
        ProcessSample {
            refused: copy(&self.refused),
            cutoffs: copy(&self.cutoffs),
            dropped: self.dropped.each_ref().map(|count| count.load(Relaxed)),
            panics: self.panics.load(Relaxed),
        }
    }
}

fn count(counts: &Mutex<BTreeMap<&'static str, u64>>, key: &'static str) {
    let mut counts = counts.lock().unwrap_or_else(|lock| lock.into_inner());
    *counts.entry(key).or_default() += 1;
}
