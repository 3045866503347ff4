//! Builds everything from a configuration: first all that can fail, then the threads.

mod announce;
mod supervisor;
mod watched;
mod worker;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::SystemTime;

use crate::config::{Binding, Config, ConfigError, Draft, Listen, LogSettings, Mistake, Place};
use crate::log;
use crate::reload::Reloader;
use crate::route::{Entrance, Routes};
use crate::server::{self, BindError, Listener, Settings};
use crate::tls::{Input, LoadError};
use crate::upstream::{Published, Slots};

/// A configuration whose files have all been opened, and that makes sense.
pub struct Loaded {
    /// What was configured.
    pub config: Config,
    /// The identities, in the order of the bindings.
    pub reloaders: Vec<Reloader>,
}

/// Why the daemon does not run, or runs no more.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A second signal came before everything had finished.
    #[error("ended before everything had finished, because of a second signal")]
    Impatient,
    /// Something that must go on has come to an end.
    #[error("{0} has ended, and nothing works without it")]
    Ended(String),
    /// The system refused something that nothing works without.
    #[error("cannot {what}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Whether a certificate must be valid at this moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// It must: somebody is asking whether all is well.
    Demanded,
    /// It should: a clock may be wrong, a renewal late, and the rest can be served.
    Wished,
}

/// Opens every file that `draft` names.
///
/// # Errors
///
/// All mistakes there are: those of the text, and those that opening the files found.
pub fn load(mut draft: Draft, validity: Validity) -> Result<Loaded, ConfigError> {
    let now = SystemTime::now();
    let mut reloaders = Vec::new();
    let mut mistakes = Vec::new();
    for binding in draft.bindings() {
        match Reloader::load(binding) {
            Ok(reloader) => {
                if let Err(error) = reloader.check_validity(now) {
                    match validity {
                        Validity::Demanded => mistakes.push(mistake(binding, &error)),
                        Validity::Wished => tracing::warn!(
                            binding = %binding.name,
                            %error,
                            help = error.help(),
                            "presenting a certificate that origins will refuse"
                        ),
                    }
                }
                reloaders.push(reloader);
            }
            Err(error) => mistakes.push(mistake(binding, &error)),
        }
    }
    for mistake in mistakes {
        draft.blame(mistake);
    }
    let config = draft.finish()?;
    Ok(Loaded { config, reloaders })
}

fn mistake(binding: &Binding, error: &LoadError) -> Mistake {
    if let Some(mistake) = not_stored(binding, error) {
        return mistake;
    }
    let place: &Place = match error.input() {
        Input::Certificate => &binding.places.certificate,
        Input::Key => &binding.places.key,
        Input::Ca => &binding.places.ca,
    };
    let cause =
        std::error::Error::source(error).map_or(String::new(), |cause| format!(": {cause}"));
    let mut mistake = Mistake::new(place.clone(), format!("{error}{cause}"));
    if let Some(help) = error.help() {
        mistake = mistake.help(help);
    }
    match error.may_pass() {
        true => mistake.may_pass(),
        false => mistake,
    }
}

/// What is said when the certificate store lacks what the binding names.
fn not_stored(binding: &Binding, error: &LoadError) -> Option<Mistake> {
    let id = binding.stored.as_ref()?;
    let missing = matches!(error, LoadError::Read { input: Input::Certificate, source, .. }
        if source.kind() == io::ErrorKind::NotFound);
    if !missing {
        return None;
    }
    let store = binding.source.certificate.parent()?.display();
    let message = format!(
        "binding \"{}\": there is no certificate {id} in the store {store}",
        binding.name
    );
    let help = "`mtlsd mtls-certificate list` shows those there are; another store is named with \
                --store or MTLSD_STORE";
    Some(
        Mistake::new(binding.places.certificate.clone(), message)
            .help(help)
            .may_pass(),
    )
}

/// Everything that is ready to run: ports bound, identities loaded.
pub struct App {
    config: Config,
    reloaders: Vec<Reloader>,
    doors: Vec<Door>,
    listeners: Vec<Listener>,
}

