//! From text to [`Config`]: the top of the file, the shared listener, the log.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::apart::{authorities_apart, listeners_apart, names_apart};
use super::binding::binding;
use super::mistake::{ConfigError, Mistake, Place};
use super::section::{Found, Section, count, described, string};
use super::settings::{Settings, defaults_table, value_or};
use super::{
    Binding, ClientPatience, Config, Flags, Listen, LogFormat, LogLevel, LogSettings,
    SharedListener, defaults, keys,
};

/// A configuration that is still being looked at. Mistakes that only opening files can find are
/// added with [`Draft::blame`], so that all of them are reported together.
pub struct Draft {
    path: Option<PathBuf>,
    text: String,
    config: Config,
    mistakes: Vec<Mistake>,
}

impl Draft {
    /// Reads the file at `path`. Relative paths in it are relative to its directory.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is not UTF-8.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|error| ConfigError::unreadable(path.to_owned(), &error))?;
        Ok(Self::parse(path, text))
    }

    /// Understands `text` as the content of the file at `path`.
    pub fn parse(path: &Path, text: String) -> Self {
        let directory = path.parent().unwrap_or(Path::new(""));
        let mut mistakes = Vec::new();
        if text.contains("-----BEGIN ") {
            // Named by mistake in place of the configuration; nothing of a key is ever shown.
            let message = format!("{} is a PEM file, not a configuration", path.display());
            return Self {
                path: Some(path.to_owned()),
                text: String::new(),
                config: empty(),
                mistakes: vec![Mistake::new(Place::default(), message)],
            };
        }
        let (table, errors) = DeTable::parse_recoverable(&text);
        let config = if errors.is_empty() {
            document(table.into_inner(), directory, &mut mistakes)
        } else {
            // What a half-read text seems to say is not worth a second list of mistakes.
            mistakes.extend(errors.iter().map(|error| {
                let place = error.span().map(Place::at).unwrap_or_default();
                Mistake::new(place, error.message())
            }));
            empty()
        };
        Self {
            path: Some(path.to_owned()),
            text,
            config,
            mistakes,
        }
    }

    /// The configuration that command-line flags stand for: one binding, called `default`.
    pub fn from_flags(flags: &Flags) -> Self {
        let mut mistakes = Vec::new();
        let mut config = empty();
        config.bindings.extend(flags.binding(&mut mistakes));
        Self {
            path: None,
            text: String::new(),
            config,
            mistakes,
        }
    }

    /// The file; `None` when there is none.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What stands in it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What was said about logging, so that it can start before the rest is judged.
    pub fn log(&self) -> &LogSettings {
        &self.config.log
    }

    /// The bindings that could be understood.
    pub fn bindings(&self) -> &[Binding] {
        &self.config.bindings
    }

    /// Adds a mistake that was found elsewhere.
    pub fn blame(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    /// The configuration.
    ///
    /// # Errors
    ///
    /// Every mistake there is, if there is one.
    pub fn finish(self) -> Result<Config, ConfigError> {
        if self.mistakes.is_empty() {
            return Ok(self.config);
        }
        Err(ConfigError::new(self.path, self.text, self.mistakes))
    }
}

fn empty() -> Config {
    Config {
        shared: None,
        workers: defaults::workers(),
        log: defaults::LOG,
        bindings: Vec::new(),
    }
}

