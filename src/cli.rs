//! The command line.

pub mod admin;
pub mod fetch;
pub mod source;
pub mod store;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use source::SourceFlags;

use crate::terminal;

/// Below so many columns, help puts descriptions below the options and not beside them.
const NARROW: usize = 80;
/// Longer lines are hard to read.
const WIDEST: usize = 100;

/// An mTLS forward proxy daemon: plain HTTP in, the right client certificate out.
///
/// Programs that cannot present a client certificate speak plain HTTP to mtlsd on this machine. It
/// forwards each request over TLS to an https origin, presenting the certificate of the binding
/// that the request belongs to.
#[derive(Debug, Parser)]
#[command(name = "mtlsd", version, max_term_width = WIDEST)]
pub struct Cli {
    /// What to do; nothing: say what to do first.
    #[command(subcommand)]
    pub command: Option<Command>,
}

impl Cli {
    /// Parses a command line, and notes which values come from the environment.
    ///
    /// # Errors
    ///
    /// Returns the usage error, or the help that was asked for.
    pub fn parse_from(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        if let Some(width) = terminal::width(&io::stdout()) {
            // Beside the longest option little is left of a narrow terminal.
            command = command
                .term_width(width.min(WIDEST))
                .next_line_help(width < NARROW);
        }
        let matches = command.try_get_matches_from_mut(arguments)?;
        let mut cli =
            Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        if let (Some(source), Some((_, matches))) = (cli.source(), matches.subcommand()) {
            source.note_origins(matches);
        }
        Ok(cli)
    }

    fn source(&mut self) -> Option<&mut SourceFlags> {
        match self.command.as_mut()? {
            Command::Run(run) => Some(&mut run.source),
            Command::Check(check) => Some(&mut check.source),
            Command::Probe(probe) => Some(&mut probe.source),
            Command::Fetch(fetch) => Some(&mut fetch.source),
            _ => None,
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve, until a signal ends it
    Run(Run),
    /// Try it out: a throw-away CA, an origin that demands certificates, and mtlsd in front of it
    Demo(Demo),
    /// Read the configuration and open every file it names, without serving
    Check(Check),
    /// Go the way of a request to an origin step by step, and say what each step meets
    Probe(Probe),
    /// Make one request through a binding, without a daemon
    Fetch(fetch::Fetch),
    /// Show what a running mtlsd knows about its bindings
    Status(admin::Status),
    /// Ask whether a running mtlsd is healthy
    Healthcheck(admin::Healthcheck),
    /// Have a running mtlsd read its files again, and say what came of it
    Reload(admin::Reload),
    /// Write a configuration file to start from
    Init(Init),
    /// Manage the client certificates that bindings name by their id
    #[command(subcommand)]
    MtlsCertificate(store::MtlsCertificate),
    /// Manage client certificates and CA bundles
    #[command(subcommand)]
    Cert(store::Cert),
    /// Print the version
    Version,
}

/// Serves what the configuration file says, or what --to says.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mtlsd run                                  the file ./mtlsd.toml or /etc/mtlsd/mtlsd.toml
  mtlsd run --to https://api.example --cert client.crt --key client.key
                                             no file: curl localhost:8080
  mtlsd run --wrangler wrangler.toml         the bindings of a Workers project, each on a port of its own

Signals: SIGTERM and SIGINT finish what has begun and end, a second one ends at once; SIGHUP looks
at every certificate again (files that change are noticed without it).

Exit codes: 0 ended by a signal; 1 something failed that may pass (a taken port, a file that is not
there yet); 2 usage; 78 the configuration is wrong.")]
pub struct Run {
    /// Where the configuration comes from
    #[command(flatten)]
    pub source: SourceFlags,
    /// Write TLS session keys to this file, for debugging: whoever reads it can decrypt the traffic
    #[arg(long, value_name = "FILE")]
    pub keylog: Option<PathBuf>,
}

/// Makes everything it needs in a private temporary directory, and removes it at the end.
#[derive(Args, Debug)]
pub struct Demo {
    /// Do one round, and fail unless it went as it should: a request with the certificate, a
    /// rotation that the origin sees, a call without a certificate that is refused
    #[arg(long)]
    pub once: bool,
}

/// Reads the configuration and opens every file it names.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 all is well; 1 a probe failed; 2 usage; 78 something is wrong, and what."
)]
pub struct Check {
    /// Where the configuration comes from
    #[command(flatten)]
    pub source: SourceFlags,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print nothing when all is well
    #[arg(short, long, conflicts_with = "json")]
    pub quiet: bool,
    /// Probe the origin of every binding, too
    #[arg(long)]
    pub probe: bool,
}

/// Needs no running daemon. Fetches the URL once, and reads the beginning of the answer.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 the origin answers, and has nothing against the certificate; 1 it does not, and why; 2 usage; 78 the configuration is wrong."
)]
pub struct Probe {
    /// Binding [default: the only one]
    pub binding: Option<String>,
    /// URL, or a path at the origin of the binding [default: the origin itself]
    pub url: Option<String>,
    /// Where the configuration comes from
    #[command(flatten)]
    pub source: SourceFlags,
    /// Write TLS session keys to this file, for debugging: whoever reads it can decrypt the traffic
    #[arg(long, value_name = "FILE")]
    pub keylog: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Writes a commented configuration file with one binding.
#[derive(Args, Debug)]
pub struct Init {
    /// Where to write it; `-` prints it
    #[arg(value_name = "FILE", default_value = "mtlsd.toml")]
    pub file: PathBuf,
}
