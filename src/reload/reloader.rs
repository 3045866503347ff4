//! One binding's identity: what is in use, what was rejected, and what has been logged about either.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use crate::config::{Binding, BindingName};
use crate::tls::{Fingerprint, Generation, LoadError, Remark};

use super::loaders::Panicked;
use super::recipe::{Found, Recipe};
use super::{CONFIGURATION, Subject};

/// Keeps one binding's identity fresh.
pub struct Reloader {
    subject: Subject,
    recipe: Arc<Recipe>,
    current: Arc<Generation>,
    published: SystemTime,
    // What the files of the Generation in use hold.
    in_use: Fingerprint,
    rejected: Option<Rejection>,
    // What was already logged about the Generation in use.
    remarked: Vec<Remark>,
    complained: Option<Instant>,
    // When an origin's alert last led here.
    suspected: Option<Instant>,
}

/// What was last rejected, and why; a success does not erase it from the records.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// When it was rejected first.
    pub at: SystemTime,
    /// Why.
    pub reason: String,
    /// When it would be accepted, if that is a matter of time.
    pub retry_at: Option<SystemTime>,
    /// How many attempts have ended like this.
    pub attempts: u64,
    /// Whether this is still so.
    pub stands: bool,
}

/// What became of an attempt.
#[derive(Debug)]
pub enum Outcome {
    /// The files make a new Generation.
    Published(Arc<Generation>),
    /// They make none; the Generation before stays in use. The [`Rejection`] is new, or for another
    /// reason than the one before.
    Rejected(Option<String>),
    /// Nothing new.
    Unchanged,
    /// What was rejected is gone, and the files are those of the Generation in use.
    Recovered,
    /// The attempt began before something else was published: it has to be repeated.
    Overtaken,
}

impl Reloader {
    /// Loads the identity of `binding` for the first time. A certificate that is expired or not
    /// yet valid is loaded: a clock may be wrong, a renewal late.
    ///
    /// # Errors
    ///
    /// Returns every error if files cannot be read, or the error if they do not make an identity.
    pub fn load(binding: &Binding) -> Result<Self, Vec<LoadError>> {
        static NEXT: AtomicU64 = AtomicU64::new(CONFIGURATION + 1);
        let recipe = Recipe::of(binding);
        let (in_use, generation) = recipe.first()?;
        Ok(Self {
            subject: NEXT.fetch_add(1, Relaxed),
            recipe: Arc::new(recipe),
            current: Arc::new(generation),
            published: SystemTime::now(),
            in_use,
            rejected: None,
            remarked: Vec::new(),
            complained: None,
            suspected: None,
        })
    }

    /// What attempts for this binding are called.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// What the identity is made from.
    pub fn recipe(&self) -> &Arc<Recipe> {
        &self.recipe
    }

    /// The binding's name.
    pub fn name(&self) -> &BindingName {
        &self.recipe.name
    }

    /// The Generation in use.
    pub fn current(&self) -> &Arc<Generation> {
        &self.current
    }

    /// When the Generation in use was loaded: the last success.
    pub fn last_success(&self) -> SystemTime {
        self.published
    }

    /// The last rejection, also one that a success followed.
    pub fn last_rejection(&self) -> Option<&Rejection> {
        self.rejected.as_ref()
    }

    /// What is rejected now.
    pub fn rejection(&self) -> Option<&Rejection> {
        self.rejected.as_ref().filter(|rejection| rejection.stands)
    }

    /// Whether the certificate in use is valid at `now`.
    ///
    /// # Errors
    ///
    /// Returns why it is not.
    pub fn check_validity(&self, now: SystemTime) -> Result<(), LoadError> {
        self.current.check_validity(self.recipe.certificate(), now)
    }

    /// Whether an origin's refusal is reason to read the files: at most once a second, however
    /// many requests it meets.
    pub fn may_suspect(&mut self, now: Instant) -> bool {
        let lately = self
            .suspected
            .is_some_and(|last| now.duration_since(last) < SUSPECT);
        if !lately {
            self.suspected = Some(now);
        }
        !lately
    }

