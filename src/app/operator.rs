//! Has the running daemon use what the files say: new Generations, and new configurations.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use crate::config::{Binding, Config, ConfigError, Draft, Given, LogSettings, Texts};
use crate::reload::{Daemon, Reloader};
use crate::route::Routes;
use crate::server::{BindError, Porter};
use crate::systemd;
use crate::tls::Generation;
use crate::upstream::{Published, Slots};

use super::announce::announce;
use super::listeners::{Listeners, Move};
use super::plan::{Descent, Plan, begin};
use super::worker::{Address, Command};
use super::{Validity, identities};

/// The reload thread's hands.
pub struct Operator {
    pub source: Option<ConfigSource>,
    pub plan: Arc<Plan>,
    pub listeners: Listeners,
    pub workers: Vec<Address>,
    pub porter: Porter,
    pub log: LogSettings,
}

/// What the configuration is taken from, and what stood there when it was last judged.
pub struct ConfigSource {
    pub given: Given,
    pub seen: Option<Texts>,
}

/// Why a new configuration is not used.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{}", .0.render())]
    Mistakes(#[from] ConfigError),
    #[error(transparent)]
    Bind(#[from] BindError),
}

impl Daemon for Operator {
    fn publish(&mut self, binding: usize, generation: &Arc<Generation>) {
        let binding = &self.plan.bindings[binding];
        let published = Published {
            generation: Arc::clone(generation),
            slots: Slots::new(binding.limits.connections.get(), self.workers.len()),
        };
        self.tell_all(|done| {
            Command::Publish(binding.name.as_str().into(), published.clone(), done)
        });
    }

    fn configuration(&self) -> Vec<PathBuf> {
        let given = self.source.iter().map(|source| &source.given);
        given.flat_map(Given::files).map(Path::to_owned).collect()
    }

    fn reconfigure(&mut self, reloaders: &mut Vec<Reloader>) {
        let Some(source) = &mut self.source else {
            return;
        };
        let texts = match source.given.texts() {
            Ok(texts) => texts,
            Err(error) => {
                // Said once: an editor may be between deleting and writing, or it may stay away.
                if source.seen.take().is_some() {
                    tracing::error!(%error, "cannot read the configuration, the one before stays in use");
                }
                return;
            }
        };
        if source.seen.as_ref() == Some(&texts) {
            return;
        }
        let draft = source.given.understand(&texts);
        source.seen = Some(texts);
        let applied = draft
            .map_err(Refused::from)
            .and_then(|draft| self.apply(draft, reloaders));
        if let Err(refused) = applied {
            tracing::error!(error = %refused, "refused the new configuration, the one before stays in use");
        }
    }
}

impl Operator {
    /// Uses the configuration in `draft`: all of it, or nothing.
    fn apply(&mut self, draft: Draft, reloaders: &mut Vec<Reloader>) -> Result<(), Refused> {
        let old = Arc::clone(&self.plan);
        let kept = |binding: &Binding| {
            let same_name = |other: &Binding| other.name == binding.name;
            let index = old.bindings.iter().position(same_name)?;
            old.bindings[index].is_like(binding).then_some(index)
        };
        let (config, loaded) =
            identities(draft, Validity::Wished, |binding| kept(binding).is_some())?;
        let Move {
            listeners,
            mut open,
            close,
            transfer,
        } = self.listeners.towards(&config, Some(&self.porter))?;
        // Nothing can fail from here on.
        self.warn_of_the_rest(&config);
        let mut before: Vec<_> = reloaders.drain(..).map(Some).collect();
        let mut origins = Vec::new();
        for (binding, loaded) in config.bindings.iter().zip(loaded) {
            match (loaded, kept(binding)) {
                (Some(reloader), _) => {
                    origins.push(begin(&reloader, binding, self.workers.len()));
                    reloaders.push(reloader);
                }
                (None, Some(index)) => {
                    origins.push(Descent::Kept(index));
                    reloaders.extend(before[index].take());
                }
                (None, None) => unreachable!("what is not kept was loaded"),
            }
        }
        let plan = Arc::new(Plan {
            routes: Arc::new(Routes::new(&config.bindings)),
            bindings: config.bindings,
            origins,
            doors: listeners.doors.clone(),
            access: old.access.clone(),
            access_is_json: old.access_is_json,
            reload: old.reload.clone(),
        });
        // No worker is handed a connection of a listener that its plan does not know.
        self.porter.close(close);
        let transferred = self.porter.take(&transfer);
        self.tell_all(|done| Command::Follow(Arc::clone(&plan), done));
        let is_new = |index: usize| matches!(plan.origins[index], Descent::New(..));
        let status = announce(&plan, reloaders, &open, is_new);
        open.extend(transferred);
        self.porter.open(open);
        self.plan = plan;
        self.listeners = listeners;
        systemd::status(&status);
        tracing::info!(
            bindings = self.plan.bindings.len(),
            "using the new configuration"
        );
        Ok(())
    }

    /// Says what a running process cannot change.
    fn warn_of_the_rest(&self, config: &Config) {
        if config.workers.get() != self.workers.len() {
            tracing::warn!("`workers` has changed: restart to use it");
        }
        if config.log != self.log {
            tracing::warn!("[log] has changed: restart to use it");
        }
    }

    /// Tells every worker, and waits until all have done it.
    fn tell_all(&self, command: impl Fn(std::sync::mpsc::SyncSender<()>) -> Command) {
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
