//! The command line.

pub mod fetch;
pub mod store;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// An mTLS forward proxy daemon: plain HTTP in, the right client certificate out.
///
/// Programs that cannot present a client certificate speak plain HTTP to mtlsd on this machine. It
/// forwards each request over TLS to an https origin, presenting the certificate of the binding
/// that the request belongs to.
#[derive(Debug, Parser)]
#[command(name = "mtlsd", version, max_term_width = 100)]
pub struct Cli {
    /// What to do; nothing: say what to do first.
    #[command(subcommand)]
    pub command: Option<Command>,
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
                                             no file: curl http://localhost:8080/
  mtlsd run --wrangler wrangler.toml         the bindings of a Workers project, each on a port of its own

Signals: SIGTERM and SIGINT finish what has begun and end, a second one ends at once; SIGHUP looks
at every certificate again (files that change are noticed without it).

Exit codes: 0 ended by a signal; 1 something failed that may pass (a taken port, a file that is not
there yet); 2 usage; 78 the configuration is wrong.")]
pub struct Run {
    /// The configuration file
    #[arg(short, long, env = "MTLSD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// In place of a file: the origin, as in `https://api.example/v1`
    #[arg(
        long,
        env = "MTLSD_TO",
        value_name = "URL",
        conflicts_with = "config",
        requires = "cert"
    )]
    pub to: Option<String>,
    /// With --to: the client certificate, a PEM chain with the leaf first
    #[arg(long, env = "MTLSD_CERT", value_name = "FILE", requires = "to")]
    pub cert: Option<PathBuf>,
    /// With --to: its key, if not in the same file
    #[arg(long, env = "MTLSD_KEY", value_name = "FILE", requires = "to")]
    pub key: Option<PathBuf>,
    /// With --to: whom to trust about the origin: "system", "mozilla", or a PEM bundle
    #[arg(long, env = "MTLSD_CA", value_name = "CA", requires = "to")]
    pub ca: Option<String>,
    /// With --to: where to listen [default: localhost:8080]. Otherwise NAME=ADDRESS: where the
    /// binding of this name listens; may be repeated
    #[arg(long, env = "MTLSD_LISTEN", value_name = "[NAME=]ADDRESS")]
    pub listen: Vec<String>,
    /// Add the bindings of a Workers project: its wrangler.toml, wrangler.json or wrangler.jsonc.
    /// Prints what to write into a workerd configuration
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    pub wrangler: Option<PathBuf>,
    /// With --wrangler: the environment of the project
    #[arg(short, long, value_name = "NAME", requires = "wrangler")]
    pub env: Option<String>,
    /// Where the store is
    #[command(flatten)]
    pub store: store::StoreFlag,
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
    /// The configuration file
    #[arg(short, long, env = "MTLSD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print nothing when all is well
    #[arg(short, long, conflicts_with = "json")]
    pub quiet: bool,
    /// Probe the origin of every binding, too
    #[arg(long)]
    pub probe: bool,
    /// Add the bindings of a Workers project, as `run` does
    #[arg(long, value_name = "FILE")]
    pub wrangler: Option<PathBuf>,
    /// With --wrangler: the environment of the project
    #[arg(short, long, value_name = "NAME", requires = "wrangler")]
    pub env: Option<String>,
    /// Where the store is
    #[command(flatten)]
    pub store: store::StoreFlag,
}

/// Needs no running daemon. Fetches the URL once, and reads the beginning of the answer.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 the origin answers, and has nothing against the certificate; 1 it does not, and why; 2 usage; 78 the configuration is wrong."
)]
pub struct Probe {
    /// The binding
    pub binding: String,
    /// A whole URL, or a path at the binding's origin [default: the origin itself]
    pub url: Option<String>,
    /// The configuration file
    #[arg(short, long, env = "MTLSD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Add the bindings of a Workers project, as `run` does
    #[arg(long, value_name = "FILE")]
    pub wrangler: Option<PathBuf>,
    /// With --wrangler: the environment of the project
    #[arg(short, long, value_name = "NAME", requires = "wrangler")]
    pub env: Option<String>,
    /// Where the store is
    #[command(flatten)]
    pub store: store::StoreFlag,
}

/// Writes a commented configuration file with one binding.
#[derive(Args, Debug)]
pub struct Init {
    /// Where to write it; `-` prints it
    #[arg(value_name = "FILE", default_value = "mtlsd.toml")]
    pub file: PathBuf,
}
