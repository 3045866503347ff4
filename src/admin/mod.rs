//! The operator's endpoints: liveness, readiness, metrics, status, the page, and on the unix socket
//! reload and log level. They run on a thread of their own, and never on a binding's listener.
//!
//! | path | response |
//! |---|---|
//! | GET `/livez` | 200 when every worker answered in time |
//! | GET `/readyz`, `/healthz` | 200 while requests are accepted, 503 while draining |
//! | GET `/readyz/NAME` | 503 when the binding cannot work with what it has |
//! | GET `/metrics` | metrics for Prometheus |
//! | GET `/status` | the same and more as JSON |
//! | GET `/` | a page |
//! | POST `/reload` | what became of each file; 409 when something was rejected |
//! | POST `/log-level?level=debug&for=10m` | changes what is logged, for a while |

pub mod client;
mod exposition;
mod families;
mod guard;
mod history;
mod page;
mod places;
mod report;
mod serve;
pub mod span;
pub mod status;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::metrics::{BoardHandle, Outcome, Sample};

use report::{Report, Worker};

pub use families::ALL as FAMILIES;
pub use families::Family;
pub use serve::{Admin, Permissions};

/// What the admin endpoint asks, and whom.
pub struct Sources {
    /// The configuration and the certificates.
    pub board: BoardHandle,
    /// The workers, by number.
    pub workers: Vec<Box<dyn AskWorker>>,
    /// Asks for a reload of everything; the response comes when that is done.
    pub reload: Box<dyn Fn(oneshot::Sender<Reloaded>)>,
    /// Changes the log level; the error says what is wrong with the request.
    pub set_log_level: Box<SetLogLevel>,
    /// Whether the process is about to end.
    pub draining: Arc<AtomicBool>,
    /// Start of the process.
    pub started: SystemTime,
}

/// Changes the log level, for this long if a time is given.
pub type SetLogLevel = dyn Fn(&str, Option<Duration>) -> Result<(), String>;

/// How a worker is asked for its sample.
pub trait AskWorker: Send {
    /// Asks the worker; a worker that has ended drops the sender.
    fn ask(&self, answer: oneshot::Sender<Sample>);
}

impl<F: Fn(oneshot::Sender<Sample>) + Send> AskWorker for F {
    fn ask(&self, answer: oneshot::Sender<Sample>) {
        self(answer);
    }
}

/// What became of a reload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// The configuration.
    pub config: ReloadOutcome,
    /// Each binding's files, in the order of the configuration.
    pub bindings: Vec<(String, ReloadOutcome)>,
}

/// What became of one thing that was reloaded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReloadOutcome {
    /// Whether it is in use, was unchanged, or was rejected.
    pub outcome: Outcome,
    /// The new serial number, or why it was rejected.
    pub detail: Option<String>,
}

impl Reloaded {
    /// Whether anything was rejected.
    pub fn is_rejected(&self) -> bool {
        let mut outcomes = self.bindings.iter().map(|(_, outcome)| outcome);
        self.config.outcome == Outcome::Rejected
            || outcomes.any(|outcome| outcome.outcome == Outcome::Rejected)
    }
}

impl Sources {
    /// Asks every worker, and adds up what they say. `last` is what they said before, which stands
    /// in for a worker that does not answer.
    async fn report(&self, last: &mut Vec<Worker>) -> Report {
        let asked: Vec<_> = self
            .workers
            .iter()
            .map(|worker| {
                let (answer, sample) = oneshot::channel();
                worker.ask(answer);
                sample
            })
            .collect();
        last.resize_with(asked.len(), Worker::default);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for (worker, sample) in last.iter_mut().zip(asked) {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            match timeout(left, sample).await {
                Ok(Ok(sample)) => *worker = Worker { up: true, sample },
                _ => worker.up = false,
            }
        }
        let draining = self.draining.load(Relaxed);
        Report::new(self.board.read(), last.clone(), self.started, draining)
    }
}

/// A worker that takes longer than this to answer is stuck. Less than a second, so that a scrape each
/// second succeeds.
const PATIENCE: Duration = Duration::from_millis(750);
