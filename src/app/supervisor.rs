//! Starts the threads, passes signals on, and sees to it that nothing ends unnoticed.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, sync_channel};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use crate::config::{AdminSettings, LogSettings};
use crate::lifecycle::{DRAIN, wall_clock};
use crate::metrics::BoardHandle;
use crate::reload::{Loaders, Reloader};
use crate::server::{Accepted, Acceptor, Admission, Listener, Porter};
use crate::systemd;
use crate::watch::{Change, Watcher};

use super::admin::{self, Reach};
use super::announce::announce;
use super::board::{BoardWriter, opened};
use super::candidate::ConfigSource;
use super::listeners::Listeners;
use super::operator::Operator;
use super::plan::Plan;
use super::reloading::{Reloading, Signal, Summary};
use super::signals::{Signals, Wanted};
use super::status;
use super::watched::{Ended, Gone, catch, fatal, panic_text, watched};
use super::worker::{Address, Command};
use super::{StartError, worker};

/// What everything is started with.
pub struct Parts {
    pub plan: Arc<Plan>,
    pub source: Option<ConfigSource>,
    pub listeners: Listeners,
    /// The sockets, by the number of their listener.
    pub open: Vec<(usize, Listener)>,
    pub reloaders: Vec<Reloader>,
    pub signals: Receiver<Signal>,
    pub log: LogSettings,
    pub admission: Arc<Admission>,
    pub admin: Vec<Listener>,
    pub admin_settings: AdminSettings,
}

/// Runs everything until a signal or `stop` ends it.
pub fn run(parts: Parts, workers: usize, stop: impl Future<Output = ()>) -> Result<(), StartError> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| StartError::System {
            what: "start the runtime",
            source,
        })?;
    let supervised = runtime.block_on(async move {
        let running = Running::start(parts, workers)?;
        // A panic here is the end of the process too, with the same status as any other task's.
        Ok::<_, StartError>(catch(running.supervise(stop)).await)
    })?;
    supervised.unwrap_or_else(|panic| {
        let reason = panic_text(&*panic);
        tracing::error!(
            task = "supervisor",
            reason,
            "a task that must go on has failed"
        );
        Err(StartError::Ended("supervisor".to_owned()))
    })
}

/// All threads, and how to reach them.
struct Running {
    workers: Vec<Address>,
    porter: Porter,
    reload: Sender<Signal>,
    draining: Arc<AtomicBool>,
    // Ends the admin endpoint when it is dropped; `None` where there is none.
    admin: Option<oneshot::Sender<()>>,
    ended: UnboundedReceiver<Ended>,
    signals: Signals,
    status: String,
}

impl Running {
    fn start(parts: Parts, count: usize) -> Result<Self, StartError> {
        let Parts {
            plan,
            source,
            listeners,
            open,
            reloaders,
            signals: received,
            log,
            admission,
            admin,
            admin_settings,
        } = parts;
        let system = |what| move |source| StartError::System { what, source };
        // Before anything is announced: a signal must not meet the default handler after that.
        let signals = Signals::listen().map_err(system("listen for signals"))?;
        let (end, ended) = unbounded_channel();
        let status = status::line(plan.bindings.len(), &[]);
        announce(&plan, &listeners, &reloaders, |_| true, |_| true);
        let (acceptor, porter) =
            Acceptor::new(admission).map_err(system("wait for connections"))?;

        let (workers, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| Address::new()).unzip();
        for (index, inbox) in inboxes.into_iter().enumerate() {
            let (plan, all) = (Arc::clone(&plan), workers.clone());
            watched(&format!("worker-{index}"), &end, move || {
                worker::run(plan, index, &all, inbox)
            })
            .map_err(system("start a worker"))?;
        }

        let mut spread = Spread::new(workers.clone());
        watched("acceptor", &end, move || {
            acceptor.run(|door, accepted| spread.hand(door, accepted))
        })
        .map_err(system("start accepting"))?;
        let opened = opened(&open).collect();
        porter.open(open);
        let board = BoardHandle::default();

        let reload = plan.reload.clone();
        let mut operator = Operator {
            source,
            plan,
            listeners,
            workers: workers.clone(),
            porter: porter.clone(),
            log,
            rejected: None,
            awaited: Vec::new(),
            board: BoardWriter::new(board.clone()),
            opened,
            admin: admin_settings.clone(),
        };
        operator.write_board(&reloaders, wall_clock());
        let level = operator.log.level;
        start_reloading(operator, reloaders, received, &end)?;
        let draining = Arc::new(AtomicBool::new(false));
        let reach = Reach {
            board,
            workers: workers.clone(),
            reload: reload.clone(),
            draining: Arc::clone(&draining),
            level,
        };
        let admin = start_admin(admin, admin_settings.allow_users, reach, &end)?;
        Ok(Self {
            workers,
            porter,
            reload,
            draining,
            admin,
            ended,
            signals,
            status,
        })
    }

