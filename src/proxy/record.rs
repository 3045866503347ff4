//! One request from its head to the last byte of its answer: what the access line says, and what
//! has to be let go of at the end.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, StatusCode, Version};
use tokio::time::Instant;

use crate::config::Authority;
use crate::error::ForwardError;
use crate::head;
use crate::log::{self, Access, Entry};
use crate::server::{Activity, Client};
use crate::upstream::Trace;

use super::tail::Busy;
use super::{Service, attributed};

/// Dropped when the answer is over, whichever way: then the line is written, and the client's
/// connection is idle again.
pub struct Record {
    access: Option<Rc<Access>>,
    activity: Arc<Activity>,
    // Whether something else says when the request is over.
    handed_over: bool,
    began: Instant,
    pub peer: Option<SocketAddr>,
    method: Method,
    path: Option<PathAndQuery>,
    /// The host that was asked for, where no origin says it.
    pub host: Option<Box<str>>,
    pub version: Version,
    pub grpc: bool,
    pub prefers_json: bool,
    pub service: Option<Rc<Service>>,
    /// The binding whose own listener it came by. Clients are not told.
    pub own: Option<Rc<Service>>,
    pub target: Option<Arc<Authority>>,
    pub trace: Trace,
    pub status: StatusCode,
    pub error: Option<&'static str>,
    pub in_flight: Option<InFlight>,
    /// The `Origin` of a page that may read what mtlsd itself has to say.
    pub page: Option<HeaderValue>,
    /// The body of the request, once it is known where that goes.
    pub passed: Rc<Cell<u64>>,
    /// Bytes of the response body that the client was handed.
    pub received: u64,
    // When the last of the answer was handed to the client.
    ended: Option<Instant>,
}

/// One of a binding's requests in flight.
pub struct InFlight(pub Rc<Service>);

impl Record {
    pub fn begin<B>(
        access: Option<Rc<Access>>,
        client: &Client,
        peer: Option<SocketAddr>,
        request: &Request<B>,
    ) -> Self {
        let path = request.uri().path_and_query();
        Self {
            path: path.cloned(),
            host: match *request.method() {
                Method::CONNECT => request.uri().authority().map(|host| host.as_str().into()),
                _ => None,
            },
            access,
            activity: Arc::clone(&client.activity),
            handed_over: false,
            began: Instant::now(),
            peer,
            method: request.method().clone(),
            version: request.version(),
            grpc: head::is_grpc(request.headers()),
            prefers_json: head::prefers_json(request.headers()),
            service: None,
            own: None,
            target: None,
            trace: Trace::default(),
            // What a client that went away before the answer would have seen (nginx's number).
            status: StatusCode::from_u16(499).expect("499 is a status"),
            error: None,
            in_flight: None,
            page: None,
            passed: Rc::default(),
            received: 0,
            ended: None,
        }
    }
}

impl Record {
    /// The last of the answer goes to the client, at `now`.
    pub fn ended(&mut self, now: Instant) {
        self.ended = Some(now);
    }

    /// The client's connection stays busy until the returned value is dropped.
    pub fn stay_busy(&mut self) -> Busy {
        self.handed_over = true;
        Busy(Arc::clone(&self.activity))
    }

    /// When the request's head was complete.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// The name of the binding, once it is known.
    pub fn binding(&self) -> Option<&str> {
        self.service.as_ref().map(|service| service.name())
    }

    /// The name of the binding for the log, also where the request is not let through to it.
    pub fn logged_binding(&self) -> Option<&str> {
        let own = self.own.as_ref().map(|service| service.name());
        self.binding().or(own)
    }

    /// `host:port` of the origin, once it is known.
    pub fn origin(&self) -> Option<&str> {
        self.target.as_ref().map(|target| target.as_str())
    }

    /// Whether the client is told no more than the kind of a failure.
    pub fn is_brief(&self) -> bool {
        self.service.as_ref().is_some_and(|service| service.brief)
    }

    /// Follows the request at level `debug`: it belongs to a binding, and may go to its origin.
    pub fn log_accepted(&self, local: Option<(IpAddr, u16)>, host: Option<&str>) {
        tracing::debug!(
            binding = self.binding(),
            listener = local.map(|local| tracing::field::display(SocketAddr::from(local))),
            peer = self.peer.map(tracing::field::display),
            http = ?self.version,
            method = self.method.as_str(),
            host,
            path = self.path.as_ref().map(PathAndQuery::path),
            origin = self.origin(),
            "request accepted"
        );
    }

    /// Follows the request at level `debug`: it gets no response of the origin's.
    pub fn log_rejected(&self, error: &ForwardError) {
        tracing::debug!(
            binding = self.logged_binding(),
            peer = self.peer.map(tracing::field::display),
            method = self.method.as_str(),
            host = self.host.as_deref(),
            path = self.path.as_ref().map(PathAndQuery::path),
            origin = self.origin(),
            kind = error.token(),
            %error,
            "responding with an error"
        );
    }

    fn log_finished(&self, now: Instant) {
        tracing::debug!(
            binding = self.logged_binding(),
            peer = self.peer.map(tracing::field::display),
            method = self.method.as_str(),
            path = self.path.as_ref().map(PathAndQuery::path),
            origin = self.origin(),
            address = self
                .trace
                .upstream
                .get()
                .map(|(address, _)| tracing::field::display(address)),
            generation = self.trace.generation.get(),
            status = self.status.as_u16(),
            request_bytes = self.passed.get(),
            response_bytes = self.received,
            duration_ms = u64::try_from((now - self.began).as_millis()).unwrap_or(u64::MAX),
            error = self.error,
            "response finished"
        );
    }

    /// Logs that the response was lost to a panic.
    pub fn log_panic(&self) {
        let path = self.path.as_ref().map_or("", PathAndQuery::path);
        attributed::report(self.logged_binding(), &self.method, path, None);
    }

    /// Says that an answer broke off, which its client sees as an error and nothing more.
    pub fn log_break(&self, kind: &'static str, why: &dyn std::error::Error) {
        let binding = self.logged_binding();
        let Some(unsaid) = log::once_a_minute(binding.unwrap_or_default(), kind) else {
            return;
        };
        let address = self.trace.upstream.get();
        tracing::warn!(
            binding,
            origin = self.origin(),
            address = address.map(|(address, _)| tracing::field::display(address)),
            kind,
            error = why.to_string(),
            unsaid,
            "answer cut short"
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let now = self.ended.unwrap_or_else(Instant::now);
        if !self.handed_over {
            self.activity.request_ended(now);
        }
        self.log_finished(now);
        if let Some(service) = &self.service {
            let counters = service.meter().counters();
            counters.request(self.status.as_u16(), now - self.began);
            counters.bytes(self.passed.get(), self.received);
        }
        if let Some(access) = &self.access {
            access.record(&Entry {
                binding: self.logged_binding(),
                peer: self.peer,
                method: &self.method,
                path: self.path.as_ref().map_or("", PathAndQuery::path),
                host: self.host.as_deref(),
                status: self.status.as_u16(),
                elapsed: now - self.began,
                origin: self.origin(),
                upstream: self.trace.upstream.get(),
                generation: self.trace.generation.get(),
                error: self.error,
            });
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}
