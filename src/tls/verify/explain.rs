//! Turns what webpki says about a chain into what is wrong with which certificate.

use rustls::{CertificateError, OtherError};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::error::{Distrust, NameHint};

use super::super::trust::Anchors;
use super::super::x509;
use super::seconds;

/// Returns what a rejection that went through rustls is about.
pub fn explain(error: &CertificateError) -> Distrust {
    match error {
        CertificateError::Other(OtherError(other)) => match other.downcast_ref::<Distrust>() {
            Some(distrust) => distrust.clone(),
            None => Distrust::Unreadable(FORM),
        },
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            Distrust::Algorithm
        }
        _ => Distrust::Unreadable(FORM),
    }
}

/// Returns why webpki found no path from `leaf` to a trust anchor.
pub fn chain(
    error: &webpki::Error,
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    server_name: &ServerName<'_>,
    now: UnixTime,
    anchors: &Anchors,
) -> Distrust {
    use webpki::Error as E;
    match error {
        E::CertExpired { .. } => expired(leaf, others, seconds(now)),
        E::CertNotValidYet { .. } => early(leaf, others, seconds(now)),
        E::InvalidCertValidity => Distrust::Backwards,
        E::UnknownIssuer => unknown(leaf, others, server_name),
        E::CaUsedAsEndEntity if is_self_signed(leaf) => {
            Distrust::SelfSigned(server_name.to_str().into_owned())
        }
        E::CaUsedAsEndEntity => Distrust::CaAsLeaf,
        E::EndEntityUsedAsCa => Distrust::NotCa,
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => Distrust::Usage,
        E::NameConstraintViolation => {
            Distrust::Constraint("a CA in its chain may not issue certificates for such names")
        }
        E::PathLenConstraintViolated => {
            Distrust::Constraint("a CA in its chain may not have so many CAs below it")
        }
        E::MaximumPathDepthExceeded => Distrust::Constraint("its chain is too long"),
        E::MaximumSignatureChecksExceeded
        | E::MaximumPathBuildCallsExceeded
        | E::MaximumNameConstraintComparisonsExceeded => Distrust::Constraint(
            "its chain takes too long to verify: too many certificates or names",
        ),
        // A trust anchor has its name, and another key.
        E::InvalidSignatureForPublicKey if others.is_empty() && is_self_signed(leaf) => {
            Distrust::SelfSigned(server_name.to_str().into_owned())
        }
        E::InvalidSignatureForPublicKey => {
            unsupported_key(leaf, others, anchors).unwrap_or(Distrust::BadSignature)
        }
        E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            unsupported_key(leaf, others, anchors).unwrap_or(Distrust::Algorithm)
        }
        E::UnsupportedSignatureAlgorithmContext(_) => Distrust::Algorithm,
        error => unreadable(error, leaf, others),
    }
}

/// Returns why webpki does not read a certificate of a chain.
pub fn unreadable(
    error: &webpki::Error,
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
) -> Distrust {
    use webpki::Error as E;
    let all = || std::iter::once(leaf).chain(others).filter_map(parse);
    let found = match error {
        E::UnsupportedCertVersion => all()
            .find(|one| one.version().0 != 2)
            .map(|one| Distrust::Version(subject(&one), one.version().0 + 1)),
        E::UnsupportedCriticalExtension => all().find_map(|one| {
            let is_unknown = |oid: &String| !KNOWN_CRITICAL.contains(&oid.as_str());
            let critical = one
                .extensions()
                .iter()
                .filter(|extension| extension.critical);
            let oid = critical
                .map(|extension| extension.oid.to_id_string())
                .find(is_unknown)?;
            Some(Distrust::CriticalExtension(subject(&one), oid))
        }),
        E::BadDerTime => Some(Distrust::Date),
        E::InvalidSerialNumber => Some(Distrust::Unreadable("its serial number is not valid")),
        E::SignatureAlgorithmMismatch => Some(Distrust::Unreadable(
            "it names two different signature algorithms",
        )),
        E::ExtensionValueInvalid | E::MalformedExtensions => Some(Distrust::Unreadable(
            "one of its extensions is not valid or there twice",
        )),
        E::MalformedDnsIdentifier
        | E::MalformedNameConstraint
        | E::UnsupportedNameType
        | E::InvalidNetworkMaskConstraint => {
            Some(Distrust::Unreadable("one of its names is not valid"))
        }
        _ => None,
    };
    found.unwrap_or(Distrust::Unreadable(FORM))
}

/// Returns why a key is not one to rely on, though webpki does not look at it.
pub fn weak_key(leaf: &CertificateDer<'_>) -> Result<(), Distrust> {
    match parse(leaf).and_then(|leaf| Some((subject(&leaf), unsupported(leaf.public_key())?))) {
        Some((subject, key)) => Err(Distrust::Key(subject, key)),
        None => Ok(()),
    }
}