    /// What ended of itself: a part that panics takes others along, which may be heard of first.
    async fn culprit(&mut self, first: Option<Ended>) -> Option<Ended> {
        if first.as_ref().is_some_and(|ended| ended.panic.is_some()) {
            return first;
        }
        let panicked = async {
            loop {
                match self.ended.recv().await {
                    Some(ended) if ended.panic.is_some() => return Some(ended),
                    Some(_) => {}
                    None => return None,
                }
            }
        };
        timeout(LAST_WORDS, panicked).await.ok().flatten().or(first)
    }

    async fn supervise(mut self, stop: impl Future<Output = ()>) -> Result<(), StartError> {
        let mut stop = pin!(stop);
        tracing::info!("ready");
        systemd::ready(&self.status);
        loop {
            tokio::select! {
                ended = self.ended.recv() => return Err(fatal(self.culprit(ended).await)),
                () = &mut stop => break,
                wanted = self.signals.next() => {
                    if wanted == Wanted::End {
                        break;
                    }
                    // Whatever ends the process does not wait for files.
                    tokio::select! {
                        biased;
                        ended = self.ended.recv() => return Err(fatal(self.culprit(ended).await)),
                        () = self.signals.ending() => break,
                        () = &mut stop => break,
                        () = reload_everything(self.reload.clone()) => {}
                    }
                    systemd::reloaded();
                }
            }
            crate::lifecycle::fault("signals");
        }
        self.end().await
    }

    /// Stops accepting, lets everything finish that had begun, and ends.
    async fn end(mut self) -> Result<(), StartError> {
        tracing::info!("draining; a second signal ends at once");
        systemd::stopping();
        self.draining.store(true, Relaxed);
        let deadline = Instant::now() + DRAIN;
        self.porter.end();
        let mut told = false;
        // The acceptor and every worker end; what else ends meanwhile no longer matters.
        let mut left = self.workers.len() + 1;
        while left > 0 {
            tokio::select! {
                ended = self.ended.recv() => {
                    let Some(ended) = ended else { break };
                    if ended.panic.is_some() {
                        return Err(fatal(Some(ended)));
                    }
                    let accepting = ended.name == "acceptor";
                    if accepting || ended.name.starts_with("worker-") {
                        left -= 1;
                    }
                    if accepting && !told {
                        told = true;
                        for worker in &self.workers {
                            // One that has ended needs no telling.
                            let _ = worker.commands.send(Command::Drain(deadline));
                        }
                    }
                }
                () = self.signals.ending_again() => return Err(StartError::Impatient),
                () = sleep_until(deadline + OVERTIME) => {
                    tracing::warn!("a worker does not end; leaving without it");
                    break;
                }
            }
        }
        let _ = self.reload.send(Signal::Stop);
        if self.admin.take().is_some() {
            // It removes its socket.
            let ended = async {
                while let Some(ended) = self.ended.recv().await {
                    if ended.name == ADMIN {
                        break;
                    }
                }
            };
            let _ = timeout(OVERTIME, ended).await;
        }
        tracing::info!("ended");
        Ok(())
    }
}

