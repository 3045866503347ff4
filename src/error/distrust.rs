//! Why an origin's certificate failed verification, and what to do about it.

use crate::timestamp::{from_seconds, rfc3339};

/// Why an origin's certificate failed verification. Times are in seconds since 1970.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Distrust {
    /// It has expired.
    #[error("it expired at {}", moment(*.0))]
    Expired(i64),
    /// It is not valid yet.
    #[error("it is not valid before {}", moment(*.0))]
    NotYetValid(i64),
    /// The certificate of a CA in its chain has expired: whose, and when.
    #[error("the CA certificate \"{0}\" in its chain expired at {when}", when = moment(*.1))]
    IssuerExpired(String, i64),
    /// The certificate of a CA in its chain is not valid yet: whose, and from when.
    #[error("the CA certificate \"{0}\" in its chain is not valid before {when}", when = moment(*.1))]
    IssuerNotYetValid(String, i64),
    /// Its validity, or that of a CA in its chain, ends before it begins.
    #[error("a certificate in its chain has a validity period that ends before it begins")]
    Backwards,
    /// A date in its chain is one that the TLS library does not read.
    #[error("a certificate in its chain has a date before 1970 or one that is not in DER")]
    Date,
    /// It is valid for other names.
    #[error("{}", names(expected, presented, hint))]
    Names {
        /// The names of which it needs one.
        expected: Vec<String>,
        /// The names that it has.
        presented: Vec<String>,
        /// Why a name that looks right is not.
        hint: NameHint,
    },
    /// It is self-signed and not in `ca`: the name it was asked for by.
    #[error("it is self-signed and not a trust anchor in `ca`")]
    SelfSigned(String),
    /// Its chain ends at an unknown CA: the issuer of the last certificate in it.
    #[error("its chain ends at \"{0}\", which is not a trust anchor in `ca`")]
    UnknownIssuer(String),
    /// It came alone, and its issuer is not a trust anchor.
    #[error(
        "it was issued by \"{0}\", which is not a trust anchor in `ca`, and the origin sends no intermediate certificates"
    )]
    Incomplete(String),
    /// It was revoked.
    #[error("it has been revoked")]
    Revoked,
    /// The certificate of a CA in its chain was revoked.
    #[error("the CA certificate \"{0}\" in its chain has been revoked")]
    IssuerRevoked(String),
    /// Nothing in `crl` covers a certificate.
    #[error("no CRL in `crl` covers \"{subject}\": {}", uncovered(*why, issuer))]
    Uncovered {
        /// Whose certificate is not covered.
        subject: String,
        /// Who issued it.
        issuer: String,
        /// Why no CRL covers it.
        why: Uncovered,
    },
    /// All CRLs of an issuer have expired: whose, and when the last one did.
    #[error("the CRL of \"{0}\" in `crl` expired at {when}", when = moment(*.1))]
    CrlExpired(String, i64),
    /// No CRL of an issuer is valid yet: whose, and from when the first one is.
    #[error("the CRL of \"{0}\" in `crl` is not valid before {when}", when = moment(*.1))]
    CrlNotYetValid(String, i64),
    /// A signature in the chain is wrong.
    #[error("a signature in its chain is wrong")]
    BadSignature,
    /// The origin does not have the key of its certificate.
    #[error("the origin's signature in the handshake was not made with the key of its certificate")]
    HandshakeSignature,
    /// A signature in the chain is of a kind that is not accepted, such as SHA-1.
    #[error("its chain is signed with an algorithm that is not accepted, such as SHA-1")]
    Algorithm,
    /// A key in the chain is too small or of a kind that the TLS library does not support: whose,
    /// and which.
    #[error("the key of \"{0}\" is {1}, which mtlsd does not support")]
    Key(String, String),
    /// It is not for servers.
    #[error("its extended key usage lacks serverAuth")]
    Usage,
    /// Its key usage rules out signing a handshake.
    #[error("its key usage lacks digitalSignature, which TLS servers need")]
    KeyUsage,
    /// It, or a CA certificate in its chain, is of X.509 version 1 or 2.
    #[error("the certificate \"{0}\" is X.509 version {1}, and mtlsd accepts version 3 only")]
    Version(String, u32),
    /// It, or a CA certificate in its chain, has a critical extension that is not known.
    #[error("the certificate \"{0}\" has the critical extension {1}, which mtlsd does not know")]
    CriticalExtension(String, String),
    /// It is the certificate of a CA.
    #[error("it is a CA certificate, which cannot be used for a server")]
    CaAsLeaf,
    /// A certificate in the chain is used as that of a CA, and is none.
    #[error("its chain contains an issuer that is not a CA")]
    NotCa,
    /// A CA in the chain may not have so many CAs below it, or not for such names.
    #[error("{0}")]
    Constraint(&'static str),
    /// The TLS library cannot read it.
    #[error("a certificate in its chain cannot be parsed: {0}")]
    Unreadable(&'static str),
    /// The origin's certificates are larger than the TLS library accepts.
    #[error("its certificates are larger than 64 KiB, and no TLS handshake may carry more here")]
    TooLarge,
    /// Its key is none of `pins`.
    #[error("its public key {0} is not listed in `pins`")]
    Pin(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Why a certificate is not valid for a name that looks like one of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NameHint {
    /// Nothing special.
    None,
    /// It has no subject alternative names; its common name, if it has one.
    NoNames(Option<String>),
    /// It has the expected IP address as a DNS name.
    AddressAsDnsName(String),
    /// It has a wildcard for another level of names.
    Wildcard(String),
}

/// Why no CRL covers a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Uncovered {
    /// None has the name of its issuer.
    NoCrl,
    /// Those that have the issuer's name are not signed by its key.
    OtherKey,
    /// Those of its issuer are for other certificates or another distribution point.
    OtherScope,
    /// The issuer's key usage does not allow it to sign CRLs.
    NotCrlSigner,
    /// Those of its issuer are signed with an algorithm that is not supported.
    Algorithm,
}

impl Distrust {
    /// Returns what to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::Expired(_) => "the origin has to renew its certificate; if other clients accept it, check this machine's clock",
            Self::NotYetValid(_) => "check this machine's clock and the origin's certificate",
            Self::IssuerExpired(..) => "the origin has to send a valid certificate of that CA; until it does, add one to the file of `ca`: every CA certificate in it is a trust anchor",
            Self::IssuerNotYetValid(..) => "the origin has to send a certificate of that CA that is valid now; check this machine's clock",
            Self::Backwards | Self::Date => "the origin has to have that certificate issued again with valid dates",
            Self::Names { expected, hint, .. } => return names_help(expected, hint),
            Self::SelfSigned(name) => return format!(
                "if it is the right one, save it and set `ca` to the file: openssl s_client -connect HOST:PORT -servername {name} </dev/null | openssl x509 -out origin.pem"
            ),
            Self::UnknownIssuer(_) => "if this is a private CA that you trust, set `ca` to its certificate file",
            Self::Incomplete(_) => "if the issuer is an intermediate CA, configure the origin to send its certificate; if it is a private root CA, set `ca` to its certificate file",
            Self::Revoked => "do not trust this origin; its owner has to have the certificate issued again",
            Self::IssuerRevoked(_) => "do not trust this origin; its owner has to have its certificate issued by another CA",
            Self::Uncovered { why, .. } => match why {
                Uncovered::NoCrl => "add the CRL of each CA in the origin's chain to the file of `crl`",
                Uncovered::OtherKey => "the CA has a new key under the same name: add the CRL that it signs with the new key",
                Uncovered::OtherScope => "add the CRL that the certificate's CRL distribution point names: openssl x509 -noout -ext crlDistributionPoints -in CERTIFICATE",
                Uncovered::NotCrlSigner => "the CA's certificate has to be issued again with the key usage cRLSign",
                Uncovered::Algorithm => "have the CA sign its CRL with SHA-256 or better",
            },
            Self::CrlExpired(..) => "download the CRL again; mtlsd reloads the file when it changes",
            Self::CrlNotYetValid(..) => "check this machine's clock",
            Self::BadSignature => "the CA may have a new key under the same name; check that `ca` is up to date",
            Self::HandshakeSignature => "the origin's certificate and key do not match, or something in between changes the handshake",
            Self::Key(..) => "the origin needs a certificate with an RSA key of at least 2048 bits, an EC key on P-256, P-384 or P-521, or Ed25519",
            Self::CaAsLeaf => "issue a server certificate from that CA; or add this exact certificate to the file of `ca`",
            Self::NotCa => "the origin has to send the chain of the CA that issued its certificate",
            Self::Version(..) => "have it issued again as version 3: openssl x509 -req needs -extfile or -copy_extensions for that",
            Self::TooLarge => "the origin has to use a smaller certificate: fewer names, no unneeded intermediate certificates",
            Self::Algorithm | Self::Usage | Self::KeyUsage | Self::CriticalExtension(..) | Self::Constraint(_) | Self::Unreadable(_) | Self::Other(_) => {
                "the origin has to have its certificate issued again"
            }
            Self::Pin(_) => "if its owner confirms that the origin has a new key, add it to `pins`",
        }
        .to_owned()
    }
}

