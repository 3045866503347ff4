//! The arguments of `mtlsd fetch`. Flags have the names and the meaning that curl gives them.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::source::SourceFlags;

/// Makes one request through a binding, as a client of a running mtlsd would, and prints the answer.
#[derive(Args, Debug)]
#[command(override_usage = "mtlsd fetch [OPTIONS] [BINDING] <URL>")]
#[command(after_help = "\
Examples:
  mtlsd fetch payments /v1/me                a path, where the binding has an `origin`
  mtlsd fetch MY_CERT https://a.example/     a whole URL, which the binding must be allowed to reach
  mtlsd fetch /v1/me --to https://a.example --cert client.pem
                                             no file; the binding is called `default`
  mtlsd fetch payments /v1/pay -d @order.json -H 'Content-Type: application/json' --fail

Exit codes: 0 an answer came; 2 usage; 78 the configuration is wrong, or does not let the binding
reach that origin; and as curl's: 6 no address; 7 no connection; 18 the answer broke off; 22 --fail,
and 400 or above; 23 cannot write; 26 cannot read; 28 too slow; 35 the TLS handshake failed; 52 no
answer came; 56 what came is no answer; 58 the origin rejects the client
certificate, or says in its response that it lacks one (--fail); 60 the
origin's certificate is not to be believed.")]
pub struct Fetch {
    /// Binding whose certificate to present [default: the only one]
    #[arg(value_name = "BINDING")]
    pub binding: Option<String>,
    /// URL, or a path at the origin of the binding
    #[arg(value_name = "URL")]
    pub url: Option<String>,
    /// The method [default: GET, or POST with --data]
    #[arg(short = 'X', long, value_name = "METHOD")]
    pub request: Option<String>,
    /// A header field, "Name: value"; may be repeated
    #[arg(short = 'H', long, value_name = "FIELD")]
    pub header: Vec<String>,
    /// Send this; or the content of a file, @FILE, or of stdin, @-, as it is
    #[arg(short, long, value_name = "DATA", allow_hyphen_values = true)]
    pub data: Option<String>,
    /// Write the answer into this file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write the answer's head too
    #[arg(short, long)]
    pub include: bool,
    /// Ask for the head only, and write it
    #[arg(short = 'I', long, conflicts_with = "data")]
    pub head: bool,
    /// Say nothing when something goes wrong
    #[arg(short, long)]
    pub silent: bool,
    /// With --silent: say it all the same
    #[arg(short = 'S', long)]
    pub show_error: bool,
    /// Write nothing of an answer with a status of 400 or above, and end with 22
    #[arg(short, long)]
    pub fail: bool,
    /// The longest that all of it may take
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    pub max_time: Option<Duration>,
    /// Where the configuration comes from
    #[command(flatten)]
    pub source: SourceFlags,
    /// Write TLS session keys to this file, for debugging: whoever reads it can decrypt the traffic
    #[arg(long, value_name = "FILE")]
    pub keylog: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "not a number of seconds")?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(Duration::ZERO) => Err("no request takes no time".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}
