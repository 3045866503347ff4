//! Names of bindings, and the names a request may call them by.

use std::borrow::Borrow;
use std::fmt;

use super::authority::is_host_name;

/// The name of a binding: letters, digits, `_` and `-`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BindingName(Box<str>);

impl BindingName {
    /// `None` when `text` is empty, longer than a DNS label, or has other characters.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = !text.is_empty()
            && text.len() <= 63
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        fits.then(|| Self(text.into()))
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BindingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that stands for a binding in a `Host` field: alone, below `.localhost`, or in front of
/// an origin (`payments.files.example`). In lower case, with `-` for `_`, because Java refuses
/// `_` in a host name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct HostPrefix(Box<str>);

impl HostPrefix {
    /// `None` when `text` is not a host name.
    pub fn parse(text: &str) -> Option<Self> {
        is_host_name(text).then(|| Self(Self::fold(text).into()))
    }

    /// The folded name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `host` as prefixes are compared: as long as it was, in lower case, with `-` for `_`.
    pub fn fold(host: &str) -> String {
        let fold = |letter: char| match letter {
            '_' => '-',
            other => other.to_ascii_lowercase(),
        };
        host.chars().map(fold).collect()
    }

    /// What of `host` is left behind this prefix: `Some("")` when `host` is this name,
    /// `Some("files.example")` when it is `payments.files.example`, `None` otherwise.
    pub fn strip_from<'a>(&self, host: &'a str) -> Option<&'a str> {
        let (head, rest) = host.split_at_checked(self.0.len())?;
        let same = head
            .bytes()
            .zip(self.0.bytes())
            .all(|(theirs, ours)| fold_byte(theirs) == ours);
        if !same {
            return None;
        }
        if rest.is_empty() {
            return Some(rest);
        }
        rest.strip_prefix('.')
    }
}

impl fmt::Display for HostPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&BindingName> for HostPrefix {
    fn from(name: &BindingName) -> Self {
        Self(Self::fold(name.as_str()).into())
    }
}

/// Finds a prefix in a map by a folded host.
impl Borrow<str> for HostPrefix {
    fn borrow(&self) -> &str {
        &self.0
    }
}

fn fold_byte(byte: u8) -> u8 {
    match byte {
        b'_' => b'-',
        other => other.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_match_whole_labels_without_regard_to_case() {
        let prefix = HostPrefix::from(&BindingName::parse("MY_CERT").unwrap());
        assert_eq!(prefix.strip_from("my-cert"), Some(""));
        assert_eq!(prefix.strip_from("My_Cert"), Some(""));
        assert_eq!(
            prefix.strip_from("my-cert.files.example"),
            Some("files.example")
        );
        assert_eq!(prefix.strip_from("my-certificate"), None);
        assert_eq!(prefix.strip_from("my"), None);
    }

    #[test]
    fn a_binding_name_is_a_label() {
        assert!(BindingName::parse("MY_CERT-2").is_some());
        for text in ["", "a.b", "a b", "ä", &"x".repeat(64)] {
            assert!(BindingName::parse(text).is_none(), "{text}");
        }
    }
}
