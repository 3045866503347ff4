//! Builds everything from a configuration: first all that can fail, then the threads.

mod admin;
mod announce;
mod board;
mod candidate;
mod connections;
mod examine;
mod listeners;
mod once;
mod operator;
mod plan;
mod reloading;
mod signals;
mod status;
mod supervisor;
mod watched;
mod worker;

use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::SystemTime;

use crate::access::{self, Use};
use crate::config::{Binding, Config, ConfigError, Draft, Given, LogSettings, Mistake, Place};
use crate::lifecycle::wall_clock;
use crate::log;
use crate::reload::Reloader;
use crate::route::{Entrance, Routes};
use crate::server::{Admission, BindError, Listener};
use crate::tls::{Input, LoadError};

use candidate::ConfigSource;
use listeners::{Listeners, Move};
use plan::{Plan, begin};

pub use examine::{Examined, examine};
pub use once::{Answer, Once, OnceError, SendError};

/// A configuration whose files have all been opened, and that makes sense.
pub struct Loaded {
    /// What was configured.
    pub config: Config,
    /// The identities, in the order of the bindings.
    pub reloaders: Vec<Reloader>,
    // Where it was configured.
    source: Option<ConfigSource>,
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
pub fn load(draft: Draft, validity: Validity) -> Result<Loaded, ConfigError> {
    // What a pipe held cannot be read again.
    let is_a_file = |given: &Given| given.files().all(Path::is_file);
    let origin = draft.origin().filter(|(given, _)| is_a_file(given));
    let source = origin.map(|(given, texts)| ConfigSource {
        given: given.clone(),
        adopted: texts.clone(),
    });
    let demand = match validity {
        Validity::Demanded => Demand::Valid,
        Validity::Wished => Demand::Loaded,
    };
    let loading = identities(draft, wall_clock(), |_| demand);
    let (config, reloaders) = loading.result?;
    Ok(Loaded {
        config,
        reloaders: reloaders.into_iter().flatten().collect(),
        source,
    })
}

/// What is wanted of a binding's identity.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Demand {
    /// That it is loaded and valid now.
    Valid,
    /// That it is loaded.
    Loaded,
    /// Nothing: it is not loaded.
    Nothing,
}

/// What came of loading the identities of a configuration.
struct Loading {
    result: Result<(Config, Vec<Option<Reloader>>), ConfigError>,
    /// When a certificate becomes valid that is not valid yet, if one is demanded to be.
    retry_at: Option<SystemTime>,
}

/// Loads the identities of the bindings in `draft`, as `demand` says for each.
fn identities(mut draft: Draft, now: SystemTime, demand: impl Fn(&Binding) -> Demand) -> Loading {
    let mut reloaders = Vec::new();
    let mut mistakes = Vec::new();
    let mut retry_at = None;
    for binding in draft.bindings() {
        let demand = demand(binding);
        if demand == Demand::Nothing {
            reloaders.push(None);
            continue;
        }
        let loaded = catch_unwind(AssertUnwindSafe(|| Reloader::load(binding)));
        let errors = match loaded {
            Ok(Ok(reloader)) => {
                let invalid = reloader.check_validity(now).err();
                reloaders.push(Some(reloader));
                let invalid = invalid.filter(|_| demand == Demand::Valid);
                retry_at = retry_at.max(invalid.as_ref().and_then(LoadError::passes_at));
                invalid.into_iter().collect()
            }
            Ok(Err(errors)) => errors,
            Err(_) => {
                mistakes.push(bug(binding));
                Vec::new()
            }
        };
        let path = draft.path();
        mistakes.extend(errors.iter().map(|error| mistake(binding, error, path)));
    }
    for mistake in mistakes {
        draft.blame(mistake);
    }
    Loading {
        result: draft.finish().map(|config| (config, reloaders)),
        retry_at,
    }
}

/// What is said when loading has panicked. The panic's own text may quote a secret.
fn bug(binding: &Binding) -> Mistake {
    let message = format!("binding \"{}\": internal error while loading", binding.name);
    Mistake::new(binding.places.certificate.clone(), message)
        .help("this is a bug in mtlsd; please report it")
}

/// `config` is the configuration file; without one, paths are relative to the working directory.
fn mistake(binding: &Binding, error: &LoadError, config: Option<&Path>) -> Mistake {
    if let Some(mistake) = not_stored(binding, error) {
        return mistake;
    }
    let place: &Place = match error.input() {
        Input::Password => &binding.places.password,
        Input::Crl => &binding.places.crl,
        Input::Certificate => &binding.places.certificate,
        Input::Key => &binding.places.key,
        Input::Ca => &binding.places.ca,
    };
    let cause =
        std::error::Error::source(error).map_or(String::new(), |cause| format!(": {cause}"));
    let mut mistake = Mistake::new(place.clone(), format!("{error}{cause}"));
    if let Some(help) = unread(error, config).or_else(|| error.help()) {
        mistake = mistake.help(help);
    }
    match error.may_pass() {
        true => mistake.may_pass(),
        false => mistake,
    }
}

