//! What a stored certificate is called, and where the store keeps it.

use std::env;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// The id of a stored certificate: a UUID (RFC 9562) in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CertificateId(Box<str>);

impl CertificateId {
    /// `None` when `text` is not written 8-4-4-4-12 in hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        fits.then(|| Self(text.to_ascii_lowercase().into()))
    }

    /// The id made of random bytes (version 4).
    pub fn from_random(bytes: [u8; 16]) -> Self {
        let version = 4 << 76;
        let variant = 0b10 << 62;
        let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0b11 << 62) | version | variant;
        let hex = format!("{number:032x}");
        let (parts, mut at) = ([8, 4, 4, 4, 12], 0);
        let parts = parts.map(|length| {
            at += length;
            &hex[at - length..at]
        });
        Self(parts.join("-").into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The directory of the certificate store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StorePath(PathBuf);

impl StorePath {
    /// The directory that was named (by `--store` or `MTLSD_STORE`); else `/var/lib/mtlsd` for
    /// root and for the user it belongs to, and `mtlsd` in the data directory of everybody else
    /// (`XDG_DATA_HOME`, or `~/.local/share`).
    pub fn find(named: Option<&Path>) -> Self {
        Self(match named {
            Some(path) => path.to_owned(),
            None if may_use_the_state_directory() => STATE.into(),
            None => data_home().map_or_else(|| STATE.into(), |home| home.join("mtlsd")),
        })
    }

    /// The directory itself.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// The file of the certificate with this id. Its path never changes; replacing the
    /// certificate puts another file in its place.
    pub fn file(&self, id: &CertificateId) -> PathBuf {
        self.0.join(format!("{id}.pem"))
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

fn may_use_the_state_directory() -> bool {
    let user = geteuid();
    user.is_root() || fs::metadata(STATE).is_ok_and(|it| it.uid() == user.as_raw())
}

// Relative paths in these variables are to be ignored (XDG Base Directory Specification).
fn data_home() -> Option<PathBuf> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")))
}

const STATE: &str = "/var/lib/mtlsd";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_in_any_case() {
        let id = CertificateId::parse("99F5FEF1-6CC1-46B8-BD79-44A0D5082B8D").unwrap();
        assert_eq!(id.as_str(), "99f5fef1-6cc1-46b8-bd79-44a0d5082b8d");
        for text in [
            "",
            "<CERTIFICATE_ID>",
            "99f5fef16cc146b8bd7944a0d5082b8d",
            "99f5fef1-6cc1-46b8-bd79-44a0d5082b8",
            "../../../../../../../../../etc/passw",
        ] {
            assert_eq!(CertificateId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn random_bytes_make_an_id_of_version_4() {
        for (byte, expected) in [
            (0x00, "00000000-0000-4000-8000-000000000000"),
            (0xff, "ffffffff-ffff-4fff-bfff-ffffffffffff"),
        ] {
            let id = CertificateId::from_random([byte; 16]);
            assert_eq!(id.as_str(), expected);
            assert_eq!(CertificateId::parse(expected), Some(id));
        }
    }
}
