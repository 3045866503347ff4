//! Answers one request: finds its binding, guards it, rewrites it, sends it, and passes the answer
//! on or explains why there is none.

mod answer;
mod guard;
mod message;
mod record;
mod relay;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::body::Upload;
use crate::config::{Binding, HeaderPolicy, WebOrigins};
use crate::error::ForwardError;
use crate::head;
use crate::log::Access;
use crate::route::{Arrival, By, Routes};
use crate::server::Client;
use crate::upstream::{Outbound, Upstream};

use message::Message;
use record::{InFlight, Record};

pub use relay::ResponseBody;

/// Everything a worker needs to answer requests.
pub struct Proxy {
    routes: Arc<Routes>,
    services: Vec<Rc<Service>>,
    access: Option<Rc<Access>>,
    // When each kind of failure was last logged, so that a broken origin does not fill the disk.
    logged: RefCell<HashMap<(usize, &'static str), Instant>>,
}

/// One binding, as a worker serves it.
pub struct Service {
    name: String,
    base_path: String,
    headers: HeaderPolicy,
    web_origins: WebOrigins,
    body_timeout: Duration,
    most_in_flight: usize,
    in_flight: Arc<AtomicUsize>,
    upstream: Upstream,
}

/// Where a request came from.
#[derive(Clone, Copy)]
pub struct From {
    /// The listener.
    pub arrival: Arrival,
    /// The client's address; `None` on a unix socket.
    pub peer: Option<SocketAddr>,
}

impl Service {
    /// Serves `binding` over `upstream`; `in_flight` counts its requests over all workers.
    pub fn new(binding: &Binding, upstream: Upstream, in_flight: Arc<AtomicUsize>) -> Rc<Self> {
        let origin = binding.origin.as_ref();
        Rc::new(Self {
            name: binding.name.to_string(),
            base_path: origin.map_or(String::new(), |origin| origin.base_path.to_string()),
            headers: binding.headers.clone(),
            web_origins: binding.web_origins.clone(),
            body_timeout: binding.timeouts.body,
            most_in_flight: binding.limits.requests_in_flight.get(),
            in_flight,
            upstream,
        })
    }

    /// Its side towards the origins.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Counts a request as in flight, if there may be one more.
    fn enter(self: &Rc<Self>) -> Result<InFlight, ForwardError> {
        if self.in_flight.fetch_add(1, Relaxed) >= self.most_in_flight {
            self.in_flight.fetch_sub(1, Relaxed);
            return Err(ForwardError::NoRequest(self.most_in_flight));
        }
        Ok(InFlight(Rc::clone(self)))
    }
}

impl Proxy {
    /// Serves `services`, whose order is that of the bindings in `routes`.
    pub fn new(
        routes: Arc<Routes>,
        services: Vec<Rc<Service>>,
        access: Option<Rc<Access>>,
    ) -> Self {
        Self {
            routes,
            services,
            access,
            logged: RefCell::default(),
        }
    }

    /// The bindings, in the order of the configuration.
    pub fn services(&self) -> &[Rc<Service>] {
        &self.services
    }

    /// Answers a request.
    pub async fn answer(
        &self,
        from: From,
        client: Client,
        request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        crate::lifecycle::fault("request");
        let mut record = Record::begin(self.access.clone(), &client, from.peer, &request);
        match self.forward(from, &client, request, &mut record).await {
            Ok((head, incoming, relayed)) => {
                record.status = head.status;
                let body = ResponseBody::relay(incoming, relayed, client, record);
                Response::from_parts(head, body)
            }
            Err(error) => {
                self.log_failure(from, &error, &record);
                record.status = error.status();
                record.error = Some(error.token());
                answer::explain(&error, record)
            }
        }
    }

    async fn forward(
        &self,
        from: From,
        client: &Client,
        request: Request<Incoming>,
        record: &mut Record,
    ) -> Result<(http::response::Parts, Incoming, relay::Relayed), ForwardError> {
        let (mut head, incoming) = request.into_parts();
        let message = Message::of(&head)?;
        if head.method == Method::CONNECT {
            return Err(ForwardError::Connect);
        }
        let route = self.routes.find(from.arrival, message.asked)?;
        let service = &self.services[route.binding];
        record.service = Some(Rc::clone(service));
        record.target = Some(Arc::clone(&route.target));
        if from.arrival.local.is_some() {
            guard::browser(
                &head.headers,
                message.text,
                &service.web_origins,
                &service.name,
            )?;
        }
        record.in_flight = Some(service.enter()?);

        let base_path = match route.by {
            By::Origin => service.base_path.as_str(),
            By::Name | By::Wildcard => "",
        };
        let sender = head::Sender {
            peer: from.peer.map(|peer| peer.ip()),
            // Most policies do not repeat what the client said, and so need no copy of it.
            asked: service
                .headers
                .repeats_host()
                .then(|| message.text.map(str::to_owned))
                .flatten(),
            chunked: message.chunked,
        };
        let target = head::target(&head.uri, base_path);
        head.uri = target;
        head.version = http::Version::HTTP_11;
        head::request(&mut head.headers, &service.headers, &route.target, &sender);
        let http10 = record.version == http::Version::HTTP_10;
        let upload = Upload::new(incoming, Instant::now());
        let outbound = Outbound {
            head,
            upload: upload.share(),
            target: Arc::clone(&route.target),
            public_only: route.by == By::Wildcard,
        };
        let inbound = service
            .upstream
            .send(outbound, &client.alarm, &record.trace)
            .await?;

        let (mut head, incoming) = inbound.response.into_parts();
        let last = head::is_last(&head.headers, head.version);
        head::response(
            &mut head.headers,
            &service.headers,
            &route.target,
            base_path,
        );
        head.version = http::Version::HTTP_11;
        let relayed = relay::Relayed {
            lease: inbound.lease,
            upload,
            last,
            http10,
            silence: service.body_timeout,
        };
        Ok((head, incoming, relayed))
    }

    /// Logs a failure that somebody should look at, once per kind, binding and minute.
    fn log_failure(&self, from: From, error: &ForwardError, record: &Record) {
        let connect = matches!(error, ForwardError::Connect);
        if !error.status().is_server_error() && !connect {
            return;
        }
        let binding = record.service.as_ref();
        let index = binding.and_then(|one| {
            self.services
                .iter()
                .position(|other| Rc::ptr_eq(one, other))
        });
        let now = Instant::now();
        let mut logged = self.logged.borrow_mut();
        let key = (index.unwrap_or(usize::MAX), error.token());
        if logged.get(&key).is_some_and(|last| now - *last < QUIET) {
            return;
        }
        logged.insert(key, now);
        let binding = binding.map_or("-", |service| service.name.as_str());
        let origin = record.target.as_ref().map(|target| target.as_str());
        if connect {
            tracing::warn!(
                binding,
                peer = ?from.peer,
                "a client sent CONNECT: have it use http:// URLs, mtlsd adds the TLS"
            );
        } else {
            let status = error.status().as_u16();
            tracing::warn!(binding, origin, status, kind = error.token(), %error, "request failed");
        }
    }
}

/// So long the same failure is not logged again.
const QUIET: Duration = Duration::from_secs(60);
