//! Where a binding may lead: its origin, and what `allow` adds.

use std::fmt;
use std::sync::Arc;

use rustls_pki_types::ServerName;

use super::authority::{
    Authority, AuthorityRef, HTTPS, is_host_name, parse_origin_port, strip_suffix_ignoring_case,
};
use super::idn::to_ascii;
use super::listen::no_port;

/// The https origin that origin-form requests go to, with an optional base path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// Host and port.
    pub authority: Arc<Authority>,
    /// What is put in front of every path: empty, or `/v1` (no slash at its end).
    pub base_path: Box<str>,
}

impl Origin {
    /// Reads `https://host[:port][/base/path]`. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => rest,
            Some((scheme, rest)) => {
                return Err(format!(
                    "an origin is an https:// URL; `{scheme}` presents no certificate{}",
                    meant(rest, scheme)
                ));
            }
            None => {
                let rest = ["https:", "http:"]
                    .iter()
                    .find_map(|scheme| text.strip_prefix(scheme))
                    .unwrap_or(text)
                    .trim_start_matches('/');
                return Err(format!("an origin is an https:// URL{}", meant(rest, "")));
            }
        };
        if rest.contains(['?', '#']) {
            return Err("an origin has no query and no fragment".to_owned());
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err("an origin carries no user name; send an Authorization field".to_owned());
        }
        let Some(authority) = Authority::parse(authority) else {
            return Err(no_authority(authority));
        };
        verifiable(authority.host())?;
        let plain = |b: u8| {
            b.is_ascii_graphic()
                && !matches!(
                    b,
                    b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}'
                )
        };
        if !path.bytes().all(plain) {
            return Err("the path has characters that must be percent-encoded".to_owned());
        }
        Ok(Self {
            authority: Arc::new(authority),
            base_path: path.trim_end_matches('/').into(),
        })
    }
}

/// The question whether the https URL of `rest` is meant, if that is one.
fn meant(rest: &str, scheme: &str) -> String {
    // 80 is what http means, and nothing else.
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority = match scheme {
        "http" => authority.strip_suffix(":80").unwrap_or(authority),
        _ => authority,
    };
    let url = format!("https://{authority}{path}");
    match Origin::parse(&url) {
        Ok(_) => format!("; did you mean \"{url}\"?"),
        Err(_) => String::new(),
    }
}

/// What is wrong with text in place of an authority.
pub(super) fn no_authority(text: &str) -> String {
    let port = text.rsplit_once(':').map(|(_, port)| port);
    match port {
        _ if text.is_empty() => "the host is missing".to_owned(),
        Some(port) if parse_origin_port(port).is_none() && !text.ends_with(']') => no_port(port),
        _ if text.contains('*') => {
            format!("`{text}` is not one host; wildcards belong into `allow`")
        }
        _ => match idn(text) {
            Some(hint) => hint,
            None => format!("`{text}` is not host[:port]"),
        },
    }
}

/// Returns what to write in place of a host with letters beyond ASCII.
pub(super) fn idn(text: &str) -> Option<String> {
    to_ascii(text).map(|ascii| {
        format!("`{text}` has letters beyond ASCII: write it as DNS has it, \"{ascii}\"")
    })
}

/// Returns an error for a host that no certificate can be for. Such a host would only be rejected
/// once a request is sent to it.
pub(super) fn verifiable(host: &str) -> Result<(), String> {
    match ServerName::try_from(host) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!(
            "`{host}` is not a host name: a label must not begin or end with a hyphen, and the last one must not be a number"
        )),
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.authority, self.base_path)
    }
}

/// A further origin that an absolute URL may reach with the binding's identity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Allowed {
    /// `files.example`, `files.example:8443`.
    Exact(Arc<Authority>),
    /// `*.example`, `*.example:8443`: every host below it, at any depth, not the domain itself.
    Below(Domain),
    /// Every origin with an address of the public internet. Nobody can write this: it is what a
    /// binding may reach that comes from `mtls_certificates`, and has no `allow`.
    Public,
}

/// The part of a wildcard behind the `*`, with its leading dot, and the port.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Domain {
    suffix: Box<str>,
    port: u16,
}

impl Allowed {
    /// Reads one `allow` entry. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            let rest = text.split_once("://").map_or("", |(_, rest)| rest);
            let authority = rest.split('/').next().unwrap_or_default();
            let hint = match Self::parse(authority) {
                Ok(_) => format!("; did you mean \"{authority}\"?"),
                Err(_) => String::new(),
            };
            return Err(format!(
                "an `allow` entry is host[:port], without https://{hint}"
            ));
        }
        if let Some(rest) = text.strip_prefix("*.") {
            let (host, port) = match rest.split_once(':') {
                Some((host, port)) => match parse_origin_port(port) {
                    Some(port) => (host, port),
                    _ => return Err(no_port(port)),
                },
                None => (rest, HTTPS),
            };
            if !is_host_name(host) {
                return Err(format!("`{host}` is not a domain"));
            }
            return Ok(Self::Below(Domain {
                suffix: format!(".{}", host.to_ascii_lowercase()).into(),
                port,
            }));
        }
        if text.contains('*') {
            return Err("a wildcard is `*.` in front of a domain".to_owned());
        }
        match Authority::parse(text) {
            Some(authority) => {
                verifiable(authority.host())?;
                Ok(Self::Exact(Arc::new(authority)))
            }
            None => Err(no_authority(text)),
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(authority) => authority.fmt(f),
            Self::Below(domain) => domain.fmt(f),
            Self::Public => f.write_str("any public origin"),
        }
    }
}

