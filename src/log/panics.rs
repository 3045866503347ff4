//! Panics: each is counted, and logged once a minute for the place where it happens.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::metrics;

use super::once_a_minute;

static COUNT: AtomicU64 = AtomicU64::new(0);

/// Returns how many panics there have been.
pub fn count() -> u64 {
    COUNT.load(Relaxed)
}

/// Logs panics. Whoever catches one says what it belongs to.
pub fn install_hook() {
    std::panic::set_hook(Box::new(|info| {
        COUNT.fetch_add(1, Relaxed);
        metrics::process().panicked();
        let location = info.location().map(ToString::to_string);
        let location = location.unwrap_or_default();
        // Places in the program, of which there are not many.
        let Some(suppressed) = once_a_minute(&location, "panicked") else {
            return;
        };
        let thread = std::thread::current();
        tracing::error!(
            thread = thread.name(),
            location,
            reason = reason(info),
            panics = count(),
            suppressed,
            "panicked"
        );
    }));
}

fn reason(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}
