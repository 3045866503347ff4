//! Host and port, as URLs, `Host` fields and the configuration write them.
//!
//! Two shapes: [`AuthorityRef`] borrows from a request and allocates nothing; [`Authority`] is
//! owned, has its port settled, and carries the text that goes into a `Host` field.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use http::HeaderValue;

/// A host with an optional port, borrowed from what a client sent. RFC 3986 section 3.2 without
/// userinfo; the host is a name, an IPv4 address, or an IPv6 address (brackets removed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthorityRef<'a> {
    host: &'a str,
    ip: Option<IpAddr>,
    port: Option<u16>,
}

impl<'a> AuthorityRef<'a> {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
    ///
    /// `None` for anything two parsers could read differently: userinfo, an empty host, an empty
    /// or oversized port, characters that are not in a host name.
    pub fn parse(text: &'a str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix('[') {
            let (host, after) = rest.split_once(']')?;
            let ip: Ipv6Addr = host.parse().ok()?;
            let port = match after.strip_prefix(':') {
                Some(port) => Some(parse_origin_port(port)?),
                None if after.is_empty() => None,
                None => return None,
            };
            return Some(Self {
                host,
                ip: Some(ip.into()),
                port,
            });
        }
        let (host, port) = match text.bytes().position(|byte| byte == b':') {
            Some(at) => (&text[..at], Some(parse_origin_port(&text[at + 1..])?)),
            None => (text, None),
        };
        // A fully qualified name may end in a dot; it names the same host.
        let host = host.strip_suffix('.').unwrap_or(host);
        if !is_host_name(host) {
            return None;
        }
        let ip = if host.as_bytes()[host.len() - 1].is_ascii_digit() {
            host.parse().ok()
        } else {
            None
        };
        Some(Self { host, ip, port })
    }

    /// The host without brackets or a trailing dot, in the case it was written.
    pub fn host(&self) -> &'a str {
        self.host
    }

    /// The address, when the host is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// The port, when one was written.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether this is the same host and port as `other`, where no port means `default`.
    pub fn is_same(&self, other: &Self, default: u16) -> bool {
        let same_host = match (self.ip, other.ip) {
            (None, None) => self.host.eq_ignore_ascii_case(other.host),
            (ours, theirs) => ours == theirs,
        };
        same_host && self.port.unwrap_or(default) == other.port.unwrap_or(default)
    }

    /// Whether the host is `localhost`, below `.localhost` (RFC 6761 section 6.3), or an address
    /// of this machine's loopback. An IPv4 address mapped to IPv6 is not: browsers do not trust
    /// it, and send requests of any page to it without saying so.
    pub fn is_loopback(&self) -> bool {
        match self.ip {
            Some(ip) => ip.is_loopback(),
            None => {
                self.host.eq_ignore_ascii_case("localhost")
                    || strip_suffix_ignoring_case(self.host, ".localhost").is_some()
            }
        }
    }

    /// The owned form with the port this authority means.
    pub fn with_port(&self, port: u16) -> Authority {
        Authority::new(self.host, self.ip, port)
    }
}

/// The host and port of an https origin. The host is in lower case.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    host: Box<str>,
    ip: Option<IpAddr>,
    port: u16,
    // What goes into `Host`: made once, because every request needs it.
    header: HeaderValue,
}

impl Authority {
    fn new(host: &str, ip: Option<IpAddr>, port: u16) -> Self {
        // An address has many spellings and one canonical one.
        let host = ip.map_or_else(|| host.to_ascii_lowercase(), |ip| ip.to_string());
        let shown = match ip {
            Some(IpAddr::V6(_)) => format!("[{host}]"),
            _ => host.clone(),
        };
        let text = match port {
            HTTPS => shown,
            port => format!("{shown}:{port}"),
        };
        let header = HeaderValue::try_from(text)
            .expect("a parsed host consists of letters, digits, dots, colons and hyphens");
        Self {
            host: host.into(),
            ip,
            port,
            header,
        }
    }

    /// Reads an authority; without a port it means 443.
    pub fn parse(text: &str) -> Option<Self> {
        let parsed = AuthorityRef::parse(text)?;
        Some(parsed.with_port(parsed.port.unwrap_or(HTTPS)))
    }