fn document(table: DeTable<'_>, directory: &Path, mistakes: &mut Vec<Mistake>) -> Config {
    let mut config = empty();
    let mut root = Section::new("at the top level", keys::TOP, table, mistakes);
    root.refuse_empty("listen");
    let listen = root.list("listen", |text| Listen::parse(text, directory));
    let expose = root.boolean("expose");
    let header = root.duration("header_timeout");
    let idle = root.duration("client_idle_timeout");
    let header_size = root.count("max_header_size");
    if let Some(workers) = root.get("workers", workers) {
        config.workers = workers.value;
    }
    let log = root.take("log");
    let base = root.take("defaults");
    let bindings = root.take("bindings");
    if let Some(listen) = &listen {
        let exposed = expose.as_ref().is_some_and(|expose| expose.value);
        exposure(&mut root, listen, exposed);
        config.shared = Some(SharedListener {
            listen: listen.iter().map(|found| found.value.clone()).collect(),
            patience: ClientPatience {
                header: value_or(header, defaults::HEADER_TIMEOUT),
                idle: value_or(idle, defaults::CLIENT_IDLE_TIMEOUT),
            },
            max_header_size: value_or(header_size, defaults::MAX_HEADER_SIZE).get(),
        });
    } else {
        for (key, there) in [
            ("expose", expose.map(|found| found.place)),
            ("header_timeout", header.map(|found| found.place)),
            ("client_idle_timeout", idle.map(|found| found.place)),
            ("max_header_size", header_size.map(|found| found.place)),
        ] {
            if let Some(place) = there {
                let mistake = Mistake::new(
                    place,
                    format!(
                        "`{key}` at the top level speaks of the shared listener, and there is none"
                    ),
                );
                root.mistake(mistake.help(format!(
                    "add `listen` beside it, or move `{key}` to [defaults]"
                )));
            }
        }
    }
    root.finish();
    if let Some(log) = log.and_then(|value| as_table("log", value, mistakes)) {
        config.log = log_settings(Section::new("in [log]", keys::LOG, log, mistakes));
    }
    let base = match base.and_then(|value| as_table("defaults", value, mistakes)) {
        Some(table) => defaults_table(
            Section::new("in [defaults]", keys::of_a_binding(), table, mistakes),
            directory,
        ),
        None => Settings::default(),
    };
    let mut read = Vec::new();
    let mut any = bindings
        .as_ref()
        .is_some_and(|value| !value.get_ref().is_table());
    if let Some(table) = bindings.and_then(|value| as_table("bindings", value, mistakes)) {
        let mut entries: Vec<_> = table.into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            any = true;
            if let Some(one) = binding(
                key,
                value,
                &base,
                config.shared.is_some(),
                directory,
                mistakes,
            ) {
                read.push(one);
            }
        }
    }
    if !any {
        mistakes.push(
            Mistake::new(Place::default(), "there is no binding")
                .help("add a table [bindings.NAME] with `listen`, `origin` and `certificate`"),
        );
    }
    listeners_apart(listen.as_deref().unwrap_or_default(), &read, mistakes);
    names_apart(&read, mistakes);
    if config.shared.is_some() {
        authorities_apart(&read, mistakes);
    }
    config.bindings = read.into_iter().filter_map(|read| read.binding).collect();
    config
}

fn log_settings(mut section: Section<'_, '_>) -> LogSettings {
    let mut log = defaults::LOG;
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    let formats = [
        ("auto", LogFormat::Auto),
        ("json", LogFormat::Json),
        ("text", LogFormat::Text),
    ];
    log.level = value_or(section.word("level", &levels), log.level);
    log.format = value_or(section.word("format", &formats), log.format);
    log.access = value_or(section.boolean("access"), log.access);
    section.finish();
    log
}

fn workers(value: &DeValue<'_>) -> Result<NonZeroUsize, String> {
    const MOST: usize = 1024;
    let expected = || {
        format!(
            "expected \"auto\" or a whole number from 1 to {MOST}, found {}",
            described(value)
        )
    };
    match value {
        DeValue::String(_) if string(value) == Ok("auto") => Ok(defaults::workers()),
        _ => count(value)
            .ok()
            .filter(|count| count.get() <= MOST)
            .ok_or_else(expected),
    }
}

pub(super) fn as_table<'t>(
    name: &str,
    value: Spanned<DeValue<'t>>,
    mistakes: &mut Vec<Mistake>,
) -> Option<DeTable<'t>> {
    let place = Place::at(value.span());
    match value.into_inner() {
        DeValue::Table(table) => Some(table),
        other => {
            let message = format!("`{name}` is a table, found {}", described(&other));
            let header = match name {
                "bindings" => "[bindings.NAME]".to_owned(),
                name => format!("[{name}]"),
            };
            let help = format!("write {header} on a line of its own, and its keys below it");
            mistakes.push(Mistake::new(place, message).help(help));
            None
        }
    }
}

pub(super) fn exposure(section: &mut Section<'_, '_>, listen: &[Found<Listen>], exposed: bool) {
    for found in listen
        .iter()
        .filter(|found| !exposed && !found.value.is_local())
    {
        section.mistake(
            Mistake::new(
                found.place.clone(),
                format!("{} is open to other machines", found.value),
            )
            .help(
                "everyone who reaches this port acts with the binding's certificate; \
                 listen on localhost, or add `expose = true`",
            ),
        );
    }
}

#[cfg(test)]
mod tests;
