//! Where mtlsd listens, as the configuration writes it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::authority::parse_port;

/// One `listen` value.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Listen {
    /// `localhost:8001`: 127.0.0.1 and ::1.
    Localhost(u16),
    /// `127.0.0.1:8001`, `[::1]:8001`.
    Tcp(SocketAddr),
    /// `unix:PATH`.
    Unix(PathBuf),
}

impl Listen {
    /// Reads a `listen` value; a relative unix path is relative to `directory`. The error says
    /// what was expected.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err("`unix:` needs a path behind it".to_owned());
            }
            let path = directory.join(path);
            let length = path.as_os_str().len();
            return match length > LONGEST_PATH {
                true => Err(format!(
                    "the path has {length} bytes; a unix socket address holds at most {LONGEST_PATH}"
                )),
                false => Ok(Self::Unix(path)),
            };
        }
        if text.starts_with("systemd:") {
            return Err("socket activation is not part of this version".to_owned());
        }
        if let Some((_, rest)) = text.split_once("://") {
            let rest = rest.trim_end_matches('/');
            return Err(format!(
                "a listen address has no scheme; did you mean \"{rest}\"?"
            ));
        }
        if let Some(port) = text.strip_prefix("localhost:") {
            return match parse_port(port) {
                Some(port) => Ok(Self::Localhost(port)),
                None => Err(no_port(port)),
            };
        }
        if let Ok(addr) = text.parse() {
            return Ok(Self::Tcp(addr));
        }
        let alone = |port: &str| match parse_port(port) {
            Some(port) => format!("the address is missing; did you mean \"localhost:{port}\"?"),
            None => no_port(port),
        };
        Err(match text.rsplit_once(':') {
            _ if has_no_port(text) => {
                format!(
                    "the port is missing, as in \"{}:8001\"",
                    with_brackets(text)
                )
            }
            Some(("", port)) => alone(port),
            Some(("*", port)) if parse_port(port).is_some() => format!(
                "`*` is not an address; did you mean \"0.0.0.0:{port}\", which is open to other machines?"
            ),
            Some((_, port)) if parse_port(port).is_none() => no_port(port),
            Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => {
                format!("an IPv6 address has brackets: \"[{host}]:{port}\"")
            }
            Some((host, _)) => format!("`{host}` is neither an IP address nor `localhost`"),
            None if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() => alone(text),
            None => "this is neither an address with a port nor `unix:PATH`".to_owned(),
        })
    }

    /// What is wrong with a number in place of an address.
    pub fn from_number(number: &str) -> String {
        match parse_port(number) {
            Some(port) => format!(
                "expected a string, found the number {port}; did you mean \"localhost:{port}\"?"
            ),
            None => format!("expected a string, found the number {number}"),
        }
    }

    /// Whether only programs of this machine can connect.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Localhost(_) | Self::Unix(_) => true,
            Self::Tcp(addr) => addr.ip().to_canonical().is_loopback(),
        }
    }

    /// Whether both cannot be bound at once. Port 0 clashes with nothing.
    pub fn clashes_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unix(one), Self::Unix(two)) => one == two,
            (Self::Unix(_), _) | (_, Self::Unix(_)) => false,
            (one, two) => one
                .addresses()
                .iter()
                .any(|a| two.addresses().iter().any(|b| same_port(a, b))),
        }
    }

    /// The addresses to bind; none for a unix socket.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::Localhost(port) => vec![
                SocketAddr::from(([127, 0, 0, 1], *port)),
                SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], *port)),
            ],
            Self::Tcp(addr) => vec![*addr],
            Self::Unix(_) => Vec::new(),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Localhost(port) => write!(f, "localhost:{port}"),
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The `sun_path` of unix(7), but for the byte that ends it.
const LONGEST_PATH: usize = 107;

