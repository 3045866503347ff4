//! Threads that read files and make sense of them: one for each attempt, a few at a time.
//!
//! An attempt that takes long does not count as one of the few, because it may be waiting for a
//! file system that never answers. Where a subject's attempt has hung for a while, another may be
//! started beside it: its files may be somewhere else by now.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::Subject;

/// Runs attempts, each of which finds a `T`.
pub struct Loaders<T> {
    report: Arc<dyn Fn(Finished<T>) + Send + Sync>,
    next: u64,
    waiting: VecDeque<(Subject, u64)>,
    running: Vec<Running>,
    // The newest attempt that has finished.
    newest: HashMap<Subject, u64>,
    // When a thread could not be started.
    failed: Option<Instant>,
}

/// An attempt that has finished.
pub struct Finished<T> {
    /// What it was about.
    pub subject: Subject,
    number: u64,
    /// What it found.
    pub found: Result<T, Panicked>,
}

/// An attempt has panicked.
#[derive(Debug)]
pub struct Panicked(Option<&'static str>);

struct Running {
    subject: Subject,
    number: u64,
    since: Instant,
    reported: bool,
}

impl<T: Send + 'static> Loaders<T> {
    /// `report` is called from the thread of each attempt.
    pub fn new(report: impl Fn(Finished<T>) + Send + Sync + 'static) -> Self {
        Self {
            report: Arc::new(report),
            next: 1,
            waiting: VecDeque::new(),
            running: Vec::new(),
            newest: HashMap::new(),
            failed: None,
        }
    }

    /// Has an attempt made for `subject` that begins after this. Returns its number.
    pub fn submit(&mut self, subject: Subject) -> u64 {
        if let Some((_, number)) = self.waiting.iter().find(|(other, _)| *other == subject) {
            return *number;
        }
        let number = self.next;
        self.next += 1;
        self.waiting.push_back((subject, number));
        number
    }

    /// Starts what can be started. `attempt` returns what is to be run for a subject; `None` if
    /// that no longer exists.
    pub fn start<F>(&mut self, now: Instant, attempt: impl Fn(Subject) -> Option<F>)
    where
        F: FnOnce() -> T + Send + 'static,
    {
        self.failed = None;
        while self.may_start_any(now) {
            let ready = |(subject, _): &(Subject, u64)| self.may_start(*subject, now);
            let Some(at) = self.waiting.iter().position(ready) else {
                return;
            };
            let Some((subject, number)) = self.waiting.remove(at) else {
                return;
            };
            let Some(work) = attempt(subject) else {
                continue;
            };
            match self.spawn(subject, number, work) {
                Ok(()) => self.running.push(Running {
                    subject,
                    number,
                    since: now,
                    reported: false,
                }),
                Err(error) => {
                    tracing::warn!(%error, "cannot start a thread to read files");
                    self.waiting.push_front((subject, number));
                    self.failed = Some(now);
                    return;
                }
            }
        }
    }

    fn spawn(
        &self,
        subject: Subject,
        number: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<()> {
        let report = Arc::clone(&self.report);
        let run = move || {
            let found = catch_unwind(AssertUnwindSafe(work));
            // Only a literal: a text made when it panicked may quote a secret file.
            let found = found.map_err(|panic| Panicked(panic.downcast_ref().copied()));
            report(Finished {
                subject,
                number,
                found,
            });
        };
        thread::Builder::new()
            .name("loader".to_owned())
            .spawn(run)
            .map(drop)
    }

    /// Notes that an attempt has finished. Returns its number, and whether it is newer than every
    /// other of its subject that has.
    pub fn finish(&mut self, finished: &Finished<T>) -> (u64, bool) {
        let Finished {
            subject, number, ..
        } = *finished;
        self.running.retain(|running| running.number != number);
        let newest = self.newest.entry(subject).or_default();
        let is_newest = *newest < number;
        *newest = number.max(*newest);
        (number, is_newest)
    }

    /// Forgets a subject that no longer exists.
    pub fn forget(&mut self, subject: Subject) {
        self.waiting.retain(|(other, _)| *other != subject);
        self.newest.remove(&subject);
    }

    /// The subjects whose attempt has hung for a while by `now`, each once.
    pub fn newly_hung(&mut self, now: Instant) -> Vec<Subject> {
        let hung = self.running.iter_mut();
        let hung = hung.filter(|running| !running.reported && running.since + HUNG <= now);
        hung.map(|running| {
            running.reported = true;
            running.subject
        })
        .collect()
    }

    /// Whether an attempt for `subject` has hung for a while by `now`.
    pub fn is_hung(&self, subject: Subject, now: Instant) -> bool {
        let of = |running: &&Running| running.subject == subject;
        self.running
            .iter()
            .filter(of)
            .any(|running| running.since + HUNG <= now)
    }

    /// When something is to be done next that no report will lead to.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let retry = self.failed.map(|failed| failed + HUNG);
        let limits = self.running.iter().flat_map(|running| {
            let slow = (!self.waiting.is_empty()).then_some(running.since + SLOW);
            let hung =
                (!running.reported || !self.waiting.is_empty()).then_some(running.since + HUNG);
            [slow, hung]
        });
        limits
            .flatten()
            .filter(|limit| *limit > now)
            .chain(retry)
            .min()
    }

    fn may_start_any(&self, now: Instant) -> bool {
        let quick = |running: &&Running| running.since + SLOW > now;
        self.running.iter().filter(quick).count() < AT_ONCE
    }

    fn may_start(&self, subject: Subject, now: Instant) -> bool {
        let mut own = self.running.iter().filter(|one| one.subject == subject);
        own.clone().count() < MOST_HUNG && own.all(|one| one.since + HUNG <= now)
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(text) => write!(f, "internal error while loading: {text}"),
            None => f.write_str("internal error while loading"),
        }
    }
}

