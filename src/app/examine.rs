//! Looks at everything that a daemon would be started with, without starting it.

use std::time::SystemTime;

use crate::config::{Binding, ConfigError, Draft, Finding, Listen, Mistake, Place, Severity};
use crate::reload::Reloader;
use crate::server::{self, BindError};

use super::mistake;

/// What was found.
pub struct Examined {
    /// The bindings that are in order, in the order of the configuration.
    pub bindings: Vec<(Binding, Reloader)>,
    /// What `mtlsd run` would fail on.
    pub error: Option<ConfigError>,
    /// What would work, but not as it should.
    pub warnings: Vec<Finding>,
}

/// Opens every file that `draft` names, and tries every address it listens on.
pub fn examine(mut draft: Draft) -> Examined {
    let now = SystemTime::now();
    let source = draft.source();
    let mut bindings = Vec::new();
    let mut mistakes = Vec::new();
    let mut warnings = Vec::new();
    for binding in draft.bindings() {
        let errors = match Reloader::load(binding) {
            Ok(reloader) => match reloader.check_validity(now) {
                Ok(()) => {
                    bindings.push((binding.clone(), reloader));
                    continue;
                }
                Err(error) => vec![error],
            },
            Err(errors) => errors,
        };
        let path = draft.path();
        mistakes.extend(errors.iter().map(|error| mistake(binding, error, path)));
    }
    for (binding, reloader) in &bindings {
        for remark in reloader.current().remarks(now) {
            let place = &binding.places.certificate;
            warnings.push(source.finding(Severity::Warning, place, remark.to_string(), None));
        }
    }
    for (listen, place) in listeners(&draft) {
        let Err(error) = server::try_bind(listen) else {
            continue;
        };
        let help = error.help();
        // A running daemon is no mistake, and who else it may be is not always known.
        let is_daemon = error.holder().is_none_or(|holder| holder.name == "mtlsd");
        match matches!(error, BindError::Taken(_)) && is_daemon {
            true => {
                let message = format!(
                    "{listen} is in use; unless that is the running mtlsd, `mtlsd run` fails"
                );
                warnings.push(source.finding(Severity::Warning, &place, message, help));
            }
            false => mistakes.push(unbindable(place, &error, help)),
        }
    }
    for mistake in mistakes {
        draft.blame(mistake);
    }
    Examined {
        bindings,
        error: draft.finish().err(),
        warnings,
    }
}

fn unbindable(place: Place, error: &BindError, help: Option<String>) -> Mistake {
    let cause = std::error::Error::source(error);
    let cause = cause.map_or(String::new(), |cause| format!(": {cause}"));
    let mistake = Mistake::new(place, format!("{error}{cause}")).may_pass();
    match help {
        Some(help) => mistake.help(help),
        None => mistake,
    }
}

/// Every address, and where it is written.
fn listeners(draft: &Draft) -> Vec<(&Listen, Place)> {
    let config = draft.config();
    let own = config
        .bindings
        .iter()
        .map(|binding| (&binding.listen, &binding.places.listen));
    let shared = config
        .shared
        .iter()
        .map(|shared| (&shared.listen, &shared.places));
    let all = shared.chain(own).flat_map(|(listen, places)| {
        let place = |at: usize| places.get(at).cloned().unwrap_or_default();
        listen
            .iter()
            .enumerate()
            .map(move |(at, listen)| (listen, place(at)))
    });
    all.collect()
}
