//! Serving the admin endpoint: connections, the guard, and which response each path has.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::{interval, timeout};

use crate::server::Listener;

use super::exposition;
use super::guard::{self, Source};
use super::history::{History, INTERVAL};
use super::page::{self, View};
use super::places::Places;
use super::report::{Report, Worker};
use super::status::{Health, Status};
use super::{Reloaded, Sources};

/// A response of the endpoint.
type Reply = Response<Full<Bytes>>;

/// The admin endpoint, ready to serve.
pub struct Admin {
    /// Where it listens.
    pub listeners: Vec<Listener>,
    /// What it asks.
    pub sources: Sources,
    /// Who may change something.
    pub permissions: Permissions,
}

/// Who may reload and change the log level over the unix socket.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Permissions {
    /// The user ids that may, besides root and the user that mtlsd runs as.
    pub users: Vec<u32>,
}

impl Permissions {
    fn allow(&self, uid: u32) -> bool {
        uid == 0 || uid == rustix::process::geteuid().as_raw() || self.users.contains(&uid)
    }
}

/// What the connections share.
struct State {
    sources: Sources,
    permissions: Permissions,
    workers: RefCell<Vec<Worker>>,
    history: RefCell<History>,
    // Requests for a report that wait for the one that is being made.
    waiting: RefCell<Vec<oneshot::Sender<Arc<Report>>>>,
}

impl Admin {
    /// Serves until `stop` is done.
    ///
    /// # Errors
    ///
    /// When a listener cannot be used.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let state = Rc::new(State {
            sources: self.sources,
            permissions: self.permissions,
            workers: RefCell::default(),
            history: RefCell::default(),
            waiting: RefCell::default(),
        });
        for listener in self.listeners {
            let state = Rc::clone(&state);
            match listener {
                Listener::Tcp(listener, _) => {
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    tokio::task::spawn_local(accept_tcp(listener, state));
                }
                Listener::Unix(listener, file) => {
                    let listener = tokio::net::UnixListener::from_std(listener)?;
                    tokio::task::spawn_local(async move {
                        // Removes the socket's file at the end.
                        let _file = file;
                        accept_unix(listener, state).await;
                    });
                }
            }
        }
        let mut stop = std::pin::pin!(stop);
        let mut points = interval(INTERVAL);
        loop {
            tokio::select! {
                () = &mut stop => return Ok(()),
                _ = points.tick() => {
                    if let Ok(report) = state.report().await {
                        state.history.borrow_mut().record(&report);
                    }
                }
            }
        }
    }
}

async fn accept_tcp(listener: tokio::net::TcpListener, state: Rc<State>) {
    let places = Rc::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(local) = stream.local_addr() else {
                    continue;
                };
                let source = Source::Tcp(local.ip(), local.port());
                state.connection(&places, stream, source);
            }
            Err(error) => refused(&error).await,
        }
    }
}

async fn accept_unix(listener: tokio::net::UnixListener, state: Rc<State>) {
    let places = Rc::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match stream.peer_cred() {
                Ok(peer) => {
                    let source = Source::Unix(peer.uid());
                    state.connection(&places, stream, source);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot tell who connects to the admin socket")
                }
            },
            Err(error) => refused(&error).await,
        }
    }
}

