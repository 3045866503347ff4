//! The binding and the URL that `mtlsd fetch` and `mtlsd probe` are about.

use crate::config::{Binding, Draft};

use super::usage::UsageError;

/// A binding and what to ask it for.
#[derive(PartialEq, Eq, Debug)]
pub struct Target {
    /// The name of the binding; `None`: the only one.
    pub binding: Option<String>,
    /// A URL, or a path at the binding's origin.
    pub url: Option<String>,
}

impl Target {
    /// Tells apart what was written in this order; the binding may be left out.
    ///
    /// # Errors
    ///
    /// Returns [`UsageError`] if the URL is neither a path nor a URL.
    pub fn new(first: Option<&str>, second: Option<&str>) -> Result<Self, UsageError> {
        let (binding, url) = match (first, second) {
            (Some(url), None) if is_url(url) => (None, Some(url)),
            (Some(url), Some(binding)) if is_url(url) && !is_url(binding) => {
                return Err(UsageError::new(
                    format!("`{url}` is not the name of a binding"),
                    format!("the binding comes first: {binding} {url}"),
                ));
            }
            both => both,
        };
        if let Some(url) = url.filter(|url| !is_url(url)) {
            return Err(neither(url));
        }
        Ok(Self {
            binding: binding.map(str::to_owned),
            url: url.map(str::to_owned),
        })
    }

    /// The name of the binding among those of `draft`.
    ///
    /// # Errors
    ///
    /// Returns [`UsageError`] if none is named and there are several.
    pub fn binding(&self, draft: &Draft) -> Result<String, UsageError> {
        if let Some(name) = &self.binding {
            return Ok(name.clone());
        }
        let names: Vec<_> = draft
            .bindings()
            .iter()
            .map(|one: &Binding| one.name.as_str())
            .collect();
        match names.as_slice() {
            // Where there is none, the configuration has mistakes, which come first.
            [] => Ok(String::new()),
            [name] => Ok((*name).to_owned()),
            names => Err(UsageError::new(
                "the configuration has several bindings, and none is named",
                format!("put one of them in front of the URL: {}", names.join(", ")),
            )),
        }
    }
}

fn is_url(text: &str) -> bool {
    text.starts_with('/') || text.contains("://")
}

/// What is neither a path nor a URL, and what was probably meant.
fn neither(text: &str) -> UsageError {
    let message = format!("`{text}` is neither a path nor an https:// URL");
    let first = text.split(['/', '?']).next().unwrap_or(text);
    let help = match text {
        "" => "write / for the root of the origin".to_owned(),
        // A host, as it seems.
        _ if first.contains('.') || first.contains(':') => {
            format!("for a URL write https://{text}, for a path write /{text}")
        }
        _ => format!("a path begins with a slash: /{text}"),
    };
    UsageError::new(message, help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binding_may_be_left_out_and_mistakes_are_explained() {
        let target = |binding: Option<&str>, url: Option<&str>| {
            Ok(Target {
                binding: binding.map(str::to_owned),
                url: url.map(str::to_owned),
            })
        };
        let usage = |message: &str, help: &str| Err(UsageError::new(message, help));
        for (first, second, expected) in [
            (Some("p"), Some("/v1"), target(Some("p"), Some("/v1"))),
            (
                Some("p"),
                Some("https://a/"),
                target(Some("p"), Some("https://a/")),
            ),
            (Some("/v1"), None, target(None, Some("/v1"))),
            (Some("p"), None, target(Some("p"), None)),
            (None, None, target(None, None)),
            (
                Some("p"),
                Some("v1/me"),
                usage(
                    "`v1/me` is neither a path nor an https:// URL",
                    "a path begins with a slash: /v1/me",
                ),
            ),
            (
                Some("p"),
                Some("a.example/x"),
                usage(
                    "`a.example/x` is neither a path nor an https:// URL",
                    "for a URL write https://a.example/x, for a path write /a.example/x",
                ),
            ),
            (
                Some("/v1"),
                Some("p"),
                usage(
                    "`/v1` is not the name of a binding",
                    "the binding comes first: p /v1",
                ),
            ),
        ] {
            assert_eq!(Target::new(first, second), expected, "{first:?} {second:?}");
        }
    }
}
