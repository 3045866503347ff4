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

    /// `what` has a `value` that is not shown.
    fn hidden(what: &str, value: &str) -> Self {
        let content = match value.contains('\n') && !secret::has_key(value) && !secret::is_in(value)
        {
            true => "line breaks",
            false => "a key or a certificate",
        };
        Self::new(
            format!("{what} contains {content}, and is not shown"),
            "options take the path of a file, not its content",
        )
    }

    /// What is wrong with an argument or a variable before it is known what it means: it is a key,
    /// as in `--key "$(cat client.key)"`, and no message may quote it. `variables` are those of the
    /// environment.
    pub fn of_secrets(
        arguments: &[OsString],
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Option<Self> {
        let mut words = arguments.iter().skip(1).map(|word| word.to_string_lossy());
        let command = words.next()?;
        // What a request sends may be anything.
        let may_send = command == "fetch";
        let mut is_value = false;
        for word in std::iter::once(command).chain(words) {
            let sends = sends(&word).filter(|_| may_send && !is_value);
            if !is_value && sends.is_none() && secret::is_key_or_lines(&word) {
                let option = word.split_once('=').map(|(option, _)| option);
                let option = option.filter(|option| option.starts_with("--") && option.len() < 30);
                let option = option.filter(|option| !secret::is_key_or_lines(option));
                return Some(Self::hidden(option.unwrap_or("an argument"), &word));
            }
            is_value = sends == Some(true);
        }
        let mut variables = variables.into_iter();
        let (name, value) = variables.find(|(name, value)| {
            name.to_string_lossy().starts_with("MTLSD_")
                && secret::is_key_or_lines(&value.to_string_lossy())
        })?;
        let name = name.to_string_lossy();
        let what = format!("{name} (environment)");
        Some(Self::hidden(&what, &value.to_string_lossy()))
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
        if secret::has_key(&text) || secret::is_in(&text) {
            return Self::hidden("an argument", &text);
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

/// Whether `word` is `--data` or `--header` of `mtlsd fetch`, or a short form of them, alone or
/// behind other flags; `Some(true)` if its value is the next word.
fn sends(word: &str) -> Option<bool> {
    if let Some(long) = word.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, _)) => (name, true),
            None => (long, false),
        };
        return matches!(name, "data" | "header").then_some(!value);
    }
    let flags = word.strip_prefix('-')?;
    let flag = flags.trim_start_matches(['i', 'I', 'S', 's', 'f']);
    flag.starts_with(['d', 'H']).then_some(flag.len() == 1)
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
pub fn report(error: &clap::Error, arguments: &[OsString]) -> Exit {
    if error.use_stderr() {
        let usage = UsageError::from(error);
        if is_reported(&usage, arguments) {
            return Exit::Usage;
        }
        let text = error.render().to_string();
        if secret::has_key(&text) || secret::is_in(&text) {
            eprintln!("mtlsd: {usage}");
            return Exit::Usage;
        }
    }
    // A reader that has gone away misses nothing.
    let _ = error.print();
    match error.use_stderr() {
        true => Exit::Usage,
        false => Exit::Success,
    }
}

/// Prints an error of [`UsageError::of_secrets`]; as JSON where `arguments` ask for that.
pub fn report_secret(error: &UsageError, arguments: &[OsString]) -> Exit {
    if !is_reported(error, arguments) {
        terminal::eprint_styled(&error.text());
    }
    Exit::Usage
}

/// Reports `error` to programs: in the log of `mtlsd run`, or as JSON. Returns `false` if it is for
/// people, and was not printed.
fn is_reported(error: &UsageError, arguments: &[OsString]) -> bool {
    if arguments.get(1).is_some_and(|command| command == "run") {
        startup::is_daemon();
        if startup::findings(vec![error.finding()]) {
            return true;
        }
    }
    let is_json = arguments
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| argument == "--json");
    if is_json {
        super::print_json(&Report {
            ok: false,
            findings: vec![error.finding()],
        });
    }
    is_json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;

    #[test]
    fn arguments_and_variables_that_are_keys_are_errors_that_do_not_quote_them() {
        const KEY: &str = include_str!("../../tests/key_formats/p-256.key");
        let said = |words: &[&str], variables: &[(&str, &str)]| {
            let words: Vec<OsString> = std::iter::once(&"mtlsd")
                .chain(words)
                .map(Into::into)
                .collect();
            let variables = variables
                .iter()
                .map(|(name, value)| (name.into(), value.into()));
            let error = UsageError::of_secrets(&words, variables)?;
            assert!(!error.to_string().contains("MIGH"), "{error}");
            Some(error.message.split(" contains").next()?.to_owned())
        };
        let blanks = KEY.replace('\n', " ");
        let assigned = format!("--key={KEY}");
        let data = format!("-d{KEY}");
        for (words, variables, expected) in [
            (&["check", "--key", KEY][..], &[][..], Some("an argument")),
            (&["run", &assigned], &[], Some("--key")),
            (&["status", "--admin", &blanks], &[], Some("an argument")),
            (&[KEY], &[], Some("an argument")),
            (&["fetch", "a", KEY], &[], Some("an argument")),
            (&["fetch", "-d", "x", KEY], &[], Some("an argument")),
            (&["probe", "-d", KEY], &[], Some("an argument")),
            (
                &["run"],
                &[("MTLSD_ADMIN", KEY)],
                Some("MTLSD_ADMIN (environment)"),
            ),
            (&["run"], &[("OTHER", KEY)], None),
            (&["fetch", "a", "/", "-d", KEY, "-s"], &[], None),
            (&["fetch", "a", "/", "-sSd", KEY, "-s"], &[], None),
            (&["fetch", "a", "/", "--data", "two\nlines"], &[], None),
            (&["fetch", "a", "/", &data], &[], None),
            (
                &[
                    "fetch",
                    "a",
                    "https://a.example/?token=MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgxx",
                ],
                &[],
                None,
            ),
            (
                &["check", "--config", "mtlsd.toml"],
                &[("MTLSD_CA", "system")],
                None,
            ),
        ] {
            assert_eq!(said(words, variables).as_deref(), expected, "{words:?}");
        }
    }

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
