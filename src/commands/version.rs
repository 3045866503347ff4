//! `mtlsd version`.

use super::Exit;

/// Prints the version.
pub fn version() -> Exit {
    println!("mtlsd {}", env!("CARGO_PKG_VERSION"));
    Exit::Success
}
