//! Keeps the bindings' identities fresh: watches their files, looks at them again, and publishes a
//! new Generation when they make one.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant, SystemTime};

use humantime::format_rfc3339_seconds;

use crate::config::{Binding, BindingName, Source, Trust};
use crate::tls::{Fingerprint, Generation, Inputs, LoadError};
use crate::watch::{Change, Concerned, Watcher};

/// Keeps one binding's identity fresh.
pub struct Reloader {
    name: BindingName,
    source: Source,
    trust: Trust,
    current: Arc<Generation>,
    // What the files held when they were last judged, for better or worse.
    seen: Fingerprint,
    refused: Option<Refusal>,
}

/// What was last refused, so that it is not said twice.
#[derive(PartialEq, Eq)]
struct Refusal {
    // `None` when the files could not even be read.
    content: Option<Fingerprint>,
    reason: String,
}

/// What became of looking at the files again.
#[derive(Debug)]
pub enum Outcome {
    /// They make a new Generation.
    Published(Arc<Generation>),
    /// They make none; the Generation before stays in use. Said once for the same files.
    Refused(LoadError),
    /// Nothing new.
    Unchanged,
    /// What was refused is gone, and the files are those of the Generation in use.
    Recovered,
}

impl Reloader {
    /// Loads the identity of `binding` for the first time. A certificate that is expired or not
    /// yet valid is loaded: a clock may be wrong, a renewal late.
    ///
    /// # Errors
    ///
    /// When the files cannot be read or do not make an identity.
    pub fn load(binding: &Binding) -> Result<Self, LoadError> {
        let inputs = Inputs::read(&binding.source, &binding.trust)?;
        let generation = Generation::new(1, &binding.source, &binding.trust, &inputs)?;
        Ok(Self {
            name: binding.name.clone(),
            source: binding.source.clone(),
            trust: binding.trust.clone(),
            current: Arc::new(generation),
            seen: inputs.fingerprint(),
            refused: None,
        })
    }

    /// The Generation in use.
    pub fn current(&self) -> &Arc<Generation> {
        &self.current
    }

    /// Whether the certificate in use is valid at `now`.
    ///
    /// # Errors
    ///
    /// Why it is not.
    pub fn check_validity(&self, now: SystemTime) -> Result<(), LoadError> {
        self.current.check_validity(&self.source.certificate, now)
    }

    /// The files that decide about this binding.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let bundle = match &self.trust {
            Trust::Bundle(path) => Some(path.as_path()),
            Trust::System | Trust::Mozilla => None,
        };
        [self.source.certificate.as_path(), self.source.key.as_path()]
            .into_iter()
            .chain(bundle)
    }

    /// Looks at the files again.
    pub fn reload(&mut self, now: SystemTime) -> Outcome {
        let inputs = match Inputs::read(&self.source, &self.trust) {
            Ok(inputs) => inputs,
            Err(error) => return self.refuse(None, error),
        };
        let content = inputs.fingerprint();
        if content == self.seen
            && self
                .refused
                .as_ref()
                .is_none_or(|refusal| refusal.content == Some(content))
        {
            return Outcome::Unchanged;
        }
        let number = self.current.number() + 1;
        let made =
            Generation::new(number, &self.source, &self.trust, &inputs).and_then(|generation| {
                generation.check_validity(&self.source.certificate, now)?;
                Ok(generation)
            });
        match made {
            Ok(_) if content == self.seen => {
                // The very files that are in use: they had only been away.
                self.refused = None;
                Outcome::Recovered
            }
            Ok(generation) => {
                self.seen = content;
                self.refused = None;
                self.current = Arc::new(generation);
                Outcome::Published(Arc::clone(&self.current))
            }
            Err(error) => self.refuse(Some(content), error),
        }
    }

    fn refuse(&mut self, content: Option<Fingerprint>, error: LoadError) -> Outcome {
        let source =
            std::error::Error::source(&error).map_or(String::new(), |source| format!(": {source}"));
        let refusal = Refusal {
            content,
            reason: format!("{error}{source}"),
        };
        if self.refused.as_ref() == Some(&refusal) {
            return Outcome::Unchanged;
        }
        self.refused = Some(refusal);
        Outcome::Refused(error)
    }
}

/// What wakes the reload thread.
pub enum Signal {
    /// Files changed.
    Changed(Change),
    /// Look at everything now, and answer when that is done.
    Everything(SyncSender<()>),
    /// Come to an end.
    Stop,
}

