//! The commands that ask a running mtlsd.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// Where the running mtlsd is.
#[derive(Args, Debug)]
pub struct AdminFlag {
    /// The admin listener: `unix:PATH` or a loopback address [default: `admin.listen` of the
    /// configuration file, else unix:/run/mtlsd/admin.sock]
    #[arg(long, env = "MTLSD_ADMIN", value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// The configuration file
    #[arg(short, long, env = "MTLSD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Shows what a running mtlsd knows about each binding: its certificate and how long that is valid,
/// what was rejected and why, and how busy it is.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit codes: 0 every binding works; 1 one of them does not, or mtlsd cannot be reached; 2 usage.")]
pub struct Status {
    /// Show this binding alone, in full
    pub binding: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Show it again every two seconds
    #[arg(short, long, conflicts_with = "json")]
    pub watch: bool,
    /// Where the running mtlsd is
    #[command(flatten)]
    pub admin: AdminFlag,
}

/// Asks a running mtlsd whether it is healthy, for containers and scripts. Prints nothing when it is.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  HEALTHCHECK CMD [\"mtlsd\", \"healthcheck\"]
  mtlsd healthcheck --wait 30s    waits for mtlsd to start

Exit codes: 0 healthy; 1 not healthy, or not reachable; 2 usage.")]
pub struct Healthcheck {
    /// Whether this binding can work with its certificate, in place of the whole process
    #[arg(conflicts_with = "live")]
    pub binding: Option<String>,
    /// Whether every worker answers
    #[arg(long, conflicts_with = "ready")]
    pub live: bool,
    /// Whether requests are accepted (the default)
    #[arg(long)]
    pub ready: bool,
    /// Wait this long for it to become healthy
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub wait: Option<Duration>,
    /// Where the running mtlsd is
    #[command(flatten)]
    pub admin: AdminFlag,
}

/// Has a running mtlsd read its configuration and every certificate again, waits until that is done,
/// and says what came of it.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit codes: 0 everything on disk is in use; 1 mtlsd cannot be reached; 2 usage; 78 something was
rejected, and why.")]
pub struct Reload {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the running mtlsd is
    #[command(flatten)]
    pub admin: AdminFlag,
}
