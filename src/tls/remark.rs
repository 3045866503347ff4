//! What is odd about an identity that works all the same.

use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::timestamp::rfc3339;

/// Something about an identity that somebody should look at, before it becomes a failure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Remark {
    /// The certificates did not stand in the order of the chain.
    Reordered,
    /// Certificates that are no part of the chain; they are not sent.
    Unrelated(Vec<String>),
    /// Expired certificates in whose place valid ones of the same CA are sent.
    Superseded(Vec<String>),
    /// The certificate of an intermediate CA in the chain has expired.
    IssuerExpired(String, SystemTime),
    /// The chain ends at a certificate whose issuer is neither in it nor among the authorities
    /// that this machine knows.
    MissingIssuer(String),
    /// The certificate says what it may be used for, and that is not to be a client.
    NoClientAuth,
    /// The certificate's key usage lacks digitalSignature, which a client needs to sign the
    /// handshake.
    NoDigitalSignature,
    /// The certificate is of X.509 version 1 or 2.
    OldVersion(u32),
    /// The certificate has a critical extension that few know: its OID.
    CriticalExtension(String),
    /// The certificate spells out its curve, which RFC 5480 section 2.1.1 forbids.
    ExplicitCurve,
    /// The certificate is signed with SHA-1, which most origins refuse.
    Sha1,
    /// Most of the certificate's lifetime is over.
    NearExpiry(SystemTime),
    /// The file contains this many private keys, of which one is used.
    SeveralKeys(PathBuf, usize),
    /// A certificate in `ca` is not that of a CA: its subject and, unless it is self-signed, its
    /// issuer.
    NotCa(String, Option<String>),
    /// A certificate in `ca` has expired.
    CaExpired(String, SystemTime),
    /// The directory of the certificate has no such file, so the CAs of this machine are trusted.
    SystemCas(PathBuf),
    /// Every user of this machine can read the key.
    PublicKeyFile(PathBuf),
}

impl Remark {
    /// Returns the word for it in metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Reordered => "chain_order",
            Self::Unrelated(_) => "unrelated_certificate",
            Self::Superseded(_) => "superseded_issuer",
            Self::IssuerExpired(..) => "issuer_expired",
            Self::MissingIssuer(_) => "chain_incomplete",
            Self::NoClientAuth => "no_client_auth",
            Self::NoDigitalSignature => "no_digital_signature",
            Self::OldVersion(_) => "old_version",
            Self::CriticalExtension(_) => "critical_extension",
            Self::ExplicitCurve => "explicit_curve",
            Self::Sha1 => "sha1",
            Self::NearExpiry(_) => "near_expiry",
            Self::SeveralKeys(..) => "several_keys",
            Self::NotCa(..) => "not_a_ca",
            Self::CaExpired(..) => "ca_expired",
            Self::SystemCas(_) => "system_cas",
            Self::PublicKeyFile(_) => "world_readable_key",
        }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reordered => f.write_str(
                "the certificates are not in the order of the chain, leaf first; they are sent in order",
            ),
            Self::Unrelated(subjects) => write!(
                f,
                "not part of the chain, and not sent: {}",
                subjects.join("; ")
            ),
            Self::Superseded(subjects) => write!(
                f,
                "expired, and not sent because a valid certificate of the same CA is: {}",
                subjects.join("; ")
            ),
            Self::IssuerExpired(subject, moment) => write!(
                f,
                "the certificate of the intermediate CA \"{subject}\" expired at {}; replace it with the renewed one from that CA",
                rfc3339(*moment)
            ),
            Self::MissingIssuer(issuer) => write!(
                f,
                "the chain ends at a certificate issued by \"{issuer}\", which seems to be an intermediate CA; append the certificate of that CA"
            ),
            Self::NoClientAuth => f.write_str(
                "the certificate is not for clients: its extended key usage lacks clientAuth, and most origins will reject it",
            ),
            Self::NoDigitalSignature => f.write_str(
                "the certificate's key usage lacks digitalSignature, which TLS clients need; many origins will reject it: have it issued again",
            ),
            Self::OldVersion(version) => write!(
                f,
                "the certificate is X.509 version {version}; many origins accept version 3 only: have it issued again"
            ),
            Self::CriticalExtension(oid) => write!(
                f,
                "the certificate has the critical extension {oid}; origins that do not know that extension will reject it"
            ),
            Self::Sha1 => f.write_str(
                "the certificate is signed with SHA-1, which most origins refuse; have it issued again",
            ),
            Self::NearExpiry(moment) => write!(
                f,
                "four fifths of the certificate's lifetime are over, it ends at {}; is its renewal working?",
                rfc3339(*moment)
            ),
            Self::ExplicitCurve => f.write_str(
                "the certificate spells out its curve (explicit parameters), and many origins reject that; request a new one with a key from: openssl pkey -ec_param_enc named_curve -in KEY -out KEY.new",
            ),
            Self::SeveralKeys(path, count) => write!(
                f,
                "{} contains {count} private keys; the one with a certificate for client authentication is used",
                path.display()
            ),
            Self::NotCa(subject, issuer) => {
                write!(
                    f,
                    "\"{subject}\" in `ca` is not a CA certificate: only an origin that presents exactly this certificate is trusted"
                )?;
                match issuer {
                    Some(issuer) => write!(
                        f,
                        "; to trust every certificate of its issuer, set `ca` to the certificate of \"{issuer}\""
                    ),
                    None => Ok(()),
                }
            }
            Self::CaExpired(subject, moment) => write!(
                f,
                "the certificate of \"{subject}\" in `ca` expired at {}; replace it",
                rfc3339(*moment)
            ),
            Self::SystemCas(path) => write!(
                f,
                "there is no {}, so origins are verified with the CAs of this machine, as with `ca = \"system\"`",
                path.display()
            ),
            Self::PublicKeyFile(path) => write!(
                f,
                "every user of this machine can read the key: chmod o-r {}",
                path.display()
            ),
        }
    }
}