fn expired(leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: i64) -> Distrust {
    let end = |one: &X509Certificate<'_>| one.validity().not_after.timestamp();
    match parse(leaf).map(|leaf| end(&leaf)) {
        Some(end) if end < now => Distrust::Expired(end),
        leaf_end => match others.iter().filter_map(parse).find(|one| end(one) < now) {
            Some(issuer) => Distrust::IssuerExpired(subject(&issuer), end(&issuer)),
            None => Distrust::Expired(leaf_end.unwrap_or_default()),
        },
    }
}

fn early(leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: i64) -> Distrust {
    let begin = |one: &X509Certificate<'_>| one.validity().not_before.timestamp();
    match parse(leaf).map(|leaf| begin(&leaf)) {
        Some(begin) if begin > now => Distrust::NotYetValid(begin),
        leaf_begin => match others.iter().filter_map(parse).find(|one| begin(one) > now) {
            Some(issuer) => Distrust::IssuerNotYetValid(subject(&issuer), begin(&issuer)),
            None => Distrust::NotYetValid(leaf_begin.unwrap_or_default()),
        },
    }
}

/// Returns why a chain leads to no trust anchor.
fn unknown(
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    server_name: &ServerName<'_>,
) -> Distrust {
    // Some servers send their own certificate twice.
    let others: Vec<_> = others.iter().filter(|one| *one != leaf).collect();
    let last = others.last().copied().unwrap_or(leaf);
    let Some(last) = parse(last) else {
        return Distrust::Unreadable(FORM);
    };
    let issuer = x509::display(last.issuer());
    match others.as_slice() {
        [] if is_self_signed(leaf) => Distrust::SelfSigned(server_name.to_str().into_owned()),
        [] => Distrust::Incomplete(issuer),
        _ => Distrust::UnknownIssuer(issuer),
    }
}

/// Returns why a certificate is for none of the `expected` names.
pub fn names(leaf: &CertificateDer<'_>, expected: Vec<String>) -> Distrust {
    let all = collect(leaf, |name| Some(Named::new(name)));
    let has_dns = |wanted: &str| {
        all.iter()
            .any(|name| matches!(name, Named::Dns(dns) if dns.eq_ignore_ascii_case(wanted)))
    };
    let address = expected
        .iter()
        .find(|name| name.parse::<std::net::IpAddr>().is_ok() && has_dns(name));
    let wildcard = all.iter().find_map(|name| match name {
        Named::Dns(dns) => {
            let suffix = dns.strip_prefix('*')?;
            let is_below = |name: &String| {
                let name = name.to_ascii_lowercase();
                name.ends_with(&suffix.to_ascii_lowercase()) || format!(".{name}") == suffix
            };
            expected.iter().any(is_below).then(|| dns.clone())
        }
        _ => None,
    });
    let hint = match (address, wildcard) {
        _ if all.is_empty() => NameHint::NoNames(common_name(leaf)),
        (Some(address), _) => NameHint::AddressAsDnsName(address.clone()),
        (None, Some(wildcard)) => NameHint::Wildcard(x509::printable(&wildcard)),
        (None, None) => NameHint::None,
    };
    Distrust::Names {
        expected,
        presented: all.iter().filter_map(Named::display).collect(),
        hint,
    }
}

fn common_name(leaf: &CertificateDer<'_>) -> Option<String> {
    let leaf = parse(leaf)?;
    let name = leaf.subject().iter_common_name().next()?;
    Some(x509::printable(name.as_str().ok()?))
}

/// A subject alternative name.
enum Named {
    Dns(String),
    Uri(String),
    Address(String),
    Other,
}

impl Named {
    fn new(name: &GeneralName<'_>) -> Self {
        match name {
            GeneralName::DNSName(name) => Self::Dns((*name).to_owned()),
            GeneralName::URI(uri) => Self::Uri((*uri).to_owned()),
            GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), *bytes) {
                (Ok(v4), _) => Self::Address(std::net::Ipv4Addr::from(v4).to_string()),
                (Err(_), bytes) => match <[u8; 16]>::try_from(bytes) {
                    Ok(v6) => Self::Address(std::net::Ipv6Addr::from(v6).to_string()),
                    Err(_) => Self::Other,
                },
            },
            _ => Self::Other,
        }
    }

    fn display(&self) -> Option<String> {
        match self {
            Self::Dns(name) if name.parse::<std::net::IpAddr>().is_ok() => {
                Some(format!("the DNS name {name}"))
            }
            Self::Dns(name) | Self::Uri(name) | Self::Address(name) => Some(x509::printable(name)),
            Self::Other => None,
        }
    }
}

