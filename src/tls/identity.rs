//! A client certificate with its key, and what people want to know about it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::error::{Input, LoadError};
use super::pem;

/// A certificate chain and the key it was issued for.
pub struct Identity {
    leaf: Leaf,
    certified: Arc<CertifiedKey>,
}

/// What the first certificate of a chain says, for people. Trust is decided elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// `CN=client-1, O=Example`.
    pub subject: String,
    /// The issuer's subject.
    pub issuer: String,
    /// The serial number in hexadecimal, as openssl prints it.
    pub serial: String,
    /// The first moment it is valid.
    pub not_before: SystemTime,
    /// The last moment it is valid.
    pub not_after: SystemTime,
}

impl Identity {
    /// Makes an identity from the bytes of a PEM chain (leaf first) and of a PEM key.
    ///
    /// # Errors
    ///
    /// When either cannot be read, or they do not belong together.
    pub fn parse(
        chain_path: &Path,
        chain: &[u8],
        key_path: &Path,
        key: &[u8],
    ) -> Result<Self, LoadError> {
        let chain = pem::certificates(Input::Certificate, chain_path, chain)?;
        let leaf = Leaf::parse(&chain[0]).map_err(|reason| LoadError::Damaged {
            input: Input::Certificate,
            path: chain_path.to_owned(),
            reason,
        })?;
        let key = pem::private_key(key_path, key)?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        match CertifiedKey::from_der(chain, key, &provider) {
            Ok(certified) => Ok(Self {
                leaf,
                certified: Arc::new(certified),
            }),
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(LoadError::Mismatch {
                    chain: chain_path.to_owned(),
                    key: key_path.to_owned(),
                })
            }
            Err(Error::InvalidCertificate(error)) => Err(LoadError::Damaged {
                input: Input::Certificate,
                path: chain_path.to_owned(),
                reason: error.to_string(),
            }),
            Err(error) => Err(LoadError::UnusableKey {
                path: key_path.to_owned(),
                reason: error.to_string(),
            }),
        }
    }

    /// What its certificate says.
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is not shown.
        f.debug_struct("Identity")
            .field("leaf", &self.leaf)
            .finish()
    }
}

impl Leaf {
    /// Reads the DER of a certificate. The error says what the parser met.
    pub fn parse(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let validity = certificate.validity();
        Ok(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            serial: hex(certificate.raw_serial()),
            not_before: moment(validity.not_before.timestamp()),
            not_after: moment(validity.not_after.timestamp()),
        })
    }

    /// Whether it is over at `now`.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        now > self.not_after
    }

    /// Whether it has yet to begin at `now`.
    pub fn is_early(&self, now: SystemTime) -> bool {
        now < self.not_before
    }
}

fn moment(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    match seconds >= 0 {
        true => SystemTime::UNIX_EPOCH + distance,
        false => SystemTime::UNIX_EPOCH - distance,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
