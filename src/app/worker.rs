//! A thread that serves: a runtime of its own, connections of its own, pools of its own. The hot
//! path takes no lock and shares nothing but counters.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Sender, SyncSender};
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::config::Binding;
use crate::lifecycle::Drain;
use crate::log::Access;
use crate::metrics::Sample;
use crate::proxy::{Current, From, Proxy, Service};
use crate::server::{self, Accepted, Ends, Settings, Socket, Terms};
use crate::upstream::{House, Published, Upstream};

use super::connections::Connections;
use super::plan::{Descent, Plan, local};
use super::reloading::Signal;

/// What a worker is told.
pub enum Command {
    /// Serve this connection, of the listener with this number.
    Serve(Accepted, usize),
    /// Use a new Generation for the binding of this name, and say so when that is done.
    Publish(Box<str>, Published, SyncSender<()>),
    /// Give up a connection of the binding of this name for another worker.
    GiveUpOne(Box<str>),
    /// Work by this plan, and say so when that is done.
    Follow(Arc<Plan>, SyncSender<()>),
    /// Report what was counted.
    Report(oneshot::Sender<Sample>),
    /// Finish what is being served, at the latest by then, and end.
    Drain(Instant),
}

/// A worker as others see it.
#[derive(Clone)]
pub struct Address {
    /// How to tell it something. It listens until it ends.
    pub commands: UnboundedSender<Command>,
    /// How many client connections it has.
    pub connections: Arc<AtomicUsize>,
}

impl Address {
    /// An address, and where what is sent to it arrives.
    pub fn new() -> (Self, UnboundedReceiver<Command>) {
        let (commands, inbox) = unbounded_channel();
        let connections = Arc::default();
        let address = Self {
            commands,
            connections,
        };
        (address, inbox)
    }
}

/// Serves on the calling thread, as the worker with this index, until drained.
pub fn run(
    plan: Arc<Plan>,
    index: usize,
    all: &[Address],
    commands: UnboundedReceiver<Command>,
) -> io::Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        // Only name lookups block. Each binding bounds its own, so that names of one binding that
        // hang do not hold up the others.
        .max_blocking_threads(LOOKUPS)
        .build_local(LocalOptions::default())?;
    runtime.block_on(serve(plan, index, all, commands));
    // What is still running has had its time.
    runtime.shutdown_background();
    Ok(())
}

async fn serve(
    plan: Arc<Plan>,
    index: usize,
    all: &[Address],
    mut commands: UnboundedReceiver<Command>,
) {
    let access = plan
        .access
        .clone()
        .map(|sink| Access::new(sink, plan.access_is_json));
    let mut first = Vec::new();
    for (binding, descent) in plan.bindings.iter().zip(&plan.origins) {
        first.push(service(&plan, binding, descent, index, all, None));
    }
    let services = first.into_iter().flatten().collect();
    let current = Current::new(proxy(&plan, services, access.clone()));
    let mut plan = plan;
    let mut connections = Connections::default();
    let mut until = None;
    loop {
        let command = match until {
            None => commands.recv().await,
            Some(until) => tokio::select! {
                command = commands.recv() => command,
                ended = timeout_at(until, connections.finished()) => {
                    if ended.is_err() {
                        tracing::warn!(connections = connections.left(), "cut off what had not finished");
                    }
                    break;
                }
            },
        };
        crate::lifecycle::fault("worker");
        match command {
            Some(Command::Serve(accepted, listener)) => {
                let counted = Counted(Arc::clone(&all[index].connections));
                // The acceptor has ended before anybody is told to drain.
                if until.is_some() {
                    continue;
                }
                let Some(door) = plan.doors.get(&listener) else {
                    let peer = accepted.peer().map(tracing::field::display);
                    tracing::debug!(peer, "closed a connection of a removed listener");
                    continue;
                };
                let (settings, current) = (door.settings, current.clone());
                connections.spawn(listener, |drain| async move {
                    let _counted = counted;
                    connection(accepted, listener, settings, drain, current).await;
                });
            }
            Some(Command::Publish(name, published, done)) => {
                if let Some(service) = current.get().service(&name) {
                    service.upstream().publish(published);
                }
                // The receiver may be gone: its wait has a limit.
                let _ = done.send(());
            }
            Some(Command::GiveUpOne(name)) => {
                if let Some(service) = current.get().service(&name) {
                    service.upstream().give_up_one();
                }
            }
            Some(Command::Follow(new, done)) => {
                let services = follow(&current.get(), &new, index, all);
                current.replace(proxy(&new, services, access.clone()));
                plan = new;
                connections.close_all_but(|listener| plan.doors.contains_key(&listener));
                // The receiver may be gone: its wait has a limit.
                let _ = done.send(());
            }
            Some(Command::Report(answer)) => {
                let proxy = current.get();
                let clients = all[index].connections.load(Relaxed);
                tokio::task::spawn_local(async move {
                    // Whoever asked may have given up.
                    let _ = answer.send(sample(&proxy, clients).await);
                });
            }
            Some(Command::Drain(deadline)) => {
                connections.drain();
                until = Some(deadline);
            }
            None => break,
        }
    }
    for service in current.get().services() {
        service.upstream().close_idle();
    }
    // Lets the connections say goodbye to their origins.
    tokio::time::sleep(FAREWELL).await;
    if let Some(access) = access {
        access.flush();
    }
}