    /// Returns an attempt to load the files again, for another thread.
    pub fn attempt(&self) -> impl FnOnce() -> Found + Send + use<> {
        let recipe = Arc::clone(&self.recipe);
        let (number, in_use) = (self.current.number() + 1, self.in_use);
        move || recipe.again(number, in_use)
    }

    /// Judges what an attempt found, at `now`.
    pub fn judge(&mut self, found: Result<Found, Panicked>, now: SystemTime) -> Outcome {
        let (content, generation) = match found {
            Ok(Found::Same) => {
                return match self.settle() {
                    true => Outcome::Recovered,
                    false => Outcome::Unchanged,
                };
            }
            Ok(Found::New(content, generation)) => (content, *generation),
            Ok(Found::Failed(error)) => {
                return self.reject(described(&error), None, error.help(), now);
            }
            Err(panicked) => {
                let help = "this is a bug in mtlsd; please report it".to_owned();
                return self.reject(panicked.to_string(), None, Some(help), now);
            }
        };
        if generation.number() != self.current.number() + 1 {
            return Outcome::Overtaken;
        }
        let judged = generation
            .check_follows(&self.current)
            .and_then(|()| generation.check_validity(self.recipe.certificate(), now));
        if let Err(error) = judged {
            let retry_at = error.passes_at();
            return self.reject(described(&error), retry_at, error.help(), now);
        }
        self.settle();
        self.in_use = content;
        self.current = Arc::new(generation);
        self.published = now;
        self.remarked.clear();
        self.complained = None;
        Outcome::Published(Arc::clone(&self.current))
    }

    /// What is odd about the Generation in use and was not logged yet; it counts as logged from
    /// here on.
    pub fn new_remarks(&mut self, now: SystemTime) -> Vec<Remark> {
        let mut remarks = self.current.remarks(now);
        remarks.retain(|remark| !self.remarked.contains(remark));
        self.remarked.extend(remarks.iter().cloned());
        remarks
    }

    /// Why the certificate in use is not valid, once an hour for as long as it is not.
    pub fn complaint(&mut self, now: SystemTime) -> Option<LoadError> {
        let error = self.check_validity(now).err()?;
        let lately = self
            .complained
            .is_some_and(|last| last.elapsed() < COMPLAIN);
        if lately {
            return None;
        }
        self.complained = Some(Instant::now());
        Some(error)
    }

    /// Ends the rejection that stands, if there is one.
    fn settle(&mut self) -> bool {
        let standing = self.rejected.as_mut().filter(|rejection| rejection.stands);
        let stood = standing.is_some();
        if let Some(rejection) = standing {
            rejection.stands = false;
        }
        stood
    }

    fn reject(
        &mut self,
        reason: String,
        retry_at: Option<SystemTime>,
        help: Option<String>,
        now: SystemTime,
    ) -> Outcome {
        match Rejection::note(&mut self.rejected, reason, retry_at, now) {
            true => Outcome::Rejected(help),
            false => Outcome::Unchanged,
        }
    }
}

impl Rejection {
    /// Notes in `slot` that something was rejected at `now`. Returns `true` if that is news.
    pub fn note(
        slot: &mut Option<Self>,
        reason: String,
        retry_at: Option<SystemTime>,
        now: SystemTime,
    ) -> bool {
        if let Some(before) = slot
            && before.stands
            && before.reason == reason
        {
            before.attempts += 1;
            before.retry_at = retry_at;
            return false;
        }
        *slot = Some(Self {
            at: now,
            reason,
            retry_at,
            attempts: 1,
            stands: true,
        });
        true
    }
}

/// The error with its cause.
fn described(error: &LoadError) -> String {
    let source = std::error::Error::source(error);
    let source = source.map_or(String::new(), |source| format!(": {source}"));
    format!("{error}{source}")
}

/// How often an origin's refusal can lead to reading the files.
const SUSPECT: Duration = Duration::from_secs(1);
/// How often a certificate that is not valid, and in use, is logged.
const COMPLAIN: Duration = Duration::from_secs(3600);
