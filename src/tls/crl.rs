//! CRLs: which of them decides about a certificate (RFC 5280 section 6.3.3).
//!
//! The TLS library takes the first CRL whose issuer has the right name. A file may hold several of
//! one issuer, old and new, and those of a CA's former key, so the choice is made here: among the
//! CRLs that the issuer's key signed and that cover the certificate, the newest valid one decides.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use rustls_pki_types::CertificateRevocationListDer;
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension, X509Extension};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use crate::error::{Distrust, Uncovered};
use crate::timestamp::from_seconds;

use super::x509::{self, Signature, Signed};

/// The CRLs of a file.
pub struct Crls {
    lists: Vec<Crl>,
    // Whether the key of a SubjectPublicKeyInfo signed a CRL. Checking anew in every handshake
    // would hash the whole CRL each time.
    signatures: Mutex<HashMap<(usize, Vec<u8>), Signature>>,
}

/// Why a CRL cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CrlError {
    /// It lists only what changed since another one.
    #[error("a delta CRL, and only complete CRLs are supported")]
    Delta,
    /// It lists certificates of other issuers.
    #[error("an indirect CRL, which lists certificates of several CAs; these are not supported")]
    Indirect,
    /// It covers only some reasons for revocation.
    #[error("a CRL for some revocation reasons only, and only complete CRLs are supported")]
    Reasons,
    /// Its distribution point is named relative to its issuer.
    #[error("a CRL whose distribution point has a relative name, which is not supported")]
    RelativeName,
    /// It has a critical extension that is not known.
    #[error(
        "a CRL with the critical extension {0}, which mtlsd does not know; RFC 5280 section 5.2 forbids to use it"
    )]
    CriticalExtension(String),
    /// It cannot be parsed.
    #[error("a CRL that cannot be parsed: {0}")]
    Unreadable(String),
}

impl CrlError {
    /// Returns what to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Delta => {
                "use the complete (base) CRL of that CA; it has no Delta CRL Indicator in the output of openssl crl -noout -text"
            }
            Self::Indirect => "use the CRL that each CA issues for its own certificates",
            Self::Reasons => "use a CRL of that CA that covers all reasons",
            Self::RelativeName => "have the CA name the distribution point by a URI",
            Self::CriticalExtension(_) => {
                "have the CA issue a CRL without that extension, or with the extension not critical"
            }
            Self::Unreadable(_) => {
                "download it again; openssl crl -noout -text shows what is in it"
            }
        }
    }
}

/// A CRL of a file.
struct Crl {
    der: CertificateRevocationListDer<'static>,
    issuer: Vec<u8>,
    this_update: i64,
    next_update: Option<i64>,
    scope: Scope,
    // Sorted.
    revoked: Vec<Box<[u8]>>,
}

/// Which certificates of its issuer a CRL covers (RFC 5280 section 5.2.5).
#[derive(Default)]
struct Scope {
    leaves_only: bool,
    authorities_only: bool,
    attributes_only: bool,
    points: Option<Vec<Point>>,
}

/// A name of a distribution point.
#[derive(PartialEq)]
enum Point {
    Uri(String),
    Directory(Vec<u8>),
}

/// A certificate whose status is asked for, with its issuer.
pub struct Subject<'c> {
    /// The certificate.
    pub certificate: &'c X509Certificate<'c>,
    /// Whether it is that of a CA.
    pub is_ca: bool,
    /// The issuer's SubjectPublicKeyInfo, with its SEQUENCE.
    pub issuer_key: &'c [u8],
    /// Whether the issuer's key usage lets it sign CRLs.
    pub issuer_signs_crls: bool,
}

