//! Which listening sockets a configuration needs, and how to get there from those that are open.
//!
//! A socket belongs to a binding, or to all of them. It stays with its owner for as long as the
//! configuration lists it; it passes to another owner only where both name the same port (or path),
//! and never where the port was chosen by the system: clients would act with a certificate that is
//! not the one they were set up for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::config::{Binding, BindingName, Config, Listen};
use crate::route::Entrance;
use crate::server::{self, BindError, Listener, Porter, Settings};

/// What a worker has to know of a listener.
#[derive(Clone, Copy)]
pub struct Door {
    pub entrance: Entrance,
    pub settings: Settings,
}

/// The listening sockets of a configuration.
#[derive(Clone, Default)]
pub struct Listeners {
    sockets: Vec<OpenSocket>,
    // The number of the next new listener; a number is used once.
    next: usize,
    /// What is behind each socket, by its number.
    pub doors: BTreeMap<usize, Door>,
}

/// One listening socket that is open, and what it was opened for.
#[derive(Clone)]
struct OpenSocket {
    number: usize,
    owner: Owner,
    listen: Listen,
    // Which of the owner's equal `listen` values it belongs to.
    ordinal: usize,
    place: Place,
    address: Address,
}

/// How a listening socket is shown.
#[derive(Clone)]
pub struct Address {
    /// As the log names it.
    pub text: String,
    /// A command line that reaches it.
    pub curl: String,
}

/// Whom a listening socket serves.
#[derive(Clone, PartialEq, Eq)]
enum Owner {
    Shared,
    Binding(BindingName),
}

/// Where a socket is bound.
#[derive(Clone, PartialEq, Eq)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What it takes to get from the open listeners to others.
pub struct Move {
    pub listeners: Listeners,
    /// Sockets to accept on, by the number of their listener.
    pub open: Vec<(usize, Listener)>,
    /// Listeners to close.
    pub close: Vec<usize>,
    /// Listeners whose socket gets another owner, and their new numbers.
    pub transfer: Vec<(usize, usize)>,
}

/// One `listen` value of the new configuration.
struct Wanted<'c> {
    owner: Owner,
    listen: &'c Listen,
    ordinal: usize,
    door: Door,
}

impl Listeners {
    /// The addresses of the sockets that lead to `entrance`, and their numbers.
    pub fn leading_to(&self, entrance: Entrance) -> impl Iterator<Item = (usize, &Address)> {
        let leads = move |socket: &&OpenSocket| {
            let door = self.doors.get(&socket.number);
            door.is_some_and(|door| door.entrance == entrance)
        };
        let sockets = self.sockets.iter().filter(leads);
        sockets.map(|socket| (socket.number, &socket.address))
    }

    /// Binds what `config` listens on and is not open yet. `porter` reaches the sockets that are.
    ///
    /// # Errors
    ///
    /// Returns a [`BindError`] if an address cannot be bound; then nothing has changed.
    pub fn towards(&self, config: &Config, porter: Option<&Porter>) -> Result<Move, BindError> {
        let mut change = Change {
            left: self.sockets.clone(),
            made: Move {
                listeners: Self {
                    next: self.next,
                    ..Self::default()
                },
                open: Vec::new(),
                close: Vec::new(),
                transfer: Vec::new(),
            },
        };
        let wanted = wanted(config);
        // Keep first: what is left over afterwards is what may be in the way of the rest.
        let missing: Vec<_> = wanted
            .iter()
            .flat_map(|wanted| change.keep(wanted))
            .collect();
        for (wanted, places) in missing {
            change.bind(wanted, &places, porter)?;
        }
        let mut made = change.made;
        made.close = change.left.iter().map(|socket| socket.number).collect();
        Ok(made)
    }
}

/// A [`Move`] in the making.
struct Change {
    // Sockets that nothing of the new configuration has claimed.
    left: Vec<OpenSocket>,
    made: Move,
}

impl Change {
    /// Claims the open sockets that `wanted` can have. Returns the places that are to be bound, if
    /// there are any.
    fn keep<'w, 'c>(&mut self, wanted: &'w Wanted<'c>) -> Option<(&'w Wanted<'c>, Vec<Place>)> {
        if is_chosen_by_the_system(wanted.listen) {
            let same = |socket: &OpenSocket| {
                socket.owner == wanted.owner
                    && socket.listen == *wanted.listen
                    && socket.ordinal == wanted.ordinal
            };
            let kept: Vec<_> = self.left.extract_if(.., |socket| same(socket)).collect();
            let found = !kept.is_empty();
            for socket in kept {
                self.claim(socket, wanted);
            }
            return (!found).then(|| (wanted, Vec::new()));
        }
        let mut places = places(wanted.listen);
        places.retain(|place| {
            let fits = |socket: &OpenSocket| {
                let explicit = !is_chosen_by_the_system(&socket.listen);
                socket.place == *place && (socket.owner == wanted.owner || explicit)
            };
            match self.left.iter().position(fits) {
                Some(at) => {
                    let socket = self.left.swap_remove(at);
                    self.claim(socket, wanted);
                    false
                }
                None => true,
            }
        });
        (!places.is_empty()).then_some((wanted, places))
    }

    fn claim(&mut self, socket: OpenSocket, wanted: &Wanted<'_>) {
        let number = match socket.owner == wanted.owner {
            true => socket.number,
            false => {
                let new = self.number();
                self.made.transfer.push((socket.number, new));
                new
            }
        };
        self.add(number, socket.place, socket.address, wanted);
    }

