//! What the workers work by: made of a configuration, replaced as a whole when that changes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::Sender;

use crate::config::{Binding, Config, Listen};
use crate::log;
use crate::reload::{Reloader, Signal};
use crate::route::{Entrance, Routes};
use crate::server::{self, BindError, Listener, Settings};
use crate::upstream::{Published, Slots};

/// What all workers work by.
pub struct Plan {
    pub bindings: Vec<Binding>,
    /// Where each binding comes from, in the same order.
    pub origins: Vec<Descent>,
    pub routes: Arc<Routes>,
    /// By number; `None` where a door was closed. A number is used once.
    pub doors: Vec<Option<Door>>,
    pub access: Option<log::Sink>,
    pub access_is_json: bool,
    /// How to reach the reload thread.
    pub reload: Sender<Signal>,
}

/// Where a binding of a plan comes from.
pub enum Descent {
    /// It is the one with this index in the plan before, with all its connections.
    Kept(usize),
    /// It is new, or another one of the same name: what it presents, and its count of requests.
    New(Published, Arc<AtomicUsize>),
}

/// What a worker has to know of a listener.
#[derive(Clone, Copy)]
pub struct Door {
    pub entrance: Entrance,
    pub settings: Settings,
}

/// The listeners that are open, and what they were opened for.
#[derive(Default)]
pub struct Entries {
    open: Vec<Entry>,
    // By number, as in the plan.
    pub doors: Vec<Option<Door>>,
}

/// One `listen` value, which may be several sockets.
struct Entry {
    listen: Listen,
    doors: Vec<usize>,
}

/// What it takes to get from some entries to others.
pub struct Move {
    pub entries: Entries,
    /// Listeners to open, by the number of their door.
    pub open: Vec<(usize, Listener)>,
    /// Doors to close.
    pub close: Vec<usize>,
}

impl Entries {
    /// Binds what `config` listens on and is not open yet.
    ///
    /// # Errors
    ///
    /// When an address cannot be bound; then nothing has changed.
    pub fn towards(&self, config: &Config) -> Result<Move, BindError> {
        let mut left: Vec<&Entry> = self.open.iter().collect();
        let mut entries = Self {
            open: Vec::new(),
            doors: vec![None; self.doors.len()],
        };
        let mut open = Vec::new();
        for (listen, door) in wanted(config) {
            let doors = match left.iter().position(|entry| entry.listen == *listen) {
                Some(at) => left.swap_remove(at).doors.clone(),
                None => server::bind(listen)?
                    .into_iter()
                    .map(|listener| {
                        let number = entries.doors.len();
                        entries.doors.push(None);
                        open.push((number, listener));
                        number
                    })
                    .collect(),
            };
            for number in &doors {
                entries.doors[*number] = Some(door);
            }
            entries.open.push(Entry {
                listen: listen.clone(),
                doors,
            });
        }
        let close = left.iter().flat_map(|entry| entry.doors.clone()).collect();
        Ok(Move {
            entries,
            open,
            close,
        })
    }
}

/// Every `listen` value, and what is behind it.
fn wanted(config: &Config) -> Vec<(&Listen, Door)> {
    let mut wanted = Vec::new();
    for (index, binding) in config.bindings.iter().enumerate() {
        let door = Door {
            entrance: Entrance::Own(index),
            settings: own_settings(binding),
        };
        wanted.extend(binding.listen.iter().map(|listen| (listen, door)));
    }
    if let Some(shared) = &config.shared {
        // Which binding a client stalls is not known before its request; the longest counts.
        let stall = config
            .bindings
            .iter()
            .map(|binding| binding.timeouts.body)
            .max();
        let door = Door {
            entrance: Entrance::Shared,
            settings: Settings {
                patience: shared.patience,
                stall: stall.unwrap_or(shared.patience.idle),
                max_header_size: shared.max_header_size,
            },
        };
        wanted.extend(shared.listen.iter().map(|listen| (listen, door)));
    }
    wanted
}

/// How a listener of the binding's own treats its clients.
pub fn own_settings(binding: &Binding) -> Settings {
    Settings {
        patience: binding.patience,
        stall: binding.timeouts.body,
        max_header_size: binding.max_header_size,
    }
}

/// A binding that begins with what `reloader` has loaded.
pub fn begin(reloader: &Reloader, binding: &Binding, workers: usize) -> Descent {
    let published = Published {
        generation: Arc::clone(reloader.current()),
        slots: Slots::new(binding.limits.connections.get(), workers),
    };
    Descent::New(published, Arc::default())
}

/// The address an accepted connection has on this side, as routes want it.
pub fn local(address: Option<SocketAddr>) -> Option<(IpAddr, u16)> {
    address.map(|address| (address.ip(), address.port()))
}
