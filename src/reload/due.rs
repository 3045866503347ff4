//! When to look at files again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::watch::Concerned;

/// When to look, and at what.
pub struct Due {
    poll: Instant,
    // When it has been quiet for long enough, when to stop waiting for quiet, and what changed.
    changed: Option<(Instant, Instant, Concerned)>,
}

impl Due {
    pub fn new(now: Instant) -> Self {
        Self {
            poll: now + POLL,
            changed: None,
        }
    }

    pub fn next(&self) -> Instant {
        match &self.changed {
            Some((quiet, ..)) => self.poll.min(*quiet),
            None => self.poll,
        }
    }

    pub fn changed(&mut self, which: Concerned, now: Instant) {
        if which == Concerned::Some(BTreeSet::new()) {
            return;
        }
        self.changed = Some(match self.changed.take() {
            None => (now + QUIET, now + LATEST, which),
            Some((_, latest, earlier)) => (latest.min(now + QUIET), latest, union(earlier, which)),
        });
    }

    pub fn everything(&mut self, now: Instant) {
        self.poll = now + POLL;
        self.changed = None;
    }

    pub fn take(&mut self, now: Instant) -> Option<Concerned> {
        if self.poll <= now {
            self.everything(now);
            return Some(Concerned::All);
        }
        match &self.changed {
            Some((quiet, ..)) if *quiet <= now => self.changed.take().map(|(.., which)| which),
            _ => None,
        }
    }
}

fn union(one: Concerned, two: Concerned) -> Concerned {
    match (one, two) {
        (Concerned::Some(one), Concerned::Some(two)) => Concerned::Some(&one | &two),
        _ => Concerned::All,
    }
}

/// Not every file system tells what happens to it, and no watch is perfect.
const POLL: Duration = Duration::from_secs(30);
/// A tool that writes two files does so within this.
const QUIET: Duration = Duration::from_millis(100);
/// A tool that never stops writing is looked at all the same.
const LATEST: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn some(indices: &[usize]) -> Concerned {
        Concerned::Some(indices.iter().copied().collect())
    }

    #[test]
    fn changes_are_collected_until_it_is_quiet() {
        let start = Instant::now();
        let mut due = Due::new(start);
        due.changed(some(&[]), start);
        assert_eq!(due.next(), start + POLL);
        due.changed(some(&[1]), start);
        due.changed(some(&[2]), start + QUIET / 2);
        assert_eq!(due.take(start + QUIET), None);
        assert_eq!(due.take(start + QUIET * 2), Some(some(&[1, 2])));
        assert_eq!(due.take(start + QUIET * 3), None);
    }

    #[test]
    fn a_tool_that_never_stops_writing_is_looked_at_all_the_same() {
        let start = Instant::now();
        let mut due = Due::new(start);
        let mut now = start;
        while now < start + LATEST {
            due.changed(some(&[1]), now);
            assert_eq!(due.take(now), None);
            now += QUIET / 2;
        }
        assert_eq!(due.take(start + LATEST), Some(some(&[1])));
    }

    #[test]
    fn everything_is_looked_at_now_and_then() {
        let start = Instant::now();
        let mut due = Due::new(start);
        assert_eq!(due.take(start + POLL), Some(Concerned::All));
        assert_eq!(due.next(), start + POLL * 2);
    }
}
