//! One successful loading of a binding's files: what every connection is made with, until the
//! next one.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};
use zeroize::Zeroizing;

use crate::config::{Source, Trust};

use super::error::{Input, LoadError};
use super::identity::Identity;
use super::trust;

/// The content of a binding's files, read together.
pub struct Inputs {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    // Only where the trust is a file.
    bundle: Option<Vec<u8>>,
}

/// Tells two contents apart without keeping either: a keyed hash, different in every process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint(u64);

/// An identity, whom it trusts, and the TLS configuration made of both, with a session store of
/// its own: tickets of one Generation are unknown to the next, so no resumed connection can
/// carry an old certificate.
#[derive(Debug)]
pub struct Generation {
    number: u64,
    identity: Identity,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    either: Arc<ClientConfig>,
}

/// Which HTTP is offered to an origin (RFC 7301).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alpn {
    /// http/1.1.
    Http1,
    /// h2.
    Http2,
    /// h2 or http/1.1; the origin chooses.
    Either,
}

impl Inputs {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`LoadError::Read`], for the first that cannot be read.
    pub fn read(source: &Source, trust: &Trust) -> Result<Self, LoadError> {
        let certificate = read(Input::Certificate, &source.certificate)?;
        let key = match source.key == source.certificate {
            true => certificate.clone(),
            false => read(Input::Key, &source.key)?,
        };
        let bundle = match trust {
            Trust::Bundle(path) => Some(read(Input::Ca, path)?),
            Trust::System | Trust::Mozilla => None,
        };
        Ok(Self {
            certificate,
            key: Zeroizing::new(key),
            bundle,
        })
    }

    /// Differs when any file differs.
    pub fn fingerprint(&self) -> Fingerprint {
        static KEYS: OnceLock<RandomState> = OnceLock::new();
        let mut hasher = KEYS.get_or_init(RandomState::new).build_hasher();
        for part in [
            &self.certificate,
            &*self.key,
            self.bundle.as_ref().unwrap_or(&Vec::new()),
        ] {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        Fingerprint(hasher.finish())
    }
}

impl Generation {
    /// Makes the Generation with this number of what was read.
    ///
    /// # Errors
    ///
    /// When a file makes no sense or certificate and key do not belong together. Whether the
    /// certificate is valid at this moment is asked with [`Generation::check_validity`].
    pub fn new(
        number: u64,
        source: &Source,
        trust: &Trust,
        inputs: &Inputs,
    ) -> Result<Self, LoadError> {
        let identity = Identity::parse(
            &source.certificate,
            &inputs.certificate,
            &source.key,
            &inputs.key,
        )?;
        let roots = match trust {
            Trust::System => trust::system()?,
            Trust::Mozilla => trust::mozilla(),
            Trust::Bundle(path) => {
                let bytes = inputs.bundle.as_deref().unwrap_or_default();
                trust::bundle(path, bytes)?
            }
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs speaks TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(Presents(identity.certified())));
        // The copies share one session store.
        let offering = |protocols: &[&str]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols
                .iter()
                .map(|name| name.as_bytes().to_vec())
                .collect();
            Arc::new(config)
        };
        Ok(Self {
            number,
            identity,
            http1: offering(&["http/1.1"]),
            http2: offering(&["h2"]),
            either: offering(&["h2", "http/1.1"]),
        })
    }

    /// Which loading of its binding this is, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The certificate that is presented.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether the certificate is valid at `now`; `path` is for the error.
    ///
    /// # Errors
    ///
    /// [`LoadError::Expired`] or [`LoadError::NotYetValid`].
    pub fn check_validity(&self, path: &Path, now: SystemTime) -> Result<(), LoadError> {
        let leaf = self.identity.leaf();
        if leaf.is_expired(now) {
            return Err(LoadError::Expired {
                path: path.to_owned(),
                not_after: leaf.not_after,
            });
        }
        if leaf.is_early(now) {
            return Err(LoadError::NotYetValid {
                path: path.to_owned(),
                not_before: leaf.not_before,
            });
        }
        Ok(())
    }

    pub(super) fn offering(&self, alpn: Alpn) -> Arc<ClientConfig> {
        Arc::clone(match alpn {
            Alpn::Http1 => &self.http1,
            Alpn::Http2 => &self.http2,
            Alpn::Either => &self.either,
        })
    }
}

/// Presents one certificate to whoever asks for any. One resolver for all connections of a
/// Generation: rustls resumes sessions only under the resolver they were made with.
#[derive(Debug)]
struct Presents(Arc<CertifiedKey>);

impl ResolvesClientCert for Presents {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // Whether it is one of the authorities the origin named is for the origin to judge: its
        // answer is an alert with a reason, and staying silent would hide that.
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn read(input: Input, path: &Path) -> Result<Vec<u8>, LoadError> {
    read_regular(path).map_err(|source| LoadError::Read {
        input,
        path: path.to_owned(),
        source,
    })
}

/// The content of a file of a sensible size. Opening a pipe or a device could wait for ever, and
/// with it every other binding's rotation.
fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() > LARGEST {
        return Err(io::Error::other(format!(
            "it is larger than {LARGEST} bytes"
        )));
    }
    fs::read(path)
}

/// A bundle of all authorities there are has a quarter of a megabyte.
const LARGEST: u64 = 16 * 1024 * 1024;
