//! The reload thread: waits for what leads to a reload, has files read by threads of their own, and
//! applies what they found. It never reads a file itself, so nothing that hangs can stop it.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::lifecycle::{fault, wall_clock};
use crate::reload::{
    CONFIGURATION, Due, Finished, Found, Loaders, Outcome, Panicked, Reloader, Subject,
};
use crate::systemd;
use crate::timestamp::rfc3339;
use crate::tls::Remark;
use crate::watch::{Change, Concerned, Trail, Watcher};

use super::candidate::{Candidate, Reason, follow};
use super::operator::Operator;
use super::status;

/// What wakes the reload thread.
pub enum Signal {
    /// Files changed.
    Changed(Change),
    /// Read everything now, and answer when that is done.
    Everything(SyncSender<Summary>),
    /// An origin refused the certificate of the binding of this name: read its files, and answer
    /// with the number of the Generation in use then.
    Suspect(Box<str>, oneshot::Sender<u64>),
    /// An attempt has finished.
    Loaded(Finished<Loaded>),
    /// End.
    Stop,
}

/// What an attempt found.
pub enum Loaded {
    Identity(Found),
    Configuration(Candidate),
}

/// What came of reading everything.
#[derive(Default)]
pub struct Summary {
    /// What is rejected, bindings or the configuration, and why.
    pub rejected: Vec<(String, String)>,
    /// What has not been read, because something did not answer.
    pub unfinished: Vec<String>,
}

/// The reload thread.
pub struct Reloading {
    operator: Operator,
    reloaders: Vec<Reloader>,
    watcher: Arc<Mutex<Watcher>>,
    loaders: Loaders<Loaded>,
    due: Due,
    requests: Vec<Request>,
    suspects: Vec<Suspect>,
    status: String,
    // Whether anything has come of an attempt that the board does not show.
    board_is_stale: bool,
    // When it may be written next, unless somebody waits for it.
    board_due: Instant,
}

/// Somebody waits until everything has been read.
struct Request {
    done: SyncSender<Summary>,
    since: Instant,
    // The attempts that it waits for.
    left: BTreeMap<Subject, u64>,
}

/// Somebody waits for an attempt for one binding.
struct Suspect {
    subject: Subject,
    attempt: u64,
    answer: oneshot::Sender<u64>,
}

impl Reloading {
    /// `loaders` reports to the signals that [`Reloading::run`] is given.
    pub fn new(
        operator: Operator,
        reloaders: Vec<Reloader>,
        watcher: Watcher,
        loaders: Loaders<Loaded>,
    ) -> Self {
        // As it was told at the start.
        let status = status::line(operator.plan.bindings.len(), &[]);
        Self {
            operator,
            reloaders,
            watcher: Arc::new(Mutex::new(watcher)),
            loaders,
            due: Due::new(Instant::now()),
            requests: Vec::new(),
            suspects: Vec::new(),
            status,
            board_is_stale: false,
            board_due: Instant::now(),
        }
    }

    /// Runs until told to stop.
    pub fn run(mut self, signals: &Receiver<Signal>) {
        // Whatever changed between loading and watching.
        self.read(&Concerned::All);
        loop {
            self.start();
            match signals.recv_timeout(self.wait()) {
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(signal) => self.handle(signal),
                Err(RecvTimeoutError::Timeout) => {}
            }
            fault("reloader");
            let now = Instant::now();
            if let Some(which) = self.due.take(now, wall_clock()) {
                self.read(&which);
            }
            for subject in self.loaders.newly_hung(now) {
                tracing::error!(
                    binding = self.name(subject),
                    next_step = "check for a file system that does not respond",
                    "reload has not finished; keeping what is in use"
                );
            }
            self.write_board();
            self.answer(now);
            self.report_status(now);
        }
    }

    fn handle(&mut self, signal: Signal) {
        let now = Instant::now();
        match signal {
            Signal::Changed(change) => {
                let watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
                let concerned = watcher.concerned(&change);
                drop(watcher);
                self.due.changed(concerned, now);
            }
            Signal::Everything(done) => {
                self.due.everything(now);
                let left = self.read(&Concerned::All);
                self.requests.push(Request {
                    done,
                    since: now,
                    left,
                });
            }
            Signal::Suspect(name, answer) => {
                let mut reloaders = self.reloaders.iter_mut();
                let found = reloaders.find(|reloader| reloader.name().as_str() == &*name);
                // A binding that is gone has no newer Generation.
                let Some(reloader) = found else { return };
                if reloader.may_suspect(now) {
                    let subject = reloader.subject();
                    let attempt = self.loaders.submit(subject);
                    self.suspects.push(Suspect {
                        subject,
                        attempt,
                        answer,
                    });
                } else {
                    // The receiver may be gone: its wait has a limit.
                    let _ = answer.send(reloader.current().number());
                }
            }
            Signal::Loaded(finished) => self.finish(finished),
            Signal::Stop => {}
        }
    }

