//! The systemd journal, when it is behind stderr (systemd.exec(5), `$JOURNAL_STREAM`).

use std::os::fd::AsFd;

use rustix::fs::fstat;
use tracing::Level;

/// Returns `true` if `stream` is connected to the journal.
pub fn is_journal(stream: &impl AsFd) -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    fstat(stream).is_ok_and(|stat| is_named(&named, stat.st_dev, stat.st_ino))
}

fn is_named(named: &str, device: u64, inode: u64) -> bool {
    named == format!("{device}:{inode}")
}

/// Returns what a line begins with that the journal keeps with this level (sd-daemon(3)).
pub fn prefix(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stream_that_is_named_is_the_journal() {
        assert!(is_named("9:40123", 9, 40123));
        for named in ["", "9:4012", "9:401234", "8:40123", "9"] {
            assert!(!is_named(named, 9, 40123), "{named}");
        }
    }
}