/// Has everything read again, waits until that is done, and logs the outcome.
async fn reload_everything(reload: Sender<Signal>) {
    tracing::info!("reloading");
    systemd::reloading();
    let (done, finished) = sync_channel(1);
    if reload.send(Signal::Everything(done)).is_err() {
        return;
    }
    let waiting = tokio::task::spawn_blocking(move || finished.recv_timeout(LONGEST_RELOAD));
    let Ok(Ok(summary)) = waiting.await else {
        tracing::error!("reload did not complete");
        return;
    };
    let Summary {
        rejected,
        unfinished,
    } = summary;
    for (name, error) in &rejected {
        tracing::error!(name, error, "reload rejected");
    }
    if !unfinished.is_empty() {
        tracing::error!(
            unfinished = unfinished.join(" "),
            next_step = "check for a file system that does not respond",
            "reload did not complete"
        );
    } else {
        tracing::info!(rejected = rejected.len(), "reload complete");
    }
}

/// Gives each connection to the worker with the fewest, in turn where several have as few: that
/// is even for a few long connections as for many short ones.
struct Spread {
    workers: Vec<Address>,
    next: usize,
}

impl Spread {
    fn new(workers: Vec<Address>) -> Self {
        Self { workers, next: 0 }
    }

    fn hand(&mut self, door: usize, accepted: Accepted) {
        let count = self.workers.len();
        let chosen = (0..count)
            .map(|offset| (self.next + offset) % count)
            .min_by_key(|index| self.workers[*index].connections.load(Relaxed));
        let Some(chosen) = chosen else { return };
        self.next = chosen + 1;
        let worker = &self.workers[chosen];
        worker.connections.fetch_add(1, Relaxed);
        // A worker that has ended takes the process with it.
        let _ = worker.commands.send(Command::Serve(accepted, door));
    }
}

fn start_reloading(
    operator: Operator,
    reloaders: Vec<Reloader>,
    signals: Receiver<Signal>,
    end: &UnboundedSender<Ended>,
) -> Result<(), StartError> {
    let changes = operator.plan.reload.clone();
    // The watcher's thread owns this; if it dies, this is dropped.
    let gone = Gone {
        name: "watcher",
        end: end.clone(),
    };
    let watcher = Watcher::new(move |change| {
        if change == Change::Broken {
            gone.tell(Some("panicked".to_owned()));
        }
        // The reload thread ends last of all.
        let _ = changes.send(Signal::Changed(change));
    });
    let watcher = watcher.map_err(|error| StartError::System {
        what: "watch files",
        source: io::Error::other(error),
    })?;
    let report = operator.plan.reload.clone();
    let loaders = Loaders::new(move |finished| {
        // The reload thread ends last of all.
        let _ = report.send(Signal::Loaded(finished));
    });
    watched("reloader", end, move || {
        Reloading::new(operator, reloaders, watcher, loaders).run(&signals);
        Ok(())
    })
    .map_err(|source| StartError::System {
        what: "start the reload thread",
        source,
    })
}

/// Starts serving the admin endpoint, if it has listeners.
fn start_admin(
    listeners: Vec<Listener>,
    users: Vec<u32>,
    reach: Reach,
    end: &UnboundedSender<Ended>,
) -> Result<Option<oneshot::Sender<()>>, StartError> {
    if listeners.is_empty() {
        return Ok(None);
    }
    for listener in &listeners {
        tracing::info!(%listener, "serving the admin endpoint");
    }
    let (stop, stopped) = oneshot::channel();
    watched(ADMIN, end, move || {
        admin::run(listeners, users, reach, stopped)
    })
    .map_err(|source| StartError::System {
        what: "start the admin thread",
        source,
    })?;
    Ok(Some(stop))
}

const ADMIN: &str = "admin";
const OVERTIME: Duration = Duration::from_secs(1);
const LONGEST_RELOAD: Duration = Duration::from_secs(30);
/// So long a part that panicked may take to say so.
const LAST_WORDS: Duration = Duration::from_millis(100);
