//! One small file per subcommand: arguments in, an exit code out.

pub mod certificate;
pub mod check;
pub mod demo;
pub mod fetch;
mod given;
pub mod healthcheck;
pub mod init;
mod keylog;
pub mod probe;
pub mod reload;
pub mod run;
mod running;
pub mod status;
mod target;
pub mod usage;
pub mod version;
pub mod welcome;
mod workerd;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::app::StartError;
use crate::config::{ConfigError, Finding};
use crate::log::startup;
use crate::{printable, terminal};

use given::GivenError;

/// How the process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// All is well.
    Success,
    /// Something failed that may pass; a supervisor should try again.
    Failure,
    /// The command line makes no sense.
    Usage,
    /// The configuration is wrong (`EX_CONFIG` of sysexits.h); trying again changes nothing.
    Config,
    /// As curl ends in the same case.
    Curl(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Success => Self::SUCCESS,
            Exit::Failure => Self::FAILURE,
            Exit::Usage => Self::from(2),
            Exit::Config => Self::from(78),
            Exit::Curl(code) => Self::from(code),
        }
    }
}

/// Prints a report to stdout, as JSON that no terminal breaks or obeys.
fn print_json(report: &impl Serialize) {
    let text = match serde_json::to_string_pretty(report) {
        Ok(text) => text,
        Err(error) => return eprintln!("mtlsd: cannot print the report: {error}"),
    };
    let text = printable::escape_json(&text);
    // The exit code says more than a reader who has gone away would.
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Prints why the daemon does not run, and says how the process ends because of it.
fn report(error: &StartError) -> Exit {
    match error {
        StartError::Config(error) => report_config(error),
        error => {
            let finding = Finding::error(chain(error), error.help());
            if !startup::findings(vec![finding]) {
                eprintln!("mtlsd: {}", chain(error));
                if let Some(help) = error.help() {
                    eprintln!("  help: {help}");
                }
            }
            Exit::Failure
        }
    }
}

/// Prints why there is no configuration, and says how the process ends because of it.
fn refuse(error: &GivenError) -> Exit {
    if !startup::findings(vec![error.finding()]) {
        terminal::eprint_styled(&error.text());
    }
    error.exit()
}

fn report_config(error: &ConfigError) -> Exit {
    if !startup::findings(error.findings()) {
        terminal::eprint_styled(&error.render());
    }
    match error.may_pass() {
        true => Exit::Failure,
        false => Exit::Config,
    }
}

/// An error and its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