/// What to do about a file that cannot be read.
fn unread(error: &LoadError, config: Option<&Path>) -> Option<String> {
    let LoadError::Read {
        input,
        path,
        source,
    } = error
    else {
        return None;
    };
    if let Some(help) = access::help(path, Use::Read, source) {
        return Some(help);
    }
    if path.is_dir() {
        return Some(match input {
            Input::Certificate => {
                "this is a directory: name the file, or use `certificate_dir` in a configuration file"
            }
            _ => "this is a directory: name the file",
        }
        .to_owned());
    }
    if source.kind() != io::ErrorKind::NotFound || path.is_absolute() && config.is_none() {
        return None;
    }
    let directory = match config {
        Some(config) => config.parent().map(Path::to_owned),
        None => std::env::current_dir().ok(),
    }?;
    let whose = match config {
        Some(_) => "the directory of the configuration file",
        None => "the working directory",
    };
    let shown = match directory.as_os_str().is_empty() || directory == Path::new(".") {
        true => std::env::current_dir().unwrap_or(directory),
        false => directory,
    };
    Some(format!(
        "check the path; relative paths start at {whose}, {}",
        shown.display()
    ))
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
    loaded: Loaded,
    listeners: Listeners,
    open: Vec<(usize, Listener)>,
    admin: Vec<Listener>,
}

impl StartError {
    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Bind(error) => error.help(),
            _ => None,
        }
    }
}

impl App {
    /// Binds every listener of `loaded`.
    ///
    /// # Errors
    ///
    /// When one of them cannot be bound; then none is.
    pub fn bind(loaded: Loaded) -> Result<Self, StartError> {
        let Move {
            listeners, open, ..
        } = Listeners::default().towards(&loaded.config, None)?;
        let admin = admin::bind(&loaded.config.admin)?;
        Ok(Self {
            loaded,
            listeners,
            open,
            admin,
        })
    }

    /// What is logged, and how.
    pub fn log(&self) -> &LogSettings {
        &self.loaded.config.log
    }

    /// Each binding's own addresses, as they were bound.
    pub fn listening(&self) -> impl Iterator<Item = (&Binding, Vec<&Listener>)> {
        let bindings = self.loaded.config.bindings.iter().enumerate();
        bindings.map(|(index, binding)| {
            let is_own = |number: usize| {
                let door = self.listeners.doors.get(&number);
                door.is_some_and(|door| door.entrance == Entrance::Own(index))
            };
            let own = self.open.iter().filter(|(number, _)| is_own(*number));
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
        let Loaded {
            config,
            mut reloaders,
            source,
        } = self.loaded;
        let workers = config.workers.get();
        let clients = most_clients(config.max_client_connections, workers);
        for reloader in &mut reloaders {
            reloading::remark(reloader);
        }
        let (reload, signals) = channel();
        let plan = Plan {
            origins: reloaders
                .iter()
                .zip(&config.bindings)
                .map(|(reloader, binding)| begin(reloader, binding, workers))
                .collect(),
            routes: Arc::new(Routes::new(&config.bindings)),
            doors: self.listeners.doors.clone(),
            access,
            access_is_json: log::access_is_json(&config.log),
            bindings: config.bindings,
            reload,
        };
        let parts = supervisor::Parts {
            plan: Arc::new(plan),
            source,
            listeners: self.listeners,
            open: self.open,
            reloaders,
            signals,
            log: config.log,
            admission: Admission::new(clients),
            admin: self.admin,
            admin_settings: config.admin,
        };
        supervisor::run(parts, workers, stop)
    }
}

/// How many client connections there may be: what is `wanted`, within the limit of open files. What is
/// kept in reserve goes to connections to origins, to files that are read again, and to the log.
fn most_clients(wanted: Option<NonZeroUsize>, workers: usize) -> usize {
    use rustix::process::{Resource, getrlimit};
    let limit = getrlimit(Resource::Nofile).current;
    let files = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    let reserve = RESERVED_FILES + workers.saturating_mul(FILES_PER_WORKER);
    // Under a low limit, clients get half of it all the same.
    let free = files.saturating_sub(reserve).max(files / 2);
    let most = (free - free / 4).max(1);
    match wanted.map(NonZeroUsize::get) {
        Some(wanted) if wanted > most => {
            tracing::warn!(
                max_client_connections = wanted,
                used = most,
                open_files = files,
                "`max_client_connections` exceeds what the limit of open files allows; raise that \
                 limit (LimitNOFILE=, ulimit -n)"
            );
            most
        }
        Some(wanted) => wanted,
        // A client connection may need one to an origin.
        None => (free / 2).clamp(1, MOST_CLIENTS),
    }
}

/// Descriptors for listeners, watched directories, the log and files that are being read.
const RESERVED_FILES: usize = 48;
const FILES_PER_WORKER: usize = 6;
/// Client connections by default, however many files may be open.
const MOST_CLIENTS: usize = 65_536;

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
