//! `mtlsd`: see the library for the map.

use std::env;
use std::process::ExitCode;

use mtlsd::cli::{Cli, Command};
use mtlsd::commands::usage::UsageError;
use mtlsd::commands::{certificate, check, demo, fetch, init, probe, run, usage, version, welcome};
use mtlsd::commands::{healthcheck, reload, status};
use mtlsd::{sys, terminal};

fn main() -> ExitCode {
    sys::forbid_core_dumps();
    terminal::start();
    let arguments: Vec<_> = env::args_os().collect();
    if let Some(error) = UsageError::of_secrets(&arguments, env::vars_os()) {
        return usage::report_secret(&error, &arguments).into();
    }
    let cli = match Cli::parse_from(arguments.iter().cloned()) {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error, &arguments).into(),
    };
    let exit = match cli.command {
        None => welcome::welcome(),
        Some(Command::Run(arguments)) => run::run(arguments),
        Some(Command::Demo(arguments)) => demo::demo(arguments),
        Some(Command::Check(arguments)) => check::check(&arguments),
        Some(Command::Probe(arguments)) => probe::probe(&arguments),
        Some(Command::Fetch(arguments)) => fetch::fetch(arguments),
        Some(Command::Status(arguments)) => status::status(&arguments),
        Some(Command::Healthcheck(arguments)) => healthcheck::healthcheck(&arguments),
        Some(Command::Reload(arguments)) => reload::reload(&arguments),
        Some(Command::Init(arguments)) => init::init(&arguments),
        Some(Command::MtlsCertificate(command)) => certificate::mtls_certificate(command),
        Some(Command::Cert(command)) => certificate::cert(command),
        Some(Command::Version) => version::version(),
    };
    exit.into()
}
