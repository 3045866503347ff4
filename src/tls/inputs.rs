//! The files that decide about a binding's identity, read together.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;

use zeroize::Zeroizing;

use crate::config::{Source, TlsPolicy, Trust};

use super::error::{Input, LoadError};

/// The content of a binding's files, read together.
pub struct Inputs {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Zeroizing<Vec<u8>>,
    pub(super) key_is_public: bool,
    // Only where there is one.
    pub(super) password: Option<Zeroizing<Vec<u8>>>,
    // Only where the trust is a file.
    pub(super) bundle: Option<Vec<u8>>,
    pub(super) crl: Option<Vec<u8>>,
}

/// Tells two contents apart without keeping either: a keyed hash, different in every process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint(u64);

impl Inputs {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`LoadError::Read`] for each that cannot be read; there is at least one then.
    pub fn read(
        source: &Source,
        trust: &Trust,
        policy: &TlsPolicy,
    ) -> Result<Self, Vec<LoadError>> {
        let mut errors = Vec::new();
        let mut read = |input: Input, path: &Path| match read_regular(path) {
            Ok(content) => Some(content),
            Err(source) => {
                let path = path.to_owned();
                errors.push(LoadError::Read {
                    input,
                    path,
                    source,
                });
                None
            }
        };
        let certificate = read(Input::Certificate, &source.certificate);
        let key = match source.key == source.certificate {
            true => certificate.clone(),
            false => read(Input::Key, &source.key),
        };
        let password = source.password.as_deref();
        let password = password.map(|path| read(Input::Password, path));
        let bundle = match trust {
            Trust::Bundle(path) => Some(read(Input::Ca, path)),
            Trust::System | Trust::Mozilla => None,
        };
        let crl = policy.crl.as_deref().map(|path| read(Input::Crl, path));
        match (certificate, key) {
            (Some(certificate), Some(key)) if errors.is_empty() => Ok(Self {
                certificate: certificate.bytes,
                key: Zeroizing::new(key.bytes),
                key_is_public: key.is_public,
                password: password.flatten().map(|content| first_line(content.bytes)),
                bundle: bundle.flatten().map(|content| content.bytes),
                crl: crl.flatten().map(|content| content.bytes),
            }),
            _ => Err(errors),
        }
    }

    /// Differs when any file differs.
    pub fn fingerprint(&self) -> Fingerprint {
        static KEYS: OnceLock<RandomState> = OnceLock::new();
        let mut hasher = KEYS.get_or_init(RandomState::new).build_hasher();
        let none = Vec::new();
        for part in [
            &self.certificate,
            &*self.key,
            self.password.as_deref().unwrap_or(&none),
            self.bundle.as_ref().unwrap_or(&none),
            self.crl.as_ref().unwrap_or(&none),
        ] {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        Fingerprint(hasher.finish())
    }
}

/// A file's content, and whether everybody on this machine may read it.
#[derive(Clone)]
struct Content {
    bytes: Vec<u8>,
    is_public: bool,
}

/// The content of a file of a sensible size. Opening a pipe or a device could wait for ever, and
/// with it every other binding's rotation.
fn read_regular(path: &Path) -> io::Result<Content> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() > LARGEST {
        return Err(io::Error::other(format!(
            "it is larger than {LARGEST} bytes"
        )));
    }
    Ok(Content {
        bytes: fs::read(path)?,
        is_public: metadata.permissions().mode() & 0o004 != 0,
    })
}

/// A password is a line: what editors put behind it is no part of it.
fn first_line(bytes: Vec<u8>) -> Zeroizing<Vec<u8>> {
    let bytes = Zeroizing::new(bytes);
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    Zeroizing::new(bytes[..end.unwrap_or(bytes.len())].to_vec())
}

/// A bundle of all authorities there are has a quarter of a megabyte.
const LARGEST: u64 = 16 * 1024 * 1024;
