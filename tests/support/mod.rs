//! What the whole-program tests share: certificates, an origin that demands them, the daemon
//! itself, and a client that sees every byte.

#![allow(dead_code, unused_imports, reason = "not every module uses everything")]

mod client;
mod daemon;
pub mod der;
pub mod frames;
mod http2;
mod origin;
mod pki;
mod pty;
mod relay;

use std::time::{Duration, Instant};

pub use client::{Answer, Client, get, send};
pub use daemon::Daemon;
pub use frames::LeavingOrigin;
pub use http2::{Doom, Http2Origin, Stream, ask_http2, get_http2, post_http2};
pub use origin::{Origin, Request, Then, Tls, answer, read_request};
pub use pki::{Ca, Issued};
pub use pty::{Terminal, lead, leading, typed};
pub use relay::Relay;

/// Waits until `look` finds what is wanted; after ten seconds fails with what it saw last.
pub fn wait_for<T, S: std::fmt::Debug>(what: &str, mut look: impl FnMut() -> Result<T, S>) -> T {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() > until => {
                panic!("waited in vain for {what}; last seen: {seen:?}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Does something at the end of a scope, however it is left.
pub struct OnDrop<F: Fn()>(pub F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}

/// A number from the environment, for the long form of a test.
pub fn scale(variable: &str, default: usize) -> usize {
    std::env::var(variable)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

/// A configuration of one binding called `b`, whose files are `client.pem` and `ca.crt`.
pub fn binding(origin: &Origin, lines: &str) -> String {
    format!(
        "[bindings.b]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{}\"\ncertificate = \"client.pem\"\n\
         ca = \"ca.crt\"\n{lines}\n",
        origin.port
    )
}
