//! What happens over and over is said now and then.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Whether `what` is to be logged now `about` somebody: not if it was in the last minute, by any
/// thread. Says how many times it was kept quiet since.
pub fn once_a_minute(about: &str, what: &'static str) -> Option<u64> {
    static SAID: LazyLock<Mutex<Said>> = LazyLock::new(Mutex::default);
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    said.admit(about, what, Instant::now())
}

/// When each thing was last said, and how often it was not said since.
#[derive(Default)]
struct Said(HashMap<(String, &'static str), (Instant, u64)>);

impl Said {
    fn admit(&mut self, about: &str, what: &'static str, now: Instant) -> Option<u64> {
        if self.0.len() >= MOST {
            self.0.retain(|_, (last, _)| now - *last < INTERVAL);
        }
        match self.0.get_mut(&(about.to_owned(), what)) {
            Some((last, quiet)) if now - *last < INTERVAL => {
                *quiet += 1;
                None
            }
            Some((last, quiet)) => {
                *last = now;
                Some(std::mem::take(quiet))
            }
            None => {
                self.0.insert((about.to_owned(), what), (now, 0));
                Some(0)
            }
        }
    }
}

const INTERVAL: Duration = Duration::from_secs(60);
/// What is older than the interval need not be kept.
const MOST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute_and_counted() {
        let mut said = Said::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(said.admit("a", "x", at(0)), Some(0));
        assert_eq!(said.admit("a", "x", at(1)), None);
        assert_eq!(said.admit("a", "x", at(59)), None);
        assert_eq!(said.admit("b", "x", at(1)), Some(0));
        assert_eq!(said.admit("a", "y", at(1)), Some(0));
        assert_eq!(said.admit("a", "x", at(60)), Some(2));
        assert_eq!(said.admit("a", "x", at(61)), None);
    }
}
