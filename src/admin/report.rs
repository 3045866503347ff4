//! What is known at one moment: the board, what every worker counted, and the process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::metrics::{BindingSample, Board, Load, ProcessSample, Sample, process};

/// Everything that metrics, `/status` and the page show.
#[derive(Clone, Debug)]
pub struct Report {
    /// When it was made.
    pub at: SystemTime,
    /// The configuration and the certificates.
    pub board: Arc<Board>,
    /// What each binding counted, by its name.
    pub bindings: BTreeMap<Box<str>, (Option<BindingSample>, Load)>,
    /// The workers, by number.
    pub workers: Vec<Worker>,
    /// What was counted for the whole process.
    pub process: ProcessSample,
    /// What the system says about the process.
    pub system: System,
    /// Whether the process is about to end.
    pub draining: bool,
}

/// One worker.
#[derive(Clone, Default, Debug)]
pub struct Worker {
    /// Whether it answered in time.
    pub up: bool,
    /// What it last reported.
    pub sample: Sample,
}

/// What the system says about a process.
#[derive(Clone, Copy, Default, Debug)]
pub struct System {
    /// User and system time.
    pub cpu: Duration,
    /// Bytes of resident memory.
    pub resident_bytes: u64,
    /// Open descriptors.
    pub open_fds: u64,
    /// Limit of open descriptors.
    pub max_fds: u64,
    /// Start of the process.
    pub started: Option<SystemTime>,
}

impl Report {
    /// Adds up what the workers reported.
    pub fn new(
        board: Arc<Board>,
        workers: Vec<Worker>,
        started: SystemTime,
        draining: bool,
    ) -> Self {
        let mut bindings: BTreeMap<Box<str>, (Option<BindingSample>, Load)> = board
            .bindings
            .iter()
            .map(|binding| (binding.name.clone(), Default::default()))
            .collect();
        for worker in &workers {
            for (name, sample, load) in &worker.sample.bindings {
                // A binding that was removed from the configuration is no longer reported.
                let Some((sum, loads)) = bindings.get_mut(name) else {
                    continue;
                };
                if let Some(sample) = sample {
                    sum.get_or_insert_default().merge(sample);
                }
                loads.connections.merge(load.connections);
                // These two are counted over all workers already.
                loads.in_flight = loads.in_flight.max(load.in_flight);
                loads.waiting = loads.waiting.max(load.waiting);
            }
        }
        Self {
            at: SystemTime::now(),
            board,
            bindings,
            workers,
            process: process().sample(),
            system: System::read(started),
            draining,
        }
    }

    /// Whether every worker answered.
    pub fn is_live(&self) -> bool {
        self.workers.iter().all(|worker| worker.up)
    }
}

impl System {
    /// Reads what the system says about this process; what it does not say is 0.
    fn read(started: SystemTime) -> Self {
        let usage = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let (cpu, pages) = parse_stat(&stat).unwrap_or_default();
        Self {
            cpu: Duration::from_secs_f64(
                cpu as f64 / rustix::param::clock_ticks_per_second() as f64,
            ),
            resident_bytes: pages.saturating_mul(rustix::param::page_size() as u64),
            open_fds: std::fs::read_dir("/proc/self/fd").map_or(0, |list| list.count() as u64),
            max_fds: usage.current.unwrap_or(0),
            started: Some(started),
        }
    }
}

/// CPU time in clock ticks and resident pages, of a line of `/proc/PID/stat` (proc(5)).
fn parse_stat(stat: &str) -> Option<(u64, u64)> {
    // The second field is a file name in parentheses, which may hold anything.
    let rest = stat.rsplit_once(')')?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some((number(11)? + number(12)?, number(21)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_stat_is_read_whatever_the_program_is_called() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 100 0 0 0 30 12 0 0 20 0 5 0 100 1000000 250 18446744073709551615";
        assert_eq!(parse_stat(stat), Some((42, 250)));
        assert_eq!(parse_stat(""), None);
    }
}