    /// How long there is nothing to do.
    fn wait(&self) -> Duration {
        let now = Instant::now();
        let until = |at: Instant| at.saturating_duration_since(now);
        let requests = self
            .requests
            .iter()
            .map(|request| until(request.since + LONGEST));
        let loaders = self.loaders.next(now).map(until);
        let wait = self.due.wait(now, wall_clock());
        let board = self.board_is_stale.then(|| until(self.board_due));
        requests
            .chain(loaders)
            .chain(board)
            .min()
            .map_or(wait, |other| wait.min(other))
    }

    /// Has files read. Returns the attempts that this takes.
    fn read(&mut self, which: &Concerned) -> BTreeMap<Subject, u64> {
        let subjects = self.reloaders.iter().map(Reloader::subject);
        let all = std::iter::once(CONFIGURATION).chain(subjects);
        let concerned = |subject: &Subject| match which {
            Concerned::All => true,
            Concerned::Some(some) => some.contains(subject),
        };
        let concerned: Vec<_> = all.filter(concerned).collect();
        tracing::debug!(subjects = ?concerned, "reading files");
        concerned
            .into_iter()
            .map(|subject| (subject, self.loaders.submit(subject)))
            .collect()
    }

    /// Starts the attempts that can be started.
    fn start(&mut self) {
        let (operator, reloaders, watcher) = (&self.operator, &self.reloaders, &self.watcher);
        self.loaders.start(Instant::now(), |subject| {
            let work: Box<dyn FnOnce() -> Loaded + Send> = if subject == CONFIGURATION {
                let attempt = operator.attempt(watcher)?;
                Box::new(move || Loaded::Configuration(attempt.run()))
            } else {
                let reloader = reloaders.iter().find(|one| one.subject() == subject)?;
                let (recipe, attempt) = (Arc::clone(reloader.recipe()), reloader.attempt());
                let watcher = Arc::clone(watcher);
                Box::new(move || {
                    // First watch, then read: what changes after the reading is noticed.
                    follow(&watcher, subject, Trail::of(recipe.paths()));
                    Loaded::Identity(attempt())
                })
            };
            Some(work)
        });
    }

    /// Applies what an attempt found.
    fn finish(&mut self, finished: Finished<Loaded>) {
        let (number, is_newest) = self.loaders.finish(&finished);
        self.board_is_stale = true;
        let subject = finished.subject;
        if is_newest {
            match finished.found {
                Ok(Loaded::Configuration(candidate)) => self.configure(candidate),
                Ok(Loaded::Identity(found)) => self.judge(subject, Ok(found)),
                Err(panicked) if subject == CONFIGURATION => {
                    self.reject_configuration(Reason {
                        text: panicked.to_string(),
                        retry_at: None,
                        files: self.operator.awaited.clone(),
                    });
                }
                Err(panicked) => self.judge(subject, Err(panicked)),
            }
        }
        for request in &mut self.requests {
            request
                .left
                .retain(|other, needed| *other != subject || *needed > number);
        }
        let answered =
            |suspect: &mut Suspect| suspect.subject == subject && suspect.attempt <= number;
        for suspect in self.suspects.extract_if(.., answered) {
            if let Some(reloader) = self.reloaders.iter().find(|one| one.subject() == subject) {
                // The receiver may be gone: its wait has a limit.
                let _ = suspect.answer.send(reloader.current().number());
            }
        }
    }

