//! What the workers work by: made of a configuration, replaced as a whole when that changes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::Sender;

use crate::config::Binding;
use crate::log;
use crate::reload::Reloader;
use crate::route::Routes;
use crate::upstream::{Published, Slots};

use super::listeners::Door;
use super::reloading::Signal;

/// What all workers work by.
pub struct Plan {
    pub bindings: Vec<Binding>,
    /// Where each binding comes from, in the same order.
    pub origins: Vec<Descent>,
    pub routes: Arc<Routes>,
    /// What is behind each listener, by its number.
    pub doors: BTreeMap<usize, Door>,
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
