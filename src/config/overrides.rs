//! What flags and variables change of a configuration, whatever it is taken from.

use super::{LogFormat, LogLevel, LogSettings};

/// Values that replace those of the configuration.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Overrides {
    /// Whether every listener may be open to other machines.
    pub expose: bool,
    /// The log level.
    pub level: Option<LogLevel>,
    /// The log format.
    pub format: Option<LogFormat>,
}

impl Overrides {
    pub(super) fn apply(&self, log: &mut LogSettings) {
        log.level = self.level.unwrap_or(log.level);
        log.format = self.format.unwrap_or(log.format);
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
