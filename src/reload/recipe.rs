//! One attempt to load what the files of a binding hold.

use std::path::Path;

use crate::config::{Binding, BindingName, Source, TlsPolicy, Trust};
use crate::lifecycle;
use crate::tls::{Fingerprint, Generation, Inputs, LoadError};

/// Everything in a binding that decides about its identity.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The binding's name.
    pub name: BindingName,
    source: Source,
    trust: Trust,
    policy: TlsPolicy,
}

/// What an attempt found.
#[derive(Debug)]
pub enum Found {
    /// The files that are in use.
    Same,
    /// Files that make another Generation, and a fingerprint of them.
    New(Fingerprint, Box<Generation>),
    /// Files that make none.
    Failed(LoadError),
}

impl Recipe {
    /// That of `binding`.
    pub fn of(binding: &Binding) -> Self {
        Self {
            name: binding.name.clone(),
            source: binding.source.clone(),
            trust: binding.trust.clone(),
            policy: binding.tls.clone(),
        }
    }

    /// Returns `true` if both bindings have the same name and their identities are made from the
    /// same files in the same way.
    pub fn is_shared(one: &Binding, other: &Binding) -> bool {
        one.name == other.name
            && one.source == other.source
            && one.trust == other.trust
            && one.tls == other.tls
    }

    /// The files that decide about the identity.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        [self.source.certificate.as_path(), self.source.key.as_path()]
            .into_iter()
            .chain(self.source.password.as_deref())
            .chain(self.trust.file())
            .chain(self.policy.crl.as_deref())
    }

    /// The file that holds the certificate.
    pub fn certificate(&self) -> &Path {
        &self.source.certificate
    }

    /// Loads the Generation with this number, whether or not its certificate is valid now.
    ///
    /// # Errors
    ///
    /// Returns every error if files cannot be read, or the error if they do not make an identity.
    pub fn first(&self) -> Result<(Fingerprint, Generation), Vec<LoadError>> {
        let inputs = Inputs::read(&self.source, &self.trust, &self.policy)?;
        let generation = self.make(1, &inputs).map_err(|error| vec![error])?;
        Ok((inputs.fingerprint(), generation))
    }

    /// Reads the files, and loads the Generation with this number if they are not those `in_use`.
    pub fn again(&self, number: u64, in_use: Fingerprint) -> Found {
        lifecycle::fault_in("load", self.name.as_str());
        let inputs = match Inputs::read(&self.source, &self.trust, &self.policy) {
            Ok(inputs) => inputs,
            Err(errors) => {
                let first = errors.into_iter().next();
                return first.map_or(Found::Same, Found::Failed);
            }
        };
        let content = inputs.fingerprint();
        if content == in_use {
            return Found::Same;
        }
        match self.make(number, &inputs) {
            Ok(generation) => Found::New(content, Box::new(generation)),
            Err(error) => Found::Failed(error),
        }
    }

    fn make(&self, number: u64, inputs: &Inputs) -> Result<Generation, LoadError> {
        Generation::new(number, &self.source, &self.trust, &self.policy, inputs)
    }
}
