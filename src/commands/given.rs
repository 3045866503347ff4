//! What a configuration is taken from, as flags and variables say.

use std::path::{Path, PathBuf};

use crate::cli::source::SourceFlags;
use crate::config::{
    self, FORMATS, FindError, Finding, Flags, Given, LEVELS, Listen, Overrides, Project, StorePath,
    Word, secret,
};

use crate::printable;

use super::Exit;
use super::usage::{UsageError, fitted};

/// Where `--to` listens unless it is told otherwise.
const LISTEN: &str = "localhost:8080";

/// Why it is not known what the configuration is.
#[derive(Debug, thiserror::Error)]
pub enum GivenError {
    /// The flags or variables make no sense.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// There is no configuration file.
    #[error("{error}{}", name.map_or(String::new(), |name| format!(" ({name})")))]
    Find {
        /// What was looked for.
        error: FindError,
        /// The variable that names it, where one does.
        name: Option<&'static str>,
    },
}

impl GivenError {
    /// How the process ends because of it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Find { .. } => Exit::Config,
        }
    }

    /// What is printed, with [`terminal::eprint_styled`](crate::terminal::eprint_styled).
    pub fn text(&self) -> String {
        match self {
            Self::Usage(error) => error.text(),
            Self::Find { .. } => {
                fitted(&format!("mtlsd: {}", printable::escape(&self.to_string())))
            }
        }
    }

    /// The same for programs.
    pub fn finding(&self) -> Finding {
        match self {
            Self::Usage(error) => error.finding(),
            Self::Find { .. } => Finding::error(self.to_string(), None),
        }
    }
}

/// What the flags and variables name.
///
/// # Errors
///
/// Returns [`GivenError`] if they contradict each other, or there is nothing to take a
/// configuration from.
pub fn given(source: &SourceFlags) -> Result<Given, GivenError> {
    pairs(source)?;
    let mut given = Given {
        file: None,
        flags: None,
        wrangler: None,
        listen: Vec::new(),
        overrides: overrides(source)?,
        store: StorePath::find(source.store.store.as_deref()),
    };
    if let Some(to) = &source.to {
        given.flags = Some(flags(source, to)?);
        return Ok(given);
    }
    given.file = match config::find(source.config.as_deref()) {
        Ok(path) => Some(path),
        Err(FindError::Nowhere) if source.wrangler.is_some() => None,
        Err(error) => {
            let name = Some(source.name("config")).filter(|name| name.starts_with("MTLSD"));
            let name = name.filter(|_| source.config.is_some());
            return Err(GivenError::Find { error, name });
        }
    };
    given.wrangler = source.wrangler.clone().map(|file| Project {
        file,
        environment: source.env.clone(),
    });
    for text in &source.listen {
        given.listen.push(named_listen(source, text, &given)?);
    }
    Ok(given)
}

/// Rejects pairs of sources that exclude each other, and values that lack the one they belong to.
fn pairs(source: &SourceFlags) -> Result<(), UsageError> {
    if source.to.is_some() {
        for (id, is_set) in [
            ("config", source.config.is_some()),
            ("wrangler", source.wrangler.is_some()),
        ] {
            if is_set {
                return Err(UsageError::new(
                    format!(
                        "cannot combine {} with {}",
                        source.origin("to"),
                        source.origin(id)
                    ),
                    format!(
                        "{} replaces the configuration file: remove one of them",
                        source.name("to")
                    ),
                ));
            }
        }
        if source.cert.is_none() {
            return Err(UsageError::new(
                format!("{} requires a client certificate", source.origin("to")),
                "set --cert or MTLSD_CERT to its file",
            ));
        }
        return Ok(());
    }
    for (id, is_set) in [
        ("cert", source.cert.is_some()),
        ("key", source.key.is_some()),
        ("ca", source.ca.is_some()),
    ] {
        if is_set {
            return Err(UsageError::new(
                format!("{} requires an origin", source.origin(id)),
                format!(
                    "set --to or MTLSD_TO to the URL of the origin; with a configuration file, \
                     remove {}",
                    source.name(id)
                ),
            ));
        }
    }
    Ok(())
}

