//! One successful loading of a binding's files: what every connection is made with, until the
//! next one.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ClientConfig, SignatureScheme, SupportedProtocolVersion, version};
use rustls_pki_types::ServerName;

use crate::config::{Source, TlsPolicy, TlsVersion, Trust};

use super::crl::Crls;
use super::error::LoadError;
use super::facts::{Asked, Demand};
use super::identity::Identity;
use super::inputs::Inputs;
use super::remark::Remark;
use super::trust::Anchors;
use super::verify::Verifier;
use super::{keylog, pem, slot, trust};

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
    anchors: Arc<Anchors>,
    require_request: bool,
    // Whether the origin of this name asked for a certificate in its last full handshake, which is
    // all that can be said of a connection that resumes a session.
    demands: Mutex<HashMap<ServerName<'static>, Demand>>,
    // Whether the origin of this name has accepted our certificate.
    acceptances: Mutex<HashMap<ServerName<'static>, Arc<AtomicBool>>>,
    verifier: Arc<Verifier>,
    policy: TlsPolicy,
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
        policy: &TlsPolicy,
        inputs: &Inputs,
    ) -> Result<Self, LoadError> {
        let mut identity = Identity::parse(source, inputs)?;
        let anchors = match trust {
            Trust::System => trust::system()?,
            Trust::Mozilla => trust::mozilla(),
            Trust::BundleOrSystem(_) if inputs.bundle.is_none() => trust::system()?,
            Trust::Bundle(path) | Trust::BundleOrSystem(path) => {
                let bytes = inputs.bundle.as_deref().map_or(&[][..], Vec::as_slice);
                Arc::new(trust::bundle(path, bytes)?)
            }
        };
        if let Trust::BundleOrSystem(path) = trust {
            identity.imply_ca(path.clone(), inputs.bundle.is_some());
        }
        let crls = match (&policy.crl, &inputs.crl) {
            (Some(path), Some(bytes)) => Some(crls(path, bytes)?),
            _ => None,
        };
        let verifier = Verifier::new(Arc::clone(&anchors), crls, policy, &provider(policy));
        Ok(Self::assemble(
            number,
            identity,
            anchors,
            Arc::new(verifier),
            policy.clone(),
        ))
    }

    /// Returns the same Generation without the post-quantum key exchange; `None` if it has none.
    pub fn without_post_quantum(&self) -> Option<Self> {
        let policy = TlsPolicy {
            post_quantum: false,
            ..self.policy.clone()
        };
        self.policy.post_quantum.then(|| {
            let (anchors, verifier) = (Arc::clone(&self.anchors), Arc::clone(&self.verifier));
            Self::assemble(
                self.number,
                self.identity.clone(),
                anchors,
                verifier,
                policy,
            )
        })
    }

    fn assemble(
        number: u64,
        identity: Identity,
        anchors: Arc<Anchors>,
        verifier: Arc<Verifier>,
        policy: TlsPolicy,
    ) -> Self {
        let certificate_verifier: Arc<dyn ServerCertVerifier> = Arc::clone(&verifier) as _;
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider(&policy)))
            .with_protocol_versions(versions(&policy))
            .expect("aws-lc-rs speaks TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(certificate_verifier)
            .with_client_cert_resolver(Arc::new(Presents(identity.certified())));
        if let Some(log) = keylog::key_log() {
            config.key_log = log;
        }
        // The copies share one session store.
        let offering = |protocols: &[&str]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols
                .iter()
                .map(|name| name.as_bytes().to_vec())
                .collect();
            Arc::new(config)
        };
        Self {
            number,
            identity,
            http1: offering(&["http/1.1"]),
            http2: offering(&["h2"]),
            either: offering(&["h2", "http/1.1"]),
            anchors,
            require_request: policy.require_request,
            demands: Mutex::default(),
            acceptances: Mutex::default(),
            verifier,
            policy,
        }
    }

    /// Which loading of its binding this is, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The certificate that is presented.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What is odd about it at `now`.
    pub fn remarks(&self, now: SystemTime) -> Vec<Remark> {
        let mut remarks = self.identity.remarks(&self.anchors.roots, now);
        remarks.extend(self.anchors.remarks(now));
        if let Some((path, false)) = self.identity.ca_file() {
            remarks.push(Remark::SystemCas(path.to_owned()));
        }
        remarks
    }

    /// Returns when the first CA certificate of a `ca` file expires.
    pub fn ca_expires(&self) -> Option<SystemTime> {
        self.anchors.expire()
    }

    /// Returns when the first CRL of a `crl` file is out of date.
    pub fn crl_next_update(&self) -> Option<SystemTime> {
        self.verifier.crl_next_update()
    }

    /// Whether it may follow `previous`: the CAs of a `certificate_dir` must not get lost, which
    /// would put those of this machine in their place.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError::CaRemoved`] if the file with the CAs is gone.
    pub fn check_follows(&self, previous: &Self) -> Result<(), LoadError> {
        match (self.identity.ca_file(), previous.identity.ca_file()) {
            (Some((path, false)), Some((_, true))) => Err(LoadError::CaRemoved {
                path: path.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Whether an origin that asks for no certificate is refused.
    pub(super) fn requires_request(&self) -> bool {
        self.require_request
    }

    /// Remembers whether the origin called `name` asked for a certificate in a full handshake.
    pub(super) fn remember(&self, name: ServerName<'static>, demand: Demand) {
        let mut demands = self.demands.lock().unwrap_or_else(PoisonError::into_inner);
        if demands.len() < MOST_NAMES || demands.contains_key(&name) {
            demands.insert(name, demand);
        }
    }

    /// Whether the origin called `name` asked for one in its last full handshake, if it is known.
    pub(super) fn recall(&self, name: &ServerName<'static>) -> Option<Demand> {
        let demands = self.demands.lock().unwrap_or_else(PoisonError::into_inner);
        demands.get(name).cloned()
    }

    /// Returns the mark that the origin called `name` has accepted our certificate.
    pub(super) fn acceptance(&self, name: &ServerName<'static>) -> Arc<AtomicBool> {
        let lock = self.acceptances.lock();
        let mut acceptances = lock.unwrap_or_else(PoisonError::into_inner);
        if acceptances.len() >= MOST_NAMES && !acceptances.contains_key(name) {
            return Arc::default();
        }
        Arc::clone(acceptances.entry(name.clone()).or_default())
    }

    /// Whether the post-quantum key exchange is offered: only in TLS 1.3.
    pub(super) fn offers_post_quantum(&self) -> bool {
        self.policy.post_quantum && self.policy.max == TlsVersion::Tls13
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
    fn resolve(
        &self,
        authorities: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        slot::asked(Asked::new(authorities, schemes, &self.0));
        // Whether it is one of the authorities the origin named is for the origin to judge: its
        // answer is an alert with a reason, and staying silent would hide that.
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Reads the file of `crl`.
fn crls(path: &Path, bytes: &[u8]) -> Result<Crls, LoadError> {
    Crls::new(pem::crls(path, bytes)?).map_err(|(at, error)| LoadError::Crl {
        path: path.to_owned(),
        at,
        error,
    })
}

fn provider(policy: &TlsPolicy) -> CryptoProvider {
    let mut provider = default_provider();
    // As browsers do: the SHA-384 of the suites with 256 bits, for which few CPUs have
    // instructions, was 9 % of the CPU time of a handshake. All suites are offered; an origin may
    // have an order of its own.
    provider
        .cipher_suites
        .sort_by_key(|suite| !AES_128.contains(&suite.suite()));
    if !policy.post_quantum {
        provider
            .kx_groups
            .retain(|group| group.name() != kx_group::X25519MLKEM768.name());
    }
    provider
}

fn versions(policy: &TlsPolicy) -> &'static [&'static SupportedProtocolVersion] {
    const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
    match (policy.min, policy.max) {
        (TlsVersion::Tls12, TlsVersion::Tls12) => &BOTH[1..],
        (TlsVersion::Tls13, _) => &BOTH[..1],
        (TlsVersion::Tls12, TlsVersion::Tls13) => BOTH,
    }
}

/// The suites that are preferred.
const AES_128: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];
/// A wildcard may cover any number of names; more than the session store has are of no use.
const MOST_NAMES: usize = 256;
