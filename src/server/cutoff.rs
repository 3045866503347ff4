//! Telling the operator that a client was cut off over what it did.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::error::{HeadError, HeadFault};
use crate::log::Sparing;
use crate::metrics;

/// The two ends of a client connection, where they have addresses.
#[derive(Clone, Default, Debug)]
pub struct Ends {
    /// The binding that the listener belongs to; `None` on a shared listener.
    pub binding: Option<Rc<str>>,
    /// Where it came in.
    pub listener: Option<SocketAddr>,
    /// Who it is.
    pub peer: Option<SocketAddr>,
}

impl Ends {
    /// Warns that this client was cut off, at most once per reason and interval: whoever can be
    /// cut off can come again at once, and must not fill the log that way.
    pub(super) fn cut_off(&self, reason: &'static str, error: Option<&dyn std::fmt::Display>) {
        let binding = self.binding.as_deref();
        let listener = self.listener.map(tracing::field::display);
        let peer = self.peer.map(tracing::field::display);
        let error = error.map(tracing::field::display);
        metrics::process().cut_off(label(reason));
        match WARNINGS.admit(reason, Instant::now()) {
            Some(unsaid) => {
                tracing::warn!(
                    binding,
                    listener,
                    peer,
                    reason,
                    error,
                    unsaid,
                    "cut off a client"
                );
            }
            None => {
                tracing::debug!(binding, listener, peer, reason, error, "cut off a client");
            }
        }
    }
}

impl Ends {
    /// Warns that a request head of this client was refused.
    pub(super) fn refuse(&self, error: &HeadError) {
        let reason = match error.kind {
            HeadFault::Malformed => UNREADABLE,
            HeadFault::TooLarge | HeadFault::TargetTooLong => HUGE_HEAD,
            HeadFault::Timeout => SLOW_HEAD,
        };
        self.cut_off(reason, Some(error));
    }
}

static WARNINGS: Sparing<&'static str> = Sparing::new(Duration::from_secs(10));

/// The word for a reason in metrics.
fn label(reason: &str) -> &'static str {
    match reason {
        SLOW_HEAD => "slow_head",
        SLOW_PREFACE => "slow_preface",
        TAKES_NOTHING => "slow_reader",
        HUGE_HEAD => "large_head",
        UNREADABLE => "malformed_http1",
        FLOOD => "http2_flood",
        UNLAWFUL => "malformed_http2",
        TLS_IN_TUNNEL | TLS_ON_LISTENER => "tls",
        _ => "other",
    }
}

pub const SLOW_HEAD: &str = "its request head took longer than header_timeout";
pub const SLOW_PREFACE: &str = "its preface of HTTP/2 took longer than header_timeout";
pub const TAKES_NOTHING: &str = "it took nothing of its answer for body_timeout";
pub const HUGE_HEAD: &str = "its request head is larger than max_header_size";
pub const UNREADABLE: &str = "its request cannot be read as HTTP/1.1";
pub const FLOOD: &str = "it flooded its HTTP/2 connection";
pub const UNLAWFUL: &str = "it broke the rules of HTTP/2";
pub const TLS_IN_TUNNEL: &str = "it began TLS inside a CONNECT tunnel, which carries plain HTTP only: give it an http:// URL, and mtlsd adds TLS";
pub const TLS_ON_LISTENER: &str =
    "it began TLS on a listener for plain HTTP: give it an http:// URL, and mtlsd adds TLS";
