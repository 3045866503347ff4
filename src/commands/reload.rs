//! `mtlsd reload`.

use std::time::Duration;

use http::Method;

use crate::admin::{ReloadOutcome, Reloaded};
use crate::cli::admin::Reload;
use crate::metrics::Outcome;

use super::Exit;
use super::running::{ask, endpoint};

/// Has a running mtlsd read everything again, and prints what came of it.
pub fn reload(arguments: &Reload) -> Exit {
    let endpoint = match endpoint(&arguments.admin) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            eprintln!("mtlsd: {error}");
            return Exit::Usage;
        }
    };
    let response = match ask(&endpoint, Method::POST, "/reload", PATIENCE) {
        Ok(response) => response,
        Err(error) => {
            eprintln!("mtlsd: {error}");
            return Exit::Failure;
        }
    };
    if arguments.json {
        println!("{}", response.body);
    }
    let Ok(reloaded) = serde_json::from_str::<Reloaded>(&response.body) else {
        eprintln!("mtlsd: {}", response.body.trim_end());
        return Exit::Failure;
    };
    if !arguments.json {
        print_outcome("configuration", &reloaded.config);
        for (binding, outcome) in &reloaded.bindings {
            print_outcome(binding, outcome);
        }
    }
    match reloaded.is_rejected() {
        true => Exit::Config,
        false => Exit::Success,
    }
}

fn print_outcome(what: &str, outcome: &ReloadOutcome) {
    let detail = outcome.detail.as_deref().unwrap_or_default();
    match outcome.outcome {
        Outcome::Published => println!("{what}: in use{}", with(": ", detail)),
        Outcome::Unchanged => println!("{what}: unchanged"),
        // Details of a rejected configuration are a report of several lines.
        Outcome::Rejected => eprintln!("{what}: rejected; the former stays in use\n{detail}"),
    }
}

fn with(separator: &str, detail: &str) -> String {
    match detail {
        "" => String::new(),
        detail => format!("{separator}{detail}"),
    }
}

/// Longer than a reload may take.
const PATIENCE: Duration = Duration::from_secs(35);
