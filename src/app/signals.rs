//! The signals of an operator, a service manager, a shell or a terminal.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// The signals that the process reacts to.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Whether the end of the terminal it was started from is the end of the process.
    follows_terminal: bool,
    /// When the signal came that the process ends because of.
    first: Option<Instant>,
}

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// To read everything again.
    Reload,
    /// To end.
    End,
}

impl Signals {
    /// Takes over from the default handlers.
    pub fn listen() -> io::Result<Self> {
        // What nohup has started outlives its terminal.
        let follows_terminal = has_terminal() && !is_hangup_ignored();
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            follows_terminal,
            first: None,
        })
    }

    /// Waits for SIGTERM or SIGINT.
    pub async fn ending(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        self.first.get_or_insert_with(Instant::now);
    }

    /// Waits for the next signal. SIGHUP reloads, unless the terminal is closed that the process was
    /// started from: then it ends the process.
    pub async fn next(&mut self) -> Wanted {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hangup.recv() => {
                if !self.follows_terminal || has_terminal() {
                    return Wanted::Reload;
                }
                tracing::info!("the terminal is closed");
            }
        }
        self.first.get_or_insert_with(Instant::now);
        Wanted::End
    }

    /// Waits for a further signal to end. One that comes within a second of the first is the same
    /// one: timeout(1), npm, docker compose and shells signal both a process and its group.
    pub async fn ending_again(&mut self) {
        let first = *self.first.get_or_insert_with(Instant::now);
        loop {
            self.ending().await;
            if first.elapsed() >= SAME {
                return;
            }
        }
    }
}

/// Returns `true` if the process has a controlling terminal.
fn has_terminal() -> bool {
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open("/dev/tty", flags, Mode::empty()).is_ok()
}

fn is_hangup_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores_hangup(&status)
}

/// Reads that from the mask of ignored signals, whose first bit is SIGHUP's (proc_pid_status(5)).
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

const SAME: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_hangup_is_recognized() {
        let status =
            |mask: &str| format!("Name:\tmtlsd\nSigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        assert!(ignores_hangup(&status("0000000000001001")));
        assert!(!ignores_hangup(&status("0000000000001000")));
        assert!(!ignores_hangup(""));
    }
}
