//! A client certificate with its key, and what people want to know about it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

use crate::config::Source;
use crate::timestamp::from_seconds;

use super::chain::{self, ChainError, order};
use super::error::{Input, LoadError};
use super::inputs::Inputs;
use super::pem::Key;
use super::remark::Remark;
use super::{key, pem, pkcs12, x509};

/// A certificate chain and the key it was issued for.
#[derive(Clone)]
pub struct Identity {
    leaf: Leaf,
    remarks: Vec<Remark>,
    // The certificates behind the leaf, up to the end of the path.
    issuers: Vec<Leaf>,
    missing_issuer: Option<MissingIssuer>,
    certified: Arc<CertifiedKey>,
    // The file in the `certificate_dir` for CAs, and whether it is there.
    ca_file: Option<(PathBuf, bool)>,
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
    pub(super) fn with_key(source: &Source, inputs: &Inputs) -> Result<(Self, Key), LoadError> {
        let Material {
            certificates,
            key,
            keys,
        } = Material::read(source, inputs)?;
        let mismatch = || LoadError::Mismatch {
            chain: source.certificate.clone(),
            key: source.key.clone(),
        };
        let damaged = |reason| LoadError::Damaged {
            input: Input::Certificate,
            path: source.certificate.clone(),
            reason,
        };
        let signing = any_supported_type(&key).map_err(|_| LoadError::UnusableKey {
            path: source.key.clone(),
            reason: key::fault(&key),
        })?;
        let public = signing.public_key();
        let chain = order(certificates, public.as_deref(), SystemTime::now());
        let chain = chain.map_err(|error| match error {
            ChainError::NoLeaf => mismatch(),
            ChainError::Damaged(at, reason) => {
                damaged(format!("certificate {at} in it cannot be parsed: {reason}"))
            }
        })?;
        let leaf = Leaf::parse(&chain.certificates[0]).map_err(damaged)?;
        let mut remarks = chain.remarks;
        remarks.extend(usage_remarks(&chain.certificates[0]));
        if keys > 1 {
            remarks.push(Remark::SeveralKeys(source.key.clone(), keys));
        }
        if inputs.key_is_public {
            remarks.push(Remark::PublicKeyFile(source.key.clone()));
        }
        let path = &chain.certificates[..chain.path];
        let identity = Self {
            leaf,
            remarks,
            issuers: path[1..]
                .iter()
                .filter_map(|der| Leaf::parse(der).ok())
                .collect(),
            missing_issuer: missing_issuer(path),
            // The leaf is the certificate of this key: that is how `order` found it. rustls's own
            // comparison would reject certificates that are the origin's to judge.
            certified: Arc::new(CertifiedKey::new(chain.certificates, signing)),
            ca_file: None,
        };
        Ok((identity, key))
    }