/// An accept error may last, when descriptors have run out.
async fn refused(error: &io::Error) {
    tracing::debug!(%error, "cannot accept an admin connection");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

impl State {
    fn connection(
        self: &Rc<Self>,
        places: &Rc<Places>,
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
        source: Source,
    ) {
        let Some(place) = places.take() else {
            tracing::debug!("all admin connections are busy");
            return;
        };
        let state = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let service =
                service_fn(|request| place.during(Rc::clone(&state).respond(source, request)));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_headers(64)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // A browser keeps its connections.
                served = timeout(LONGEST_CONNECTION, connection) => {
                    if let Ok(Err(error)) = served {
                        tracing::debug!(%error, "admin connection ended");
                    }
                }
                () = place.evicted() => {
                    tracing::debug!("admin connection closed to make room for another");
                }
            }
        });
    }

    async fn respond(
        self: Rc<Self>,
        source: Source,
        request: Request<Incoming>,
    ) -> Result<Reply, Infallible> {
        let mut response = match self.route(source, &request).await {
            Ok(response) | Err(response) => response,
        };
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        Ok(response)
    }

    async fn route(
        self: &Rc<Self>,
        source: Source,
        request: &Request<Incoming>,
    ) -> Result<Reply, Reply> {
        let uri = request.uri();
        let (method, path, query) = (request.method(), uri.path(), uri.query().unwrap_or(""));
        let authority = uri.authority().map(http::uri::Authority::as_str);
        if let Err((status, text)) =
            guard::admit(source, method, path, request.headers(), authority)
        {
            return Err(plain(status, &text));
        }
        let get = *method == Method::GET || *method == Method::HEAD;
        match path {
            "/reload" | "/log-level" if *method == Method::POST => {
                Ok(self.change(source, path, query).await)
            }
            "/reload" | "/log-level" => Err(not_allowed("POST")),
            _ if !get => Err(not_allowed("GET, HEAD")),
            "/livez" => self.live().await,
            "/readyz" | "/healthz" => Ok(self.ready()),
            "/metrics" => self.metrics(request).await,
            "/status" => self.status_json().await,
            "/" => self.page(query).await,
            _ => match path.strip_prefix("/readyz/") {
                Some(name) => self.ready_binding(name).await,
                None => Err(plain(StatusCode::NOT_FOUND, "there is no such path; see /")),
            },
        }
    }

    /// What is known now. Requests that come while a report is made get that one. It is made by a
    /// task of its own, because a client that leaves must not take the report of others along.
    async fn report(self: &Rc<Self>) -> Result<Arc<Report>, Reply> {
        let (answer, report) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting.borrow_mut();
            waiting.push(answer);
            waiting.len() == 1
        };
        if is_first {
            let state = Rc::clone(self);
            tokio::task::spawn_local(async move {
                let _answered = Answered(Rc::clone(&state));
                let mut workers = state.workers.take();
                let report = Arc::new(state.sources.report(&mut workers).await);
                state.workers.replace(workers);
                for waiting in state.waiting.take() {
                    // The receiver may be gone.
                    let _ = waiting.send(Arc::clone(&report));
                }
            });
        }
        report.await.map_err(|_| no_report())
    }

    async fn status(self: &Rc<Self>) -> Result<Status, Reply> {
        let report = self.report().await?;
        Ok(Status::new(&report, &self.history.borrow()))
    }

    async fn live(self: &Rc<Self>) -> Result<Reply, Reply> {
        let report = self.report().await?;
        if report.is_live() {
            return Ok(plain(StatusCode::OK, "live"));
        }
        let stuck: Vec<String> = report
            .workers
            .iter()
            .enumerate()
            .filter(|(_, worker)| !worker.up)
            .map(|(number, _)| number.to_string())
            .collect();
        let text = format!("worker {} did not answer", stuck.join(", "));
        Err(plain(StatusCode::SERVICE_UNAVAILABLE, &text))
    }

    /// Every listener is bound and every binding has an identity before this endpoint exists.
    fn ready(&self) -> Reply {
        let draining = self
            .sources
            .draining
            .load(std::sync::atomic::Ordering::Relaxed);
        if draining {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "draining");
        }
        plain(StatusCode::OK, "ready")
    }

    async fn ready_binding(self: &Rc<Self>, name: &str) -> Result<Reply, Reply> {
        let status = self.status().await?;
        let problem = match status.binding(name) {
            None => {
                let text = "there is no binding of this name";
                return Err(plain(StatusCode::NOT_FOUND, text));
            }
            Some(_) if !status.ready => "draining".to_owned(),
            Some(binding) if binding.health == Health::Error => binding.problems.join("\n"),
            Some(_) => return Ok(plain(StatusCode::OK, "ready")),
        };
        Err(plain(StatusCode::SERVICE_UNAVAILABLE, &problem))
    }

    async fn metrics(self: &Rc<Self>, request: &Request<Incoming>) -> Result<Reply, Reply> {
        let accept: Vec<&str> = request
            .headers()
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let (text, content_type) =
            exposition::encode(self.report().await?, &accept.join(",")).map_err(failed)?;
        Ok(body(StatusCode::OK, content_type, text))
    }

    async fn status_json(self: &Rc<Self>) -> Result<Reply, Reply> {
        let text = serde_json::to_string(&self.status().await?).map_err(failed)?;
        Ok(body(StatusCode::OK, JSON, text))
    }

    async fn page(self: &Rc<Self>, query: &str) -> Result<Reply, Reply> {
        let status = self.status().await?;
        let page = page::render(&status, &View::parse(query));
        let mut response = body(StatusCode::OK, "text/html; charset=utf-8", page.html);
        if let Ok(policy) = HeaderValue::from_str(&page.policy) {
            response
                .headers_mut()
                .insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        Ok(response)
    }

    async fn change(&self, source: Source, path: &str, query: &str) -> Reply {
        let Source::Unix(uid) = source else {
            return not_allowed("GET");
        };
        if !self.permissions.allow(uid) {
            let text = format!(
                "user {uid} may not do this: only root, mtlsd's own user and `allow_users` in [admin]"
            );
            return plain(StatusCode::FORBIDDEN, &text);
        }
        match path {
            "/reload" => self.reload().await,
            _ => self.log_level(query),
        }
    }

    async fn reload(&self) -> Reply {
        let (answer, done) = oneshot::channel();
        (self.sources.reload)(answer);
        let Ok(Ok(reloaded)) = timeout(LONGEST_RELOAD, done).await else {
            let text =
                "the reload has not ended: a file may be on a file system that does not answer";
            return plain(StatusCode::GATEWAY_TIMEOUT, text);
        };
        let status = match reloaded.is_rejected() {
            true => StatusCode::CONFLICT,
            false => StatusCode::OK,
        };
        match serde_json::to_string::<Reloaded>(&reloaded) {
            Ok(text) => body(status, JSON, text),
            Err(error) => failed(error),
        }
    }

    fn log_level(&self, query: &str) -> Reply {
        let field = |name: &str| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        let Some(level) = field("level") else {
            return plain(StatusCode::BAD_REQUEST, "level=LEVEL is missing");
        };
        let time = match field("for").map(humantime::parse_duration).transpose() {
            Ok(time) => time,
            Err(_) => {
                return plain(
                    StatusCode::BAD_REQUEST,
                    "for=TIME is not a duration such as 10m",
                );
            }
        };
        match (self.sources.set_log_level)(level, time) {
            Ok(()) => plain(StatusCode::OK, "done"),
            Err(error) => plain(StatusCode::BAD_REQUEST, &error),
        }
    }
}

/// Lets go of those who wait for a report that is not made.
struct Answered(Rc<State>);

impl Drop for Answered {
    fn drop(&mut self) {
        self.0.waiting.take();
    }
}

fn no_report() -> Reply {
    plain(StatusCode::SERVICE_UNAVAILABLE, "there is no report")
}

fn failed(error: impl std::fmt::Display) -> Reply {
    plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
}

fn plain(status: StatusCode, text: &str) -> Reply {
    body(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

fn not_allowed(allowed: &'static str) -> Reply {
    let mut response = plain(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("this path takes {allowed}"),
    );
    let allowed = HeaderValue::from_static(allowed);
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

fn body(status: StatusCode, content_type: &'static str, text: String) -> Reply {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

const JSON: &str = "application/json";
/// A request head takes no longer.
const HEAD: Duration = Duration::from_secs(5);
/// A connection lasts no longer.
const LONGEST_CONNECTION: Duration = Duration::from_secs(60);
/// A reload takes no longer.
const LONGEST_RELOAD: Duration = Duration::from_secs(30);