    /// Applies what an attempt for a binding found, and logs it.
    fn judge(&mut self, subject: Subject, found: Result<Found, Panicked>) {
        let mut reloaders = self.reloaders.iter_mut().enumerate();
        let Some((index, reloader)) = reloaders.find(|(_, one)| one.subject() == subject) else {
            let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
            watcher.forget(subject);
            self.loaders.forget(subject);
            return;
        };
        let now = wall_clock();
        let binding = reloader.name().clone();
        match reloader.judge(found, now) {
            Outcome::Unchanged => {}
            Outcome::Overtaken => {
                self.loaders.submit(subject);
            }
            Outcome::Published(generation) => {
                self.operator.publish(index, &generation);
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
            Outcome::Rejected(help) => log_rejection(reloader, help.as_deref()),
            Outcome::Recovered => {
                let generation = reloader.current().number();
                tracing::info!(%binding, generation, "certificate reload recovered");
            }
        }
        let rejection = reloader.rejection();
        self.due
            .appoint(subject, rejection.and_then(|rejection| rejection.retry_at));
        remark(reloader);
    }

    /// Uses a new configuration, or rejects it.
    fn configure(&mut self, candidate: Candidate) {
        match candidate {
            Candidate::Same => {
                if self.operator.settle() {
                    tracing::info!("configuration reload recovered");
                }
            }
            Candidate::Rejected(reason) => return self.reject_configuration(reason),
            Candidate::Ready(ready) => {
                let before: Vec<_> = self.reloaders.iter().map(Reloader::subject).collect();
                match self
                    .operator
                    .adopt(*ready, std::mem::take(&mut self.reloaders))
                {
                    Ok(reloaders) => self.reloaders = reloaders,
                    Err(reloaders) => {
                        self.reloaders = reloaders;
                        self.loaders.submit(CONFIGURATION);
                        return;
                    }
                }
                self.forget_all_but_current(&before);
                // Whatever changed between loading and watching.
                self.read(&Concerned::All);
            }
        }
        self.due.appoint(CONFIGURATION, None);
    }

    fn forget_all_but_current(&mut self, before: &[Subject]) {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        for subject in before {
            if self
                .reloaders
                .iter()
                .all(|reloader| reloader.subject() != *subject)
            {
                watcher.forget(*subject);
                self.loaders.forget(*subject);
                self.due.appoint(*subject, None);
                self.suspects.retain(|suspect| suspect.subject != *subject);
                for request in &mut self.requests {
                    request.left.remove(subject);
                }
            }
        }
    }

    fn reject_configuration(&mut self, reason: Reason) {
        let Reason {
            text,
            retry_at,
            files,
        } = reason;
        self.operator.awaited = files;
        self.due.appoint(CONFIGURATION, retry_at);
        if self.operator.reject(text, retry_at, wall_clock())
            && let Some(rejection) = self.operator.rejection()
        {
            tracing::error!(
                error = rejection.reason,
                "configuration reload failed; keeping the current configuration"
            );
        }
    }

    /// Brings the board up to date. It shows every binding, so that writing it after each of many
    /// attempts would take most of the time.
    fn write_board(&mut self) {
        let began = Instant::now();
        let is_awaited = self.requests.iter().any(|request| request.left.is_empty());
        if !self.board_is_stale || (began < self.board_due && !is_awaited) {
            return;
        }
        self.board_is_stale = false;
        self.operator.write_board(&self.reloaders, wall_clock());
        self.board_due = Instant::now() + began.elapsed() * BOARD_PAUSE;
    }

    /// Answers those who wait for everything, when it has been read or has taken too long.
    fn answer(&mut self, now: Instant) {
        let over =
            |request: &mut Request| request.left.is_empty() || request.since + LONGEST <= now;
        let over: Vec<_> = self.requests.extract_if(.., over).collect();
        for request in over {
            let rejected = self.rejected();
            let rejected = rejected.map(|(name, reason)| (name.to_owned(), reason.to_owned()));
            let unfinished = request
                .left
                .keys()
                .filter_map(|subject| self.name(*subject));
            let summary = Summary {
                rejected: rejected.collect(),
                unfinished: unfinished.map(str::to_owned).collect(),
            };
            // The receiver may be gone: its wait has a limit.
            let _ = request.done.send(summary);
        }
    }

    /// What is rejected now, and why.
    fn rejected(&self) -> impl Iterator<Item = (&str, &str)> {
        let configuration = self.operator.rejection();
        let configuration = configuration.map(|rejection| ("configuration", &*rejection.reason));
        let bindings = self.reloaders.iter();
        let bindings =
            bindings.filter_map(|one| Some((one.name().as_str(), &*one.rejection()?.reason)));
        configuration.into_iter().chain(bindings)
    }

    /// Tells the service manager how things stand, when that has changed.
    fn report_status(&mut self, now: Instant) {
        let mut problems: Vec<_> = self.rejected().collect();
        for reloader in &self.reloaders {
            if self.loaders.is_hung(reloader.subject(), now) {
                problems.push((reloader.name().as_str(), "its files do not respond"));
            }
        }
        let status = status::line(self.operator.plan.bindings.len(), &problems);
        if status != self.status {
            systemd::status(&status);
            self.status = status;
        }
    }

    fn name(&self, subject: Subject) -> Option<&str> {
        if subject == CONFIGURATION {
            return Some("configuration");
        }
        let mut reloaders = self.reloaders.iter();
        let found = reloaders.find(|reloader| reloader.subject() == subject);
        found.map(|reloader| reloader.name().as_str())
    }
}

/// Logs what of a binding is rejected.
fn log_rejection(reloader: &Reloader, help: Option<&str>) {
    let Some(rejection) = reloader.rejection() else {
        return;
    };
    tracing::error!(
        binding = %reloader.name(),
        generation = reloader.current().number(),
        last_success = %rfc3339(reloader.last_success()),
        attempts = rejection.attempts,
        retry_at = rejection.retry_at.map(|at| tracing::field::display(rfc3339(at))),
        error = rejection.reason,
        help,
        "certificate reload failed; keeping the current certificate"
    );
}

/// Logs what is odd about a certificate in use, each thing once.
pub fn remark(reloader: &mut Reloader) {
    let now = wall_clock();
    let binding = reloader.name().clone();
    for remark in reloader.new_remarks(now) {
        match remark {
            // A secret of type kubernetes.io/tls usually has no ca.crt.
            Remark::SystemCas(_) => tracing::info!(%binding, %remark, "about the certificate"),
            _ => tracing::warn!(%binding, %remark, "about the certificate"),
        }
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

/// The longest that a reload of everything waits for files. Longer than after which an attempt
/// counts as hung.
const LONGEST: Duration = Duration::from_secs(10);
/// After writing the board, so many times the time that took must pass before it is written again.
const BOARD_PAUSE: u32 = 10;
