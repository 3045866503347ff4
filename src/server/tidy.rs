//! Gives memory back after many connections were parked or have ended.

use std::cell::Cell;
use std::time::Duration;

use crate::sys;

thread_local! {
    static FREED: Cell<usize> = const { Cell::new(0) };
}

/// A connection of this worker was parked or has ended. After a number of them, and at most once in a
/// while, what they have freed on this thread is given back to the system.
pub fn after_freeing() {
    let freed = FREED.get() + 1;
    FREED.set(freed);
    if freed == MANY {
        tokio::task::spawn_local(async {
            tokio::time::sleep(PAUSE).await;
            FREED.set(0);
            sys::give_memory_back();
        });
    }
}

const MANY: usize = 64;
const PAUSE: Duration = Duration::from_secs(1);