/// What a worker has to know of a listener.
#[derive(Clone, Copy)]
struct Door {
    entrance: Entrance,
    settings: Settings,
}

/// What all workers start from.
struct Plan {
    bindings: Vec<Binding>,
    published: Vec<Published>,
    in_flight: Vec<Arc<AtomicUsize>>,
    routes: Arc<Routes>,
    doors: Vec<Door>,
    access: Option<log::Sink>,
    access_is_json: bool,
}

impl App {
    /// Binds every listener of `loaded`.
    ///
    /// # Errors
    ///
    /// When one of them cannot be bound; then none is.
    pub fn bind(loaded: Loaded) -> Result<Self, StartError> {
        let Loaded { config, reloaders } = loaded;
        let mut doors = Vec::new();
        let mut listeners = Vec::new();
        let mut open = |listen: &Listen, door: Door| -> Result<(), BindError> {
            for listener in server::bind(listen)? {
                doors.push(door);
                listeners.push(listener);
            }
            Ok(())
        };
        for (index, binding) in config.bindings.iter().enumerate() {
            let settings = Settings {
                patience: binding.patience,
                stall: binding.timeouts.body,
                max_header_size: binding.max_header_size,
            };
            let door = Door {
                entrance: Entrance::Own(index),
                settings,
            };
            for listen in &binding.listen {
                open(listen, door)?;
            }
        }
        if let Some(shared) = &config.shared {
            // Which binding a client stalls is not known before its request; the longest counts.
            let stall = config
                .bindings
                .iter()
                .map(|binding| binding.timeouts.body)
                .max();
            let settings = Settings {
                patience: shared.patience,
                stall: stall.unwrap_or(shared.patience.idle),
                max_header_size: shared.max_header_size,
            };
            let door = Door {
                entrance: Entrance::Shared,
                settings,
            };
            for listen in &shared.listen {
                open(listen, door)?;
            }
        }
        Ok(Self {
            config,
            reloaders,
            doors,
            listeners,
        })
    }

    /// What is logged, and how.
    pub fn log(&self) -> &LogSettings {
        &self.config.log
    }

    /// Each binding's own addresses, as they were bound.
    pub fn listening(&self) -> impl Iterator<Item = (&Binding, Vec<&Listener>)> {
        self.config
            .bindings
            .iter()
            .enumerate()
            .map(|(index, binding)| {
                let own = self
                    .doors
                    .iter()
                    .zip(&self.listeners)
                    .filter(move |(door, _)| door.entrance == Entrance::Own(index));
                (binding, own.map(|(_, listener)| listener).collect())
            })
    }

    /// Serves until a signal or `stop` ends it.
    ///
    /// # Errors
    ///
    /// When the system refuses what nothing works without, or something that must go on ends.
    pub fn run(
        self,
        access: Option<log::Sink>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), StartError> {
        raise_file_limit();
        let workers = self.config.workers.get();
        let published =
            self.reloaders
                .iter()
                .zip(&self.config.bindings)
                .map(|(reloader, binding)| Published {
                    generation: Arc::clone(reloader.current()),
                    slots: Slots::new(binding.limits.connections.get(), workers),
                });
        let plan = Plan {
            published: published.collect(),
            in_flight: self
                .config
                .bindings
                .iter()
                .map(|_| Arc::default())
                .collect(),
            routes: Arc::new(Routes::new(&self.config.bindings)),
            doors: self.doors,
            access,
            access_is_json: log::access_is_json(&self.config.log),
            bindings: self.config.bindings,
        };
        supervisor::run(plan, workers, self.reloaders, self.listeners, stop)
    }
}

/// A proxy uses two descriptors for each request in flight; the soft limit of 1024 is meant for
/// programs that use select(2).
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// The address an accepted connection has on this side, as routes want it.
fn local(address: Option<SocketAddr>) -> Option<(IpAddr, u16)> {
    address.map(|address| (address.ip(), address.port()))
}
