//! Trust anchors: what an origin's certificate is verified against.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

use super::chain;
use super::error::{Input, LoadError};
use super::identity::Leaf;
use super::remark::Remark;
use super::{pem, x509};

/// Trust anchors.
#[derive(Debug)]
pub struct Anchors {
    /// Those whose chains are trusted: CAs.
    pub roots: Arc<RootCertStore>,
    // Sorted. An origin that presents one of them is trusted whether it is a CA's or not.
    exact: Vec<CertificateDer<'static>>,
    notes: Vec<Note>,
}

/// What should be noted about a certificate of a bundle.
#[derive(Debug)]
struct Note {
    certificate: Leaf,
    is_ca: bool,
}

impl Anchors {
    fn new(roots: RootCertStore, mut exact: Vec<CertificateDer<'static>>) -> Self {
        exact.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        Self {
            roots: Arc::new(roots),
            exact,
            notes: Vec::new(),
        }
    }

    /// Whether `certificate` itself is listed, byte for byte.
    pub fn lists(&self, certificate: &CertificateDer<'_>) -> bool {
        let find = |listed: &CertificateDer<'_>| listed.as_ref().cmp(certificate.as_ref());
        self.exact.binary_search_by(find).is_ok()
    }

    /// Returns when the first certificate of a file expires; `None` for those of this machine.
    pub fn expire(&self) -> Option<SystemTime> {
        let certificates = self.notes.iter().map(|note| &note.certificate);
        certificates.map(|certificate| certificate.not_after).min()
    }

    /// Returns anchors for issuers of `chain` whose names are written in another way in `ca`:
    /// RFC 5280 section 7.1 calls them equal, and the TLS library compares bytes.
    pub fn respelled(&self, chain: &[&CertificateDer<'_>]) -> Vec<TrustAnchor<'static>> {
        let mut respelled = Vec::new();
        for certificate in chain {
            let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
                continue;
            };
            let issuer = x509::canonical(certificate.issuer());
            let Some(raw) = x509::content(certificate.issuer().as_raw()) else {
                continue;
            };
            for anchor in &self.roots.roots {
                let subject = x509::sequence(&anchor.subject);
                let is_same = X509Name::from_der(&subject)
                    .is_ok_and(|(_, subject)| x509::canonical(&subject) == issuer);
                if is_same && *anchor.subject != *raw {
                    let mut anchor = anchor.clone();
                    anchor.subject = raw.to_vec().into();
                    respelled.push(anchor);
                }
            }
        }
        respelled
    }

    /// Returns the SubjectPublicKeyInfos of the CAs with this name.
    pub fn keys_of(&self, name: &X509Name<'_>) -> Vec<Vec<u8>> {
        let name = x509::canonical(name);
        let is_named = |anchor: &&TrustAnchor<'_>| {
            let subject = x509::sequence(&anchor.subject);
            X509Name::from_der(&subject).is_ok_and(|(_, one)| x509::canonical(&one) == name)
        };
        let named = self.roots.roots.iter().filter(is_named);
        named
            .map(|anchor| x509::sequence(&anchor.subject_public_key_info))
            .collect()
    }

    /// Returns what should be noted about them at `now`.
    pub fn remarks(&self, now: SystemTime) -> Vec<Remark> {
        let mut remarks = Vec::new();
        for note in &self.notes {
            let Leaf {
                subject, issuer, ..
            } = &note.certificate;
            if !note.is_ca {
                let issuer = (issuer != subject).then(|| issuer.clone());
                remarks.push(Remark::NotCa(subject.clone(), issuer));
            }
            if note.certificate.is_expired(now) {
                let not_after = note.certificate.not_after;
                remarks.push(Remark::CaExpired(subject.clone(), not_after));
            }
        }
        remarks
    }
}

/// Reads the certificates of a PEM bundle.
///
/// # Errors
///
/// Returns an error if one of them cannot be read: a trust anchor that is silently missing would
/// be noticed only when an origin is not trusted.
pub fn bundle(path: &Path, bytes: &[u8]) -> Result<Anchors, LoadError> {
    let mut roots = RootCertStore::empty();
    let mut notes = Vec::new();
    let certificates = pem::certificates(Input::Ca, path, bytes)?;
    for (at, der) in certificates.iter().enumerate() {
        let damaged = |reason: String| LoadError::Damaged {
            input: Input::Ca,
            path: path.to_owned(),
            reason: format!("certificate {} in it cannot be parsed: {reason}", at + 1),
        };
        let is_ca = is_ca(&chain::parse(der).map_err(damaged)?);
        let certificate = Leaf::parse(der).map_err(damaged)?;
        if is_ca {
            roots
                .add(der.clone())
                .map_err(|_| damaged("the TLS library cannot read it".to_owned()))?;
        }
        notes.push(Note { certificate, is_ca });
    }
    Ok(Anchors {
        notes,
        ..Anchors::new(roots, certificates)
    })
}

/// Whether a certificate in a bundle may be that of a CA, as OpenSSL decides it: by its basic
/// constraints; without these by its key usage, or because it is a self-signed one of version 1.
fn is_ca(certificate: &X509Certificate<'_>) -> bool {
    if let Ok(Some(constraints)) = certificate.basic_constraints() {
        return constraints.value.ca;
    }
    match certificate.key_usage() {
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        _ => {
            certificate.version().0 < 2
                && x509::canonical(certificate.subject()) == x509::canonical(certificate.issuer())
        }
    }
}

/// Returns this machine's CAs, as `SSL_CERT_FILE`, `SSL_CERT_DIR` or the usual places have them.
/// Read once: they are large, and change with the system's packages.
///
/// # Errors
///
/// Returns [`LoadError::NoSystemRoots`] if there are none.
pub fn system() -> Result<Arc<Anchors>, LoadError> {
    static ANCHORS: OnceLock<Arc<Anchors>> = OnceLock::new();
    if let Some(anchors) = ANCHORS.get() {
        return Ok(Arc::clone(anchors));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some systems carry CAs that webpki does not understand; the others count.
    for certificate in &found.certs {
        if chain::parse(certificate).is_ok_and(|certificate| is_ca(&certificate)) {
            let _ = roots.add(certificate.clone());
        }
    }
    if found.certs.is_empty() {
        return Err(LoadError::NoSystemRoots {
            detail: found.errors.first().map(ToString::to_string),
        });
    }
    let anchors = Arc::new(Anchors::new(roots, found.certs));
    Ok(Arc::clone(ANCHORS.get_or_init(|| anchors)))
}

/// Returns Mozilla's CAs, as they were when mtlsd was built.
pub fn mozilla() -> Arc<Anchors> {
    static ANCHORS: OnceLock<Arc<Anchors>> = OnceLock::new();
    let roots = || RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    Arc::clone(ANCHORS.get_or_init(|| Arc::new(Anchors::new(roots(), Vec::new()))))
}
