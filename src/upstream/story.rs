//! Debug lines that follow a request and the connection it goes out on. Below level `debug` they
//! cost no more than the check of the level: nothing is formatted before it.

use std::net::SocketAddr;

use http::{Response, Version};

use crate::config::Authority;
use crate::error::ForwardError;
use crate::metrics::RetryReason;
use crate::tls::{self, Demand, Generation};

use super::pool::Lease;
use super::{Outbound, Settings};

impl Settings {
    /// An open connection is used for a request to `target`.
    pub(super) fn log_reused(&self, target: &Authority, lease: &Lease) {
        tracing::debug!(
            binding = &*self.binding,
            origin = target.as_str(),
            address = %lease.address(),
            generation = lease.generation().number(),
            "upstream connection reused"
        );
    }

    /// The addresses of `target` are known.
    pub(super) fn log_resolved(&self, target: &Authority, addresses: &[SocketAddr]) {
        tracing::debug!(
            binding = &*self.binding,
            origin = target.as_str(),
            addresses = addresses
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            "origin name resolved"
        );
    }

    /// One of the addresses of `target` accepted a TCP connection.
    pub(super) fn log_dialed(&self, target: &Authority, address: SocketAddr) {
        tracing::debug!(
            binding = &*self.binding,
            origin = target.as_str(),
            %address,
            "TCP connection established"
        );
    }

    /// The TLS handshake with `target` succeeded.
    pub(super) fn log_handshake(
        &self,
        target: &Authority,
        address: SocketAddr,
        generation: &Generation,
        stream: &tls::Stream,
    ) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let facts = stream.facts();
        let session = facts.session();
        // A server of TLS 1.2 or 1.3 that resumes a session knows the certificate from before.
        let demand = facts.demand();
        let presented = facts.asked().is_some_and(tls::Asked::can_sign);
        tracing::debug!(
            binding = &*self.binding,
            origin = target.as_str(),
            %address,
            generation = generation.number(),
            tls = session.map(tls::Session::version),
            algorithms = session.map(tls::Session::algorithms),
            resumed = session.map(|session| session.resumed),
            alpn = stream.alpn(),
            certificate_requested = demand.map(|demand| matches!(demand, Demand::Asked(_))),
            serial = presented.then(|| generation.identity().leaf().serial.as_str()),
            "TLS handshake completed"
        );
    }

    /// There is no connection to `target`.
    pub(super) fn log_unconnected(
        &self,
        target: &Authority,
        address: Option<SocketAddr>,
        generation: &Generation,
        error: &ForwardError,
    ) {
        tracing::debug!(
            binding = &*self.binding,
            origin = target.as_str(),
            address = address.map(tracing::field::display),
            generation = generation.number(),
            %error,
            "upstream connection failed"
        );
    }

    /// A request goes out on a connection.
    pub(super) fn log_sending(&self, outbound: &Outbound, lease: &Lease) {
        tracing::debug!(
            binding = &*self.binding,
            origin = outbound.target.as_str(),
            address = %lease.address(),
            generation = lease.generation().number(),
            http = ?match lease.is_stream() {
                true => Version::HTTP_2,
                false => Version::HTTP_11,
            },
            method = outbound.method().as_str(),
            "sending request"
        );
    }

    /// The head of a response came.
    pub(super) fn log_response<B>(
        &self,
        outbound: &Outbound,
        lease: &Lease,
        response: &Response<B>,
    ) {
        tracing::debug!(
            binding = &*self.binding,
            origin = outbound.target.as_str(),
            address = %lease.address(),
            generation = lease.generation().number(),
            http = ?response.version(),
            status = response.status().as_u16(),
            // Their values may be secret.
            fields = response
                .headers()
                .keys()
                .map(http::HeaderName::as_str)
                .collect::<Vec<_>>()
                .join(" "),
            "response head received"
        );
    }

    /// No response came.
    pub(super) fn log_unanswered(&self, outbound: &Outbound, lease: &Lease, error: &ForwardError) {
        tracing::debug!(
            binding = &*self.binding,
            origin = outbound.target.as_str(),
            address = %lease.address(),
            generation = lease.generation().number(),
            reused = lease.is_reused(),
            %error,
            "no response received"
        );
    }

    /// A request is sent once more.
    pub(super) fn log_retry(&self, outbound: &Outbound, reason: RetryReason) {
        tracing::debug!(
            binding = &*self.binding,
            origin = outbound.target.as_str(),
            method = outbound.method().as_str(),
            reason = match reason {
                RetryReason::Closed =>
                    "the connection closed before the origin acted on the request",
                RetryReason::Refused => "the origin did not process the request",
                RetryReason::Misdirected => "the origin responded with 421 on a reused connection",
                RetryReason::NewerCertificate =>
                    "the origin rejected a certificate that has been renewed since",
            },
            "retrying request"
        );
    }

    /// A connection can be used for another request.
    pub(super) fn log_returned(&self, target: &Authority, address: SocketAddr, generation: u64) {
        tracing::debug!(
            binding = &*self.binding,
            origin = target.as_str(),
            %address,
            generation,
            "upstream connection returned to the pool"
        );
    }

    /// A connection is closed.
    pub(super) fn log_closed(
        &self,
        target: &Authority,
        address: SocketAddr,
        generation: u64,
        reason: &str,
    ) {
        tracing::debug!(
            binding = &*self.binding,
            origin = target.as_str(),
            %address,
            generation,
            reason,
            "upstream connection closed"
        );
    }
}

/// Why a connection is closed.
pub mod reason {
    pub const AGE: &str = "it reached max_connection_age, or its certificate is about to expire";
    pub const CERTIFICATE: &str = "its certificate was replaced, or its binding changed";
    pub const DEAD: &str = "another connection to the origin timed out";
    pub const EXCESS: &str = "there are enough idle connections to the origin";
    pub const IDLE: &str = "it was idle for idle_timeout";
    pub const ORIGIN: &str = "the origin closed it, or it failed";
    pub const RECLAIMED: &str = "another origin or worker needs its place within max_connections";
    pub const STOPPING: &str = "mtlsd stops";
    pub const UNFINISHED: &str =
        "its request or response was not complete, or the response was the last on it";
}
