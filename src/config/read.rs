//! From text to [`Config`]: the top of the file, the shared listener, the log.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::admin::{AdminSettings, admin_settings};
use super::apart::{authorities_apart, hosts_apart, listeners_apart, names_apart};
use super::binding::{Read, binding};
use super::grant::{Grant, grants, nothing_more};
use super::mistake::{ConfigError, Mistake, Place};
use super::overrides::{FORMATS, LEVELS, Overrides};
use super::roots::{Given, Roots, Texts};
use super::secret;
use super::section::{Found, Section, count, described, string};
use super::settings::{Settings, defaults_table, header_fields, value_or};
use super::{
    Binding, ClientPatience, Config, Flags, HostPrefix, Listen, LogSettings, SharedListener,
    SourceText, StorePath, defaults, keys,
};

/// A configuration that is still being looked at. Mistakes that only opening files can find are
/// added with [`Draft::blame`], so that all of them are reported together.
pub struct Draft {
    path: Option<PathBuf>,
    origin: Option<(Given, Texts)>,
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
        Given::file(path).read()
    }

    /// Understands `text` as the content of the file at `path`.
    pub fn parse(path: &Path, text: String) -> Self {
        Self::new(path, text, &Given::file(path), Vec::new())
    }

    /// Understands what stands in the files of `given`, and adds the bindings of its Wrangler
    /// project.
    pub(super) fn of(given: &Given, texts: &Texts, added: Vec<Grant>) -> Self {
        let path = given.file.as_deref().unwrap_or(Path::new(""));
        Self {
            path: given.files().next().map(Path::to_owned),
            origin: Some((given.clone(), texts.clone())),
            ..Self::new(path, texts.file.clone(), given, added)
        }
    }

    fn new(path: &Path, text: String, given: &Given, added: Vec<Grant>) -> Self {
        let directory = path.parent().unwrap_or(Path::new(""));
        let roots = Roots {
            directory,
            store: &given.store,
            expose: given.overrides.expose,
        };
        let mut mistakes = Vec::new();
        if secret::has_pem(&text) && !secret::has_known_key(&text) {
            // Named by mistake in place of the configuration; nothing of a key is ever shown.
            let message = format!("{} is a PEM file, not a configuration", path.display());
            return Self {
                path: Some(path.to_owned()),
                origin: None,
                text: String::new(),
                config: empty(),
                mistakes: vec![Mistake::new(Place::default(), message)],
            };
        }
        let (table, errors) = DeTable::parse_recoverable(&text);
        let mut config = if errors.is_empty() {
            document(table.into_inner(), roots, added, &mut mistakes)
        } else {
            // What a half-read text seems to say is not worth a second list of mistakes.
            mistakes.extend(errors.iter().map(|error| {
                let place = error.span().map(Place::at).unwrap_or_default();
                Mistake::new(place, error.message())
            }));
            empty()
        };
        listen_there(&mut config, &given.listen, &mut mistakes);
        given.overrides.apply(&mut config);
        Self {
            path: Some(path.to_owned()),
            origin: None,
            text,
            config,
            mistakes,
        }
    }

    /// The configuration that command-line flags stand for: one binding, called `default`.
    pub fn from_flags(flags: &Flags, store: &StorePath, overrides: &Overrides) -> Self {
        let mut mistakes = Vec::new();
        let mut config = empty();
        let binding = flags.binding(store, overrides.expose, &mut mistakes);
        config.bindings.extend(binding);
        overrides.apply(&mut config);
        Self {
            path: None,
            origin: None,
            text: String::new(),
            config,
            mistakes,
        }
    }

    /// The file; `None` when there is none.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What it was taken from, and what stood there; `None` where nothing can be read again.
    pub fn origin(&self) -> Option<&(Given, Texts)> {
        self.origin.as_ref()
    }

    /// The text that places refer to.
    pub fn source(&self) -> SourceText {
        SourceText {
            path: self.path.clone(),
            text: self.text.clone(),
        }
    }

    /// What could be understood so far.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What was said about logging, so that it can start before the rest is judged.
    pub fn log(&self) -> &LogSettings {
        &self.config.log
    }

    /// What was said about the operator's endpoints.
    pub fn admin(&self) -> &AdminSettings {
        &self.config.admin
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
        max_client_connections: None,
        workers: defaults::workers(),
        log: defaults::LOG,
        admin: AdminSettings::default(),
        bindings: Vec::new(),
    }
}

/// Moves bindings to where the command line wants them.
fn listen_there(config: &mut Config, listen: &[(String, Listen)], mistakes: &mut Vec<Mistake>) {
    for (name, listen) in listen {
        let wanted = HostPrefix::parse(name);
        let named = |binding: &&mut Binding| wanted == Some(HostPrefix::from(&binding.name));
        let message = match config.bindings.iter_mut().find(named) {
            // Where there are mistakes, the binding may be among what was not understood.
            None if !mistakes.is_empty() => continue,
            None => format!("--listen {name}={listen}: there is no binding `{name}`"),
            Some(binding) if !listen.is_local() && !binding.expose => {
                format!(
                    "--listen {name}={listen}: this is open to other machines; it needs `expose = true` in [bindings.{name}], or --expose"
                )
            }
            Some(binding) => {
                binding.listen = vec![listen.clone()];
                binding.places.listen = Vec::new();
                continue;
            }
        };
        mistakes.push(Mistake::new(Place::default(), message));
    }
}

