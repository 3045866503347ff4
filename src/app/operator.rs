//! Applies reloads to the workers and listeners: new Generations, and new configurations.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use crate::config::{AdminSettings, Config, LogSettings};
use crate::reload::{Rejection, Reloader};
use crate::route::Routes;
use crate::server::Porter;
use crate::tls::Generation;
use crate::upstream::{Published, Slots};
use crate::watch::Watcher;

use super::announce::announce;
use super::board::{BoardWriter, Opened, announced, opened};
use super::candidate::{Attempt, ConfigSource, Ready};
use super::listeners::{Listeners, Move};
use super::plan::{Descent, Plan, begin};
use super::worker::{Address, Command};

/// Reaches everything that a reload changes.
pub struct Operator {
    pub source: Option<ConfigSource>,
    pub plan: Arc<Plan>,
    pub listeners: Listeners,
    pub workers: Vec<Address>,
    pub porter: Porter,
    pub log: LogSettings,
    /// The configuration that was last rejected.
    pub rejected: Option<Rejection>,
    /// The files that it needs.
    pub awaited: Vec<PathBuf>,
    /// What the admin endpoint shows.
    pub board: BoardWriter,
    /// The addresses of the open listeners, by their number.
    pub opened: BTreeMap<usize, Opened>,
    /// Where the admin endpoint is, and who may use it.
    pub admin: AdminSettings,
}

impl Operator {
    /// Has the binding with this index use a Generation; returns when every worker does.
    pub fn publish(&self, binding: usize, generation: &Arc<Generation>) {
        let binding = &self.plan.bindings[binding];
        let published = Published {
            generation: Arc::clone(generation),
            slots: Slots::new(binding.limits.connections.get(), self.workers.len()),
        };
        self.tell_all(|done| {
            Command::Publish(binding.name.as_str().into(), published.clone(), done)
        });
    }

    /// Returns an attempt to read the configuration; `None` if there is nothing to read it from.
    pub fn attempt(&self, watcher: &Arc<Mutex<Watcher>>) -> Option<Attempt> {
        let source = self.source.as_ref()?;
        Some(Attempt {
            given: source.given.clone(),
            adopted: source.adopted.clone(),
            plan: Arc::clone(&self.plan),
            listeners: self.listeners.clone(),
            porter: self.porter.clone(),
            watcher: Arc::clone(watcher),
            files: self.awaited.clone(),
        })
    }

    /// Uses a new configuration. Returns the new bindings' Reloaders, in the order of the bindings;
    /// gives `reloaders` back if something else has changed since the configuration was read.
    ///
    /// # Errors
    ///
    /// Returns `reloaders` if something else was adopted since `ready` was begun.
    pub fn adopt(
        &mut self,
        ready: Ready,
        reloaders: Vec<Reloader>,
    ) -> Result<Vec<Reloader>, Vec<Reloader>> {
        let Ready {
            texts,
            config,
            loaded,
            change,
            base,
        } = ready;
        if !Arc::ptr_eq(&base, &self.plan) {
            return Err(reloaders);
        }
        self.warn_of_the_rest(&config);
        let old = Arc::clone(&self.plan);
        let mut before: Vec<_> = reloaders.into_iter().map(Some).collect();
        let (mut reloaders, mut origins) = (Vec::new(), Vec::new());
        for (binding, loaded) in config.bindings.iter().zip(loaded) {
            let index = old.bindings.iter().position(|one| one.name == binding.name);
            let kept = index.filter(|index| old.bindings[*index].is_like(binding));
            let reloader = match (loaded, index) {
                (Some(loaded), _) => loaded,
                (None, Some(index)) => before[index].take().expect("names are unique"),
                (None, None) => unreachable!("what has no predecessor was loaded"),
            };
            origins.push(match kept {
                Some(index) => Descent::Kept(index),
                None => begin(&reloader, binding, self.workers.len()),
            });
            reloaders.push(reloader);
        }
        let Move {
            listeners,
            mut open,
            close,
            transfer,
        } = change;
        let plan = Arc::new(Plan {
            routes: Arc::new(Routes::new(&config.bindings)),
            bindings: config.bindings,
            origins,
            doors: listeners.doors.clone(),
            access: old.access.clone(),
            access_is_json: old.access_is_json,
            reload: old.reload.clone(),
        });
        let clients = super::most_clients(config.max_client_connections, self.workers.len());
        self.porter.limit_clients(clients);
        // No worker is handed a connection of a listener that its plan does not know.
        self.porter.close(close);
        let transferred = self.porter.take(&transfer);
        self.tell_all(|done| Command::Follow(Arc::clone(&plan), done));
        let is_new = |index: usize| matches!(plan.origins[index], Descent::New(..));
        open.extend(transferred);
        self.opened
            .retain(|number, _| plan.doors.contains_key(number));
        self.opened.extend(opened(&open));
        self.board.adopted(SystemTime::now());
        let is_opened = |number: usize| open.iter().any(|(opened, _)| *opened == number);
        announce(&plan, &listeners, &reloaders, is_opened, is_new);
        self.porter.open(open);
        self.plan = plan;
        self.listeners = listeners;
        if let Some(source) = &mut self.source {
            source.adopted = texts;
        }
        self.settle();
        tracing::info!(
            bindings = self.plan.bindings.len(),
            "configuration reloaded"
        );
        Ok(reloaders)
    }

    /// Writes what is known to the board.
    pub fn write_board(&mut self, reloaders: &[Reloader], now: SystemTime) {
        let files = self.source.iter().flat_map(|source| source.given.files());
        let files = files.map(|file| file.display().to_string()).collect();
        let rejected = self.rejected.as_ref().filter(|one| one.stands);
        let (plan, listening) = (&self.plan, &self.opened);
        let bindings = plan.bindings.iter().zip(reloaders).enumerate();
        let bindings = bindings.map(|(index, (binding, reloader))| {
            (binding, reloader, announced(plan, listening, index))
        });
        self.board.write(files, rejected, bindings, now);
    }

    /// Notes that the configuration was rejected. Returns `true` if that is news.
    pub fn reject(
        &mut self,
        reason: String,
        retry_at: Option<SystemTime>,
        now: SystemTime,
    ) -> bool {
        Rejection::note(&mut self.rejected, reason, retry_at, now)
    }

    /// The configuration that is rejected now.
    pub fn rejection(&self) -> Option<&Rejection> {
        self.rejected.as_ref().filter(|rejection| rejection.stands)
    }

    /// Ends the rejection that stands. Returns `true` if there was one.
    pub fn settle(&mut self) -> bool {
        self.awaited.clear();
        let standing = self.rejected.as_mut().filter(|rejection| rejection.stands);
        let stood = standing.is_some();
        if let Some(rejection) = standing {
            rejection.stands = false;
        }
        stood
    }

    /// Says what a running process cannot change.
    fn warn_of_the_rest(&self, config: &Config) {
        let changed = [
            ("workers", config.workers.get() != self.workers.len()),
            ("log", config.log != self.log),
            ("admin", config.admin != self.admin),
        ];
        for (key, changed) in changed {
            if changed {
                tracing::warn!(key, "configuration change requires a restart");
            }
        }
    }

    /// Tells every worker, and waits until all have done it.
    fn tell_all(&self, command: impl Fn(SyncSender<()>) -> Command) {
        let (done, taken) = sync_channel(self.workers.len());
        let told = self
            .workers
            .iter()
            .filter(|worker| worker.commands.send(command(done.clone())).is_ok())
            .count();
        drop(done);
        // A worker that ends instead takes the process with it; its sender goes too.
        taken.iter().take(told).count();
    }
}