impl Domain {
    /// Whether `authority`, read with `port`, lies below this domain.
    pub fn covers(&self, authority: &AuthorityRef<'_>, port: u16) -> bool {
        self.port == port
            && authority.ip().is_none()
            && strip_suffix_ignoring_case(authority.host(), &self.suffix)
                .is_some_and(|below| !below.is_empty())
    }

    /// How specific the wildcard is: more labels, more specific.
    pub fn depth(&self) -> usize {
        self.suffix.matches('.').count()
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            HTTPS => write!(f, "*{}", self.suffix),
            port => write!(f, "*{}:{port}", self.suffix),
        }
    }
}

#[cfg(test)]
mod name_tests {
    use super::{Allowed, Origin};
    use crate::config::SubjectName;

    #[test]
    fn hosts_that_no_certificate_can_be_for_are_rejected_at_once() {
        for host in [
            "-a.example",
            "a-.example",
            "a.-b",
            "1.2.3",
            "a.1",
            "256.1.1.1",
        ] {
            assert!(Origin::parse(&format!("https://{host}")).is_err(), "{host}");
            assert!(Allowed::parse(host).is_err(), "{host}");
            assert!(SubjectName::parse(host).is_err(), "{host}");
        }
        for host in [
            "a-b.example",
            "my_cert",
            "a.example.",
            "1a.2b",
            "127.0.0.1",
            "[::1]",
        ] {
            assert!(Origin::parse(&format!("https://{host}")).is_ok(), "{host}");
        }
    }

    #[test]
    fn hosts_beyond_ascii_are_answered_with_what_to_write() {
        let wanted = "xn--bcher-kva.example";
        let errors = [
            Origin::parse("https://bücher.example/v1").unwrap_err(),
            Origin::parse("https://Bücher.example:8443").unwrap_err(),
            Allowed::parse("bücher.example").unwrap_err(),
            SubjectName::parse("bücher.example").unwrap_err(),
        ];
        for error in errors {
            assert!(error.contains(wanted), "{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_https_with_an_optional_base_path() {
        let origin = Origin::parse("https://API.example:8443/v1/").unwrap();
        assert_eq!(origin.to_string(), "https://api.example:8443/v1");
        assert_eq!(
            Origin::parse("https://a.example/")
                .unwrap()
                .base_path
                .as_ref(),
            ""
        );
    }

    #[test]
    fn an_origin_that_cannot_be_meant_is_explained() {
        let cases = [
            (
                "http://a",
                "an origin is an https:// URL; `http` presents no certificate; did you mean \"https://a\"?",
            ),
            (
                "a.example",
                "an origin is an https:// URL; did you mean \"https://a.example\"?",
            ),
            ("a b", "an origin is an https:// URL"),
            ("https://", "the host is missing"),
            ("https://a b", "`a b` is not host[:port]"),
            (
                "https://a:99999",
                "`99999` is not a port: ports are numbers up to 65535",
            ),
            (
                "https://u:p@a",
                "an origin carries no user name; send an Authorization field",
            ),
            ("https://a/?q", "an origin has no query and no fragment"),
            (
                "https://a/ü",
                "the path has characters that must be percent-encoded",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(Origin::parse(text).unwrap_err(), message, "{text}");
        }
    }

    #[test]
    fn a_wildcard_covers_what_is_below_it_and_not_itself() {
        let Ok(Allowed::Below(domain)) = Allowed::parse("*.Example:8443") else {
            panic!("not a wildcard");
        };
        let covers = |text: &str, port| domain.covers(&AuthorityRef::parse(text).unwrap(), port);
        assert!(covers("a.example", 8443));
        assert!(covers("a.b.EXAMPLE", 8443));
        assert!(!covers("example", 8443));
        assert!(!covers("badexample", 8443));
        assert!(!covers("a.example", 443));
    }

    #[test]
    fn an_allow_entry_that_cannot_be_meant_is_explained() {
        let cases = [
            (
                "https://a",
                "an `allow` entry is host[:port], without https://; did you mean \"a\"?",
            ),
            ("*", "a wildcard is `*.` in front of a domain"),
            ("a.*.example", "a wildcard is `*.` in front of a domain"),
            ("*.a:x", "`x` is not a port"),
            ("*.a:+1", "`+1` is not a port"),
            ("*.", "`` is not a domain"),
            ("a/b", "`a/b` is not host[:port]"),
        ];
        for (text, message) in cases {
            assert_eq!(Allowed::parse(text).unwrap_err(), message, "{text}");
        }
    }
}
