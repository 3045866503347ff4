//! What the certificate store keeps: PEM that was looked at once, with nothing beside it.

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use data_encoding::BASE64;
use rustls_pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use crate::config::{Source, TlsPolicy, Trust};

use super::error::{Input, LoadError};
use super::identity::{Identity, Leaf};
use super::inputs::Inputs;
use super::{pem, trust};

/// A certificate chain and its key, or the authorities of a bundle, as one PEM text.
pub struct Material {
    pem: Zeroizing<String>,
    leaf: Leaf,
}

impl Material {
    /// A chain and the key it was issued for, in any form a binding takes them. Here the chain is
    /// in order, the leaf first, and the key is not encrypted.
    ///
    /// # Errors
    ///
    /// When either cannot be read, or they do not belong together: the first thing that is wrong.
    pub fn identity(source: &Source) -> Result<Self, LoadError> {
        let inputs = Inputs::read(source, &Trust::System, &TlsPolicy::default())
            .map_err(|mut errors| errors.swap_remove(0))?;
        let (identity, key) = Identity::with_key(source, &inputs)?;
        let label = match &*key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        let mut pem = Zeroizing::new(String::new());
        for certificate in &identity.certified().cert {
            write_block("CERTIFICATE", certificate, &mut pem);
        }
        write_block(label, key.secret_der(), &mut pem);
        let leaf = identity.leaf().clone();
        Ok(Self { pem, leaf })
    }

    /// The authorities of a bundle.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read.
    pub fn authorities(path: &Path, bundle: &[u8]) -> Result<Self, LoadError> {
        trust::bundle(path, bundle)?;
        let mut pem = Zeroizing::new(String::new());
        for certificate in pem::certificates(Input::Ca, path, bundle)? {
            write_block("CERTIFICATE", &certificate, &mut pem);
        }
        let leaf = leaf(path, bundle)?;
        Ok(Self { pem, leaf })
    }

    /// The PEM blocks.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What its first certificate says.
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// Refuses what is over; `path` is for the error. What has yet to begin is welcome: it may be
    /// meant for tomorrow.
    ///
    /// # Errors
    ///
    /// [`LoadError::Expired`].
    pub fn check_not_expired(&self, path: &Path, now: SystemTime) -> Result<(), LoadError> {
        match self.leaf.is_expired(now) {
            true => Err(LoadError::Expired {
                path: path.to_owned(),
                not_after: self.leaf.not_after,
            }),
            false => Ok(()),
        }
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is not shown.
        f.debug_struct("Material")
            .field("leaf", &self.leaf)
            .finish()
    }
}

/// What the first certificate in a PEM file says.
///
/// # Errors
///
/// When there is none, or it cannot be read.
pub fn leaf(path: &Path, bytes: &[u8]) -> Result<Leaf, LoadError> {
    let chain = pem::certificates(Input::Certificate, path, bytes)?;
    Leaf::parse(&chain[0]).map_err(|reason| LoadError::Damaged {
        input: Input::Certificate,
        path: path.to_owned(),
        reason,
    })
}

/// Appends a block as RFC 7468 has it.
fn write_block(label: &str, der: &[u8], to: &mut String) {
    let text = Zeroizing::new(BASE64.encode(der));
    to.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        to.push_str(line);
        to.push('\n');
        rest = after;
    }
    to.push_str(&format!("-----END {label}-----\n"));
}
