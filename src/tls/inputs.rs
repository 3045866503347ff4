//! The files that decide about a binding's identity, read together.

use std::fs::{self, File, Metadata};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::config::{Source, TlsPolicy, Trust};

use super::error::{Input, LoadError};

/// The content of a binding's files, read together.
pub struct Inputs {
    // May contain the key too.
    pub(super) certificate: Zeroizing<Vec<u8>>,
    pub(super) key: Zeroizing<Vec<u8>>,
    pub(super) key_is_public: bool,
    // Only where there is one.
    pub(super) password: Option<Zeroizing<Vec<u8>>>,
    // Only where the trust is a file.
    // Either may be a key by mistake.
    pub(super) bundle: Option<Zeroizing<Vec<u8>>>,
    pub(super) crl: Option<Zeroizing<Vec<u8>>>,
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
        let mut read = |input: Input, path: &Path| match read_regular(path, largest(input)) {
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
            Trust::BundleOrSystem(path) if is_absent(path) => None,
            Trust::BundleOrSystem(path) => Some(read(Input::Ca, path)),
            Trust::System | Trust::Mozilla => None,
        };
        let crl = policy.crl.as_deref().map(|path| read(Input::Crl, path));
        match (certificate, key) {
            (Some(certificate), Some(key)) if errors.is_empty() => Ok(Self {
                certificate: certificate.bytes,
                key: key.bytes,
                key_is_public: key.is_public,
                password: password
                    .flatten()
                    .map(|content| password_in(&content.bytes)),
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
            &*self.certificate,
            &*self.key,
            self.password.as_deref().unwrap_or(&none),
            self.bundle.as_deref().unwrap_or(&none),
            self.crl.as_deref().unwrap_or(&none),
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
    bytes: Zeroizing<Vec<u8>>,
    is_public: bool,
}

/// Reads a file of at most `largest` bytes. One that grows meanwhile is read again: whoever writes it
/// in place has not finished.
fn read_regular(path: &Path, largest: u64) -> io::Result<Content> {
    for _ in 0..ATTEMPTS {
        if let Some(content) = read_once(path, largest)? {
            return Ok(content);
        }
    }
    Err(io::Error::other("it grew while it was read"))
}

/// Reads a file; `None` if it grew meanwhile.
fn read_once(path: &Path, largest: u64) -> io::Result<Option<Content>> {
    let regular = |metadata: Metadata| match metadata.is_file() {
        true => Ok(metadata),
        false => Err(io::Error::other("it is not a regular file")),
    };
    // To open a device may have an effect. To open a pipe could block forever, and what the name
    // stands for may have been replaced since.
    regular(fs::metadata(path)?)?;
    let mut open = File::options();
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = open.read(true).custom_flags(nonblocking).open(path)?;
    let metadata = regular(file.metadata()?)?;
    let too_large = || {
        let limit = largest / MIB;
        io::Error::other(format!(
            "it is larger than {limit} MiB, the limit for this file"
        ))
    };
    if metadata.len() > largest {
        return Err(too_large());
    }
    // As large as it can get: a buffer that grows leaves a copy of the key behind.
    let capacity = usize::try_from(metadata.len() + 1).map_err(|_| too_large())?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(metadata.len() + 1).read_to_end(&mut bytes)?;
    let is_public = metadata.permissions().mode() & 0o004 != 0;
    Ok((bytes.len() < capacity).then_some(Content { bytes, is_public }))
}

/// So often a file that grows is read.
const ATTEMPTS: usize = 5;

/// Whether there is certainly no such file. A link to nowhere is a file that is missing.
fn is_absent(path: &Path) -> bool {
    let metadata = fs::symlink_metadata(path);
    metadata.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// The password in a file: its first line. Editors put a line end behind it, and those of Windows a
/// byte order mark before it, or write UTF-16.
fn password_in(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => from_utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => from_utf16(rest, u16::from_be_bytes),
        _ => None,
    };
    let bytes = text.as_ref().map_or(bytes, |text| text.as_slice());
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    Zeroizing::new(bytes[..end.unwrap_or(bytes.len())].to_vec())
}

/// `None` if it is not UTF-16.
fn from_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<Zeroizing<Vec<u8>>> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut text = Zeroizing::new(Vec::with_capacity(bytes.len() * 2));
    for character in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        let mut encoded = [0; 4];
        text.extend_from_slice(character.ok()?.encode_utf8(&mut encoded).as_bytes());
    }
    rest.is_empty().then_some(text)
}

/// How large a file may be. A bundle of all CAs there are has a quarter of a megabyte; the CRLs of
/// large CAs have tens of them.
fn largest(input: Input) -> u64 {
    match input {
        Input::Crl => 128 * MIB,
        Input::Certificate | Input::Key | Input::Password | Input::Ca => 16 * MIB,
    }
}

const MIB: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line_in_any_encoding() {
        let utf16 = |order: fn(u16) -> [u8; 2]| {
            let units = "\u{feff}pä\u{1f511}\r\nx".encode_utf16();
            units.flat_map(order).collect::<Vec<u8>>()
        };
        for bytes in [
            "pä\u{1f511}".as_bytes().to_vec(),
            "pä\u{1f511}\n".as_bytes().to_vec(),
            "pä\u{1f511}\r\nsecond line\n".as_bytes().to_vec(),
            "\u{feff}pä\u{1f511}\n".as_bytes().to_vec(),
            utf16(u16::to_le_bytes),
            utf16(u16::to_be_bytes),
        ] {
            let password = password_in(&bytes);
            assert_eq!(str::from_utf8(&password), Ok("pä\u{1f511}"), "{bytes:x?}");
        }
        // Neither UTF-8 nor UTF-16: as it is.
        assert_eq!(**password_in(b"p\xe4\n"), *b"p\xe4");
        assert_eq!(**password_in(b"\xff\xfe\x00"), *b"\xff\xfe\x00");
        assert!(password_in(b"").is_empty());
    }
}
