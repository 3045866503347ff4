//! What mtlsd counts and what it knows about itself: counters of the workers, and the state of each
//! binding's certificate. Plain values; `admin` turns them into metrics, JSON and a page.
//!
//! A worker counts in plain cells of its own, so that counting costs a request no lock and no shared
//! cache line. The admin thread asks each worker for a [`Sample`] when somebody asks for figures, and
//! adds the samples up.

mod board;
mod counters;
mod process;

pub use board::{
    BindingState, Board, BoardHandle, CertificateState, ConfigState, Failure, FileExpiry, Identity,
    Note, Outcome, Rejection, Rotation,
};
pub use counters::{
    BUCKETS, BindingSample, Closed, ConnectPhase, Connections, Counters, Handshake, Histogram,
    Load, Meter, OriginState, RetryReason, Sample,
};
pub use process::{CUTOFF_REASONS, Process, ProcessSample, process};
