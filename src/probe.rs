//! Goes the way of one request step by step, and says what each step met: name, TCP, TLS, HTTP.

use std::future::{Future, poll_fn};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::{Authority, AuthorityRef, Binding, Protocol};
use crate::diagnosis::{self, Certificate, Evidence, Report};
use crate::error::{Failure, ForwardError, Phase};
use crate::head;
use crate::lifecycle::Local;
use crate::printable;
use crate::route::{Arrival, Asked, By, Entrance, Routes};
use crate::tls::{self, Alpn, Demand, Facts, Generation};
use crate::upstream::{Dial, Settings, dial_failed};

/// One step, as a line.
#[derive(Serialize, Debug)]
pub struct Step {
    /// `DNS`, `TCP`, `TLS` or `HTTP`.
    pub step: &'static str,
    /// Whether it went well.
    pub ok: bool,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// What it met.
    pub saw: Vec<String>,
}

/// What is to be made of the steps.
#[derive(Serialize, Debug)]
pub struct Verdict {
    /// Whether a request would get an answer, without a complaint about certificates.
    pub ok: bool,
    /// What happened, and what to do next.
    #[serde(flatten)]
    pub report: Report,
}

/// What is to be fetched from where.
pub struct Probe<'a> {
    binding: &'a Binding,
    generation: &'a Arc<Generation>,
    settings: Settings,
    target: Arc<Authority>,
    by: By,
    path: PathAndQuery,
}

impl<'a> Probe<'a> {
    /// Prepares to fetch `url` as `binding`: a whole URL, or a path at its origin; its origin's
    /// front page when there is none.
    ///
    /// # Errors
    ///
    /// When the binding may not reach it, as it would be told to a client.
    pub fn new(
        binding: &'a Binding,
        generation: &'a Arc<Generation>,
        url: Option<&str>,
    ) -> Result<Self, ForwardError> {
        let uri: Uri = url
            .unwrap_or("/")
            .parse()
            .map_err(|_| ForwardError::BadRequest("this is neither a URL nor a path"))?;
        let asked = match (uri.authority(), uri.scheme_str()) {
            (Some(authority), Some(scheme)) => Asked::Url {
                https: scheme == "https",
                authority: AuthorityRef::parse(authority.as_str())
                    .ok_or(ForwardError::BadRequest("the URL names no host"))?,
            },
            (None, None) if uri.path().starts_with('/') => {
                Asked::Host(AuthorityRef::parse("localhost"))
            }
            _ => return Err(ForwardError::BadRequest("this is neither a URL nor a path")),
        };
        // As if it came in by the binding's own port.
        let arrival = Arrival {
            entrance: Entrance::Own(0),
            local: Some((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)),
        };
        let route = Routes::new(std::slice::from_ref(binding)).find(arrival, asked)?;
        let base_path = match (&binding.origin, route.by) {
            (Some(origin), By::Origin) => &*origin.base_path,
            _ => "",
        };
        let target = head::target(&uri, base_path);
        Ok(Self {
            binding,
            generation,
            settings: Settings::of(binding),
            target: route.target,
            by: route.by,
            path: target
                .path_and_query()
                .cloned()
                .unwrap_or_else(|| PathAndQuery::from_static("/")),
        })
    }

    /// The URL that is fetched.
    pub fn url(&self) -> String {
        format!("https://{}{}", self.target.as_str(), self.path)
    }

    /// Takes the steps, until one fails; each is told to `see` when it is over. Every wait is
    /// bounded by the binding's timeouts.
    pub async fn run(&self, see: &mut dyn FnMut(Step)) -> Verdict {
        let facts = Arc::new(Facts::default());
        let mut reached = None;
        let mut blamed = false;
        let ended = self.steps(&facts, &mut reached, &mut blamed, see).await;
        let evidence = Evidence {
            facts: Some(&facts),
            identity: Some(self.generation.identity()),
            reached,
            now: SystemTime::now(),
        };
        let (binding, origin) = (Some(self.binding.name.as_str()), Some(self.target.as_str()));
        match ended {
            Err(_) if blamed => Verdict {
                ok: false,
                report: Report::new(
                    diagnosis::post_quantum_blamed(evidence),
                    evidence,
                    binding,
                    origin,
                ),
            },
            Err(error) => Verdict {
                ok: false,
                report: Report::of(&error, evidence, binding, origin),
            },
            Ok((status, begin)) => {
                let told = diagnosis::told(status, &begin, evidence);
                let ok = told.is_none();
                let diagnosis = told.unwrap_or_else(|| diagnosis::well(status, evidence));
                Verdict {
                    ok,
                    report: Report::new(diagnosis, evidence, binding, origin),
                }
            }
        }
    }

