//! `mtlsd demo`.

use crate::cli::Demo;
use crate::demo;

use super::{Exit, report};

/// Runs the demonstration.
pub fn demo(arguments: Demo) -> Exit {
    match demo::run(arguments.once) {
        Ok(()) => Exit::Success,
        Err(demo::DemoError::Start(error)) => report(&error),
        Err(error) => {
            eprintln!("mtlsd: {}", super::chain(&error));
            Exit::Failure
        }
    }
}
