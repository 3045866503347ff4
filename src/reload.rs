//! Keeps everything fresh that files decide about: watches them, looks at them again, and has the
//! daemon use what they say.

mod due;
mod reloader;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Instant, SystemTime};

use tokio::sync::oneshot;

use crate::timestamp::rfc3339;
use crate::tls::Generation;
use crate::watch::{Change, Concerned, Watcher};

use due::Due;

pub use reloader::{Outcome, Refusal, Reloader};

/// What wakes the reload thread.
pub enum Signal {
    /// Files changed.
    Changed(Change),
    /// Look at everything now, and answer when that is done.
    Everything(SyncSender<()>),
    /// An origin refused the certificate of the binding of this name: look at its files, and answer
    /// with the number of the Generation in use then.
    Suspect(Box<str>, oneshot::Sender<u64>),
    /// Come to an end.
    Stop,
}

/// What the reload thread works for.
pub trait Daemon {
    /// Has the binding with this index use a Generation; returns when every worker does.
    fn publish(&mut self, binding: usize, generation: &Arc<Generation>);

    /// The files that the configuration is taken from.
    fn configuration(&self) -> Vec<PathBuf>;

    /// Looks at them again, and replaces `reloaders` if that changed the
    /// bindings.
    fn reconfigure(&mut self, reloaders: &mut Vec<Reloader>);
}

/// Runs until told to stop: waits for signals, and looks at the files that changed (and at all of
/// them now and then, because not every file system tells).
pub fn run(
    mut reloaders: Vec<Reloader>,
    watcher: &mut Watcher,
    signals: &Receiver<Signal>,
    daemon: &mut impl Daemon,
) {
    let mut due = Due::new(Instant::now());
    // Whatever changed between loading and watching.
    refresh(&mut reloaders, watcher, &Concerned::All, daemon);
    loop {
        match signals.recv_timeout(due.next().saturating_duration_since(Instant::now())) {
            Ok(Signal::Changed(change)) => due.changed(watcher.concerned(&change), Instant::now()),
            Ok(Signal::Everything(done)) => {
                due.everything(Instant::now());
                refresh(&mut reloaders, watcher, &Concerned::All, daemon);
                // Whoever asked may have lost interest.
                let _ = done.send(());
            }
            Ok(Signal::Suspect(name, answer)) => {
                let index = reloaders
                    .iter()
                    .position(|reloader| reloader.name().as_str() == &*name);
                // A binding that is gone has no newer Generation.
                if let Some(index) = index {
                    let reloader = &mut reloaders[index];
                    if reloader.may_suspect(Instant::now()) {
                        look(index, reloader, daemon);
                    }
                    let _ = answer.send(reloader.current().number());
                }
            }
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        crate::lifecycle::fault("reloader");
        if let Some(which) = due.take(Instant::now()) {
            refresh(&mut reloaders, watcher, &which, daemon);
        }
    }
}

fn refresh(
    reloaders: &mut Vec<Reloader>,
    watcher: &mut Watcher,
    which: &Concerned,
    daemon: &mut impl Daemon,
) {
    tracing::debug!(?which, "looking at files");
    let concerns = |index: &usize| match which {
        Concerned::All => true,
        Concerned::Some(some) => some.contains(index),
    };
    // First watch, then read: what changes after the reading is noticed.
    follow(reloaders, watcher, daemon);
    if concerns(&CONFIGURATION) {
        daemon.reconfigure(reloaders);
        follow(reloaders, watcher, daemon);
    }
    for (index, reloader) in reloaders.iter_mut().enumerate() {
        if concerns(&index) {
            look(index, reloader, daemon);
        }
    }
}

/// Watches exactly the files that matter now.
fn follow(reloaders: &[Reloader], watcher: &mut Watcher, daemon: &impl Daemon) {
    let configuration = daemon.configuration();
    let paths = reloaders
        .iter()
        .enumerate()
        .flat_map(|(index, reloader)| reloader.paths().map(move |path| (index, path)))
        .chain(
            configuration
                .iter()
                .map(|path| (CONFIGURATION, path.as_path())),
        );
    for (directory, error) in watcher.follow(paths) {
        tracing::warn!(directory = %directory.display(), %error, "cannot watch; its files are polled");
    }
}

/// Looks at one binding's files, and says what is to be said.
fn look(index: usize, reloader: &mut Reloader, daemon: &mut impl Daemon) {
    let binding = reloader.name().clone();
    match reloader.reload(SystemTime::now()) {
        Outcome::Unchanged => {}
        Outcome::Published(generation) => {
            daemon.publish(index, &generation);
            let leaf = generation.identity().leaf();
            tracing::info!(
                %binding,
                generation = generation.number(),
                subject = leaf.subject,
                serial = leaf.serial,
                not_after = %rfc3339(leaf.not_after),
                "published"
            );
        }
        Outcome::Refused(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let help = error.help();
            tracing::error!(
                %binding,
                generation = reloader.current().number(),
                last_success = %rfc3339(reloader.last_success()),
                %error,
                cause,
                help,
                "refused new files, the certificate before stays in use"
            );
        }
        Outcome::Recovered => {
            tracing::info!(%binding, generation = reloader.current().number(), "files are back as they were");
        }
    }
    remark(reloader, SystemTime::now());
}

/// Says what is odd about a certificate in use, each thing once.
pub fn remark(reloader: &mut Reloader, now: SystemTime) {
    let binding = reloader.name().clone();
    for remark in reloader.new_remarks(now) {
        tracing::warn!(%binding, %remark, "about the certificate");
    }
    if let Some(error) = reloader.complaint(now) {
        tracing::error!(
            %binding,
            %error,
            help = error.help(),
            "presenting a certificate that origins will refuse"
        );
    }
}

/// What the configuration file counts as among the bindings.
const CONFIGURATION: usize = usize::MAX;
