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
    /// The chain ends at a certificate whose issuer is neither in it nor among the authorities
    /// that this machine knows.
    MissingIssuer(String),
    /// The certificate says what it may be used for, and that is not to be a client.
    NoClientAuth,
    /// The certificate is signed with SHA-1, which most origins refuse.
    Sha1,
    /// Most of the certificate's lifetime is over.
    NearExpiry(SystemTime),
    /// Every user of this machine can read the key.
    PublicKeyFile(PathBuf),
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
            Self::MissingIssuer(issuer) => write!(
                f,
                "the chain ends at a certificate that was issued by \"{issuer}\"; unless that is a root that the origin knows, append its certificate"
            ),
            Self::NoClientAuth => f.write_str(
                "the certificate is not for clients: its extended key usage lacks clientAuth, and most origins will refuse it",
            ),
            Self::Sha1 => f.write_str(
                "the certificate is signed with SHA-1, which most origins refuse; have it issued again",
            ),
            Self::NearExpiry(moment) => write!(
                f,
                "four fifths of the certificate's lifetime are over, it ends at {}; is its renewal working?",
                rfc3339(*moment)
            ),
            Self::PublicKeyFile(path) => write!(
                f,
                "every user of this machine can read the key: chmod o-r {}",
                path.display()
            ),
        }
    }
}
