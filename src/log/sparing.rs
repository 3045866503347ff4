//! Warnings that others can cause as often as they like, and that therefore are said sparingly.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Lets one line per reason and interval through, and counts the others. Reasons are words of the
/// program's own, so nobody else decides how many there are.
pub struct Sparing<K> {
    interval: Duration,
    // None until the first: a map cannot be made in a constant.
    said: Mutex<Option<HashMap<K, Said>>>,
}

struct Said {
    at: Instant,
    unsaid: u64,
}

impl<K: Hash + Eq> Sparing<K> {
    /// One line per reason and `interval`.
    pub const fn new(interval: Duration) -> Self {
        Self {
            interval,
            said: Mutex::new(None),
        }
    }

    /// Whether to say this now; then, how many times it was not said since the last time.
    pub fn admit(&self, reason: K, now: Instant) -> Option<u64> {
        // A panic elsewhere cannot leave the map half changed.
        let mut said = self
            .said
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let said = said.get_or_insert_default();
        let Some(last) = said.get_mut(&reason) else {
            said.insert(reason, Said { at: now, unsaid: 0 });
            return Some(0);
        };
        if now.duration_since(last.at) < self.interval {
            last.unsaid += 1;
            return None;
        }
        last.at = now;
        Some(std::mem::take(&mut last.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_reason_and_interval_with_a_count_of_the_others() {
        let sparing = Sparing::new(Duration::from_secs(10));
        let start = Instant::now();
        let rows = [
            (0, "flood", Some(0)),
            (1, "flood", None),
            (1, "slow", Some(0)),
            (9, "flood", None),
            (10, "flood", Some(2)),
            (21, "flood", Some(0)),
        ];
        for (second, reason, expected) in rows {
            let now = start + Duration::from_secs(second);
            assert_eq!(sparing.admit(reason, now), expected, "{reason} at {second}");
        }
    }
}
