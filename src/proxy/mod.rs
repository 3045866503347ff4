//! Answers one request: finds its binding, guards it, rewrites it, sends it, and passes the answer
//! on or explains why there is none.

mod answer;
mod attributed;
mod complaint;
mod departure;
mod forwards;
mod framing;
mod guard;
mod message;
mod ready;
mod record;
mod relay;
mod tail;
mod tunnel;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::header::{CONNECTION, EXPECT};
use http::{HeaderValue, Request, Response, StatusCode, Version, response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::body::Upload;
use crate::config::{Binding, Details, HeaderPolicy, UpgradeProtocol, WebOrigins};
use crate::error::ForwardError;
use crate::lifecycle::Drainer;
use crate::log::Access;
use crate::metrics::{Load, Meter};
use crate::route::{Entrance, Routes};
use crate::server::Client;
use crate::upstream::{Lease, Upstream};

use attributed::{Attributed, Label};
use departure::Departure;
use forwards::Reply;
use message::Tunnel;
use record::{InFlight, Record};
use relay::Relayed;
use tunnel::Switch;

pub use answer::Failed;
pub use relay::ResponseBody;

/// The configuration that a worker serves by now. Everything that outlives a request holds this,
/// and never a [`Proxy`], so that each request is served by what is configured when it arrives.
#[derive(Clone)]
pub struct Current(Rc<RefCell<Rc<Proxy>>>);

/// Everything a worker needs to answer requests under one configuration.
pub struct Proxy {
    routes: Arc<Routes>,
    services: Vec<Rc<Service>>,
    // By the number of the listener.
    entrances: BTreeMap<usize, Entrance>,
    access: Option<Rc<Access>>,
}

/// One binding, as a worker serves it.
pub struct Service {
    name: Rc<str>,
    base_path: String,
    headers: HeaderPolicy,
    web_origins: WebOrigins,
    upgrades: Box<[UpgradeProtocol]>,
    body_timeout: Duration,
    most_in_flight: usize,
    brief: bool,
    in_flight: Arc<AtomicUsize>,
    upstream: Upstream,
    // Ends what outlives a request and was begun under this version of the binding.
    replaced: Drainer,
    // Ends what needs a binding of this name; shared by all versions of the binding.
    removed: Rc<Drainer>,
}

/// What became of a request.
enum Passed {
    /// The origin's answer, whose body is still coming.
    Answer(response::Parts, Incoming, Relayed),
    /// The origin switches protocols.
    Switch(response::Parts, OnUpgrade, Lease),
    /// A tunnel in which plain HTTP is spoken.
    Tunnel(Rc<Tunnel>),
    /// A response of mtlsd's own that is no error.
    Reply(Reply),
}

/// Where a request came from.
#[derive(Clone)]
pub struct From {
    /// The number of the listener.
    pub listener: usize,
    /// The address and port it was accepted on; `None` on a unix socket.
    pub local: Option<(IpAddr, u16)>,
    /// The client's address; `None` on a unix socket.
    pub peer: Option<SocketAddr>,
    /// The CONNECT tunnel it came through.
    pub tunnel: Option<Rc<Tunnel>>,
}

impl Current {
    /// Begins with `proxy`.
    pub fn new(proxy: Proxy) -> Self {
        Self(Rc::new(RefCell::new(Rc::new(proxy))))
    }

    /// Returns the configuration in use.
    pub fn get(&self) -> Rc<Proxy> {
        Rc::clone(&self.0.borrow())
    }

    /// Uses `proxy` from here on.
    pub fn replace(&self, proxy: Proxy) {
        self.0.replace(Rc::new(proxy));
    }

    /// Answers a request by the configuration in use.
    pub fn answer(
        &self,
        from: From,
        client: Client,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<ResponseBody>> + use<> {
        let proxy = self.get();
        let label = Label::of(&request, from.listener);
        let response = Rc::clone(&proxy).answer(self.clone(), from, client, request);
        Attributed::new(response, label, proxy)
    }
}

impl Service {
    /// Serves `binding` over `upstream`; `in_flight` counts its requests over all workers.
    /// `before` is the version of the binding that this one replaces.
    pub fn new(
        binding: &Binding,
        upstream: Upstream,
        in_flight: Arc<AtomicUsize>,
        before: Option<&Self>,
    ) -> Rc<Self> {
        let removed = match before {
            Some(before) => Rc::clone(&before.removed),
            None => Rc::new(Drainer::new().0),
        };
        let origin = binding.origin.as_ref();
        Rc::new(Self {
            name: binding.name.as_str().into(),
            base_path: origin.map_or(String::new(), |origin| origin.base_path.to_string()),
            headers: binding.headers.clone(),
            web_origins: binding.web_origins.clone(),
            upgrades: binding.upgrades.clone().into(),
            body_timeout: binding.timeouts.body,
            most_in_flight: binding.limits.requests_in_flight.get(),
            brief: binding.details == Details::Brief,
            in_flight,
            upstream,
            replaced: Drainer::new().0,
            removed,
        })
    }

    /// The binding's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Closes idle connections at once, busy ones when they are done, and switched protocols within
    /// a drain: this version of the binding is no longer configured. `removed` is whether no other
    /// version is; then its CONNECT tunnels end too.
    pub fn retire(&self, removed: bool) {
        self.upstream.retire();
        self.replaced.start();
        if removed {
            self.removed.start();
        }
    }

    /// Its side towards the origins.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// What it counts on this worker.
    pub fn meter(&self) -> &Rc<Meter> {
        self.upstream.meter()
    }

    /// How busy it is at this moment.
    pub fn load(&self) -> Load {
        Load {
            connections: self.upstream.connections(),
            in_flight: self.in_flight.load(Relaxed),
            waiting: self.upstream.waiting(),
        }
    }

    /// What is put in front of the path of a request that is `prefixed`.
    fn base_path(&self, prefixed: bool) -> &str {
        match prefixed {
            true => &self.base_path,
            false => "",
        }
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
    /// Serves `services`, whose order is that of the bindings in `routes`. `entrances` says what is
    /// behind each listener.
    pub fn new(
        routes: Arc<Routes>,
        services: Vec<Rc<Service>>,
        entrances: BTreeMap<usize, Entrance>,
        access: Option<Rc<Access>>,
    ) -> Self {
        Self {
            routes,
            services,
            entrances,
            access,
        }
    }

    /// The bindings, in the order of the configuration.
    pub fn services(&self) -> &[Rc<Service>] {
        &self.services
    }

    /// The binding of this name.
    pub fn service(&self, name: &str) -> Option<&Rc<Service>> {
        self.services.iter().find(|service| *service.name == *name)
    }

    /// Returns the name of the binding that the listener with this number belongs to, if it is one's own.
    pub fn own_binding(&self, listener: usize) -> Option<Rc<str>> {
        match self.entrances.get(&listener)? {
            Entrance::Own(index) => Some(Rc::clone(&self.services.get(*index)?.name)),
            _ => None,
        }
    }

    /// Answers a request. Nothing happens before the first poll, so that a panic is this request's.
    #[expect(clippy::manual_async_fn, reason = "it would hold each argument twice")]
    fn answer(
        self: Rc<Self>,
        current: Current,
        from: From,
        client: Client,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Response<ResponseBody>> {
        async move {
            let mut record = Record::begin(self.access.clone(), &client, from.peer, &request);
            let connected = hyper::upgrade::on(&mut request);
            // Whatever becomes of the request: its own listener says whose it is.
            if let Some(Entrance::Own(index)) = self.entrances.get(&from.listener) {
                record.own = self.services.get(*index).cloned();
            }
            crate::lifecycle::fault("request");
            // Borrowed, because moved it would be held twice.
            let most_fields = client.terms.settings.max_header_fields;
            let (head, incoming) = request.into_parts();
            let expects = !incoming.is_end_stream() && head.headers.contains_key(EXPECT);
            let mut body = Some(incoming);
            let mut departure = self.depart(&from, head, &mut body, most_fields, &mut record);
            let passed = match &mut departure {
                Ok(Departure::Request(ready)) => ready.forward(&client, &mut record).await,
                Ok(Departure::Tunnel(tunnel)) => Ok(Passed::Tunnel(Rc::clone(tunnel))),
                Ok(Departure::Reply(reply)) => Ok(Passed::Reply(std::mem::take(reply))),
                Err(error) => Err(error.clone()),
            };
            match passed {
                Ok(Passed::Answer(head, incoming, relayed)) => {
                    record.status = head.status;
                    let body = ResponseBody::relay(incoming, relayed, client, record);
                    Response::from_parts(head, body)
                }
                Ok(Passed::Switch(head, origin, lease)) => {
                    record.status = head.status;
                    let switch = Switch {
                        client: connected,
                        origin,
                        lease,
                    };
                    tokio::task::spawn_local(async move { switch.run(&client, record).await });
                    Response::from_parts(head, ResponseBody::Empty)
                }
                Ok(Passed::Tunnel(tunnel)) => {
                    record.status = StatusCode::OK;
                    let from = From {
                        tunnel: Some(tunnel),
                        ..from
                    };
                    let removed = record
                        .service
                        .as_ref()
                        .map(|service| service.removed.drain());
                    let serving = tunnel::serve(connected, current, from, client, removed);
                    // Boxed, because serving a tunnel is serving a connection, which may tunnel.
                    let serving: Pin<Box<dyn Future<Output = ()>>> = Box::pin(serving);
                    tokio::task::spawn_local(serving);
                    Response::new(ResponseBody::Empty)
                }
                Ok(Passed::Reply(reply)) => answer::reply(reply, record),
                Err(error) => {
                    record.log_rejected(&error);
                    let report = complaint::report(&error, &record);
                    complaint::log_failure(&error, &report, &record);
                    record.status = error.status();
                    record.error = Some(error.token());
                    complaint::count(&error, &report, &record);
                    let left = match departure {
                        Ok(Departure::Request(ready)) => ready.outbound.upload.share(),
                        _ => body.map_or(Upload::Empty, |body| {
                            Upload::new(body, expects, record.began())
                        }),
                    };
                    let http2 = record.version == Version::HTTP_2;
                    let is_last = !http2 && !Box::pin(tail::settle(left)).await;
                    let brief = self.is_brief(&record);
                    let mut response = answer::explain(&error, &report, brief, record);
                    if is_last {
                        let close = HeaderValue::from_static("close");
                        response.headers_mut().insert(CONNECTION, close);
                    }
                    response
                }
            }
        }
    }

    /// Whether the client is told no more than the kind of a failure. Where its binding is not
    /// known, that is what any binding wants.
    fn is_brief(&self, record: &Record) -> bool {
        match &record.service {
            Some(service) => service.brief,
            None => self.services.iter().any(|service| service.brief),
        }
    }
}
