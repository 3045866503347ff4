//! A thread that serves: a runtime of its own, connections of its own, pools of its own. The hot
//! path takes no lock and shares nothing but counters.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, timeout_at};

use crate::lifecycle::{Drain, Drainer};
use crate::log::Access;
use crate::proxy::{From, Proxy, Service};
use crate::route::Arrival;
use crate::server::{self, Accepted, Socket};
use crate::upstream::{Published, Upstream};

use super::{Plan, local};

/// What a worker is told.
pub enum Command {
    /// Serve this connection, which came in by the door with this index.
    Serve(Accepted, usize),
    /// Use a new Generation for the binding with this index, and say so when that is done.
    Publish(usize, Published, SyncSender<()>),
    /// Give up a connection of the binding with this index for another worker.
    GiveUpOne(usize),
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

/// Serves on the calling thread, as the worker with this index, until drained.
pub fn run(
    plan: &Plan,
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
    plan: &Plan,
    index: usize,
    all: &[Address],
    mut commands: UnboundedReceiver<Command>,
) {
    let access = plan
        .access
        .clone()
        .map(|sink| Access::new(sink, plan.access_is_json));
    let services = (0..plan.bindings.len()).map(|binding| service(plan, binding, index, all));
    let proxy = Rc::new(Proxy::new(
        Arc::clone(&plan.routes),
        services.collect(),
        access.clone(),
    ));
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
                let proxy = Rc::clone(&proxy);
                let door = plan.doors[door];
                tokio::task::spawn_local(async move {
                    let _counted = connections;
                    connection(accepted, door, drain, proxy).await;
                });
            }
            Some(Command::Publish(binding, published, done)) => {
                proxy.services()[binding].upstream().publish(published);
                // Whoever waits may have given up.
                let _ = done.send(());
            }
            Some(Command::GiveUpOne(binding)) => proxy.services()[binding].upstream().give_up_one(),
            Some(Command::Drain(deadline)) => {
                drainer.start();
                drain = None;
                until = Some(deadline);
            }
            None => break,
        }
    }
    for service in proxy.services() {
        service.upstream().close_idle();
    }
    // Lets the connections say goodbye to their origins.
    tokio::time::sleep(FAREWELL).await;
    if let Some(access) = access {
        access.flush();
    }
}

fn service(plan: &Plan, binding: usize, worker: usize, all: &[Address]) -> Rc<Service> {
    let all = all.to_vec();
    let ask = move |worker: usize| {
        // A worker that has ended has no connections either.
        let _ = all[worker].commands.send(Command::GiveUpOne(binding));
    };
    let settings = &plan.bindings[binding];
    let upstream = Upstream::new(
        settings,
        plan.published[binding].clone(),
        worker,
        Rc::new(ask),
    );
    Service::new(settings, upstream, Arc::clone(&plan.in_flight[binding]))
}

async fn connection(accepted: Accepted, door: super::Door, drain: Drain, proxy: Rc<Proxy>) {
    let peer = accepted.peer();
    let socket = match Socket::new(accepted) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(?peer, %error, "cannot serve a connection");
            return;
        }
    };
    let from = From {
        arrival: Arrival {
            entrance: door.entrance,
            local: local(socket.local()),
        },
        peer,
        tunnel: None,
    };
    server::serve(socket, door.settings, drain, move |client, request| {
        let proxy = Rc::clone(&proxy);
        let from = from.clone();
        async move { proxy.answer(from, client, request).await }
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
