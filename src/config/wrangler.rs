//! The Wrangler file of a Workers project: TOML, or JSON with comments. Of all that it says only
//! `mtls_certificates` is of interest here, at the top or in an environment.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use jsonc_parser::ast::{ObjectPropName, Value};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::grant::{Grant, grants};
use super::mistake::{ConfigError, Mistake, Place};
use super::section::nearest;

/// A Wrangler project, and which of its environments is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Project {
    /// Its `wrangler.toml`, `wrangler.json` or `wrangler.jsonc`.
    pub file: PathBuf,
    /// The environment; `None` for the top level.
    pub environment: Option<String>,
}

impl Project {
    /// The bindings with a client certificate that `text`, the content of the file, has.
    ///
    /// # Errors
    ///
    /// When it makes no sense, there is no such environment, or no such binding.
    pub fn understand(&self, text: &str) -> Result<Vec<Grant>, ConfigError> {
        let mut mistakes = Vec::new();
        let grants = self.parse(text, &mut mistakes);
        let (path, text) = (Some(self.file.clone()), text.to_owned());
        match mistakes.is_empty() {
            true => Ok(grants),
            false => Err(ConfigError::new(path, text, mistakes)),
        }
    }

    fn parse(&self, text: &str, mistakes: &mut Vec<Mistake>) -> Vec<Grant> {
        let parsed = match is_toml(&self.file) {
            true => toml_table(text, mistakes),
            false => json_table(text, mistakes),
        };
        let Some(top) = parsed else { return Vec::new() };
        let Some(mut table) = self.environment_of(top, mistakes) else {
            return Vec::new();
        };
        let Some(value) = table.remove("mtls_certificates") else {
            mistakes.push(
                Mistake::new(Place::default(), self.nothing_there(&table))
                    .help("mtls_certificates = [ { binding = \"MY_CERT\", certificate_id = \"ID\" } ] makes one"),
            );
            return Vec::new();
        };
        let found = grants(value, false, mistakes);
        found.into_iter().map(Grant::without_places).collect()
    }

    /// The table of the environment. Wrangler inherits nothing of `mtls_certificates` from the top
    /// level, so neither do we.
    fn environment_of<'t>(
        &self,
        mut top: DeTable<'t>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<DeTable<'t>> {
        let Some(wanted) = &self.environment else {
            return Some(top);
        };
        let mut all = match top.remove("env").map(Spanned::into_inner) {
            Some(DeValue::Table(all)) => all,
            _ => DeTable::new(),
        };
        if let Some(DeValue::Table(table)) = all.remove(wanted.as_str()).map(Spanned::into_inner) {
            return Some(table);
        }
        let known: Vec<_> = all.keys().map(|key| key.get_ref().as_ref()).collect();
        let help = match (nearest(wanted, &known), known.is_empty()) {
            (Some(near), _) => format!("did you mean --env {near}?"),
            (None, true) => "there are no environments in it: leave --env out".to_owned(),
            (None, false) => format!("there are: {}", known.join(", ")),
        };
        let message = format!("there is no environment `{wanted}`");
        mistakes.push(Mistake::new(Place::default(), message).help(help));
        None
    }

    fn nothing_there(&self, table: &DeTable<'_>) -> String {
        match &self.environment {
            Some(name) => format!(
                "there is no `mtls_certificates` in the environment `{name}`, and none is inherited"
            ),
            None if table.contains_key("env") => {
                "there is no `mtls_certificates` at the top level; --env names an environment"
                    .to_owned()
            }
            None => "there is no `mtls_certificates`".to_owned(),
        }
    }
}

fn is_toml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("toml"))
}

/// The table that `text` is, as far as it can be read: JSON where the path says so, else TOML.
pub(super) fn any_table<'t>(path: &Path, text: &'t str) -> Option<DeTable<'t>> {
    let is_json = path
        .extension()
        .is_some_and(|extension| extension == "json" || extension == "jsonc");
    match is_json {
        true => json_table(text, &mut Vec::new()),
        false => Some(DeTable::parse_recoverable(text).0.into_inner()),
    }
}

fn toml_table<'t>(text: &'t str, mistakes: &mut Vec<Mistake>) -> Option<DeTable<'t>> {
    match DeTable::parse(text) {
        Ok(table) => Some(table.into_inner()),
        Err(error) => {
            let place = error.span().map(Place::at).unwrap_or_default();
            mistakes.push(Mistake::new(place, error.message()));
            None
        }
    }
}

fn json_table<'t>(text: &'t str, mistakes: &mut Vec<Mistake>) -> Option<DeTable<'t>> {
    let parsed = parse_to_ast(text, &CollectOptions::default(), &ParseOptions::default());
    let value = match parsed {
        Ok(parsed) => parsed.value,
        Err(error) => {
            let range = error.range();
            let place = Place::at(range.start..range.end);
            mistakes.push(Mistake::new(place, error.kind().to_string()));
            return None;
        }
    };
    match value.and_then(as_toml).map(Spanned::into_inner) {
        Some(DeValue::Table(table)) => Some(table),
        _ => {
            mistakes.push(Mistake::new(Place::default(), "it is no JSON object"));
            None
        }
    }
}

