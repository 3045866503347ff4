//! What the process says: diagnostics on stderr, a line per request on stdout, and never a stall
//! because nobody reads them.

mod access;
mod plain;
mod quiet;
mod sink;
mod sparing;

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{LogFormat, LogLevel, LogSettings};
use crate::terminal;

pub use access::{Access, Entry};
pub use quiet::once_a_minute;
pub use sink::{Flusher, Sink};
pub use sparing::Sparing;

/// Starts logging as `settings` say. The [`Sink`] is for access lines, where they are wanted; the
/// [`Flusher`] writes out what is left when the process ends.
pub fn start(settings: &LogSettings) -> (Option<Sink>, Flusher) {
    let mut flusher = Flusher::default();
    let diagnostics = Sink::start("log", std::io::stderr(), &mut flusher);
    let level = match settings.level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(terminal::is_colored(&std::io::stderr()))
        .with_writer(diagnostics);
    let installed = match is_json(settings.format, std::io::stderr().is_terminal()) {
        true => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        // journald and terminals' users know what time it is, but a file's reader does not.
        false => builder.with_target(false).try_init(),
    };
    if let Err(error) = installed {
        eprintln!("mtlsd: logging is set up already: {error}");
    }
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let location = panic.location().map(ToString::to_string);
        let message = panic.payload().downcast_ref::<&str>().copied();
        tracing::error!(thread = thread.name(), location, message, "panicked");
    }));
    let access = settings
        .access
        .then(|| Sink::start("access-log", std::io::stdout(), &mut flusher));
    (access, flusher)
}

/// How access lines look under `settings`.
pub fn access_is_json(settings: &LogSettings) -> bool {
    is_json(settings.format, std::io::stdout().is_terminal())
}

/// How diagnostics look under `settings`.
pub fn diagnostics_are_json(settings: &LogSettings) -> bool {
    is_json(settings.format, std::io::stderr().is_terminal())
}

fn is_json(format: LogFormat, terminal: bool) -> bool {
    match format {
        LogFormat::Auto => !terminal,
        LogFormat::Json => true,
        LogFormat::Text => false,
    }
}
