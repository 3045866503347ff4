//! What the certificate store keeps: PEM that was looked at once, with nothing beside it.

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use zeroize::Zeroizing;

use super::error::{Input, LoadError};
use super::identity::{Identity, Leaf};
use super::{pem, trust};

/// A certificate chain and its key, or the authorities of a bundle, as one PEM text.
pub struct Material {
    pem: Zeroizing<String>,
    leaf: Leaf,
}

impl Material {
    /// A chain (leaf first) and the key it was issued for.
    ///
    /// # Errors
    ///
    /// When either cannot be read, or they do not belong together.
    pub fn identity(
        chain_path: &Path,
        chain: &[u8],
        key_path: &Path,
        key: &[u8],
    ) -> Result<Self, LoadError> {
        let leaf = Identity::parse(chain_path, chain, key_path, key)?
            .leaf()
            .clone();
        let mut text = Zeroizing::new(String::with_capacity(chain.len() + key.len() + 2));
        copy_blocks(chain, |label| label == "CERTIFICATE", usize::MAX, &mut text);
        copy_blocks(key, |label| label.ends_with("PRIVATE KEY"), 1, &mut text);
        // What will be read is looked at too, so that no file of the store can be one that the
        // daemon refuses.
        Identity::parse(chain_path, text.as_bytes(), key_path, text.as_bytes())?;
        Ok(Self { pem: text, leaf })
    }

    /// The authorities of a bundle.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read.
    pub fn authorities(path: &Path, bundle: &[u8]) -> Result<Self, LoadError> {
        trust::bundle(path, bundle)?;
        let mut text = Zeroizing::new(String::with_capacity(bundle.len() + 1));
        copy_blocks(
            bundle,
            |label| label == "CERTIFICATE",
            usize::MAX,
            &mut text,
        );
        trust::bundle(path, text.as_bytes())?;
        let leaf = leaf(path, text.as_bytes())?;
        Ok(Self { pem: text, leaf })
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

/// Appends the first `most` blocks with a wanted label, without what stands between blocks.
fn copy_blocks(from: &[u8], wanted: impl Fn(&str) -> bool, most: usize, to: &mut String) {
    let text = Zeroizing::new(String::from_utf8_lossy(from).into_owned());
    let mut open = None;
    let mut left = most;
    for line in text.lines().map(str::trim) {
        if let Some(label) = mark(line, "-----BEGIN ") {
            open = Some(label).filter(|label| left > 0 && wanted(label));
        }
        let Some(label) = open else { continue };
        to.push_str(line);
        to.push('\n');
        if mark(line, "-----END ") == Some(label) {
            open = None;
            left -= 1;
        }
    }
}

fn mark<'l>(line: &'l str, start: &str) -> Option<&'l str> {
    line.strip_prefix(start)?.strip_suffix("-----")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_wanted_blocks_are_copied() {
        let from = b"Bag Attributes\r\n-----BEGIN CERTIFICATE-----\r\nAA==\r\n-----END CERTIFICATE-----\r\nsubject=x\n\
            -----BEGIN PRIVATE KEY-----\nBB==\n-----END PRIVATE KEY-----\n\
            -----BEGIN CERTIFICATE-----\nCC==\n-----END CERTIFICATE-----";
        let copy = |wanted: &str, most| {
            let mut to = String::new();
            copy_blocks(from, |label| label == wanted, most, &mut to);
            to
        };
        assert_eq!(
            copy("CERTIFICATE", usize::MAX),
            "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n\
             -----BEGIN CERTIFICATE-----\nCC==\n-----END CERTIFICATE-----\n"
        );
        assert_eq!(
            copy("CERTIFICATE", 1),
            "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
        );
        assert_eq!(
            copy("PRIVATE KEY", 1),
            "-----BEGIN PRIVATE KEY-----\nBB==\n-----END PRIVATE KEY-----\n"
        );
    }
}
