//! Why an identity, or whom it trusts, could not be loaded.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::access::{self, Use};
use crate::config::secret;
use crate::timestamp::rfc3339;

use super::crl::CrlError;
use super::unusable::Unusable;

/// Which of a binding's inputs a [`LoadError`] is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input {
    /// The certificate chain.
    Certificate,
    /// The key.
    Key,
    /// The file with the key's password.
    Password,
    /// The CA bundle.
    Ca,
    /// The revocation lists.
    Crl,
}

/// Why an identity, or whom it trusts, could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file is not there, or may not be read.
    #[error("cannot read {}", secret::shown_path(path))]
    Read {
        /// Which input the file is.
        input: Input,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds no PEM at all.
    #[error("{} is not PEM: it has no BEGIN line", path.display())]
    NotPem {
        /// Which input the file is.
        input: Input,
        /// The file.
        path: PathBuf,
    },
    /// A file is something else.
    #[error("{} is {}", path.display(), form.name())]
    Unusable {
        /// Which input the file is.
        input: Input,
        /// The file.
        path: PathBuf,
        /// What it is.
        form: Unusable,
    },
    /// A file holds PEM, and not what is wanted of it.
    #[error("no {} in {}; it contains only: {}", wanted(*input), path.display(), found.join(", "))]
    NothingFound {
        /// Which input the file is.
        input: Input,
        /// The file.
        path: PathBuf,
        /// The labels that it does contain.
        found: Vec<&'static str>,
    },
    /// The key needs a password.
    #[error("the key in {} is encrypted", path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// The password does not decrypt the file.
    #[error("cannot decrypt {}: wrong password", path.display())]
    WrongPassword {
        /// The file that it is for.
        path: PathBuf,
    },
    /// PEM or DER that breaks off or makes no sense.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// Which input the file is.
        input: Input,
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// A CRL cannot be used.
    #[error("CRL {at} in {} is {error}", path.display())]
    Crl {
        /// The file.
        path: PathBuf,
        /// Which CRL of the file it is, from 1.
        at: usize,
        /// Why it cannot be used.
        error: CrlError,
    },
    /// The key is of a kind or size that TLS libraries refuse.
    #[error("the key in {} is not supported: {reason}", path.display())]
    UnusableKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate was issued for another key.
    #[error("{} does not belong to {}: the certificate was issued for another key", key.display(), chain.display())]
    Mismatch {
        /// The certificate's file.
        chain: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate's time is over.
    #[error("the certificate in {} expired at {}", path.display(), rfc3339(*not_after))]
    Expired {
        /// The file.
        path: PathBuf,
        /// When it ended.
        not_after: SystemTime,
    },
    /// The certificate's time has not come.
    #[error("the certificate in {} is valid only from {}", path.display(), rfc3339(*not_before))]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// When it begins.
        not_before: SystemTime,
    },
    /// The CAs of a `certificate_dir` are gone.
    #[error("{} was removed while it was in use", path.display())]
    CaRemoved {
        /// The file.
        path: PathBuf,
    },
    /// The machine has no certificate authorities.
    #[error("this machine has no certificate authorities{}", detail.as_ref().map_or(String::new(), |d| format!(" ({d})")))]
    NoSystemRoots {
        /// The first thing that went wrong in looking for them.
        detail: Option<String>,
    },
}

impl LoadError {
    /// Which input is to blame.
    pub fn input(&self) -> Input {
        match self {
            Self::Read { input, .. }
            | Self::NotPem { input, .. }
            | Self::NothingFound { input, .. }
            | Self::Damaged { input, .. }
            | Self::Unusable { input, .. } => *input,
            Self::WrongPassword { .. } => Input::Password,
            Self::Encrypted { .. } | Self::UnusableKey { .. } | Self::Mismatch { .. } => Input::Key,
            Self::Expired { .. } | Self::NotYetValid { .. } => Input::Certificate,
            Self::NoSystemRoots { .. } | Self::CaRemoved { .. } => Input::Ca,
            Self::Crl { .. } => Input::Crl,
        }
    }

    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Read { path, source, .. } => return access::help(path, Use::Read, source),
            Self::Unusable { path, form, .. } => form.help(path),
            Self::NotPem { .. } => "it must contain a -----BEGIN …----- block".to_owned(),
            Self::NothingFound { input: Input::Key, .. } => {
                "set `key` to the file with the private key".to_owned()
            }
            Self::NothingFound { input: Input::Crl, .. } => {
                "set `crl` to a CRL in DER, or to a file with X509 CRL blocks".to_owned()
            }
            Self::NothingFound { .. } => "it must contain CERTIFICATE blocks".to_owned(),
            Self::Encrypted { .. } => {
                "write its password into a file of its own, and set `key_password_file` to that".to_owned()
            }
            Self::WrongPassword { path } => format!(
                "the password is the first line of the file that `key_password_file` names; try it: openssl pkey -noout -passin file:PASSWORD_FILE -in {0}, or openssl pkcs12 -noout -passin file:PASSWORD_FILE -in {0}",
                path.display()
            ),
            Self::Damaged { .. } => "check that the file was copied completely".to_owned(),
            Self::Crl { error, .. } => error.help().to_owned(),
            Self::UnusableKey { .. } => {
                "use an RSA key of at least 2048 bits, an EC key on P-256, P-384 or P-521, or Ed25519".to_owned()
            }
            Self::Mismatch { .. } => {
                "compare: openssl x509 -pubkey -noout -in CERT and openssl pkey -pubout -in KEY print the same for a pair".to_owned()
            }
            Self::Expired { .. } => "renew the certificate; if it is new, check this machine's clock".to_owned(),
            Self::NotYetValid { .. } => "check this machine's clock".to_owned(),
            Self::CaRemoved { .. } => {
                "put it back; to verify origins with the CAs of this machine, set `ca = \"system\"`".to_owned()
            }
            Self::NoSystemRoots { .. } => {
                "install the package ca-certificates, or set `ca` to \"mozilla\" or to a PEM bundle".to_owned()
            }
        })
    }

    /// When it passes without a change to any file, if that is known.
    pub fn passes_at(&self) -> Option<SystemTime> {
        match self {
            Self::NotYetValid { not_before, .. } => Some(*not_before),
            _ => None,
        }
    }

    /// Whether it may right itself without anyone changing the configuration: a file that a
    /// renewal has yet to write, or whose permissions it has yet to set.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::CaRemoved { .. })
    }
}

fn wanted(input: Input) -> &'static str {
    match input {
        Input::Certificate | Input::Ca => "certificate",
        Input::Key => "private key",
        Input::Password => "password",
        Input::Crl => "CRL",
    }
}