/// What is wrong with a port that cannot be read.
pub(super) fn no_port(text: &str) -> String {
    let digits = text.strip_prefix('-').unwrap_or(text);
    match !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        true => format!("`{text}` is not a port: ports are numbers up to 65535"),
        false => format!("`{text}` is not a port"),
    }
}

fn with_brackets(text: &str) -> String {
    match text.parse::<Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]"),
        Err(_) => text.to_owned(),
    }
}

fn has_no_port(text: &str) -> bool {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    bare == "localhost" || bare.parse::<IpAddr>().is_ok()
}

// Sockets for v6 are bound with IPV6_V6ONLY, so the families never meet.
fn same_port(a: &SocketAddr, b: &SocketAddr) -> bool {
    a.port() != 0
        && a.port() == b.port()
        && a.is_ipv4() == b.is_ipv4()
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Listen {
        Listen::parse(text, Path::new("/etc/mtlsd")).unwrap()
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(listen("localhost:1"), Listen::Localhost(1));
        assert_eq!(listen("[::1]:1").to_string(), "[::1]:1");
        assert_eq!(
            listen("unix:a.sock"),
            Listen::Unix("/etc/mtlsd/a.sock".into())
        );
        assert_eq!(
            listen("unix:/run/a.sock"),
            Listen::Unix("/run/a.sock".into())
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let cases = [
            (
                "8001",
                "the address is missing; did you mean \"localhost:8001\"?",
            ),
            ("127.0.0.1", "the port is missing, as in \"127.0.0.1:8001\""),
            ("::1", "the port is missing, as in \"[::1]:8001\""),
            ("[::1]", "the port is missing, as in \"[::1]:8001\""),
            ("localhost", "the port is missing, as in \"localhost:8001\""),
            (
                ":8001",
                "the address is missing; did you mean \"localhost:8001\"?",
            ),
            (
                "*:8001",
                "`*` is not an address; did you mean \"0.0.0.0:8001\", which is open to other machines?",
            ),
            (
                "http://localhost:8001/",
                "a listen address has no scheme; did you mean \"localhost:8001\"?",
            ),
            ("localhost:+80", "`+80` is not a port"),
            (
                "127.0.0.1:70000",
                "`70000` is not a port: ports are numbers up to 65535",
            ),
            (
                ":99999",
                "`99999` is not a port: ports are numbers up to 65535",
            ),
            (
                "99999",
                "`99999` is not a port: ports are numbers up to 65535",
            ),
            (
                "[::1]:99999",
                "`99999` is not a port: ports are numbers up to 65535",
            ),
            ("localhost:", "`` is not a port"),
            (
                "localhost:-1",
                "`-1` is not a port: ports are numbers up to 65535",
            ),
            ("127.0.0.1:http", "`http` is not a port"),
            (
                "example.com:80",
                "`example.com` is neither an IP address nor `localhost`",
            ),
            ("unix:", "`unix:` needs a path behind it"),
            (
                "localhost:99999",
                "`99999` is not a port: ports are numbers up to 65535",
            ),
            (
                "somewhere",
                "this is neither an address with a port nor `unix:PATH`",
            ),
            (
                "systemd:web",
                "socket activation is not part of this version",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(
                Listen::parse(text, Path::new("/")).unwrap_err(),
                message,
                "{text}"
            );
        }
    }

    #[test]
    fn clashes_are_seen_through_localhost_and_wildcards() {
        assert!(listen("localhost:80").clashes_with(&listen("127.0.0.1:80")));
        assert!(listen("localhost:80").clashes_with(&listen("[::1]:80")));
        assert!(listen("0.0.0.0:80").clashes_with(&listen("127.0.0.1:80")));
        assert!(!listen("0.0.0.0:80").clashes_with(&listen("[::1]:80")));
        assert!(!listen("127.0.0.1:0").clashes_with(&listen("127.0.0.1:0")));
        assert!(listen("unix:a").clashes_with(&listen("unix:/etc/mtlsd/a")));
    }
}
