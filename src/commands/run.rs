//! `mtlsd run`.

use std::future::pending;

use crate::app::{self, App, StartError, Validity};
use crate::cli::Run;
use crate::cli::source::SourceFlags;
use crate::config::Draft;
use crate::log;

use super::given::given;
use super::{Exit, keylog, refuse, report, report_config, workerd};

/// Serves until a signal ends it.
pub fn run(arguments: Run) -> Exit {
    log::startup::is_daemon();
    let draft = match draft(&arguments.source) {
        Ok(draft) => draft,
        Err(exit) => return exit,
    };
    if let Some(Err(error)) = arguments.keylog.as_deref().map(keylog::open) {
        eprintln!("mtlsd: {error}");
        return Exit::Usage;
    }
    let (access, flusher) = log::start(draft.log());
    for warning in keylog::warnings(arguments.keylog.as_deref()) {
        tracing::warn!("{warning}");
    }
    let ended = serve(draft, access);
    // What was logged comes before what is printed.
    flusher.flush();
    match ended {
        Ok(()) => Exit::Success,
        Err(error) => report(&error),
    }
}

/// What the command line, and the files it names, say; or how the process ends because of them.
fn draft(source: &SourceFlags) -> Result<Draft, Exit> {
    let given = given(source).map_err(|error| refuse(&error))?;
    given.read().map_err(|error| report_config(&error))
}

fn serve(draft: Draft, access: Option<log::Sink>) -> Result<(), StartError> {
    if let Some(path) = draft.path() {
        tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %path.display(), "starting");
    } else {
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            "starting from the command line"
        );
    }
    let loaded = app::load(draft, Validity::Wished)?;
    let app = App::bind(loaded)?;
    workerd::print(&app);
    app.run(access, pending())
}
