//! What is demanded of TLS with an origin, beyond a chain to an authority and the right name.

use std::net::IpAddr;
use std::path::PathBuf;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};

use super::AuthorityRef;
use super::origin::{idn, verifiable};

/// What is demanded of TLS with an origin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsPolicy {
    /// Revocation lists in PEM; each certificate of the origin's chain must be covered by one.
    pub crl: Option<PathBuf>,
    /// The origin's key must be one of these; any, when there are none.
    pub pins: Vec<Pin>,
    /// The origin's certificate must be for one of these, in place of its host.
    pub verify_names: Vec<SubjectName>,
    /// The lowest version that is spoken.
    pub min: TlsVersion,
    /// The highest.
    pub max: TlsVersion,
    /// Whether an origin that asks for no certificate is refused.
    pub require_request: bool,
    /// Whether a key exchange that withstands quantum computers is offered (X25519MLKEM768).
    pub post_quantum: bool,
}

/// A version of TLS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// The SHA-256 of a public key, as SubjectPublicKeyInfo (RFC 7469 section 2.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pin(pub [u8; 32]);

/// A name that a certificate can be for (RFC 5280 section 4.2.1.6).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SubjectName {
    /// A host name; the certificate may have a wildcard that covers it.
    Dns(Box<str>),
    /// An address.
    Ip(IpAddr),
    /// A URI, such as a SPIFFE id.
    Uri(Box<str>),
}

impl Default for TlsPolicy {
    fn default() -> Self {
        Self {
            crl: None,
            pins: Vec::new(),
            verify_names: Vec::new(),
            min: TlsVersion::Tls12,
            max: TlsVersion::Tls13,
            require_request: false,
            post_quantum: true,
        }
    }
}

impl Pin {
    /// Reads `sha256//BASE64` as curl writes it, `sha256/BASE64`, or 64 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let base64 = text
            .strip_prefix("sha256//")
            .or_else(|| text.strip_prefix("sha256/"));
        let bytes = match base64 {
            Some(base64) => BASE64.decode(base64.as_bytes()).ok(),
            None => HEXLOWER_PERMISSIVE
                .decode(text.replace(':', "").as_bytes())
                .ok(),
        };
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| {
                format!(
                    "expected \"sha256//\" and the base64 of 32 bytes, or 64 hexadecimal digits, found \"{text}\""
                )
            })
    }
}

impl std::fmt::Display for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256//{}", BASE64.encode(&self.0))
    }
}

impl SubjectName {
    /// Reads a URI, an address or a host name.
    ///
    /// # Errors
    ///
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some((scheme, rest)) = text.split_once("://") {
            return match scheme.is_empty() || rest.is_empty() || text.contains(char::is_whitespace)
            {
                true => Err(format!("`{text}` is not a URI")),
                false => Ok(Self::Uri(text.into())),
            };
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        AuthorityRef::parse(text)
            .filter(|name| name.port().is_none())
            .map(|name| Self::Dns(name.host().into()))
            .ok_or_else(|| {
                idn(text).unwrap_or_else(|| {
                    format!(
                        "`{text}` is not a host name, an address or a URI such as \"spiffe://a/b\""
                    )
                })
            })
            .and_then(|name| match &name {
                Self::Dns(host) => verifiable(host).map(|()| name),
                _ => Ok(name),
            })
    }
}

impl std::fmt::Display for SubjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dns(name) | Self::Uri(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_as_they_are_found_in_the_wild() {
        let pin = Pin([7; 32]);
        let base64 = BASE64.encode(&[7; 32]);
        let hex = "07".repeat(32);
        let colons = vec!["07"; 32].join(":");
        for text in [
            format!("sha256//{base64}"),
            format!("sha256/{base64}"),
            hex,
            colons,
        ] {
            assert_eq!(Pin::parse(&text), Ok(pin), "{text}");
        }
        assert_eq!(Pin::parse(&pin.to_string()), Ok(pin));
        for text in ["", "sha256//", "sha256//AAAA", "sha1//AAAA", "0707"] {
            assert!(Pin::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_told_apart() {
        let cases = [
            ("api.example", SubjectName::Dns("api.example".into())),
            ("10.0.0.1", SubjectName::Ip([10, 0, 0, 1].into())),
            ("spiffe://a/b", SubjectName::Uri("spiffe://a/b".into())),
        ];
        for (text, name) in cases {
            assert_eq!(SubjectName::parse(text), Ok(name));
        }
        for text in ["", "a:1", "://x", "spiffe://", "a b"] {
            assert!(SubjectName::parse(text).is_err(), "{text}");
        }
    }
}