    /// The host, in lower case, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The address, when the host is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value of a `Host` field that names this authority: the port only where it is not 443.
    pub fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// The same as text.
    pub fn as_str(&self) -> &str {
        // Built from a `String` in `new`.
        self.header.to_str().unwrap_or_default()
    }

    /// Whether `other`, read with `port`, names this authority.
    pub fn matches(&self, other: &AuthorityRef<'_>, port: u16) -> bool {
        self.port == port
            && match (self.ip, other.ip) {
                (None, None) => self.host.eq_ignore_ascii_case(other.host),
                (Some(ours), Some(theirs)) => ours == theirs,
                _ => false,
            }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({self})")
    }
}

/// Whether `text` could be a host name: labels of letters, digits, `-` and `_`, none empty.
pub fn is_host_name(text: &str) -> bool {
    // One pass over the bytes: every request's Host comes through here, and splitting it into labels
    // took 450 instructions more.
    let mut label = 0;
    for byte in text.bytes() {
        label = match byte {
            b'.' if label > 0 => 0,
            byte if IN_LABELS[usize::from(byte)] && label < 63 => label + 1,
            _ => return false,
        };
    }
    label > 0 && text.len() <= 253
}

/// The bytes that labels are made of.
const IN_LABELS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        let ascii = byte as u8;
        table[byte] = ascii.is_ascii_alphanumeric() || ascii == b'-' || ascii == b'_';
        byte += 1;
    }
    table
};

/// `text` without `suffix`, compared without regard to ASCII case.
pub fn strip_suffix_ignoring_case<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let at = text.len().checked_sub(suffix.len())?;
    let (head, tail) = text.split_at_checked(at)?;
    tail.eq_ignore_ascii_case(suffix).then_some(head)
}

// Digits only: `u16::from_str` would also take a leading `+`.
pub(super) fn parse_port(text: &str) -> Option<u16> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

// Nobody can be reached at port 0.
pub(super) fn parse_origin_port(text: &str) -> Option<u16> {
    parse_port(text).filter(|port| *port != 0)
}

/// The port an https URL means when it names none.
pub const HTTPS: u16 = 443;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_read_as_written() {
        let cases = [
            ("a.example", "a.example", None),
            ("A.Example:8443", "A.Example", Some(8443)),
            ("a.example.", "a.example", None),
            ("127.0.0.1:80", "127.0.0.1", Some(80)),
            ("[::1]:80", "::1", Some(80)),
            ("my_cert", "my_cert", None),
        ];
        for (text, host, port) in cases {
            let read = AuthorityRef::parse(text).unwrap_or_else(|| panic!("{text} is refused"));
            assert_eq!((read.host(), read.port()), (host, port), "{text}");
        }
    }

    #[test]
    fn ambiguous_authorities_are_refused() {
        let cases = [
            "",
            ".",
            "a..b",
            "a:b",
            "a:",
            "a:+80",
            "a:0",
            "a:70000",
            "u@a",
            "[::1",
            "[::1]x",
            "[::1%25eth0]",
            "a b",
            "a/b",
            "a,b",
            "ä.example",
            "::1",
            "a:1:2",
        ];
        for text in cases {
            assert_eq!(AuthorityRef::parse(text), None, "{text}");
        }
    }

    #[test]
    fn loopback_is_known_by_name_and_by_address() {
        for text in [
            "localhost",
            "LOCALHOST:1",
            "a.localhost",
            "127.9.9.9",
            "[::1]",
        ] {
            assert!(AuthorityRef::parse(text).unwrap().is_loopback(), "{text}");
        }
        for text in [
            "localhost.example",
            "notlocalhost",
            "128.0.0.1",
            "127.0.0.1.example",
            "[::2]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
        ] {
            assert!(!AuthorityRef::parse(text).unwrap().is_loopback(), "{text}");
        }
    }

    #[test]
    fn the_header_names_the_port_only_where_it_is_not_443() {
        assert_eq!(Authority::parse("A.example").unwrap().as_str(), "a.example");
        assert_eq!(
            Authority::parse("a.example:8443").unwrap().as_str(),
            "a.example:8443"
        );
        assert_eq!(
            Authority::parse("[0:0:0:0:0:0:0:1]:8443").unwrap().as_str(),
            "[::1]:8443"
        );
    }
}