/// What a worker answers requests with under `plan`.
fn proxy(plan: &Plan, services: Vec<Rc<Service>>, access: Option<Rc<Access>>) -> Proxy {
    let entrances = plan.doors.iter();
    let entrances = entrances.map(|(number, door)| (*number, door.entrance));
    Proxy::new(
        Arc::clone(&plan.routes),
        services,
        entrances.collect(),
        access,
    )
}

/// Returns the services of a new plan: those of the configuration before that are kept, and new ones.
/// The others are retired.
fn follow(before: &Proxy, plan: &Plan, worker: usize, all: &[Address]) -> Vec<Rc<Service>> {
    let mut left: Vec<_> = before.services().iter().map(Some).collect();
    let mut services = Vec::new();
    for (binding, descent) in plan.bindings.iter().zip(&plan.origins) {
        services.extend(match descent {
            Descent::Kept(index) => left[*index].take().map(Rc::clone),
            Descent::New(..) => {
                let before = before.service(binding.name.as_str());
                service(plan, binding, descent, worker, all, before)
            }
        });
    }
    for service in left.into_iter().flatten() {
        let stays = |binding: &Binding| binding.name.as_str() == service.name();
        service.retire(!plan.bindings.iter().any(stays));
    }
    services
}

/// What the worker counted. With many bindings, requests are served in between.
async fn sample(proxy: &Proxy, clients: usize) -> Sample {
    let services = proxy.services();
    let mut bindings = Vec::with_capacity(services.len());
    for some in services.chunks(REPORTED_AT_ONCE) {
        bindings.extend(some.iter().map(|one| {
            let load = one.load();
            let mut sample = one.meter().sample();
            if let Some(sample) = &mut sample {
                sample.count_lost(load.connections);
            }
            (one.name().into(), sample, load)
        }));
        tokio::task::yield_now().await;
    }
    let metrics = tokio::runtime::Handle::current().metrics();
    Sample {
        bindings,
        clients,
        busy_seconds: metrics.worker_total_busy_duration(0).as_secs_f64(),
    }
}

/// A binding that begins on this worker. `before` is the version of it that it replaces.
fn service(
    plan: &Plan,
    binding: &Binding,
    descent: &Descent,
    worker: usize,
    all: &[Address],
    before: Option<&Rc<Service>>,
) -> Option<Rc<Service>> {
    let Descent::New(published, in_flight) = descent else {
        return None;
    };
    let neighbours = Neighbours {
        binding: binding.name.as_str().into(),
        workers: all.to_vec(),
        reload: plan.reload.clone(),
    };
    let before = before.map(|before| &**before);
    // A binding of the same name counts on.
    let meter = before.map_or_else(Rc::default, |before| Rc::clone(before.meter()));
    let house = Rc::new(neighbours);
    let upstream = Upstream::new(binding, published.clone(), worker, house, meter);
    Some(Service::new(
        binding,
        upstream,
        Arc::clone(in_flight),
        before,
    ))
}

/// The rest of the process, as one binding on one worker sees it.
struct Neighbours {
    binding: Box<str>,
    workers: Vec<Address>,
    reload: Sender<Signal>,
}

impl House for Neighbours {
    fn give_up_one(&self, worker: usize) {
        // A worker that has ended has no connections either.
        let _ = self.workers[worker]
            .commands
            .send(Command::GiveUpOne(self.binding.clone()));
    }

    fn suspect(&self) -> oneshot::Receiver<u64> {
        let (answer, number) = oneshot::channel();
        // A thread that has ended answers by dropping this.
        let _ = self
            .reload
            .send(Signal::Suspect(self.binding.clone(), answer));
        number
    }
}

/// Serves a connection of the listener with this number.
async fn connection(
    accepted: Accepted,
    listener: usize,
    settings: Settings,
    drain: Drain,
    current: Current,
) {
    let peer = accepted.peer();
    let socket = match Socket::new(accepted) {
        Ok(socket) => socket,
        Err(error) => {
            let peer = peer.map(tracing::field::display);
            tracing::warn!(peer, %error, "cannot serve a connection");
            return;
        }
    };
    let ends = Ends {
        binding: current.get().own_binding(listener),
        listener: socket.local(),
        peer,
    };
    let terms = Rc::new(Terms {
        ends,
        settings,
        drain,
    });
    server::serve(socket, terms, move |client, request| {
        let Ends {
            listener: address,
            peer,
            ..
        } = client.terms.ends;
        let from = From {
            listener,
            local: local(address),
            peer,
            tunnel: None,
        };
        current.answer(from, client, request)
    })
    .await;
}

/// Counts its connection as gone when it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Bindings that are reported without a pause, so that requests wait for a fraction of a millisecond.
const REPORTED_AT_ONCE: usize = 128;
const LOOKUPS: usize = 512;
const FAREWELL: Duration = Duration::from_millis(20);
