//! When to read files again.
//!
//! Everything that was rejected is tried again, whatever the reason was, because hardly any reason
//! lies in the files alone: a clock, a permission, a port or a store can change too. That is
//!
//! - when the system reports a change of one of its files, as soon as it has been quiet;
//! - at the time from which a certificate is valid, if it was rejected because of that;
//! - on every poll;
//! - at once on SIGHUP, and when an origin refuses the certificate in use.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant, SystemTime};

use crate::watch::Concerned;

use super::Subject;

/// When to read, and what.
pub struct Due {
    poll: Instant,
    // When it has been quiet for long enough, when to stop waiting for quiet, and what changed.
    changed: Option<(Instant, Instant, Concerned)>,
    // By the wall clock, which may be set.
    appointments: HashMap<Subject, SystemTime>,
}

impl Due {
    /// Nothing but the first poll.
    pub fn new(now: Instant) -> Self {
        Self {
            poll: now + POLL,
            changed: None,
            appointments: HashMap::new(),
        }
    }

    /// How long there is nothing to do, from `now`, which is `wall` by the wall clock.
    pub fn wait(&self, now: Instant, wall: SystemTime) -> Duration {
        let until = match &self.changed {
            Some((quiet, ..)) => self.poll.min(*quiet),
            None => self.poll,
        };
        let wait = until.saturating_duration_since(now);
        match self.appointments.values().min() {
            None => wait,
            // Nobody tells when the wall clock is set, so look at it every second.
            Some(at) => wait.min(at.duration_since(wall).unwrap_or_default().min(GLANCE)),
        }
    }

    /// Something changed at `now`.
    pub fn changed(&mut self, which: Concerned, now: Instant) {
        if which == Concerned::Some(BTreeSet::new()) {
            return;
        }
        self.changed = Some(match self.changed.take() {
            None => (now + QUIET, now + LATEST, which),
            Some((_, latest, earlier)) => (latest.min(now + QUIET), latest, union(earlier, which)),
        });
    }

    /// Everything is being read at `now`.
    pub fn everything(&mut self, now: Instant) {
        self.poll = now + POLL;
        self.changed = None;
    }

    /// `subject` is to be read when the wall clock shows `at`, or at no particular time.
    pub fn appoint(&mut self, subject: Subject, at: Option<SystemTime>) {
        match at {
            Some(at) => self.appointments.insert(subject, at),
            None => self.appointments.remove(&subject),
        };
    }

    /// What is to be read at `now`, which is `wall` by the wall clock.
    pub fn take(&mut self, now: Instant, wall: SystemTime) -> Option<Concerned> {
        if self.poll <= now {
            self.everything(now);
            return Some(Concerned::All);
        }
        let arrived = self.appointments.extract_if(|_, at| *at <= wall);
        let arrived: BTreeSet<_> = arrived.map(|(subject, _)| subject).collect();
        let arrived = (!arrived.is_empty()).then_some(Concerned::Some(arrived));
        let changed = match &self.changed {
            Some((quiet, ..)) if *quiet <= now => self.changed.take().map(|(.., which)| which),
            _ => None,
        };
        match (arrived, changed) {
            (Some(one), Some(other)) => Some(union(one, other)),
            (one, other) => one.or(other),
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
/// The longest that a change of the wall clock goes unnoticed.
const GLANCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: SystemTime = SystemTime::UNIX_EPOCH;

    fn some(subjects: &[Subject]) -> Concerned {
        Concerned::Some(subjects.iter().copied().collect())
    }

    #[test]
    fn changes_are_collected_until_it_is_quiet() {
        let start = Instant::now();
        let mut due = Due::new(start);
        due.changed(some(&[]), start);
        assert_eq!(due.wait(start, WALL), POLL);
        due.changed(some(&[1]), start);
        due.changed(some(&[2]), start + QUIET / 2);
        assert_eq!(due.take(start + QUIET, WALL), None);
        assert_eq!(due.take(start + QUIET * 2, WALL), Some(some(&[1, 2])));
        assert_eq!(due.take(start + QUIET * 3, WALL), None);
    }

    #[test]
    fn a_tool_that_never_stops_writing_is_looked_at_all_the_same() {
        let start = Instant::now();
        let mut due = Due::new(start);
        let mut now = start;
        while now < start + LATEST {
            due.changed(some(&[1]), now);
            assert_eq!(due.take(now, WALL), None);
            now += QUIET / 2;
        }
        assert_eq!(due.take(start + LATEST, WALL), Some(some(&[1])));
    }

    #[test]
    fn everything_is_looked_at_now_and_then() {
        let start = Instant::now();
        let mut due = Due::new(start);
        assert_eq!(due.take(start + POLL, WALL), Some(Concerned::All));
        assert_eq!(due.wait(start + POLL, WALL), POLL);
    }

    #[test]
    fn appointments_are_kept_by_a_wall_clock_that_jumps() {
        let start = Instant::now();
        let seconds = Duration::from_secs;
        let mut due = Due::new(start);
        due.appoint(1, Some(WALL + seconds(20)));
        due.appoint(2, Some(WALL + seconds(3600)));
        // It never sleeps so long that it could miss a jump, nor past the appointment.
        assert_eq!(due.wait(start, WALL), GLANCE);
        let just_before = WALL + seconds(20) - GLANCE / 4;
        assert_eq!(due.wait(start, just_before), GLANCE / 4);
        // Back: it is later; forward: it is now.
        assert_eq!(due.take(start, WALL - seconds(3600)), None);
        assert_eq!(due.take(start, WALL + seconds(20)), Some(some(&[1])));
        assert_eq!(due.take(start, WALL + seconds(20)), None);
        due.changed(some(&[3]), start);
        let both = due.take(start + QUIET, WALL + seconds(86400 * 365));
        assert_eq!(both, Some(some(&[2, 3])));
        // What is accepted, or rejected for another reason, has none.
        due.appoint(1, Some(WALL + seconds(20)));
        due.appoint(1, None);
        assert_eq!(due.wait(start, WALL), POLL);
        assert_eq!(due.take(start, WALL + seconds(20)), None);
    }
}
