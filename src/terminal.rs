//! What a terminal shows: whether it takes color.

use std::env;

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};

/// Decides about color once, for everything that the process prints: `TERM=dumb` means none, even
/// where `CI` is set. Call this before anything is printed.
pub fn start() {
    if env::var_os("TERM").is_some_and(|term| term == "dumb") {
        ColorChoice::Never.write_global();
    }
}

/// Returns `true` if `stream` takes color: a terminal does, unless `NO_COLOR` is set. The help and
/// the usage errors of clap follow the same rule.
pub fn is_colored<S: RawStream>(stream: &S) -> bool {
    AutoStream::choice(stream) != ColorChoice::Never
}
