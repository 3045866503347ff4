//! A new configuration on its way into use: read, checked, its certificates loaded and its sockets
//! bound, on a thread of its own because any of that may take long. Nothing has changed when it
//! fails.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::config::{Binding, Config, ConfigError, Draft, Given, Texts};
use crate::lifecycle;
use crate::reload::{CONFIGURATION, Recipe, Reloader};
use crate::server::{BindError, Porter};
use crate::watch::{Trail, Watcher};

use super::listeners::{Listeners, Move};
use super::plan::Plan;
use super::{Demand, identities};

/// What the configuration is taken from, and what is in use of it.
pub struct ConfigSource {
    pub given: Given,
    /// What the files held when they were last adopted.
    pub adopted: Texts,
}

/// Everything that an attempt to read the configuration needs to know.
pub struct Attempt {
    pub given: Given,
    pub adopted: Texts,
    pub plan: Arc<Plan>,
    pub listeners: Listeners,
    pub porter: Porter,
    pub watcher: Arc<Mutex<Watcher>>,
    /// The files that it needs, as far as earlier attempts have found out.
    pub files: Vec<PathBuf>,
}

/// What an attempt came to.
pub enum Candidate {
    /// The files hold what is in use.
    Same,
    /// The configuration cannot be used.
    Rejected(Reason),
    /// It can be used.
    Ready(Box<Ready>),
}

/// Why a configuration is not used.
pub struct Reason {
    pub text: String,
    /// When it can be used, if that is a matter of time.
    pub retry_at: Option<SystemTime>,
    /// The files that it needs.
    pub files: Vec<PathBuf>,
}

/// A configuration that can be used.
pub struct Ready {
    pub texts: Texts,
    pub config: Config,
    /// The identity of each binding; `None` where the one in use stays.
    pub loaded: Vec<Option<Reloader>>,
    pub change: Move,
    /// The plan that it replaces.
    pub base: Arc<Plan>,
}

/// Why a configuration is not used.
#[derive(Debug, thiserror::Error)]
enum Rejected {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot read {}: not a regular file", .0.display())]
    NotRegular(PathBuf),
    #[error(transparent)]
    Bind(#[from] BindError),
}

impl Attempt {
    /// Reads the configuration, and makes everything ready that it needs.
    pub fn run(mut self) -> Candidate {
        loop {
            lifecycle::fault_in("load", "configuration");
            let known = self.files.clone();
            self.watch();
            let mut retry_at = None;
            match self.prepare(&mut retry_at) {
                Ok(candidate) => return candidate,
                // What appeared before it was watched is found by looking once more.
                Err(_) if self.files != known => {}
                Err(rejected) => {
                    return Candidate::Rejected(Reason {
                        text: described(&rejected),
                        retry_at,
                        files: self.files,
                    });
                }
            }
        }
    }

    fn prepare(&mut self, retry_at: &mut Option<SystemTime>) -> Result<Candidate, Rejected> {
        // Opening a pipe would wait for a writer.
        let is_other = |path: &&Path| path.metadata().is_ok_and(|metadata| !metadata.is_file());
        if let Some(path) = self.given.files().find(is_other) {
            return Err(Rejected::NotRegular(path.to_owned()));
        }
        let texts = self.given.texts()?;
        if texts == self.adopted {
            return Ok(Candidate::Same);
        }
        let draft = self.given.understand(&texts)?;
        self.files = self.files_of(&draft);
        self.watch();
        let now = lifecycle::wall_clock();
        let loading = identities(draft, now, |binding| self.demand(binding));
        *retry_at = loading.retry_at;
        let (config, loaded) = loading.result?;
        let change = self.listeners.towards(&config, Some(&self.porter))?;
        Ok(Candidate::Ready(Box::new(Ready {
            texts,
            config,
            loaded,
            change,
            base: Arc::clone(&self.plan),
        })))
    }

    /// What is to be loaded for `binding`. An identity whose files are the same is not loaded again:
    /// what is in use may be better than what the files hold at this moment.
    fn demand(&self, binding: &Binding) -> Demand {
        let before = &self.plan.bindings;
        match before.iter().find(|before| before.name == binding.name) {
            Some(before) if Recipe::is_shared(before, binding) => Demand::Nothing,
            // What works is not given up for a certificate that is not valid yet.
            Some(_) => Demand::Valid,
            None => Demand::Loaded,
        }
    }

    /// The files that decide whether `draft` can be used.
    fn files_of(&self, draft: &Draft) -> Vec<PathBuf> {
        let new = draft
            .bindings()
            .iter()
            .filter(|binding| self.demand(binding) != Demand::Nothing);
        let recipes: Vec<_> = new.map(Recipe::of).collect();
        recipes
            .iter()
            .flat_map(|recipe| recipe.paths().map(PathBuf::from))
            .collect()
    }

    /// Watches the files of the configuration, and those that it needs.
    fn watch(&self) {
        let files = self.files.iter().map(PathBuf::as_path);
        let trail = Trail::awaiting(self.given.files().chain(files));
        follow(&self.watcher, CONFIGURATION, trail);
    }
}

/// Watches `trail` for `owner`.
pub fn follow(watcher: &Mutex<Watcher>, owner: u64, trail: Trail) {
    let mut watcher = watcher.lock().unwrap_or_else(PoisonError::into_inner);
    let failed = watcher.follow(owner, trail);
    drop(watcher);
    for (directory, error) in failed {
        tracing::warn!(directory = %directory.display(), %error, "cannot watch directory; polling its files");
    }
}

/// The error with its causes.
fn described(rejected: &Rejected) -> String {
    match rejected {
        Rejected::Config(error) => error.to_string(),
        Rejected::NotRegular(_) => rejected.to_string(),
        Rejected::Bind(error) => {
            let cause = std::error::Error::source(error);
            let cause = cause.map_or(String::new(), |cause| format!(": {cause}"));
            format!("{error}{cause}")
        }
    }
}
