//! What flags and variables change of a configuration, whatever it is taken from.

use super::{Config, Listen, LogFormat, LogLevel};

/// Values that replace those of the configuration.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Overrides {
    /// Whether every listener may be open to other machines.
    pub expose: bool,
    /// The log level.
    pub level: Option<LogLevel>,
    /// The log format.
    pub format: Option<LogFormat>,
    /// The admin listener.
    pub admin: Option<Listen>,
}

impl Overrides {
    pub(super) fn apply(&self, config: &mut Config) {
        config.log.level = self.level.unwrap_or(config.log.level);
        config.log.format = self.format.unwrap_or(config.log.format);
        if let Some(listen) = &self.admin {
            config.admin.listen = Some(vec![listen.clone()]);
        }
    }
}

/// The words for levels.
pub const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

/// The words for formats.
pub const FORMATS: &[(&str, LogFormat)] = &[
    ("auto", LogFormat::Auto),
    ("json", LogFormat::Json),
    ("text", LogFormat::Text),
];
