//! Findings: what is wrong or noteworthy about a configuration, in a form for programs.

use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::Place;
use super::{secret, wrangler};

/// One thing that is wrong or noteworthy. Its serialized form is an interface; what is not known
/// is null.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file it is in; `None` on the command line.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: Option<usize>,
    /// The column in characters, from 1.
    pub column: Option<usize>,
    /// The key it is about, with the tables it is in: `bindings.payments.origin`.
    pub key: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// `mtlsd run` would fail, or no request would succeed.
    Error,
    /// It works, but will be a problem.
    Warning,
}

impl Finding {
    /// An error that is in no file.
    pub fn error(message: impl Into<String>, help: Option<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: None,
            line: None,
            column: None,
            key: None,
            message: message.into(),
            help,
        }
    }
}

/// A file's path and content, which places refer to.
#[derive(Clone, Default, Debug)]
pub struct SourceText {
    /// The file; `None` for the command line.
    pub path: Option<PathBuf>,
    /// Its content.
    pub text: String,
}

impl SourceText {
    /// A finding at `place`.
    pub fn finding(
        &self,
        severity: Severity,
        place: &Place,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Finding {
        let at = place.start().filter(|at| *at <= self.text.len());
        let position = at.map(|at| position(&self.text, at));
        Finding {
            severity,
            file: self.path.as_deref().map(secret::shown_path),
            line: position.map(|(line, _)| line),
            column: position.map(|(_, column)| column),
            key: at.and_then(|at| self.key_at(at)),
            message: message.into(),
            help,
        }
    }

    /// The key whose name or value is at this byte, with the tables it is in.
    fn key_at(&self, at: usize) -> Option<String> {
        let path = self.path.as_deref().unwrap_or(Path::new(""));
        let table = wrangler::any_table(path, &self.text)?;
        let mut keys = Vec::new();
        descend(&table, at, &mut keys);
        (!keys.is_empty()).then(|| keys.join("."))
    }
}

/// Follows the keys down to the byte at `at`.
fn descend(table: &DeTable<'_>, at: usize, keys: &mut Vec<String>) {
    let holds =
        |span: std::ops::Range<usize>| span.start <= at && at < span.end.max(span.start + 1);
    for (key, value) in table {
        let is_key = holds(key.span());
        // The span of a table that headers make is that of its header, so look into all of them.
        let before = keys.len();
        keys.push(key.get_ref().to_string());
        if is_key {
            return;
        }
        match value.get_ref() {
            DeValue::Table(inner) => descend(inner, at, keys),
            DeValue::Array(items) => {
                let tables = items.iter().filter_map(|item| match item.get_ref() {
                    DeValue::Table(inner) => Some(inner),
                    _ => None,
                });
                let depth = keys.len();
                for inner in tables {
                    descend(inner, at, keys);
                    if keys.len() > depth {
                        return;
                    }
                }
            }
            _ => {}
        }
        if keys.len() > before + 1 || holds(Spanned::span(value)) {
            return;
        }
        keys.truncate(before);
    }
}

/// Line and column of a byte, both from 1.
pub(super) fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_at_a_place_is_named_with_its_tables() {
        let toml = "listen = \"x\"\n[log]\nlevel = 3\n[bindings.a]\nallow = [\"b\", \"ä\", \"c\"]\n\
                    [bindings.\"b c\"]\nvia = 1\n[[mtls_certificates]]\nbinding = \"X\"\n";
        let json = "{\n \"name\": \"w\",\n \"mtls_certificates\": [ { \"binding\": 3 } ]\n}";
        for (path, text, needle, expected) in [
            ("a.toml", toml, "listen", (1, 1, "listen")),
            ("a.toml", toml, "\"x\"", (1, 10, "listen")),
            ("a.toml", toml, "3", (3, 9, "log.level")),
            ("a.toml", toml, "a]", (4, 11, "bindings.a")),
            ("a.toml", toml, "\"c\"", (5, 20, "bindings.a.allow")),
            ("a.toml", toml, "1", (7, 7, "bindings.b c.via")),
            (
                "a.toml",
                toml,
                "\"X\"",
                (9, 11, "mtls_certificates.binding"),
            ),
            (
                "wrangler.jsonc",
                json,
                "3",
                (3, 38, "mtls_certificates.binding"),
            ),
        ] {
            let source = SourceText {
                path: Some(path.into()),
                text: text.to_owned(),
            };
            let at = text.find(needle).unwrap();
            let found = source.finding(Severity::Error, &Place::at(at..at + 1), "m", None);
            assert_eq!(
                (found.line, found.column, found.key.as_deref()),
                (Some(expected.0), Some(expected.1), Some(expected.2)),
                "{needle}"
            );
        }
        let nowhere =
            SourceText::default().finding(Severity::Warning, &Place::default(), "m", None);
        assert_eq!(
            (nowhere.file, nowhere.line, nowhere.column, nowhere.key),
            (None, None, None, None)
        );
    }
}
