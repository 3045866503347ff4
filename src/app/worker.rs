//! A thread that serves: a runtime of its own, connections of its own, pools of its own. The hot
//! path takes no lock and shares nothing but counters.

use std::cell::RefCell;
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
use crate::lifecycle::{Drain, Drainer};
use crate::log::Access;
use crate::proxy::{From, Proxy, Service};
use crate::reload::Signal;
use crate::route::{Arrival, Entrance};
use crate::server::{self, Accepted, Ends, Socket, Terms};
use crate::upstream::{House, Published, Upstream};

use super::plan::{Descent, Plan, local};

/// What a worker is told.
pub enum Command {
    /// Serve this connection, which came in by the door with this index.
    Serve(Accepted, usize),
    /// Use a new Generation for the binding of this name, and say so when that is done.
    Publish(Box<str>, Published, SyncSender<()>),
    /// Give up a connection of the binding of this name for another worker.
    GiveUpOne(Box<str>),
    /// Work by this plan, and say so when that is done.
    Follow(Arc<Plan>, SyncSender<()>),
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

/// What a worker serves by at the moment.
struct Serving {
    plan: Arc<Plan>,
    proxy: Rc<Proxy>,
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
        // Only name lookups block, and they are few: connections are kept.
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
        first.push(service(&plan, binding, descent, index, all));
    }
    let proxy = Proxy::new(
        Arc::clone(&plan.routes),
        first.into_iter().flatten().collect(),
        access.clone(),
    );
    let serving = Rc::new(RefCell::new(Rc::new(Serving {
        plan,
        proxy: Rc::new(proxy),
    })));
    let (drainer, drain) = Drainer::new();
    // Given up when draining begins: then only connections hold one.
    let mut drain = Some(drain);
    let mut until = None;
    loop {
        let command = match until {
            None => commands.recv().await,
            Some(until) => tokio::select! {
                command = commands.recv() => command,
                ended = timeout_at(until, drainer.finished()) => {
                    if ended.is_err() {
                        tracing::warn!(connections = drainer.left(), "cut off what had not finished");
                    }
                    break;
                }
            },
        };
        crate::lifecycle::fault("worker");
        match command {
            Some(Command::Serve(accepted, door)) => {
                // The acceptor has ended before anybody is told to drain.
                let Some(drain) = drain.clone() else { continue };
                let connections = Counted(Arc::clone(&all[index].connections));
                let serving = Rc::clone(&serving);
                tokio::task::spawn_local(async move {
                    let _counted = connections;
                    connection(accepted, door, drain, serving).await;
                });
            }
            Some(Command::Publish(name, published, done)) => {
                if let Some(service) = serving.borrow().proxy.service(&name) {
                    service.upstream().publish(published);
                }
                // Whoever waits may have given up.
                let _ = done.send(());
            }
            Some(Command::GiveUpOne(name)) => {
                if let Some(service) = serving.borrow().proxy.service(&name) {
                    service.upstream().give_up_one();
                }
            }
            Some(Command::Follow(plan, done)) => {
                let before = Rc::clone(&serving.borrow());
                serving.replace(Rc::new(follow(&before, plan, index, all, access.clone())));
                // Whoever waits may have given up.
                let _ = done.send(());
            }
            Some(Command::Drain(deadline)) => {
                drainer.start();
                drain = None;
                until = Some(deadline);
            }
            None => break,
        }
    }
    for service in serving.borrow().proxy.services() {
        service.upstream().close_idle();
    }
    // Lets the connections say goodbye to their origins.
    tokio::time::sleep(FAREWELL).await;
    if let Some(access) = access {
        access.flush();
    }
}

/// What a worker that served by `before` serves by under a new plan. What is not kept is retired.
fn follow(
    before: &Serving,
    plan: Arc<Plan>,
    worker: usize,
    all: &[Address],
    access: Option<Rc<Access>>,
) -> Serving {
    let old = before.proxy.services();
    let mut left: Vec<_> = old.iter().map(Some).collect();
    let mut services = Vec::new();
    for (binding, descent) in plan.bindings.iter().zip(&plan.origins) {
        services.extend(match descent {
            Descent::Kept(index) => left[*index].take().map(Rc::clone),
            Descent::New(..) => service(&plan, binding, descent, worker, all),
        });
    }
    for service in left.into_iter().flatten() {
        service.upstream().retire();
    }
    let proxy = Proxy::new(Arc::clone(&plan.routes), services, access);
    Serving {
        plan,
        proxy: Rc::new(proxy),
    }
}

/// A binding that begins on this worker.
fn service(
    plan: &Plan,
    binding: &Binding,
    descent: &Descent,
    worker: usize,
    all: &[Address],
) -> Option<Rc<Service>> {
    let Descent::New(published, in_flight) = descent else {
        return None;
    };
    let neighbours = Neighbours {
        binding: binding.name.as_str().into(),
        workers: all.to_vec(),
        reload: plan.reload.clone(),
    };
    let upstream = Upstream::new(binding, published.clone(), worker, Rc::new(neighbours));
    Some(Service::new(binding, upstream, Arc::clone(in_flight)))
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

async fn connection(
    accepted: Accepted,
    door: usize,
    drain: Drain,
    serving: Rc<RefCell<Rc<Serving>>>,
) {
    let peer = accepted.peer();
    let Some(opened) = serving.borrow().plan.doors[door] else {
        tracing::debug!(?peer, "came in by a door that is closed now");
        return;
    };
    let socket = match Socket::new(accepted) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(?peer, %error, "cannot serve a connection");
            return;
        }
    };
    let ends = Ends {
        listener: socket.local(),
        peer,
    };
    let terms = Rc::new(Terms {
        ends,
        settings: opened.settings,
        drain,
    });
    server::serve(socket, terms, move |client, request| {
        // Each request is answered by what is configured when it comes.
        let serving = serving.borrow();
        let entrance = serving.plan.doors[door].map_or(Entrance::Closed, |door| door.entrance);
        let Ends { listener, peer } = client.terms.ends;
        let from = From {
            arrival: Arrival {
                entrance,
                local: local(listener),
            },
            peer,
            tunnel: None,
        };
        Rc::clone(&serving.proxy).answer(from, client, request)
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

const LOOKUPS: usize = 4;
const FAREWELL: Duration = Duration::from_millis(20);