fn names(expected: &[String], presented: &[String], hint: &NameHint) -> String {
    let expected = match expected {
        [] => String::new(),
        names => format!(", not for {}", names.join(" or ")),
    };
    match hint {
        NameHint::NoNames(common_name) => {
            let common_name = common_name.as_ref().map_or(String::new(), |name| {
                format!(": its common name \"{name}\" does not count (RFC 9525)")
            });
            format!("it has no subject alternative name{common_name}")
        }
        NameHint::AddressAsDnsName(address) => format!(
            "it has {address} as a DNS name, not as an IP address; it is valid for {}{expected}",
            quoted(presented)
        ),
        NameHint::Wildcard(name) => format!(
            "it is valid for {}{expected}: the wildcard in {name} stands for exactly one label",
            quoted(presented)
        ),
        NameHint::None => format!("it is valid for {}{expected}", quoted(presented)),
    }
}

fn quoted(names: &[String]) -> String {
    match names {
        [] => "no DNS name or IP address".to_owned(),
        names if names.len() > FEW => {
            let (first, others) = names.split_at(FEW);
            format!("{} and {} more", first.join(", "), others.len())
        }
        names => names.join(", "),
    }
}

fn names_help(expected: &[String], hint: &NameHint) -> String {
    let extension = |name: &str| match name.parse::<std::net::IpAddr>() {
        Ok(address) => format!("subjectAltName=IP:{address}"),
        Err(_) if name.contains("://") => format!("subjectAltName=URI:{name}"),
        Err(_) => format!("subjectAltName=DNS:{name}"),
    };
    match (hint, expected) {
        (NameHint::NoNames(_) | NameHint::AddressAsDnsName(_), [first, ..]) => format!(
            "issue it again with a subject alternative name, for example openssl req -x509 … -addext \"{}\"",
            extension(first)
        ),
        _ => "if the origin goes by one of those names, set `server_name` or `verify_names` to it"
            .to_owned(),
    }
}

fn uncovered(why: Uncovered, issuer: &str) -> String {
    match why {
        Uncovered::NoCrl => format!("none is from its issuer \"{issuer}\""),
        Uncovered::OtherKey => {
            format!("those with the name of its issuer \"{issuer}\" are not signed with its key")
        }
        Uncovered::OtherScope => format!(
            "those of its issuer \"{issuer}\" are for another distribution point or kind of certificate"
        ),
        Uncovered::NotCrlSigner => {
            format!("the key usage of its issuer \"{issuer}\" lacks cRLSign")
        }
        Uncovered::Algorithm => format!(
            "those of its issuer \"{issuer}\" are signed with an algorithm that is not supported"
        ),
    }
}

fn moment(seconds: i64) -> String {
    rfc3339(from_seconds(seconds)).to_string()
}

/// Names of a certificate that are listed: some have hundreds.
const FEW: usize = 8;