/// Attempts that read files at the same time.
const AT_ONCE: usize = 4;
/// After this long, an attempt no longer counts as one of these.
const SLOW: Duration = Duration::from_secs(1);
/// After this long, an attempt may never end.
pub const HUNG: Duration = Duration::from_secs(5);
/// Attempts for one subject that may hang at the same time.
const MOST_HUNG: usize = 3;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    type Work = Box<dyn FnOnce() -> &'static str + Send>;

    fn loaders() -> (Loaders<&'static str>, Receiver<Finished<&'static str>>) {
        let (sender, finished) = channel();
        let loaders = Loaders::new(move |report| {
            let _ = sender.send(report);
        });
        (loaders, finished)
    }

    /// Work that ends when the sender is dropped.
    fn hanging() -> (Sender<()>, impl Fn() -> Work) {
        let (sender, receiver) = channel::<()>();
        let receiver = Arc::new(std::sync::Mutex::new(receiver));
        let work = move || {
            let receiver = Arc::clone(&receiver);
            Box::new(move || {
                let _ = receiver.lock().map(|receiver| receiver.recv());
                "late"
            }) as Work
        };
        (sender, work)
    }

    #[test]
    fn one_subject_that_hangs_holds_up_no_other() {
        let (mut loaders, finished) = loaders();
        let (release, work) = hanging();
        let start = Instant::now();
        let hung = loaders.submit(1);
        loaders.start(start, |_| Some(work()));
        for subject in 2..20 {
            loaders.submit(subject);
            loaders.start(start, |_| Some(|| "quick"));
            let report = finished.recv_timeout(PATIENCE).unwrap();
            loaders.finish(&report);
            assert_eq!((report.subject, report.found.unwrap()), (subject, "quick"));
        }
        drop(release);
        let report = finished.recv_timeout(PATIENCE).unwrap();
        assert_eq!(loaders.finish(&report), (hung, true));
    }

    #[test]
    fn many_that_hang_hold_up_the_others_for_a_second() {
        let (mut loaders, finished) = loaders();
        let (_release, work) = hanging();
        let start = Instant::now();
        for subject in 1..=2 * AT_ONCE as u64 {
            loaders.submit(subject);
        }
        loaders.start(start, |_| Some(work()));
        loaders.submit(100);
        loaders.start(start, |_| Some(Box::new(|| "quick") as Work));
        assert_eq!(loaders.next(start), Some(start + SLOW));
        loaders.start(start + SLOW, |_| Some(work()));
        loaders.start(start + SLOW * 2, |_| Some(Box::new(|| "quick") as Work));
        assert_eq!(finished.recv_timeout(PATIENCE).unwrap().subject, 100);
    }

    #[test]
    fn a_subject_that_hangs_is_tried_again_beside_it_and_the_newest_counts() {
        let (mut loaders, finished) = loaders();
        let (release, work) = hanging();
        let start = Instant::now();
        loaders.submit(1);
        loaders.start(start, |_| Some(work()));
        let second = loaders.submit(1);
        loaders.start(start, |_| Some(Box::new(|| "quick") as Work));
        assert!(loaders.newly_hung(start + SLOW).is_empty());
        assert_eq!(loaders.newly_hung(start + HUNG), [1]);
        assert!(loaders.newly_hung(start + HUNG).is_empty());
        loaders.start(start + HUNG, |_| Some(Box::new(|| "quick") as Work));
        assert_eq!(
            loaders.finish(&finished.recv_timeout(PATIENCE).unwrap()),
            (second, true)
        );
        drop(release);
        let late = finished.recv_timeout(PATIENCE).unwrap();
        assert!(!loaders.finish(&late).1);
        assert!(!loaders.is_hung(1, start + HUNG * 2));
    }

    #[test]
    fn what_waits_to_begin_need_not_wait_twice() {
        let (mut loaders, _finished) = loaders();
        assert_eq!(loaders.submit(1), loaders.submit(1));
        assert_ne!(loaders.submit(1), loaders.submit(2));
    }

    #[test]
    fn a_panic_is_reported_without_what_it_may_quote() {
        let (mut loaders, finished) = loaders();
        let texts: [(Work, &str); 2] = [
            (
                Box::new(|| panic!("a literal")),
                "internal error while loading: a literal",
            ),
            (
                Box::new(|| panic!("key {}", "secret".len())),
                "internal error while loading",
            ),
        ];
        for (work, said) in texts {
            let work = std::cell::Cell::new(Some(work));
            loaders.submit(1);
            loaders.start(Instant::now(), |_| work.take());
            let report = finished.recv_timeout(PATIENCE).unwrap();
            loaders.finish(&report);
            assert_eq!(report.found.unwrap_err().to_string(), said);
        }
    }
}
