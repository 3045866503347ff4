//! The admin endpoint's thread.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Sender, sync_channel};
use std::time::{Duration, SystemTime};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::admin::{Admin, AskWorker, Permissions, ReloadOutcome, Reloaded, Sources};
use crate::config::{AdminSettings, LEVELS, Listen, LogLevel};
use crate::log;
use crate::metrics::{Board, BoardHandle, Outcome, Sample};
use crate::server::{self, BindError, Listener};

use super::reloading::{Signal, Summary};
use super::worker::{Address, Command};

/// Binds the admin listeners: those of the configuration, else a socket in the directory that
/// systemd made for the service, else none.
///
/// # Errors
///
/// When one of them cannot be bound.
pub fn bind(settings: &AdminSettings) -> Result<Vec<Listener>, BindError> {
    let listen = match &settings.listen {
        Some(listen) => listen.clone(),
        None => runtime_directory()
            .map(|directory| Listen::Unix(directory.join("admin.sock")))
            .into_iter()
            .collect(),
    };
    let mut listeners = Vec::new();
    for listen in &listen {
        listeners.extend(server::bind(listen)?);
    }
    Ok(listeners)
}

/// The first of the directories that `RuntimeDirectory=` of systemd.exec(5) made.
fn runtime_directory() -> Option<PathBuf> {
    let directories = std::env::var_os("RUNTIME_DIRECTORY")?;
    let first = std::env::split_paths(&directories).next()?;
    first.is_absolute().then_some(first)
}

/// How the thread reaches the rest of the process.
pub struct Reach {
    pub board: BoardHandle,
    pub workers: Vec<Address>,
    pub reload: Sender<Signal>,
    pub draining: Arc<AtomicBool>,
    /// The level that the configuration sets.
    pub level: LogLevel,
}

/// Serves the admin endpoint on the calling thread until `stop` is dropped or sent to.
pub fn run(
    listeners: Vec<Listener>,
    users: Vec<u32>,
    reach: Reach,
    stop: oneshot::Receiver<()>,
) -> io::Result<()> {
    let Reach {
        board,
        workers,
        reload,
        draining,
        level,
    } = reach;
    let workers = workers.into_iter().map(|worker| {
        let ask = move |answer: oneshot::Sender<Sample>| {
            // A worker that has ended drops the sender, which says so.
            let _ = worker.commands.send(Command::Report(answer));
        };
        Box::new(ask) as Box<dyn AskWorker>
    });
    let changes = Rc::new(Cell::new(0));
    let sources = Sources {
        board: board.clone(),
        workers: workers.collect(),
        reload: Box::new(move |answer| reload_everything(&reload, board.clone(), answer)),
        set_log_level: Box::new(move |name, time| set_level(name, time, level, &changes)),
        draining,
        started: SystemTime::now(),
    };
    let admin = Admin {
        listeners,
        sources,
        permissions: Permissions { users },
    };
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    runtime.block_on(admin.serve(async {
        let _ = stop.await;
    }))
}

/// Has everything read again, and answers with what came of it.
fn reload_everything(
    reload: &Sender<Signal>,
    board: BoardHandle,
    answer: oneshot::Sender<Reloaded>,
) {
    let before = board.read();
    let (done, finished) = sync_channel(1);
    // If the reload thread has ended, the process ends.
    let _ = reload.send(Signal::Everything(done));
    tokio::task::spawn_blocking(move || {
        if let Ok(summary) = finished.recv() {
            // The receiver may be gone.
            let _ = answer.send(outcome(&summary, &before, &board.read()));
        }
    });
}

fn outcome(summary: &Summary, before: &Board, after: &Board) -> Reloaded {
    let rejected = |name: &str| {
        let mut rejected = summary.rejected.iter();
        let reason = rejected.find(|(rejected, _)| rejected == name);
        let reason = reason.map(|(_, reason)| reason.clone());
        let hangs = summary
            .unfinished
            .iter()
            .any(|unfinished| unfinished == name);
        reason.or_else(|| hangs.then(|| "its files do not respond".to_owned()))
    };
    let of = |name: &str, published: Option<String>| match (rejected(name), published) {
        (Some(reason), _) => ReloadOutcome {
            outcome: Outcome::Rejected,
            detail: Some(reason),
        },
        (None, Some(detail)) => ReloadOutcome {
            outcome: Outcome::Published,
            detail: Some(detail),
        },
        (None, None) => ReloadOutcome {
            outcome: Outcome::Unchanged,
            detail: None,
        },
    };
    let is_new = before.config.used_since != after.config.used_since;
    let config = is_new.then(|| format!("{} bindings", after.bindings.len()));
    let bindings = after.bindings.iter().map(|binding| {
        let serial = &binding.certificate.identity.serial;
        let mut former = before.bindings.iter();
        let former = former.find(|former| former.name == binding.name);
        let is_same = former.is_some_and(|former| former.certificate.identity.serial == *serial);
        let published = (!is_same).then(|| format!("serial {serial}"));
        (binding.name.to_string(), of(&binding.name, published))
    });
    Reloaded {
        config: of("configuration", config),
        bindings: bindings.collect(),
    }
}

/// Changes the log level, and changes it back to the `configured` one after `time`, unless it was
/// changed again by then.
fn set_level(
    name: &str,
    time: Option<Duration>,
    configured: LogLevel,
    changes: &Rc<Cell<u64>>,
) -> Result<(), String> {
    let Some((_, level)) = LEVELS.iter().find(|(word, _)| *word == name) else {
        let words: Vec<_> = LEVELS.iter().map(|(word, _)| *word).collect();
        return Err(format!("level is one of {}", words.join(", ")));
    };
    log::set_level(*level);
    tracing::info!(level = name, "log level changed");
    let change = changes.get() + 1;
    changes.set(change);
    if let Some(time) = time {
        let changes = Rc::clone(changes);
        tokio::task::spawn_local(async move {
            sleep(time).await;
            if changes.get() == change {
                log::set_level(configured);
                tracing::info!("log level is the configured one again");
            }
        });
    }
    Ok(())
}
