//! The log level, which can change while the process runs.

use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;

use crate::config::LogLevel;

/// What changes the level of the subscriber that is installed.
type Change = Box<dyn Fn(LevelFilter) + Send + Sync>;

static CHANGE: OnceLock<Change> = OnceLock::new();

/// Has [`set`] use `change`; the first one stays.
pub(super) fn install(change: Change) {
    // A second subscriber is never installed either.
    let _ = CHANGE.set(change);
}

/// Changes the least severe level that is written. Without a log nothing happens.
pub fn set(level: LogLevel) {
    if let Some(change) = CHANGE.get() {
        change(filter(level));
    }
}

/// The level as tracing names it.
pub(super) fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