/// A JSON value as the TOML value that says the same, so that one reader does for both. `None` for
/// null, which TOML says by saying nothing.
fn as_toml(value: Value<'_>) -> Option<Spanned<DeValue<'_>>> {
    let range = value.range();
    let inner = match value {
        Value::NullKeyword(_) => return None,
        Value::StringLit(text) => DeValue::String(text.value),
        // Nothing that is read here is a number.
        Value::NumberLit(number) => DeValue::String(Cow::Borrowed(number.value)),
        Value::BooleanLit(flag) => DeValue::Boolean(flag.value),
        Value::Array(array) => {
            let mut items = DeArray::new();
            array
                .elements
                .into_iter()
                .filter_map(as_toml)
                .for_each(|item| items.push(item));
            DeValue::Array(items)
        }
        Value::Object(object) => {
            let mut table = DeTable::new();
            for property in object.properties {
                let range = property.name.range();
                let name = match property.name {
                    ObjectPropName::String(text) => text.value,
                    ObjectPropName::Word(word) => Cow::Borrowed(word.value),
                };
                if let Some(value) = as_toml(property.value) {
                    table.insert(Spanned::new(range.start..range.end, name), value);
                }
            }
            DeValue::Table(table)
        }
    };
    Some(Spanned::new(range.start..range.end, inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "99f5fef1-6cc1-46b8-bd79-44a0d5082b8d";

    fn read(name: &str, text: &str, environment: Option<&str>) -> Result<Vec<String>, String> {
        let project = Project {
            file: name.into(),
            environment: environment.map(str::to_owned),
        };
        match project.understand(text) {
            Ok(grants) => Ok(grants
                .into_iter()
                .map(|grant| format!("{} {}", grant.binding.value, grant.id.value))
                .collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn jsonc() -> String {
        format!(
            r#"{{
  // the schema of wrangler
  "$schema": "./node_modules/wrangler/config-schema.json",
  "compatibility_date": "2026-01-01", /* and
  more */ "main": "src/index.js", "limits": {{ "cpu_ms": 50, "none": null }},
  "mtls_certificates": [
    {{
      "binding": "MY_CERT",
      "certificate_id": "{ID}",
      "remote": true,
    }},
  ],
  "env": {{ "staging": {{ "mtls_certificates": [ {{ "binding": "STAGED", "certificate_id": "{ID}" }} ] }}, "empty": {{}} }},
}}"#
        )
    }

    #[test]
    fn the_files_of_the_documentation_are_read_as_they_stand() {
        let expected = Ok(vec![format!("MY_CERT {ID}")]);
        assert_eq!(read("wrangler.jsonc", &jsonc(), None), expected);
        let toml = format!(
            "name = \"w\"\nmtls_certificates = [\n  {{ binding = \"MY_CERT\", certificate_id = \"{ID}\" }}\n]\n[vars]\nA = 1\n"
        );
        assert_eq!(read("wrangler.toml", &toml, None), expected);
        let tables =
            format!("[[mtls_certificates]]\nbinding = \"MY_CERT\"\ncertificate_id = \"{ID}\"\n");
        assert_eq!(read("wrangler.toml", &tables, None), expected);
    }

    #[test]
    fn an_environment_has_its_own_and_inherits_nothing() {
        assert_eq!(
            read("wrangler.jsonc", &jsonc(), Some("staging")),
            Ok(vec![format!("STAGED {ID}")])
        );
        for (environment, reason) in [
            (
                "empty",
                "there is no `mtls_certificates` in the environment `empty`, and none is inherited",
            ),
            ("stagin", "did you mean --env staging?"),
            ("x", "there are: empty, staging"),
        ] {
            let error = read("wrangler.jsonc", &jsonc(), Some(environment)).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn mistakes_are_shown_where_they_are() {
        for (name, text, place, reason) in [
            (
                "wrangler.jsonc",
                "{\n  \"mtls_certificates\": [\n    { \"binding\": \"A\", \"certificate_id\": \"<CERTIFICATE_ID>\" }\n  ]\n}",
                "wrangler.jsonc:3:41",
                "`certificate_id`: `<CERTIFICATE_ID>` is not the id of a certificate",
            ),
            (
                "wrangler.jsonc",
                "{ \"mtls_certificates\": [ { \"binding\": \"A\" } ] }",
                "wrangler.jsonc:1:26",
                "\"mtls_certificates\" bindings should have a string \"certificate_id\" field",
            ),
            (
                "wrangler.toml",
                "mtls_certificates = [ \"A\" ]",
                "wrangler.toml:1:23",
                "\"mtls_certificates\" bindings should be objects, but got the string \"A\"",
            ),
            ("wrangler.jsonc", "{ \"a\": ", "wrangler.jsonc:1:", ""),
            ("wrangler.toml", "a = ", "wrangler.toml:1:", ""),
            (
                "wrangler.json",
                "[]",
                "wrangler.json",
                "it is no JSON object",
            ),
        ] {
            let error = read(name, text, None).unwrap_err();
            assert!(error.contains(place) && error.contains(reason), "{error}");
        }
    }
}
