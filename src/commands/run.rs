//! `mtlsd run`.

use std::future::pending;

use crate::app::{self, App, StartError, Validity};
use crate::cli::Run;
use crate::config::{self, Draft, Flags};
use crate::log;

use super::{Exit, report, report_config};

/// Serves until a signal ends it.
pub fn run(arguments: Run) -> Exit {
    let draft = match arguments.to {
        Some(to) => Draft::from_flags(&Flags {
            to,
            // clap requires it beside --to.
            certificate: arguments.cert.unwrap_or_default(),
            key: arguments.key,
            ca: arguments.ca,
            listen: arguments
                .listen
                .unwrap_or_else(|| "localhost:8080".to_owned()),
        }),
        None => {
            let path = match config::find(arguments.config.as_deref()) {
                Ok(path) => path,
                Err(error) => {
                    eprintln!("mtlsd: {error}");
                    return Exit::Config;
                }
            };
            match Draft::read(&path) {
                Ok(draft) => draft,
                Err(error) => return report_config(&error),
            }
        }
    };
    let (access, flusher) = log::start(draft.log());
    let ended = serve(draft, access);
    // What was logged comes before what is printed.
    flusher.flush();
    match ended {
        Ok(()) => Exit::Success,
        Err(error) => report(&error),
    }
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
    App::bind(loaded)?.run(access, pending())
}