impl Crls {
    /// Reads the CRLs of a file.
    ///
    /// # Errors
    ///
    /// Returns the first that cannot be used, counted from 1, and why. To ignore it could let a
    /// revoked origin pass.
    pub fn new(
        ders: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<Self, (usize, CrlError)> {
        let read = |(at, der)| Crl::new(der).map_err(|error| (at + 1, error));
        Ok(Self {
            lists: ders
                .into_iter()
                .enumerate()
                .map(read)
                .collect::<Result<_, _>>()?,
            signatures: Mutex::default(),
        })
    }

    /// Returns when the first of the CRLs is out of date. Of several CRLs of one issuer the newest
    /// counts.
    pub fn next_update(&self) -> Option<SystemTime> {
        let mut newest: BTreeMap<&[u8], &Crl> = BTreeMap::new();
        for list in &self.lists {
            let known = newest.entry(&list.issuer).or_insert(list);
            if known.this_update < list.this_update {
                *known = list;
            }
        }
        let seconds = newest.into_values().filter_map(|list| list.next_update);
        seconds.min().map(from_seconds)
    }

    /// Checks that a certificate is not revoked at `now`, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// Returns why it must not be trusted: it is revoked, or no valid CRL covers it.
    pub fn check(&self, subject: &Subject<'_>, now: i64) -> Result<(), Distrust> {
        let certificate = subject.certificate;
        let issuer = x509::canonical(certificate.issuer());
        let issuer_name = || x509::display(certificate.issuer());
        let uncovered = |why| {
            Err(Distrust::Uncovered {
                subject: x509::display(certificate.subject()),
                issuer: issuer_name(),
                why,
            })
        };
        let named: Vec<usize> = (0..self.lists.len())
            .filter(|at| self.lists[*at].issuer == issuer)
            .collect();
        if named.is_empty() {
            return uncovered(Uncovered::NoCrl);
        }
        let signed: Vec<(usize, Signature)> = named
            .iter()
            .map(|at| (*at, self.signature(*at, subject.issuer_key)))
            .filter(|(_, signature)| *signature != Signature::Invalid)
            .collect();
        if signed.is_empty() {
            return uncovered(Uncovered::OtherKey);
        }
        let signed: Vec<&Crl> = signed
            .iter()
            .filter(|(_, signature)| *signature == Signature::Valid)
            .map(|(at, _)| &self.lists[*at])
            .collect();
        if signed.is_empty() {
            return uncovered(Uncovered::Algorithm);
        }
        if !subject.issuer_signs_crls {
            return uncovered(Uncovered::NotCrlSigner);
        }
        let covering = |crl: &&&Crl| crl.scope.covers(certificate, subject.is_ca);
        let covering: Vec<&Crl> = signed.iter().filter(covering).copied().collect();
        if covering.is_empty() {
            return uncovered(Uncovered::OtherScope);
        }
        let valid = covering.iter().filter(|crl| crl.is_valid(now));
        let Some(newest) = valid.max_by_key(|crl| crl.this_update) else {
            let early = covering.iter().map(|crl| crl.this_update).min();
            let ended = covering.iter().filter_map(|crl| crl.next_update);
            return Err(match (ended.filter(|end| *end < now).max(), early) {
                (Some(ended), _) => Distrust::CrlExpired(issuer_name(), ended),
                (None, early) => Distrust::CrlNotYetValid(issuer_name(), early.unwrap_or_default()),
            });
        };
        match (newest.lists(certificate.raw_serial()), subject.is_ca) {
            (false, _) => Ok(()),
            (true, false) => Err(Distrust::Revoked),
            (true, true) => Err(Distrust::IssuerRevoked(x509::display(
                certificate.subject(),
            ))),
        }
    }

    fn signature(&self, at: usize, key: &[u8]) -> Signature {
        let entry = (at, key.to_vec());
        let lock = || {
            self.signatures
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(known) = lock().get(&entry) {
            return *known;
        }
        let signed = Signed::new(&self.lists[at].der);
        let signature = signed.map_or(Signature::Invalid, |signed| signed.check(key));
        let mut signatures = lock();
        if signatures.len() < MOST_SIGNATURES {
            signatures.insert(entry, signature);
        }
        signature
    }
}

impl fmt::Debug for Crls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crls")
            .field("lists", &self.lists.len())
            .finish()
    }
}

impl Crl {
    fn new(der: CertificateRevocationListDer<'static>) -> Result<Self, CrlError> {
        let unreadable = |error: String| CrlError::Unreadable(error.to_lowercase());
        let (_, list) = CertificateRevocationList::from_der(&der)
            .map_err(|error| unreadable(error.to_string()))?;
        let mut scope = Scope::default();
        for extension in list.extensions() {
            scope.read(extension)?;
        }
        let mut revoked = Vec::new();
        for entry in list.iter_revoked_certificates() {
            for extension in entry.extensions() {
                match extension.oid.to_id_string().as_str() {
                    CERTIFICATE_ISSUER => return Err(CrlError::Indirect),
                    REASON | INVALIDITY_DATE => {}
                    oid if extension.critical => {
                        return Err(CrlError::CriticalExtension(oid.to_owned()));
                    }
                    _ => {}
                }
            }
            revoked.push(number(entry.raw_serial()).into());
        }
        revoked.sort_unstable();
        let issuer = x509::canonical(list.issuer());
        let this_update = list.last_update().timestamp();
        let next_update = list.next_update().map(|time| time.timestamp());
        Ok(Self {
            issuer,
            this_update,
            next_update,
            scope,
            revoked,
            der,
        })
    }

