//! Gives memory back after many connections were parked.

use std::cell::Cell;
use std::time::Duration;

use crate::sys;

thread_local! {
    static PARKED: Cell<usize> = const { Cell::new(0) };
}

/// A connection was parked on this worker. After a number of them, and at most once in a while,
/// what they have freed is given back to the system, which takes a millisecond or so.
pub fn after_parking() {
    let parked = PARKED.get() + 1;
    PARKED.set(parked);
    if parked == MANY {
        tokio::task::spawn_local(async {
            tokio::time::sleep(PAUSE).await;
            PARKED.set(0);
            sys::give_memory_back();
        });
    }
}

const MANY: usize = 64;
const PAUSE: Duration = Duration::from_secs(1);