    /// Binds `places`, or where there are none, what the `listen` value stands for.
    fn bind(
        &mut self,
        wanted: &Wanted<'_>,
        places: &[Place],
        porter: Option<&Porter>,
    ) -> Result<(), BindError> {
        let in_the_way = |socket: &&OpenSocket| places.iter().any(|one| socket.place.overlaps(one));
        let in_the_way: Vec<_> = self.left.iter().filter(in_the_way).collect();
        let bound = match in_the_way.is_empty() {
            true => self.bind_free(wanted, places),
            false => bind_over(&in_the_way, places, porter),
        };
        for listener in bound? {
            let number = self.number();
            let address = Address {
                text: listener.to_string(),
                curl: listener.curl(),
            };
            self.add(number, Place::of(&listener), address, wanted);
            self.made.open.push((number, listener));
        }
        Ok(())
    }

    fn bind_free(&self, wanted: &Wanted<'_>, places: &[Place]) -> Result<Vec<Listener>, BindError> {
        match (wanted.listen, places) {
            // One family of `localhost` is open already.
            (Listen::Localhost(_), [Place::Tcp(address)]) => {
                match server::bind_address(*address, false) {
                    Ok(listener) => Ok(vec![listener]),
                    Err(error) if error.family_is_missing() => Ok(Vec::new()),
                    Err(error) => Err(error),
                }
            }
            (listen, _) => server::bind(listen),
        }
    }

    fn number(&mut self) -> usize {
        let listeners = &mut self.made.listeners;
        listeners.next += 1;
        listeners.next - 1
    }

    fn add(&mut self, number: usize, place: Place, address: Address, wanted: &Wanted<'_>) {
        let listeners = &mut self.made.listeners;
        listeners.doors.insert(number, wanted.door);
        listeners.sockets.push(OpenSocket {
            number,
            owner: wanted.owner.clone(),
            listen: wanted.listen.clone(),
            ordinal: wanted.ordinal,
            place,
            address,
        });
    }
}

/// Binds `places` although sockets of ours are in the way, which are about to be closed: both
/// listen for a moment, so that no client is refused in between.
fn bind_over(
    in_the_way: &[&OpenSocket],
    places: &[Place],
    porter: Option<&Porter>,
) -> Result<Vec<Listener>, BindError> {
    let numbers: Vec<_> = in_the_way.iter().map(|socket| socket.number).collect();
    let allow = |allowed| {
        if let Some(porter) = porter {
            porter.share_port(numbers.clone(), allowed);
        }
    };
    allow(true);
    let mut bound = Vec::new();
    let mut failed = None;
    for place in places {
        let result = match place {
            Place::Tcp(address) => server::bind_address(*address, true),
            Place::Unix(path) => server::bind_path(path),
        };
        match result {
            Ok(listener) => bound.push(listener),
            Err(error) if error.family_is_missing() && places.len() > 1 => {}
            Err(error) => failed = Some(error),
        }
    }
    allow(false);
    match failed {
        None => Ok(bound),
        Some(error) => Err(error),
    }
}

/// Every `listen` value, and what is behind it.
fn wanted(config: &Config) -> Vec<Wanted<'_>> {
    let mut wanted = Vec::new();
    for (index, binding) in config.bindings.iter().enumerate() {
        let door = Door {
            entrance: Entrance::Own(index),
            settings: own_settings(binding),
        };
        add_all(
            &mut wanted,
            &Owner::Binding(binding.name.clone()),
            &binding.listen,
            door,
        );
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
                max_header_fields: shared.max_header_fields,
                preserves_case: config
                    .bindings
                    .iter()
                    .any(|binding| binding.headers.preserve_case),
            },
        };
        add_all(&mut wanted, &Owner::Shared, &shared.listen, door);
    }
    wanted
}

fn add_all<'c>(wanted: &mut Vec<Wanted<'c>>, owner: &Owner, listen: &'c [Listen], door: Door) {
    for (at, value) in listen.iter().enumerate() {
        wanted.push(Wanted {
            owner: owner.clone(),
            listen: value,
            ordinal: listen[..at].iter().filter(|other| *other == value).count(),
            door,
        });
    }
}

/// How a listener of the binding's own treats its clients.
pub fn own_settings(binding: &Binding) -> Settings {
    Settings {
        patience: binding.patience,
        stall: binding.timeouts.body,
        max_header_size: binding.max_header_size,
        max_header_fields: binding.max_header_fields,
        preserves_case: binding.headers.preserve_case,
    }
}

fn is_chosen_by_the_system(listen: &Listen) -> bool {
    match listen {
        Listen::Localhost(port) => *port == 0,
        Listen::Tcp(address) => address.port() == 0,
        Listen::Unix(_) => false,
    }
}

fn places(listen: &Listen) -> Vec<Place> {
    match listen {
        Listen::Unix(path) => vec![Place::Unix(real(path))],
        other => other.addresses().into_iter().map(Place::Tcp).collect(),
    }
}

/// The path without links in its directory, so that one socket has one path.
fn real(path: &Path) -> PathBuf {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match (parent.canonicalize(), path.file_name()) {
        (Ok(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

impl Place {
    fn of(listener: &Listener) -> Self {
        match listener {
            Listener::Tcp(_, address) => Self::Tcp(*address),
            Listener::Unix(_, file) => Self::Unix(real(file.path())),
        }
    }

    /// Whether both cannot be bound at once.
    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(one), Self::Tcp(two)) => Listen::Tcp(*one).clashes_with(&Listen::Tcp(*two)),
            (one, two) => one == two,
        }
    }
}
