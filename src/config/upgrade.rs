//! Protocols that a connection may be switched to (RFC 9110 section 7.8).

/// A protocol of an `Upgrade` field: a name, with or without a version. Compared without regard to
/// case, as peers do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpgradeProtocol(Box<str>);

impl UpgradeProtocol {
    /// Reads `NAME` or `NAME/VERSION`. The error says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, version) = text.split_once('/').unwrap_or((text, "1"));
        match is_token(name) && is_token(version) {
            true => Ok(Self(text.into())),
            false => Err(format!(
                "expected a protocol such as \"websocket\" or \"SPDY/3.1\", found \"{text}\""
            )),
        }
    }

    /// Whether `offered`, an element of an `Upgrade` field, is this protocol.
    pub fn is(&self, offered: &str) -> bool {
        self.0.eq_ignore_ascii_case(offered)
    }

    /// The protocols of a binding without `upgrades`: WebSocket; the raw streams of Docker; those
    /// of Kubernetes.
    pub fn defaults() -> Vec<Self> {
        let protocols = ["websocket", "tcp", "SPDY/3.1"];
        protocols.map(|protocol| Self(protocol.into())).to_vec()
    }
}

/// Whether `text` is a token (RFC 9110 section 5.6.2).
fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_compared_whole_and_without_case() {
        let spdy = UpgradeProtocol::parse("SPDY/3.1").unwrap();
        assert!(spdy.is("spdy/3.1"));
        assert!(!spdy.is("spdy"));
        assert!(!spdy.is("spdy/3"));
        for text in ["", "a b", "a/", "/1", "a/b/c", "a,b"] {
            assert!(UpgradeProtocol::parse(text).is_err(), "{text}");
        }
    }
}