fn document(
    table: DeTable<'_>,
    roots: Roots<'_>,
    added: Vec<Grant>,
    mistakes: &mut Vec<Mistake>,
) -> Config {
    let directory = roots.directory;
    let mut config = empty();
    let mut root = Section::new("at the top level", keys::TOP, table, mistakes);
    let means = |root: &Section<'_, '_>, key: &str| !root.has(key) && root.has_or_means(key);
    let means_listen = means(&root, "listen");
    let means_expose = means(&root, "expose");
    let means_bindings = ["bindings", "mtls_certificates"]
        .iter()
        .any(|key| means(&root, key));
    root.refuse_empty("listen");
    let listen = root.list_of("listen", |value| listen_value(value, directory));
    let expose = root.boolean("expose");
    let header = root.duration("header_timeout");
    let idle = root.duration("client_idle_timeout");
    let header_size = root.count("max_header_size");
    let fields = root.get("max_header_fields", header_fields);
    let clients = root.count("max_client_connections");
    config.max_client_connections = clients.map(|found| found.value);
    if let Some(workers) = root.get("workers", workers) {
        config.workers = workers.value;
    }
    let admin = root.take("admin");
    let log = root.take("log");
    let base = root.take("defaults");
    let bindings = root.take("bindings");
    let granted = root.take("mtls_certificates");
    if let Some(listen) = &listen {
        let exposed = roots.expose || expose.as_ref().is_some_and(|expose| expose.value);
        exposure(&mut root, listen, exposed || means_expose);
        config.shared = Some(SharedListener {
            listen: listen.iter().map(|found| found.value.clone()).collect(),
            places: listen.iter().map(|found| found.place.clone()).collect(),
            patience: ClientPatience {
                header: value_or(header, defaults::HEADER_TIMEOUT),
                idle: value_or(idle, defaults::CLIENT_IDLE_TIMEOUT),
            },
            max_header_size: value_or(header_size, defaults::MAX_HEADER_SIZE).get(),
            max_header_fields: value_or(fields, defaults::MAX_HEADER_FIELDS).get(),
        });
    } else if !means_listen {
        for (key, there) in [
            ("expose", expose.map(|found| found.place)),
            ("header_timeout", header.map(|found| found.place)),
            ("client_idle_timeout", idle.map(|found| found.place)),
            ("max_header_size", header_size.map(|found| found.place)),
            ("max_header_fields", fields.map(|found| found.place)),
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
    let mut admin_listen = Vec::new();
    if let Some(admin) = admin.and_then(|value| as_table("admin", value, mistakes)) {
        let section = Section::new("in [admin]", keys::ADMIN, admin, mistakes);
        (config.admin, admin_listen) = admin_settings(section, directory);
    }
    if let Some(log) = log.and_then(|value| as_table("log", value, mistakes)) {
        config.log = log_settings(Section::new("in [log]", keys::LOG, log, mistakes));
    }
    let base = match base.and_then(|value| as_table("defaults", value, mistakes)) {
        Some(table) => defaults_table(
            Section::new("in [defaults]", keys::of_a_binding(), table, mistakes),
            roots,
        ),
        None => Settings::default(),
    };
    let mut any = means_bindings
        || granted.is_some()
        || !added.is_empty()
        || bindings
            .as_ref()
            .is_some_and(|value| !value.get_ref().is_table());
    let mut granted = match granted {
        Some(value) => grants(value, true, mistakes),
        None => Vec::new(),
    };
    granted.extend(added);
    let mut read: Vec<Read> = Vec::new();
    let shared = config.shared.is_some() || means_listen;
    if let Some(table) = bindings.and_then(|value| as_table("bindings", value, mistakes)) {
        let mut entries: Vec<_> = table.into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            any = true;
            let name = Found {
                place: Place::at(key.span()),
                value: key.into_inner().into_owned(),
            };
            let grant = granted
                .iter()
                .position(|grant| grant.is_for(&name.value))
                .map(|at| granted.remove(at));
            if let Some(table) = as_table(&format!("bindings.{}", name.value), value, mistakes) {
                let grant = grant.as_ref();
                read.push(binding(name, table, grant, &base, shared, roots, mistakes));
            }
        }
    }
    for grant in granted {
        let name = grant.binding.clone();
        let table = nothing_more();
        read.push(binding(
            name,
            table,
            Some(&grant),
            &base,
            shared,
            roots,
            mistakes,
        ));
    }
    if !any {
        mistakes.push(
            Mistake::new(Place::default(), "there is no binding")
                .help("add a table [bindings.NAME] with `listen`, `origin` and `certificate`"),
        );
    }
    let shared_listen = listen.as_deref().unwrap_or_default();
    listeners_apart(shared_listen, &admin_listen, &read, mistakes);
    names_apart(&read, mistakes);
    if config.shared.is_some() {
        authorities_apart(&read, mistakes);
        hosts_apart(&read, mistakes);
    }
    config.bindings = read.into_iter().filter_map(|read| read.binding).collect();
    config
}

fn log_settings(mut section: Section<'_, '_>) -> LogSettings {
    let mut log = defaults::LOG;
    log.level = value_or(section.word("level", LEVELS), log.level);
    log.format = value_or(section.word("format", FORMATS), log.format);
    log.access = value_or(section.boolean("access"), log.access);
    section.finish();
    log
}

/// Reads a `listen` value.
pub(super) fn listen_value(value: &DeValue<'_>, directory: &Path) -> Result<Listen, String> {
    match value {
        DeValue::Integer(number) => Err(Listen::from_number(number.as_str())),
        value => Listen::parse(string(value)?, directory),
    }
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