    fn is_valid(&self, now: i64) -> bool {
        self.this_update <= now && self.next_update.is_none_or(|end| now <= end)
    }

    fn lists(&self, serial: &[u8]) -> bool {
        let serial = number(serial);
        self.revoked
            .binary_search_by(|entry| (**entry).cmp(serial))
            .is_ok()
    }
}

/// Returns a serial number without the zeros that some write in front.
fn number(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    &serial[zeros..]
}

impl Scope {
    fn read(&mut self, extension: &X509Extension<'_>) -> Result<(), CrlError> {
        let oid = extension.oid.to_id_string();
        match (oid.as_str(), extension.parsed_extension()) {
            (DELTA, _) => return Err(CrlError::Delta),
            (_, ParsedExtension::IssuingDistributionPoint(point)) => {
                if point.indirect_crl {
                    return Err(CrlError::Indirect);
                }
                if point.only_some_reasons.is_some() {
                    return Err(CrlError::Reasons);
                }
                self.leaves_only = point.only_contains_user_certs;
                self.authorities_only = point.only_contains_ca_certs;
                self.attributes_only = point.only_contains_attribute_certs;
                self.points = match &point.distribution_point {
                    Some(DistributionPointName::FullName(names)) => Some(points(names)),
                    Some(_) => return Err(CrlError::RelativeName),
                    // The parser skips names that it cannot read.
                    None if names_a_point(extension.value) => return Err(CrlError::RelativeName),
                    None => None,
                };
            }
            (AUTHORITY_KEY | NUMBER, _) => {}
            (_, _) if extension.critical => return Err(CrlError::CriticalExtension(oid)),
            (_, _) => {}
        }
        Ok(())
    }

    fn covers(&self, certificate: &X509Certificate<'_>, is_ca: bool) -> bool {
        if self.attributes_only || self.leaves_only && is_ca || self.authorities_only && !is_ca {
            return false;
        }
        let Some(own) = &self.points else {
            return true;
        };
        // A certificate that names no distribution point has that of its issuer's name.
        let mut wanted = vec![Point::Directory(x509::canonical(certificate.issuer()))];
        for extension in certificate.extensions() {
            if let ParsedExtension::CRLDistributionPoints(points_of) = extension.parsed_extension()
            {
                let whole = |point: &&x509_parser::extensions::CRLDistributionPoint<'_>| {
                    point.reasons.is_none() && point.crl_issuer.is_none()
                };
                for point in points_of.points.iter().filter(whole) {
                    if let Some(DistributionPointName::FullName(names)) = &point.distribution_point
                    {
                        wanted.extend(points(names));
                    }
                }
            }
        }
        own.iter().any(|point| wanted.contains(point))
    }
}

/// Whether the first element of an issuing distribution point is a name.
fn names_a_point(value: &[u8]) -> bool {
    x509::content(value).is_some_and(|content| content.first() == Some(&0xa0))
}

fn points(names: &[GeneralName<'_>]) -> Vec<Point> {
    let point = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some(Point::Uri((*uri).to_owned())),
        GeneralName::DirectoryName(name) => Some(Point::Directory(x509::canonical(name))),
        _ => None,
    };
    names.iter().filter_map(point).collect()
}

// RFC 5280 sections 5.2 and 5.3.
const AUTHORITY_KEY: &str = "2.5.29.35";
const NUMBER: &str = "2.5.29.20";
const DELTA: &str = "2.5.29.27";
const REASON: &str = "2.5.29.21";
const INVALIDITY_DATE: &str = "2.5.29.24";
const CERTIFICATE_ISSUER: &str = "2.5.29.29";
/// Far more than a file has CRLs and the CAs keys.
const MOST_SIGNATURES: usize = 1024;

#[cfg(test)]
mod tests;