/// Returns the URIs among the subject alternative names.
pub fn uris(leaf: &CertificateDer<'_>) -> Vec<String> {
    collect(leaf, |name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    })
}

fn collect<T>(leaf: &CertificateDer<'_>, wanted: impl Fn(&GeneralName<'_>) -> Option<T>) -> Vec<T> {
    let Some(leaf) = parse(leaf) else {
        return Vec::new();
    };
    let Ok(Some(names)) = leaf.subject_alternative_name() else {
        return Vec::new();
    };
    names
        .value
        .general_names
        .iter()
        .filter_map(wanted)
        .collect()
}

/// Returns the key of a CA in the chain, or of the trust anchor, that the TLS library does not
/// support.
fn unsupported_key(
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    anchors: &Anchors,
) -> Option<Distrust> {
    let presented = || std::iter::once(leaf).chain(others).filter_map(parse);
    let in_chain = others
        .iter()
        .filter_map(parse)
        .find_map(|one| Some(Distrust::Key(subject(&one), unsupported(one.public_key())?)));
    let in_anchors = || {
        presented().find_map(|one| {
            let keys = anchors.keys_of(one.issuer());
            let key = keys.iter().find_map(|key| {
                let (_, key) = SubjectPublicKeyInfo::from_der(key).ok()?;
                unsupported(&key)
            })?;
            Some(Distrust::Key(x509::display(one.issuer()), key))
        })
    };
    in_chain.or_else(in_anchors)
}

/// Returns what a key is, in words, if the TLS library does not support it.
fn unsupported(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    let oid = key.algorithm.algorithm.to_id_string();
    let curve = || {
        let parameters = key.algorithm.parameters.as_ref()?;
        Some(parameters.as_oid().ok()?.to_id_string())
    };
    match (oid.as_str(), key.parsed()) {
        (RSA, Ok(PublicKey::RSA(rsa))) => {
            // The modulus has a zero in front where its first bit is set.
            let zeros = rsa.modulus.iter().take_while(|byte| **byte == 0).count();
            let modulus = &rsa.modulus[zeros..];
            let first = modulus
                .first()
                .map_or(0, |byte| byte.leading_zeros() as usize);
            let bits = modulus.len() * 8 - first;
            (!(2048..=8192).contains(&bits)).then(|| format!("RSA with {bits} bits"))
        }
        (RSA | ED25519, _) => None,
        (RSA_PSS, _) => Some("an RSA-PSS key (id-RSASSA-PSS)".to_owned()),
        (DSA, _) => Some("a DSA key".to_owned()),
        (EC, _) => match curve().as_deref() {
            Some("1.2.840.10045.3.1.7" | "1.3.132.0.34" | "1.3.132.0.35") => None,
            Some("1.3.132.0.10") => Some("an EC key on secp256k1".to_owned()),
            Some("1.3.132.0.33") => Some("an EC key on P-224".to_owned()),
            Some("1.2.840.10045.3.1.1") => Some("an EC key on P-192".to_owned()),
            Some(oid) if oid.starts_with(BRAINPOOL) => {
                Some("an EC key on a brainpool curve".to_owned())
            }
            Some(oid) => Some(format!("an EC key on the curve {oid}")),
            None => Some("an EC key with explicit curve parameters".to_owned()),
        },
        ("1.3.101.113", _) => Some("an Ed448 key".to_owned()),
        (oid, _) => Some(format!("a key of the kind {oid}")),
    }
}

fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    parse(certificate)
        .is_some_and(|one| x509::canonical(one.subject()) == x509::canonical(one.issuer()))
}

fn subject(certificate: &X509Certificate<'_>) -> String {
    x509::display(certificate.subject())
}

fn parse<'d>(der: &'d CertificateDer<'_>) -> Option<X509Certificate<'d>> {
    X509Certificate::from_der(der).ok().map(|(_, one)| one)
}

const FORM: &str = "its form is not that of X.509";
// RFC 3279 section 2.3, RFC 4055, RFC 5480, RFC 5639 and RFC 8410.
const RSA: &str = "1.2.840.113549.1.1.1";
const RSA_PSS: &str = "1.2.840.113549.1.1.10";
const DSA: &str = "1.2.840.10040.4.1";
const EC: &str = "1.2.840.10045.2.1";
const BRAINPOOL: &str = "1.3.36.3.3.2.8.";
const ED25519: &str = "1.3.101.112";
/// Critical extensions that webpki processes (RFC 5280 section 4.2.1): key usage, subject
/// alternative name, basic constraints, name constraints, CRL distribution points, extended key
/// usage.
const KNOWN_CRITICAL: &[&str] = &[
    "2.5.29.15",
    "2.5.29.17",
    "2.5.29.19",
    "2.5.29.30",
    "2.5.29.31",
    "2.5.29.37",
];
