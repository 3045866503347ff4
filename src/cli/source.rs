//! The flags and variables that say what the configuration is. Every command that uses one takes
//! all of them, so that each command works on what `mtlsd run` would run.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args};

use super::store::StoreFlag;

/// Where the configuration comes from.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Configuration")]
pub struct SourceFlags {
    /// Configuration file [default: ./mtlsd.toml, else /etc/mtlsd/mtlsd.toml]
    #[arg(short, long, env = "MTLSD_CONFIG", value_name = "FILE", value_parser = path())]
    pub config: Option<PathBuf>,
    /// Origin URL, as in `https://api.example/v1`; replaces the file (requires --cert)
    #[arg(long, env = "MTLSD_TO", value_name = "URL")]
    pub to: Option<String>,
    /// Client certificate chain in PEM, leaf first (requires --to)
    #[arg(long, env = "MTLSD_CERT", value_name = "FILE", value_parser = path())]
    pub cert: Option<PathBuf>,
    /// Private key file [default: the --cert file] (requires --to)
    #[arg(long, env = "MTLSD_KEY", value_name = "FILE", value_parser = path())]
    pub key: Option<PathBuf>,
    /// Trust anchors: "system", "mozilla", "store:ID" or a PEM file [default: system] (requires
    /// --to)
    #[arg(long, env = "MTLSD_CA", value_name = "CA")]
    pub ca: Option<String>,
    /// Listen address [default: localhost:8080]; without --to, NAME=ADDRESS replaces the `listen`
    /// of a binding (repeatable)
    #[arg(
        long,
        env = "MTLSD_LISTEN",
        value_name = "[NAME=]ADDRESS",
        value_delimiter = ','
    )]
    pub listen: Vec<String>,
    /// Allow listeners that other machines can reach
    #[arg(
        long,
        env = "MTLSD_EXPOSE",
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub expose: Option<String>,
    /// Log level: error, warn, info, debug or trace; overrides the file
    #[arg(long, env = "MTLSD_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Log format: auto, text or json; overrides the file
    #[arg(long, env = "MTLSD_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Admin listener: `unix:PATH` or a loopback address; replaces `admin.listen`
    #[arg(long, env = "MTLSD_ADMIN", value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// Add the bindings of a Workers project: its wrangler.toml, wrangler.json or wrangler.jsonc
    #[arg(long, value_name = "FILE")]
    pub wrangler: Option<PathBuf>,
    /// Environment of the Workers project (requires --wrangler)
    #[arg(short, long, value_name = "NAME", requires = "wrangler")]
    pub env: Option<String>,
    /// Where the store is
    #[command(flatten)]
    pub store: StoreFlag,
    /// Names of the values above that come from the environment.
    #[arg(skip)]
    from_environment: Vec<&'static str>,
}

/// A path that may be empty: an empty variable counts as unset.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// The flags that have a variable: the name in clap, the flag, the variable.
const NAMES: [(&str, &str, &str); 10] = [
    ("config", "--config", "MTLSD_CONFIG"),
    ("to", "--to", "MTLSD_TO"),
    ("cert", "--cert", "MTLSD_CERT"),
    ("key", "--key", "MTLSD_KEY"),
    ("ca", "--ca", "MTLSD_CA"),
    ("listen", "--listen", "MTLSD_LISTEN"),
    ("expose", "--expose", "MTLSD_EXPOSE"),
    ("log_level", "--log-level", "MTLSD_LOG_LEVEL"),
    ("log_format", "--log-format", "MTLSD_LOG_FORMAT"),
    ("admin", "--admin", "MTLSD_ADMIN"),
];

impl SourceFlags {
    /// Notes which values come from the environment, and drops those that are empty there: a
    /// variable that is set to nothing counts as unset.
    pub fn note_origins(&mut self, matches: &ArgMatches) {
        self.from_environment = NAMES
            .iter()
            .map(|(id, ..)| *id)
            .filter(|id| matches.value_source(id) == Some(ValueSource::EnvVariable))
            .collect();
        let from_environment = self.from_environment.clone();
        let is_unset = |id| from_environment.contains(&id);
        let path = |id, value: &mut Option<PathBuf>| {
            value.take_if(|path| is_unset(id) && path.as_os_str().is_empty());
        };
        path("config", &mut self.config);
        path("cert", &mut self.cert);
        path("key", &mut self.key);
        let text = |id, value: &mut Option<String>| {
            value.take_if(|text| is_unset(id) && text.trim().is_empty());
        };
        text("to", &mut self.to);
        text("ca", &mut self.ca);
        text("expose", &mut self.expose);
        text("log_level", &mut self.log_level);
        text("log_format", &mut self.log_format);
        text("admin", &mut self.admin);
        if is_unset("listen") {
            self.listen.retain(|text| !text.trim().is_empty());
        }
    }

    /// What the user set to give the value `id` has in clap: the flag or the variable.
    pub fn name(&self, id: &str) -> &'static str {
        let from_environment = self.from_environment.contains(&id);
        let found = NAMES.iter().find(|(known, ..)| *known == id);
        match found {
            Some((_, _, variable)) if from_environment => variable,
            Some((_, flag, _)) => flag,
            None => "--wrangler",
        }
    }

    /// The same with where it was set: `--to (command line)`, `MTLSD_TO (environment)`.
    pub fn origin(&self, id: &str) -> String {
        let place = match self.from_environment.contains(&id) {
            true => "environment",
            false => "command line",
        };
        format!("{} ({place})", self.name(id))
    }
}