    async fn steps(
        &self,
        facts: &Arc<Facts>,
        reached: &mut Option<(SocketAddr, bool)>,
        blamed: &mut bool,
        see: &mut dyn FnMut(Step),
    ) -> Result<(StatusCode, Vec<u8>), ForwardError> {
        let dial = Dial {
            target: &self.target,
            settings: &self.settings,
            public_only: self.by == By::Wildcard && !self.binding.allow_private,
            alpn: match self.binding.protocol {
                Protocol::Auto => Alpn::Either,
                Protocol::Http1 => Alpn::Http1,
                Protocol::Http2 => Alpn::Http2,
            },
        };
        let addresses = self
            .step("DNS", see, Some(Phase::Name), dial.addresses(), |found| {
                found.iter().map(ToString::to_string).collect()
            })
            .await?;
        let mut first = None;
        let mut failed = None;
        for address in addresses {
            let connecting = async {
                TcpStream::connect(address)
                    .await
                    .map_err(|error| dial_failed(address, &error))
            };
            let connected = |_: &TcpStream| vec![format!("{address} took the connection")];
            match self
                .step("TCP", see, Some(Phase::Tcp), connecting, connected)
                .await
            {
                Ok(tcp) if first.is_none() => first = Some((tcp, address)),
                Ok(_) => {}
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        let (tcp, address) = match (first, failed) {
            (Some(first), _) => first,
            (None, Some(error)) => return Err(error),
            (None, None) => {
                return Err(ForwardError::Dns(
                    self.target.host().to_owned(),
                    "it has none".to_owned(),
                ));
            }
        };
        *reached = Some((address, false));
        let securing = dial.secure(self.generation, tcp, address, facts);
        let said = |stream: &tls::Stream| self.tls_said(stream, facts);
        let secured = self.step("TLS", see, Some(Phase::Tls), securing, said);
        let stream = match secured.await {
            Ok(stream) => stream,
            Err(error) => {
                if may_be_post_quantum(&error, facts) {
                    *blamed = self.works_without_post_quantum(&dial, address, see).await;
                }
                return Err(error);
            }
        };
        let fetching = self.fetch(stream, facts);
        let answered = |(status, _): &(StatusCode, Vec<u8>)| {
            vec![format!("GET {} was answered {status}", self.path)]
        };
        self.step("HTTP", see, None, fetching, answered).await
    }

    /// Whether the handshake succeeds without the post-quantum key exchange.
    async fn works_without_post_quantum(
        &self,
        dial: &Dial<'_>,
        address: SocketAddr,
        see: &mut dyn FnMut(Step),
    ) -> bool {
        let Some(generation) = self.generation.without_post_quantum() else {
            return false;
        };
        let facts = Arc::new(Facts::default());
        let securing = async {
            let tcp = TcpStream::connect(address)
                .await
                .map_err(|error| dial_failed(address, &error))?;
            dial.secure(&generation, tcp, address, &facts).await
        };
        let said = |_: &tls::Stream| {
            vec!["without the post-quantum key exchange, the handshake succeeds".to_owned()]
        };
        let secured = self
            .step("TLS", see, Some(Phase::Tls), securing, said)
            .await;
        // It got further as well if our certificate or the origin's is what fails now.
        match secured {
            Ok(_) | Err(ForwardError::Certificate(_) | ForwardError::NotAsked) => true,
            Err(_) => facts.demand().is_some(),
        }
    }

    /// Takes one step, within the time there is for it.
    async fn step<T>(
        &self,
        step: &'static str,
        see: &mut dyn FnMut(Step),
        phase: Option<Phase>,
        work: impl Future<Output = Result<T, ForwardError>>,
        saw: impl FnOnce(&T) -> Vec<String>,
    ) -> Result<T, ForwardError> {
        let timeouts = &self.binding.timeouts;
        let (patience, late) = match phase {
            Some(phase) => (
                timeouts.connect,
                ForwardError::TimeoutConnecting(timeouts.connect, phase),
            ),
            None => (timeouts.response, ForwardError::Timeout(timeouts.response)),
        };
        let began = Instant::now();
        let result = timeout(patience, work).await.unwrap_or(Err(late));
        see(Step {
            step,
            ok: result.is_ok(),
            ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            saw: match &result {
                Ok(value) => saw(value),
                Err(error) => vec![error.to_string()],
            }
            .iter()
            .map(|line| printable::escape(line).into_owned())
            .collect(),
        });
        result
    }

    /// What the handshake agreed on, the origin's chain, and what it wants of us.
    fn tls_said(&self, stream: &tls::Stream, facts: &Facts) -> Vec<String> {
        let mut said = Vec::new();
        if let Some(session) = facts.session() {
            let http = match stream.is_http2() {
                true => "h2",
                false => "http/1.1",
            };
            said.push(format!(
                "TLS {}, {}, {http}",
                session.version(),
                session.algorithms()
            ));
        }
        for leaf in &stream.peer() {
            said.push(format!("the origin presents {}", Certificate::from(leaf)));
        }
        said.push("its chain and its name are good".to_owned());
        said.extend(asked(facts));
        said
    }

    /// Fetches over a connection that is there.
    async fn fetch(
        &self,
        stream: tls::Stream,
        facts: &Facts,
    ) -> Result<(StatusCode, Vec<u8>), ForwardError> {
        let http2 = stream.is_http2();
        let request = self.request(http2);
        let io = TokioIo::new(stream);
        let size = self.binding.max_header_size;
        let answered = match http2 {
            true => over_http2(io, request, size).await,
            false => over_http1(io, request, size).await,
        };
        let response = answered.map_err(|error| match error.is_parse() {
            true => ForwardError::Protocol(error.to_string()),
            false => ForwardError::Terminated(facts.failure().cloned().unwrap_or(Failure::Closed)),
        })?;
        Ok((response.status(), begin(response).await))
    }

    fn request(&self, http2: bool) -> Request<Empty<Bytes>> {
        let (authority, path) = (self.target.as_str(), &self.path);
        let builder = match http2 {
            true => Request::get(format!("https://{authority}{path}")),
            false => Request::get(path.as_str()).header(HOST, authority),
        };
        builder
            .header(USER_AGENT, concat!("mtlsd/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "*/*")
            .body(Empty::new())
            .expect("what a binding leads to can be asked for")
    }
}

/// Whether a handshake may have failed because its ClientHello was large: it ended before the
/// origin said anything but, perhaps, an alert.
fn may_be_post_quantum(error: &ForwardError, facts: &Facts) -> bool {
    let is_unheard = match error {
        ForwardError::TimeoutConnecting(_, Phase::Tls) => true,
        ForwardError::Handshake(failure) => matches!(
            failure,
            Failure::Closed | Failure::Truncated | Failure::Io(_) | Failure::Alert(..)
        ),
        _ => false,
    };
    is_unheard && facts.offers_post_quantum() && facts.demand().is_none()
}

/// Whether the origin asked for a certificate, and how ours fits.
fn asked(facts: &Facts) -> Vec<String> {
    let Some(Demand::Asked(asked)) = facts.demand() else {
        return vec!["it asks for no certificate".to_owned()];
    };
    let authorities = asked.authorities();
    let fits = match (asked.can_sign(), asked.qualifies()) {
        (false, _) => "our key can make none of the signatures it accepts, so none was presented",
        (true, true) => "ours qualifies, and was presented",
        (true, false) => "ours is not by one of these, and was presented all the same",
    };
    vec![
        match authorities.as_slice() {
            [] => "it asks for a certificate, by whichever authority".to_owned(),
            authorities => format!("it asks for a certificate by {}", authorities.join("; ")),
        },
        fits.to_owned(),
    ]
}

/// Sends on a new connection, and drives it until it ends; how that is, is seen by whoever reads.
async fn over_http1(
    io: TokioIo<tls::Stream>,
    request: Request<Empty<Bytes>>,
    max_header_size: usize,
) -> hyper::Result<Response<Incoming>> {
    let mut builder = http1::Builder::new();
    builder.max_header_size(max_header_size);
    let (mut sender, connection) = builder.handshake(io).await?;
    tokio::task::spawn_local(connection);
    sender.send_request(request).await
}

async fn over_http2(
    io: TokioIo<tls::Stream>,
    request: Request<Empty<Bytes>>,
    max_header_size: usize,
) -> hyper::Result<Response<Incoming>> {
    let mut builder = http2::Builder::new(Local);
    builder.max_header_list_size(u32::try_from(max_header_size).unwrap_or(u32::MAX));
    let (mut sender, connection) = builder.handshake(io).await?;
    tokio::task::spawn_local(connection);
    sender.send_request(request).await
}

/// The first piece of an answer's body, if it comes soon.
async fn begin(response: Response<Incoming>) -> Vec<u8> {
    let mut body = response.into_body();
    let first = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
    match timeout(SOON, first).await {
        Ok(Some(Ok(frame))) => frame.into_data().map_or(Vec::new(), |data| data.to_vec()),
        _ => Vec::new(),
    }
}

const SOON: Duration = Duration::from_secs(1);
