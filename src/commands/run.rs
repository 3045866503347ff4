//! `mtlsd run`.

use std::future::pending;

use crate::app::{self, App, StartError, Validity};
use crate::cli::Run;
use crate::config::{Draft, Flags, StorePath};
use crate::log;

use super::given::{given, named_listen};
use super::{Exit, report, report_config, workerd};

/// Serves until a signal ends it.
pub fn run(arguments: Run) -> Exit {
    let draft = match draft(arguments) {
        Ok(draft) => draft,
        Err(exit) => return exit,
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

/// What the command line, and the files it names, say; or how the process ends because of them.
fn draft(arguments: Run) -> Result<Draft, Exit> {
    if arguments.to.is_some() {
        return from_flags(arguments);
    }
    let Run {
        config,
        wrangler,
        env,
        store,
        listen,
        ..
    } = arguments;
    let mut given = given(config.as_deref(), wrangler, env, &store).map_err(|error| {
        eprintln!("mtlsd: {error}");
        Exit::Config
    })?;
    for text in &listen {
        given.listen.push(named_listen(text).map_err(usage)?);
    }
    given.read().map_err(|error| report_config(&error))
}

fn from_flags(arguments: Run) -> Result<Draft, Exit> {
    let listen = match arguments.listen.as_slice() {
        [] => "localhost:8080",
        [one] => one,
        _ => return Err(usage("--to takes one --listen".to_owned())),
    };
    Ok(Draft::from_flags(&Flags {
        listen: listen.to_owned(),
        to: arguments.to.unwrap_or_default(),
        // clap requires it beside --to.
        certificate: arguments.cert.unwrap_or_default(),
        key: arguments.key,
        ca: arguments.ca,
        store: StorePath::find(arguments.store.store.as_deref()),
    }))
}

fn usage(message: String) -> Exit {
    eprintln!("mtlsd: {message}");
    Exit::Usage
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