/// Runs until told to stop: waits for signals, looks at the files that changed (and at all of them
/// now and then, because not every file system tells), and hands new Generations to `publish`,
/// which returns when every worker uses them.
pub fn run(
    reloaders: &mut [Reloader],
    watcher: &mut Watcher,
    signals: &Receiver<Signal>,
    mut publish: impl FnMut(usize, &Arc<Generation>),
) {
    let mut due = Due::new(Instant::now());
    // Whatever changed between loading and watching.
    refresh(reloaders, watcher, &Concerned::All, &mut publish);
    loop {
        match signals.recv_timeout(due.next().saturating_duration_since(Instant::now())) {
            Ok(Signal::Changed(change)) => due.changed(watcher.concerned(&change), Instant::now()),
            Ok(Signal::Everything(done)) => {
                due.everything(Instant::now());
                refresh(reloaders, watcher, &Concerned::All, &mut publish);
                // Whoever asked may have lost interest.
                let _ = done.send(());
            }
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        crate::lifecycle::fault("reloader");
        if let Some(which) = due.take(Instant::now()) {
            refresh(reloaders, watcher, &which, &mut publish);
        }
    }
}

fn refresh(
    reloaders: &mut [Reloader],
    watcher: &mut Watcher,
    which: &Concerned,
    publish: &mut impl FnMut(usize, &Arc<Generation>),
) {
    tracing::debug!(?which, "looking at files");
    // First watch, then read: what changes after the reading is noticed.
    let paths = reloaders
        .iter()
        .enumerate()
        .flat_map(|(index, reloader)| reloader.paths().map(move |path| (index, path)));
    for (directory, error) in watcher.follow(paths) {
        tracing::warn!(directory = %directory.display(), %error, "cannot watch; its files are polled");
    }
    for (index, reloader) in reloaders.iter_mut().enumerate() {
        if let Concerned::Some(some) = which
            && !some.contains(&index)
        {
            continue;
        }
        let binding = reloader.name.clone();
        match reloader.reload(SystemTime::now()) {
            Outcome::Unchanged => {}
            Outcome::Published(generation) => {
                publish(index, &generation);
                let leaf = generation.identity().leaf();
                tracing::info!(
                    %binding,
                    generation = generation.number(),
                    subject = leaf.subject,
                    serial = leaf.serial,
                    not_after = %format_rfc3339_seconds(leaf.not_after),
                    "published"
                );
            }
            Outcome::Refused(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let help = error.help();
                tracing::error!(
                    %binding,
                    generation = reloader.current.number(),
                    %error,
                    cause,
                    help,
                    "refused new files, the certificate before stays in use"
                );
            }
            Outcome::Recovered => {
                tracing::info!(%binding, generation = reloader.current.number(), "files are back as they were");
            }
        }
    }
}

/// When to look, and at what.
struct Due {
    poll: Instant,
    // When it has been quiet for long enough, when to stop waiting for quiet, and what changed.
    changed: Option<(Instant, Instant, Concerned)>,
}

impl Due {
    fn new(now: Instant) -> Self {
        Self {
            poll: now + POLL,
            changed: None,
        }
    }

    fn next(&self) -> Instant {
        match &self.changed {
            Some((quiet, ..)) => self.poll.min(*quiet),
            None => self.poll,
        }
    }

    fn changed(&mut self, which: Concerned, now: Instant) {
        if which == Concerned::Some(BTreeSet::new()) {
            return;
        }
        self.changed = Some(match self.changed.take() {
            None => (now + QUIET, now + LATEST, which),
            Some((_, latest, earlier)) => (latest.min(now + QUIET), latest, union(earlier, which)),
        });
    }

    fn everything(&mut self, now: Instant) {
        self.poll = now + POLL;
        self.changed = None;
    }

    fn take(&mut self, now: Instant) -> Option<Concerned> {
        if self.poll <= now {
            self.everything(now);
            return Some(Concerned::All);
        }
        match &self.changed {
            Some((quiet, ..)) if *quiet <= now => self.changed.take().map(|(.., which)| which),
            _ => None,
        }
    }
}

fn union(one: Concerned, two: Concerned) -> Concerned {
    match (one, two) {
        (Concerned::Some(one), Concerned::Some(two)) => Concerned::Some(&one | &two),
        _ => Concerned::All,
    }
}

/// Not every file system tells what happens to it, and no watch is perfect.
const POLL: Duration = Duration::from_secs(30);
/// A tool that writes two files does so within this.
const QUIET: Duration = Duration::from_millis(100);
/// A tool that never stops writing is looked at all the same.
const LATEST: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn some(indices: &[usize]) -> Concerned {
        Concerned::Some(indices.iter().copied().collect())
    }

    #[test]
    fn changes_are_collected_until_it_is_quiet() {
        let start = Instant::now();
        let mut due = Due::new(start);
        due.changed(some(&[]), start);
        assert_eq!(due.next(), start + POLL);
        due.changed(some(&[1]), start);
        due.changed(some(&[2]), start + QUIET / 2);
        assert_eq!(due.take(start + QUIET), None);
        assert_eq!(due.take(start + QUIET * 2), Some(some(&[1, 2])));
        assert_eq!(due.take(start + QUIET * 3), None);
    }

    #[test]
    fn a_tool_that_never_stops_writing_is_looked_at_all_the_same() {
        let start = Instant::now();
        let mut due = Due::new(start);
        let mut now = start;
        while now < start + LATEST {
            due.changed(some(&[1]), now);
            assert_eq!(due.take(now), None);
            now += QUIET / 2;
        }
        assert_eq!(due.take(start + LATEST), Some(some(&[1])));
    }

    #[test]
    fn everything_is_looked_at_now_and_then() {
        let start = Instant::now();
        let mut due = Due::new(start);
        assert_eq!(due.take(start + POLL), Some(Concerned::All));
        assert_eq!(due.next(), start + POLL * 2);
    }
}