    /// What is odd about it at `now`. `roots` are authorities that this machine knows.
    pub fn remarks(&self, roots: &RootCertStore, now: SystemTime) -> Vec<Remark> {
        let mut remarks = self.remarks.clone();
        if let Some(issuer) = &self.missing_issuer
            && issuer.is_likely_intermediate(roots)
        {
            remarks.push(Remark::MissingIssuer(issuer.name.clone()));
        }
        if let Some(issuer) = self.expired_issuer(now) {
            remarks.push(Remark::IssuerExpired(
                issuer.subject.clone(),
                issuer.not_after,
            ));
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

    /// Returns the first intermediate CA certificate in the chain that has expired by `now`. A root
    /// does not count: the origin has its own copy.
    pub fn expired_issuer(&self, now: SystemTime) -> Option<&Leaf> {
        let is_intermediate = |issuer: &&Leaf| issuer.subject != issuer.issuer;
        let mut issuers = self.issuers.iter().filter(is_intermediate);
        issuers.find(|issuer| issuer.is_expired(now))
    }

    /// Whether its certificate comes without those of intermediate authorities.
    pub fn is_alone(&self) -> bool {
        self.certified.cert.len() == 1
    }

    /// Returns when the presented chain is valid: from the latest start to the earliest end of its
    /// certificates. A root does not count: the origin has its own copy.
    pub fn validity(&self) -> (SystemTime, SystemTime) {
        let issuers = self.issuers.iter();
        let issuers = issuers.filter(|issuer| issuer.subject != issuer.issuer);
        issuers.fold(
            (self.leaf.not_before, self.leaf.not_after),
            |(start, end), issuer| (start.max(issuer.not_before), end.min(issuer.not_after)),
        )
    }

    /// The file with the CAs that origins are verified with, where `certificate_dir` decided that.
    pub fn implied_ca(&self) -> Option<&Path> {
        let (path, is_there) = self.ca_file()?;
        is_there.then_some(path)
    }

    /// The file in the `certificate_dir` for CAs, and whether it is there.
    pub(super) fn ca_file(&self) -> Option<(&Path, bool)> {
        let (path, is_there) = self.ca_file.as_ref()?;
        Some((path, *is_there))
    }

    pub(super) fn imply_ca(&mut self, path: PathBuf, is_there: bool) {
        self.ca_file = Some((path, is_there));
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
        let certificate = chain::parse(der)?;
        let validity = certificate.validity();
        Ok(Self {
            subject: x509::display(certificate.subject()),
            issuer: x509::display(certificate.issuer()),
            serial: x509::hex(certificate.raw_serial()),
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

/// The certificates and the key, in the order they were found.
struct Material {
    certificates: Vec<CertificateDer<'static>>,
    key: Key,
    // How many keys there were to choose from.
    keys: usize,
}

impl Material {
    fn read(source: &Source, inputs: &Inputs) -> Result<Self, LoadError> {
        let password = inputs.password.as_deref().map(Vec::as_slice);
        let (certificates, keys) =
            if pkcs12::is_pkcs12(&inputs.certificate) && source.key == source.certificate {
                let content = pkcs12::open(&source.certificate, &inputs.certificate, password)?;
                (content.certificates, content.keys)
            } else {
                let (path, bytes) = (&source.certificate, &inputs.certificate);
                let certificates = pem::certificates(Input::Certificate, path, bytes)?;
                let keys = pem::private_keys(&source.key, &inputs.key, password)?;
                (certificates, keys)
            };
        let count = keys.len();
        let key = key::choose(keys, &certificates).ok_or_else(|| LoadError::NotPem {
            input: Input::Key,
            path: source.key.clone(),
        })?;
        Ok(Self {
            certificates,
            key,
            keys: count,
        })
    }
}

/// Returns what the leaf says about its use that may make an origin reject it.
fn usage_remarks(leaf: &CertificateDer<'_>) -> Vec<Remark> {
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
    if let Ok(Some(usage)) = certificate.key_usage()
        && !usage.value.digital_signature()
    {
        remarks.push(Remark::NoDigitalSignature);
    }
    if certificate.version().0 < 2 {
        remarks.push(Remark::OldVersion(certificate.version().0 + 1));
    }
    for extension in certificate.extensions() {
        if extension.critical && extension.parsed_extension().unsupported() {
            remarks.push(Remark::CriticalExtension(extension.oid.to_id_string()));
        }
    }
    if key::has_explicit_curve(certificate.public_key().raw) {
        remarks.push(Remark::ExplicitCurve);
    }
    let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
    if SHA1.contains(&algorithm.as_str()) {
        remarks.push(Remark::Sha1);
    }
    remarks
}

/// The issuer of the last certificate of a chain, whose own certificate is not in the file.
#[derive(Clone)]
struct MissingIssuer {
    canonical: Vec<u8>,
    name: String,
    organization: Option<String>,
    // Only CAs below a root publish where their certificate can be fetched.
    is_published: bool,
}

impl MissingIssuer {
    /// Whether the issuer seems to be an intermediate CA. A certificate does not say whether its
    /// issuer is a root, and for a private root there is nothing to append.
    fn is_likely_intermediate(&self, roots: &RootCertStore) -> bool {
        let mut is_sibling = false;
        for anchor in &roots.roots {
            let subject = x509::sequence(&anchor.subject);
            let Ok((_, subject)) = X509Name::from_der(&subject) else {
                continue;
            };
            if x509::canonical(&subject) == self.canonical {
                return false;
            }
            is_sibling |=
                self.organization.is_some() && organization(&subject) == self.organization;
        }
        let name = self.name.to_lowercase();
        let is_named = |words: &[&str]| words.iter().any(|word| name.contains(word));
        !is_named(&["root"]) && (is_sibling || self.is_published || is_named(INTERMEDIATE))
    }
}

/// Returns the issuer of the last certificate of `path`, unless that certificate is a root.
fn missing_issuer(path: &[CertificateDer<'_>]) -> Option<MissingIssuer> {
    let (_, last) = X509Certificate::from_der(path.last()?).ok()?;
    let canonical = x509::canonical(last.issuer());
    if canonical == x509::canonical(last.subject()) {
        return None;
    }
    let is_published = |extension: &X509Extension<'_>| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => access
            .accessdescs
            .iter()
            .any(|access| access.access_method.to_id_string() == CA_ISSUERS),
        _ => false,
    };
    Some(MissingIssuer {
        canonical,
        name: x509::display(last.issuer()),
        organization: organization(last.issuer()),
        is_published: last.extensions().iter().any(is_published),
    })
}

fn organization(name: &X509Name<'_>) -> Option<String> {
    let organization = name.iter_organization().next()?;
    organization.as_str().ok().map(str::to_lowercase)
}

/// id-ad-caIssuers (RFC 5280 section 4.2.2.1).
const CA_ISSUERS: &str = "1.3.6.1.5.5.7.48.2";
/// What names of intermediate CAs have in them.
const INTERMEDIATE: &[&str] = &["intermediate", "issuing", "sub ca", "subca", "sub-ca"];
/// sha1WithRSAEncryption (RFC 3279 section 2.2.1) and ecdsa-with-SHA1 (section 2.2.3).
const SHA1: &[&str] = &["1.2.840.113549.1.1.5", "1.2.840.10045.4.1"];