fn flags(source: &SourceFlags, to: &str) -> Result<Flags, UsageError> {
    let word = |id| source.name(id);
    let listen = match source.listen.is_empty() {
        true => vec![LISTEN.to_owned()],
        false => source.listen.clone(),
    };
    let named = listen.iter().find(|text| names_a_binding(text));
    if let Some(text) = named {
        return Err(UsageError::new(
            format!(
                "{}: `{text}` names a binding, but {} replaces the configuration file",
                source.origin("listen"),
                source.origin("to")
            ),
            "write the address alone",
        ));
    }
    Ok(Flags {
        to: Word {
            value: to.to_owned(),
            name: word("to"),
        },
        certificate: Word {
            value: source.cert.clone().unwrap_or_default(),
            name: word("cert"),
        },
        key: source.key.clone().map(|value| Word {
            value,
            name: word("key"),
        }),
        ca: source.ca.clone().map(|value| Word {
            value,
            name: word("ca"),
        }),
        listen: listen
            .into_iter()
            .map(|text| Word {
                value: text.trim().to_owned(),
                name: word("listen"),
            })
            .collect(),
    })
}

/// Whether this is `NAME=ADDRESS`; the path of a unix socket may have a `=` too.
fn names_a_binding(text: &str) -> bool {
    !text.trim_start().starts_with("unix:") && text.contains('=')
}

fn overrides(source: &SourceFlags) -> Result<Overrides, UsageError> {
    let expose = match source.expose.as_deref().map(str::trim) {
        None => false,
        Some(text) => *word(source, "expose", text, SWITCH)?,
    };
    let level = source.log_level.as_deref();
    let level = level.map(|text| word(source, "log_level", text, LEVELS));
    let format = source.log_format.as_deref();
    let format = format.map(|text| word(source, "log_format", text, FORMATS));
    let admin = source.admin.as_deref().map(|text| {
        let text = text.trim();
        // A relative path on the command line is relative to the working directory.
        Listen::parse(text, Path::new(""))
            .ok()
            .filter(Listen::is_local)
            .ok_or_else(|| {
                UsageError::new(
                    format!(
                        "{}: `{text}` is neither a loopback address with a port nor `unix:PATH`",
                        source.origin("admin")
                    ),
                    "to let other machines read it, set `listen` and `expose` in [admin]",
                )
            })
    });
    Ok(Overrides {
        admin: admin.transpose()?,
        expose,
        level: level.transpose()?.copied(),
        format: format.transpose()?.copied(),
    })
}

/// What one of `words` stands for; upper case is fine here, as variables often have it.
fn word<'w, T>(
    source: &SourceFlags,
    id: &str,
    text: &str,
    words: &'w [(&str, T)],
) -> Result<&'w T, UsageError> {
    let text = text.trim();
    let known = || words.iter().map(|(word, _)| *word);
    let found = words
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(text));
    if let Some((_, value)) = found {
        return Ok(value);
    }
    let known: Vec<_> = known().collect();
    let message = format!(
        "{}: expected one of {}, found \"{text}\"",
        source.origin(id),
        known.join(", ")
    );
    Err(match config::nearest(text, &known) {
        Some(near) => UsageError::new(message, format!("did you mean \"{near}\"?")),
        None => UsageError::bare(message),
    })
}

const SWITCH: &[(&str, bool)] = &[
    ("true", true),
    ("false", false),
    ("1", true),
    ("0", false),
    ("yes", true),
    ("no", false),
];

/// Reads `NAME=ADDRESS`.
fn named_listen(
    source: &SourceFlags,
    text: &str,
    given: &Given,
) -> Result<(String, Listen), UsageError> {
    let text = text.trim();
    let origin = source.origin("listen");
    let Some((name, address)) = text.split_once('=').filter(|_| names_a_binding(text)) else {
        let file = given.file.as_deref().unwrap_or(Path::new("--wrangler"));
        let file: PathBuf = file.to_owned();
        return Err(UsageError::new(
            format!("{origin}: `{text}` names no binding of {}", file.display()),
            format!(
                "write NAME={text}; without a configuration file, set --to or MTLSD_TO to the \
                 URL of the origin"
            ),
        ));
    };
    // A relative path on the command line is relative to the working directory.
    let listen = Listen::parse(address, Path::new(""))
        .map_err(|error| UsageError::bare(format!("{origin}: {text}: {error}")))?;
    Ok((name.to_owned(), listen))
}

/// What a configuration is called.
pub struct Named {
    /// For people.
    pub shown: String,
    /// The file, for programs; `None` where there is none.
    pub path: Option<String>,
}

/// What the configuration of `given` is called.
pub fn named(given: &Given) -> Named {
    let path = given.files().next();
    let path = path.map(secret::shown_path);
    Named {
        shown: path.clone().unwrap_or_else(|| "command line".to_owned()),
        path,
    }
}
