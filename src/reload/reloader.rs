//! One binding's identity: what is in use, what was refused, and what has been said about either.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::config::{Binding, BindingName, Source, TlsPolicy, Trust};
use crate::tls::{Fingerprint, Generation, Inputs, LoadError, Remark};

/// Keeps one binding's identity fresh.
pub struct Reloader {
    name: BindingName,
    source: Source,
    trust: Trust,
    policy: TlsPolicy,
    current: Arc<Generation>,
    published: SystemTime,
    // What the files held when they were last judged, for better or worse.
    seen: Fingerprint,
    refused: Option<Refusal>,
    // What was already said about the Generation in use.
    remarked: Vec<Remark>,
    complained: Option<Instant>,
    // When an origin's alert last led here.
    suspected: Option<Instant>,
}

/// What was last refused, and when; a success does not erase it from the records.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// When the files were looked at.
    pub at: SystemTime,
    /// Why they make no Generation.
    pub reason: String,
    // `None` when the files could not even be read.
    content: Option<Fingerprint>,
    // Whether the files are still like that.
    stands: bool,
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
    /// When the files cannot be read or do not make an identity; all that are not there.
    pub fn load(binding: &Binding) -> Result<Self, Vec<LoadError>> {
        let inputs = Inputs::read(&binding.source, &binding.trust, &binding.tls)?;
        let generation = Generation::new(1, &binding.source, &binding.trust, &binding.tls, &inputs)
            .map_err(|error| vec![error])?;
        Ok(Self {
            name: binding.name.clone(),
            source: binding.source.clone(),
            trust: binding.trust.clone(),
            policy: binding.tls.clone(),
            current: Arc::new(generation),
            published: SystemTime::now(),
            seen: inputs.fingerprint(),
            refused: None,
            remarked: Vec::new(),
            complained: None,
            suspected: None,
        })
    }

    /// The binding's name.
    pub fn name(&self) -> &BindingName {
        &self.name
    }

    /// The Generation in use.
    pub fn current(&self) -> &Arc<Generation> {
        &self.current
    }

    /// When the Generation in use was loaded: the last success.
    pub fn last_success(&self) -> SystemTime {
        self.published
    }

    /// The last failure, also one that a success followed.
    pub fn last_failure(&self) -> Option<&Refusal> {
        self.refused.as_ref()
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
            .chain(self.source.password.as_deref())
            .chain(bundle)
            .chain(self.policy.crl.as_deref())
    }

    /// Whether an origin's refusal is reason to look at the files: at most once a second, however
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

    /// Looks at the files again.
    pub fn reload(&mut self, now: SystemTime) -> Outcome {
        let inputs = match Inputs::read(&self.source, &self.trust, &self.policy) {
            Ok(inputs) => inputs,
            Err(errors) => {
                let first = errors.into_iter().next();
                return first.map_or(Outcome::Unchanged, |error| self.refuse(None, error, now));
            }
        };
        let content = inputs.fingerprint();
        let standing = self.refused.as_ref().filter(|refusal| refusal.stands);
        if content == self.seen && standing.is_none()
            || standing.is_some_and(|refusal| refusal.content == Some(content))
        {
            return Outcome::Unchanged;
        }
        let made = Generation::new(
            self.current.number() + 1,
            &self.source,
            &self.trust,
            &self.policy,
            &inputs,
        )
        .and_then(|generation| {
            generation.check_validity(&self.source.certificate, now)?;
            Ok(generation)
        });
        match made {
            Ok(_) if content == self.seen => {
                // The very files that are in use: they had only been away.
                self.settle();
                Outcome::Recovered
            }
            // The same files can come to be refused, when they are in use and expire.
            Err(_) if content == self.seen => {
                self.settle();
                Outcome::Recovered
            }
            Ok(generation) => {
                self.seen = content;
                self.settle();
                self.current = Arc::new(generation);
                self.published = now;
                self.remarked.clear();
                self.complained = None;
                Outcome::Published(Arc::clone(&self.current))
            }
            Err(error) => self.refuse(Some(content), error, now),
        }
    }

    /// What is odd about the Generation in use and was not said yet; it counts as said from here
    /// on.
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

    fn settle(&mut self) {
        if let Some(refusal) = &mut self.refused {
            refusal.stands = false;
        }
    }

    fn refuse(
        &mut self,
        content: Option<Fingerprint>,
        error: LoadError,
        now: SystemTime,
    ) -> Outcome {
        let source =
            std::error::Error::source(&error).map_or(String::new(), |source| format!(": {source}"));
        let reason = format!("{error}{source}");
        let said = self.refused.as_ref().is_some_and(|before| {
            before.stands && before.content == content && before.reason == reason
        });
        if said {
            return Outcome::Unchanged;
        }
        self.refused = Some(Refusal {
            at: now,
            reason,
            content,
            stands: true,
        });
        Outcome::Refused(error)
    }
}

/// How often an origin's refusal can lead to a look at the files.
const SUSPECT: Duration = Duration::from_secs(1);
/// How often a certificate that is not valid, and in use, is spoken of.
const COMPLAIN: Duration = Duration::from_secs(3600);
