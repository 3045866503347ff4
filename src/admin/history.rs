//! The last minutes of each binding: requests, failures and durations at fixed intervals, for rates
//! and the charts of the page.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::metrics::Histogram;

use super::report::Report;

/// How often a point is taken.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// How many intervals a chart shows.
pub const POINTS: usize = 60;
/// How many intervals a rate is taken over.
const RATE_POINTS: usize = 12;

/// What was counted up to each of the last moments.
#[derive(Default, Debug)]
pub struct History {
    bindings: BTreeMap<Box<str>, Points>,
}

#[derive(Default, Debug)]
struct Points {
    totals: VecDeque<Totals>,
    durations: VecDeque<Histogram>,
}

#[derive(Clone, Copy, Default, Debug)]
struct Totals {
    requests: u64,
    failed: u64,
}

/// What happened lately.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Lately {
    /// Requests a second, over the last minute.
    pub requests_per_second: f64,
    /// The median duration in seconds, over the last minute; `None` without requests.
    pub p50: Option<f64>,
    /// The duration in seconds that 99 of 100 requests do not exceed; `None` without requests.
    pub p99: Option<f64>,
    /// Requests in each interval, oldest first, and those of them with a status of 500 or above.
    pub chart: Vec<(u64, u64)>,
}

impl History {
    /// Takes a point. What is no longer configured is forgotten.
    pub fn record(&mut self, report: &Report) {
        self.bindings
            .retain(|name, _| report.bindings.contains_key(name));
        for (name, (sample, _)) in &report.bindings {
            let Some(sample) = sample else { continue };
            let failed = sample.codes.range(500..).map(|(_, count)| count).sum();
            let points = self.bindings.entry(name.clone()).or_default();
            if points.totals.is_empty() {
                // It counted from nothing.
                points.totals.push_back(Totals::default());
                points.durations.push_back(Histogram::default());
            }
            points.totals.push_back(Totals {
                requests: sample.requests(),
                failed,
            });
            points.durations.push_back(sample.durations.clone());
            while points.totals.len() > POINTS + 1 {
                points.totals.pop_front();
            }
            while points.durations.len() > RATE_POINTS + 1 {
                points.durations.pop_front();
            }
        }
    }

    /// What happened lately at a binding.
    pub fn lately(&self, binding: &str) -> Lately {
        let Some(points) = self.bindings.get(binding) else {
            return Lately::default();
        };
        let chart: Vec<(u64, u64)> = points
            .totals
            .iter()
            .zip(points.totals.iter().skip(1))
            .map(|(before, after)| {
                (
                    after.requests.saturating_sub(before.requests),
                    after.failed.saturating_sub(before.failed),
                )
            })
            .collect();
        let recent = &chart[chart.len().saturating_sub(RATE_POINTS)..];
        let requests: u64 = recent.iter().map(|(requests, _)| requests).sum();
        let seconds = INTERVAL.as_secs_f64() * recent.len().max(1) as f64;
        let durations = match (points.durations.front(), points.durations.back()) {
            (Some(first), Some(last)) => difference(last, first),
            _ => Histogram::default(),
        };
        Lately {
            requests_per_second: requests as f64 / seconds,
            p50: durations.quantile(0.5),
            p99: durations.quantile(0.99),
            chart,
        }
    }
}

fn difference(later: &Histogram, earlier: &Histogram) -> Histogram {
    let mut difference = later.clone();
    for (count, before) in difference.buckets.iter_mut().zip(earlier.buckets) {
        *count = count.saturating_sub(before);
    }
    difference.seconds -= earlier.seconds;
    difference
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{BindingSample, Load};

    fn report(requests: u64, failed: u64) -> Report {
        let mut sample = BindingSample::default();
        sample.codes.insert(200, requests - failed);
        sample.codes.insert(502, failed);
        sample.durations.buckets[0] = requests;
        let mut report = Report::new(
            std::sync::Arc::default(),
            Vec::new(),
            std::time::SystemTime::now(),
            false,
        );
        report
            .bindings
            .insert("a".into(), (Some(sample), Load::default()));
        report
    }

    #[test]
    fn rates_are_those_of_the_last_minute() {
        let mut history = History::default();
        assert_eq!(history.lately("a"), Lately::default());
        for step in 1..=20 {
            history.record(&report(step * 10, step));
        }
        let lately = history.lately("a");
        assert!((lately.requests_per_second - 2.0).abs() < 1e-9);
        assert_eq!(lately.chart.len(), 20);
        assert!(lately.chart.iter().all(|point| *point == (10, 1)));
        assert!(lately.p99.is_some_and(|p99| p99 <= 0.005));
    }

    #[test]
    fn no_more_points_are_kept_than_are_shown() {
        let mut history = History::default();
        for step in 1..=200 {
            history.record(&report(step, 0));
        }
        assert_eq!(history.lately("a").chart.len(), POINTS);
    }

    #[test]
    fn a_binding_that_is_gone_is_forgotten() {
        let mut history = History::default();
        history.record(&report(1, 0));
        let mut empty = report(1, 0);
        empty.bindings.clear();
        history.record(&empty);
        assert!(history.bindings.is_empty());
    }
}
