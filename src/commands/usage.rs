//! Wrong arguments: what is wrong, and what to write instead.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal};

use serde::Serialize;

use crate::config::{Finding, secret};
use crate::log::startup;
use crate::{printable, terminal};

use super::Exit;

/// The arguments, or the variables in their place, make no sense.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsageError {
    message: String,
    help: Option<String>,
}

impl UsageError {
    /// `message` says what is wrong, `help` what to do.
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: concealed(message.into()),
            help: Some(concealed(help.into())),
        }
    }

    /// An error whose message says it all.
    pub fn bare(message: impl Into<String>) -> Self {
        Self {
            message: concealed(message.into()),
            help: None,
        }
    }

    /// What is printed, with [`terminal::eprint_styled`].
    pub fn text(&self) -> String {
        fitted(&format!("mtlsd: {self}"))
    }

    /// The same for programs.
    pub fn finding(&self) -> Finding {
        Finding::error(&*self.message, self.help.clone())
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable::escape(&self.message))?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {}", printable::escape(help)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for UsageError {}

impl From<&clap::Error> for UsageError {
    fn from(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        if secret::has_key(&text) {
            return Self::new(
                "an argument contains a key or a certificate, and is not shown",
                "options take the path of a file, not its content",
            );
        }
        let mut message = Vec::new();
        let mut help = Vec::new();
        for line in text.lines() {
            if line.starts_with("Usage:") || line.starts_with("For more information") {
                break;
            }
            let line = line.trim();
            match line.strip_prefix("tip: ") {
                Some(tip) => help.push(tip.to_owned()),
                None if line.is_empty() => {}
                None => message.push(line.strip_prefix("error: ").unwrap_or(line).to_owned()),
            }
        }
        Self {
            message: message.join(" "),
            help: (!help.is_empty()).then(|| help.join("; ")),
        }
    }
}

/// The text, unless a key is in it.
fn concealed(text: String) -> String {
    match secret::is_in(&text) {
        true => format!("a value is not valid {}", secret::HIDDEN),
        false => text,
    }
}

/// The text in lines that fit the terminal on stderr, if there is one.
pub fn fitted(text: &str) -> String {
    let stderr = io::stderr();
    match terminal::width(&stderr).filter(|_| stderr.is_terminal()) {
        Some(width) => terminal::wrap(text, width).into_owned(),
        None => text.to_owned(),
    }
}

/// What `--json` prints where the arguments make no sense, for every command that has it.
#[derive(Serialize)]
struct Report {
    ok: bool,
    findings: Vec<Finding>,
}

/// Prints what clap found wrong, or the help that was asked for; as JSON where `arguments` ask for
/// that.
pub fn report(error: &clap::Error, arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments: Vec<_> = arguments.into_iter().collect();
    if error.use_stderr() && arguments.get(1).is_some_and(|command| command == "run") {
        startup::is_daemon();
        if startup::findings(vec![UsageError::from(error).finding()]) {
            return Exit::Usage;
        }
    }
    let json = arguments
        .into_iter()
        .take_while(|argument| argument != "--")
        .any(|argument| argument == "--json");
    if json && error.use_stderr() {
        let report = Report {
            ok: false,
            findings: vec![UsageError::from(error).finding()],
        };
        super::print_json(&report);
        return Exit::Usage;
    }
    // `--key "$(cat client.key)"`: clap quotes the argument that it does not understand.
    if error.use_stderr() && secret::has_key(&error.render().to_string()) {
        eprintln!("mtlsd: {}", UsageError::from(error));
        return Exit::Usage;
    }
    // A reader that has gone away misses nothing.
    let _ = error.print();
    match error.use_stderr() {
        true => Exit::Usage,
        false => Exit::Success,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;

    #[test]
    fn errors_of_clap_are_split_into_message_and_help() {
        for (arguments, message, help) in [
            (
                ["mtlsd", "check", "--jsn"],
                "unexpected argument '--jsn' found",
                Some("a similar argument exists: '--json'"),
            ),
            (
                ["mtlsd", "chek", "--json"],
                "unrecognized subcommand 'chek'",
                Some("a similar subcommand exists: 'check'"),
            ),
            (
                ["mtlsd", "check", "--config"],
                "a value is required for '--config <FILE>' but none was supplied",
                None,
            ),
        ] {
            let error = Cli::parse_from(arguments.map(Into::into)).unwrap_err();
            let usage = UsageError::from(&error);
            assert_eq!(usage.message, message);
            assert_eq!(usage.help.as_deref(), help);
        }
    }
}
