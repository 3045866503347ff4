//! A client certificate with its key, and what people want to know about it.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::Source;
use crate::timestamp::from_seconds;

use super::chain::{ChainError, order};
use super::error::{Input, LoadError};
use super::inputs::Inputs;
use super::remark::Remark;
use super::{pem, pkcs12};

/// A certificate chain and the key it was issued for.
pub struct Identity {
    leaf: Leaf,
    remarks: Vec<Remark>,
    // The raw name of whoever issued the last certificate of the chain, unless that is itself.
    ends_at: Option<(Vec<u8>, String)>,
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
    /// Makes an identity of what was read from `source`: a chain and a key in PEM, or both in a
    /// PKCS#12 file.
    ///
    /// # Errors
    ///
    /// When either cannot be read, or they do not belong together.
    pub fn parse(source: &Source, inputs: &Inputs) -> Result<Self, LoadError> {
        Ok(Self::with_key(source, inputs)?.0)
    }

    /// The same, and the key.
    pub(super) fn with_key(
        source: &Source,
        inputs: &Inputs,
    ) -> Result<(Self, PrivateKeyDer<'static>), LoadError> {
        let (certificates, key) = material(source, inputs)?;
        let mismatch = || LoadError::Mismatch {
            chain: source.certificate.clone(),
            key: source.key.clone(),
        };
        let damaged = |reason| LoadError::Damaged {
            input: Input::Certificate,
            path: source.certificate.clone(),
            reason,
        };
        let unusable = |error: Error| LoadError::UnusableKey {
            path: source.key.clone(),
            reason: error.to_string(),
        };
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let signing = provider
            .key_provider
            .load_private_key(key.clone_key())
            .map_err(unusable)?;
        let public = signing.public_key();
        let (chain, mut remarks) =
            order(certificates, public.as_deref()).map_err(|error| match error {
                ChainError::NoLeaf => mismatch(),
                ChainError::Damaged(at, reason) => {
                    damaged(format!("certificate {at} in it is none: {reason}"))
                }
            })?;
        let leaf = Leaf::parse(&chain[0]).map_err(damaged)?;
        remarks.extend(odd(&chain[0]));
        if inputs.key_is_public {
            remarks.push(Remark::PublicKeyFile(source.key.clone()));
        }
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
                let identity = Self {
                    leaf,
                    remarks,
                    ends_at: ends_at(&certified.cert),
                    certified: Arc::new(certified),
                };
                Ok((identity, key))
            }
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(mismatch()),
            Err(error) => Err(unusable(error)),
        }
    }

    /// What is odd about it at `now`. `roots` are authorities that this machine knows.
    pub fn remarks(&self, roots: &RootCertStore, now: SystemTime) -> Vec<Remark> {
        let mut remarks = self.remarks.clone();
        if let Some((issuer, name)) = &self.ends_at {
            // An anchor's name comes without the header of its SEQUENCE.
            let known = |anchor: &TrustAnchor<'_>| {
                issuer.ends_with(&anchor.subject) && issuer.len() - anchor.subject.len() <= 4
            };
            if !roots.roots.iter().any(known) {
                remarks.push(Remark::MissingIssuer(name.clone()));
            }
        }
        if self.leaf.is_near_its_end(now) {
            remarks.push(Remark::NearExpiry(self.leaf.not_after));
        }
        remarks
    }

    /// Whether its certificate may be used by clients, as far as it says (RFC 5280 section
    /// 4.2.1.12).
    pub fn is_for_clients(&self) -> bool {
        !self.remarks.contains(&Remark::NoClientAuth)
    }

    /// Whether its certificate comes without those of intermediate authorities.
    pub fn is_alone(&self) -> bool {
        self.certified.cert.len() == 1
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
            not_before: from_seconds(validity.not_before.timestamp()),
            not_after: from_seconds(validity.not_after.timestamp()),
        })
    }

    /// Whether it is over at `now`.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        now > self.not_after
    }

    /// Whether more than four fifths of its lifetime are over at `now`, and not all of it. Tools
    /// renew after two thirds.
    pub fn is_near_its_end(&self, now: SystemTime) -> bool {
        let whole = self.not_after.duration_since(self.not_before);
        let left = self.not_after.duration_since(now);
        matches!((whole, left), (Ok(whole), Ok(left)) if left < whole / 5)
    }

    /// Whether it has yet to begin at `now`.
    pub fn is_early(&self, now: SystemTime) -> bool {
        now < self.not_before
    }
}

type Material = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The certificates and the key, in the order they were found.
fn material(source: &Source, inputs: &Inputs) -> Result<Material, LoadError> {
    let password = inputs.password.as_deref().map(Vec::as_slice);
    if pkcs12::is_pkcs12(&inputs.certificate) && source.key == source.certificate {
        return pkcs12::open(&source.certificate, &inputs.certificate, password);
    }
    let chain = pem::certificates(Input::Certificate, &source.certificate, &inputs.certificate)?;
    let key = pem::private_key(&source.key, &inputs.key, password)?;
    Ok((chain, key))
}

/// What is odd about the leaf itself.
fn odd(leaf: &CertificateDer<'_>) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else {
        return remarks;
    };
    if let Ok(Some(usage)) = certificate.extended_key_usage()
        && !usage.value.client_auth
        && !usage.value.any
    {
        remarks.push(Remark::NoClientAuth);
    }
    let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
    if SHA1.contains(&algorithm.as_str()) {
        remarks.push(Remark::Sha1);
    }
    remarks
}

/// Who issued the last certificate of `chain`, unless it issued itself.
fn ends_at(chain: &[CertificateDer<'_>]) -> Option<(Vec<u8>, String)> {
    let (_, last) = X509Certificate::from_der(chain.last()?).ok()?;
    let issuer = last.issuer();
    (issuer.as_raw() != last.subject().as_raw())
        .then(|| (issuer.as_raw().to_vec(), issuer.to_string()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// sha1WithRSAEncryption (RFC 3279 section 2.2.1) and ecdsa-with-SHA1 (section 2.2.3).
const SHA1: &[&str] = &["1.2.840.113549.1.1.5", "1.2.840.10045.4.1"];
