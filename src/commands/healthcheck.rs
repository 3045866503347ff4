//! `mtlsd healthcheck`.

use std::thread::sleep;
use std::time::{Duration, Instant};

use http::Method;

use crate::cli::admin::Healthcheck;

use super::Exit;
use super::running::{ask, endpoint};

/// Asks whether a running mtlsd is healthy.
pub fn healthcheck(arguments: &Healthcheck) -> Exit {
    let endpoint = match endpoint(&arguments.admin) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            eprintln!("mtlsd: {error}");
            return Exit::Usage;
        }
    };
    let path = match (&arguments.binding, arguments.live) {
        (Some(binding), _) => format!("/readyz/{binding}"),
        (None, true) => "/livez".to_owned(),
        (None, false) => "/readyz".to_owned(),
    };
    let until = Instant::now() + arguments.wait.unwrap_or_default();
    loop {
        let problem = match ask(&endpoint, Method::GET, &path, PATIENCE) {
            Ok(response) if response.status == 200 => return Exit::Success,
            Ok(response) => response.body.trim_end().to_owned(),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= until {
            eprintln!("mtlsd: not healthy: {problem}");
            return Exit::Failure;
        }
        sleep(PAUSE);
    }
}

/// A response takes no longer; a stuck worker is noticed after one second.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);
