//! The state of the configuration and of each binding's certificate, as the reload thread last saw
//! it. Replaced as a whole after each change; readers take a pointer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

/// Everything that is known without asking a worker.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Board {
    /// The configuration.
    pub config: ConfigState,
    /// The bindings, in the order of the configuration.
    pub bindings: Vec<BindingState>,
}

/// The configuration in use, and what became of the last attempt to replace it.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct ConfigState {
    /// The files that it is read from.
    pub files: Vec<String>,
    /// Start of its use.
    pub used_since: Option<SystemTime>,
    /// Why the files as they are now are not in use.
    pub rejected: Option<Rejection>,
}

/// One binding.
#[derive(Clone, PartialEq, Debug)]
pub struct BindingState {
    /// Its name.
    pub name: Box<str>,
    /// Its listeners' addresses.
    pub listen: Vec<String>,
    /// A command that sends a request through it.
    pub curl: String,
    /// The URL of its origin.
    pub origin: Option<String>,
    /// Where the certificate comes from.
    pub source: String,
    /// The certificate in use.
    pub certificate: CertificateState,
    /// `max_connections`.
    pub connections_limit: usize,
    /// `max_requests_in_flight`.
    pub in_flight_limit: usize,
}

/// The certificate that a binding presents.
#[derive(Clone, PartialEq, Debug)]
pub struct CertificateState {
    /// The leaf.
    pub identity: Identity,
    /// Start of the presented chain's validity: the latest of its certificates.
    pub not_before: SystemTime,
    /// End of the presented chain's validity: the earliest of its certificates.
    pub not_after: SystemTime,
    /// How often it was loaded since the start.
    pub generation: u64,
    /// When it was loaded.
    pub published: SystemTime,
    /// Loads that led to a new Generation, and loads that were rejected.
    pub reloads: [u64; 2],
    /// Why the files as they are now are not in use.
    pub rejected: Option<Rejection>,
    /// When files were last rejected, even if a success followed.
    pub last_rejection: Option<SystemTime>,
    /// The most recent generations, oldest first.
    pub rotations: VecDeque<Rotation>,
    /// What will be a problem with it.
    pub notes: Vec<Note>,
    /// The first of the CA certificates in a `ca` file to expire.
    pub ca_expires: Option<FileExpiry>,
    /// The first of the CRLs in a `crl` file to become out of date.
    pub crl_expires: Option<FileExpiry>,
}

/// Who a certificate is for, and who issued it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Identity {
    /// The subject's distinguished name.
    pub subject: String,
    /// The issuer's distinguished name.
    pub issuer: String,
    /// The serial number in hexadecimal.
    pub serial: String,
}

/// When something in a file runs out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileExpiry {
    /// The file.
    pub file: String,
    /// The moment.
    pub at: SystemTime,
}

/// Why files are not in use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// Start of this rejection.
    pub since: SystemTime,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub help: Option<String>,
}

/// One Generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rotation {
    /// When it was published.
    pub at: SystemTime,
    /// Its number.
    pub generation: u64,
    /// The serial number of its leaf in hexadecimal.
    pub serial: String,
}

/// Something that will be a problem with a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// The value of the label `remark`.
    pub kind: &'static str,
    /// The note itself.
    pub text: String,
}

/// The outcome of one reload, for one binding or for the configuration.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// New content is in use.
    Published,
    /// Nothing has changed.
    Unchanged,
    /// The new content was rejected; the former stays in use.
    Rejected,
}

/// A request that failed at mtlsd.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// When.
    pub at: SystemTime,
    /// The error type (RFC 9209).
    pub error: &'static str,
    /// The word for its cause.
    pub cause: &'static str,
    /// What happened.
    pub message: String,
    /// What to do.
    pub next_step: Option<String>,
}

/// Where the reload thread leaves the board for readers.
#[derive(Clone, Default, Debug)]
pub struct BoardHandle(Arc<Mutex<Arc<Board>>>);

impl BoardHandle {
    /// The board as it was last left.
    pub fn read(&self) -> Arc<Board> {
        Arc::clone(&self.0.lock().unwrap_or_else(|lock| lock.into_inner()))
    }

    /// Replaces the board.
    pub fn write(&self, board: Board) {
        let board = Arc::new(board);
        let before = std::mem::replace(
            &mut *self.0.lock().unwrap_or_else(|lock| lock.into_inner()),
            board,
        );
        // Freed outside the lock.
        drop(before);
    }
}

impl CertificateState {
    /// The share of the certificate's lifetime that has passed at `now`: 0 at its start, 1 at its
    /// end and above after it.
    pub fn used(&self, now: SystemTime) -> f64 {
        let seconds = |later: SystemTime, earlier: SystemTime| match later.duration_since(earlier) {
            Ok(passed) => passed.as_secs_f64(),
            Err(error) => -error.duration().as_secs_f64(),
        };
        let lifetime = seconds(self.not_after, self.not_before);
        if lifetime <= 0.0 {
            return 1.0;
        }
        seconds(now, self.not_before) / lifetime
    }
}
