//! What happens over and over is said now and then.

use std::time::{Duration, Instant};

use super::sparing::Sparing;

/// Whether `what` is to be logged now `about` somebody whom the configuration names: not if it was
/// in the last minute, by any thread. Says how many times it was kept quiet since.
pub fn once_a_minute(about: &str, what: &'static str) -> Option<u64> {
    static SAID: Sparing<(String, &'static str)> = Sparing::new(Duration::from_secs(60));
    SAID.admit((about.to_owned(), what), Instant::now())
}
