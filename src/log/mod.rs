//! What the process says: diagnostics on stderr, a line per request on stdout, and never a stall
//! because nobody reads them.

mod access;
mod format;
mod journal;
mod level;
mod output;
pub mod panics;
mod plain;
mod quiet;
mod sink;
mod sparing;
pub mod startup;

use std::io::IsTerminal;

use tracing::Level;

use tokio::signal::unix::SignalKind;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry, reload};

use crate::config::{LogFormat, LogSettings};
use crate::terminal;

use output::Output;

pub use access::{Access, Entry};
pub use level::set as set_level;
pub use quiet::once_a_minute;
pub use sink::{Flusher, Sink};
pub use sparing::Sparing;

/// Starts logging as `settings` say. The [`Sink`] is for access lines, where they are wanted; the
/// [`Flusher`] writes out what is left when the process ends.
pub fn start(settings: &LogSettings) -> (Option<Sink>, Flusher) {
    let mut flusher = Flusher::default();
    survive_file_size_limit();
    let (stdout, stderr) = (rustix::stdio::stdout(), rustix::stdio::stderr());
    let turn = output::turn_of(&stdout, &stderr);
    let look = Look::of_diagnostics(settings);
    startup::looks(look);
    let output = Output::new(stderr, turn);
    let diagnostics = Sink::start(sink::DIAGNOSTICS, output, look, &mut flusher);
    let (filter, handle) = reload::Layer::new(level::filter(settings.level));
    let lines = fmt::layer()
        .event_format(format::Lines::new(look))
        .with_writer(diagnostics);
    match registry().with(filter).with(lines).try_init() {
        Ok(()) => level::install(Box::new(move |level| {
            // The subscriber stays for as long as the process.
            let _ = handle.reload(level);
        })),
        Err(error) => eprintln!("mtlsd: logging is set up already: {error}"),
    }
    panics::install_hook();
    let access = settings.access.then(|| {
        let look = Look {
            is_json: access_is_json(settings),
            has_color: false,
            // Its lines are of the level that the journal gives to a line without one.
            is_journal: false,
        };
        Sink::start("access-log", Output::new(stdout, turn), look, &mut flusher)
    });
    (access, flusher)
}

/// How the lines of a stream look.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// JSON, or text.
    pub is_json: bool,
    /// Whether text is in color.
    pub has_color: bool,
    /// Whether each line begins with its level for the journal.
    pub is_journal: bool,
}

impl Look {
    /// The look of diagnostics under `settings`.
    pub fn of_diagnostics(settings: &LogSettings) -> Self {
        Self {
            is_json: diagnostics_are_json(settings),
            has_color: terminal::is_colored(&std::io::stderr()),
            is_journal: journal::is_journal(&std::io::stderr()),
        }
    }

    /// What a line of this level begins with.
    pub fn prefix(self, level: Level) -> &'static str {
        match self.is_journal {
            true => journal::prefix(level),
            false => "",
        }
    }
}

/// Has a write beyond the limit of file sizes (`ulimit -f`) fail instead of ending the process.
fn survive_file_size_limit() {
    const SIGXFSZ: i32 = 25;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build();
    // A handler stays when the runtime is gone. Where there is none, a full log ends the process.
    if let Ok(runtime) = runtime {
        let _entered = runtime.enter();
        let _ = tokio::signal::unix::signal(SignalKind::from_raw(SIGXFSZ));
    }
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
