//! Web origins (RFC 6454): which pages a browser may let use a binding.

use super::authority::AuthorityRef;

/// Which web pages may use a binding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WebOrigins {
    /// Only pages that mtlsd itself served.
    Own,
    /// Those, and pages of these origins.
    Listed(Vec<WebOrigin>),
    /// Every page.
    Any,
}

impl WebOrigins {
    /// Whether a page whose `Origin` field reads `origin` may use the binding.
    pub fn admits(&self, origin: &str) -> bool {
        match self {
            Self::Own => false,
            Self::Listed(list) => list.iter().any(|listed| *listed.0 == *origin),
            Self::Any => true,
        }
    }
}

/// The serialization of one web origin: `https://app.example`, in lower case, without a default
/// port, as browsers send it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WebOrigin(Box<str>);

impl WebOrigin {
    /// Reads `scheme://host[:port]`. The error says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || format!("`{text}` is not a web origin such as \"https://app.example\"");
        let (scheme, rest) = text.split_once("://").ok_or_else(expected)?;
        let scheme = scheme.to_ascii_lowercase();
        let default_port = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return Err(expected()),
        };
        if rest.ends_with('/') {
            return Err(format!(
                "a web origin has no path; write \"{}\"",
                text.trim_end_matches('/')
            ));
        }
        let authority = AuthorityRef::parse(rest).ok_or_else(expected)?;
        let mut serialized = format!("{scheme}://{}", rest.to_ascii_lowercase());
        if authority.port() == Some(default_port) {
            serialized.truncate(serialized.rfind(':').unwrap_or(serialized.len()));
        }
        Ok(Self(serialized.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_as_browsers_serialize_them() {
        let listed = WebOrigins::Listed(vec![WebOrigin::parse("HTTPS://App.example:443").unwrap()]);
        assert!(listed.admits("https://app.example"));
        assert!(!listed.admits("https://app.example:8443"));
        assert!(!listed.admits("null"));
    }

    #[test]
    fn what_is_not_an_origin_is_explained() {
        assert_eq!(
            WebOrigin::parse("https://app.example/").unwrap_err(),
            "a web origin has no path; write \"https://app.example\""
        );
        assert_eq!(
            WebOrigin::parse("app.example").unwrap_err(),
            "`app.example` is not a web origin such as \"https://app.example\""
        );
    }
}
