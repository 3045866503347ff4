//! A report of everything that is known as the JSON of `/status`, which the page and `mtlsd status` show too. Its shape is an
//! interface: what changes its meaning changes [`VERSION`].

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::metrics::{
    BUCKETS, BindingSample, BindingState, Closed, Handshake, Load, Rejection, RetryReason,
};

use super::exposition::unix;
use super::history::{History, Lately};
use super::report::Report;

/// The version of the shape.
pub const VERSION: u32 = 1;

/// Everything.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The version of this shape.
    pub version: u32,
    /// The version of mtlsd.
    pub mtlsd: String,
    /// When this was written, in Unix seconds.
    pub at: f64,
    /// Start of the process, in Unix seconds.
    pub started: f64,
    /// Whether requests are accepted: false while draining.
    pub ready: bool,
    /// Whether every worker answered.
    pub live: bool,
    /// The configuration.
    pub config: ConfigStatus,
    /// The workers, by number.
    pub workers: Vec<Worker>,
    /// The process.
    pub process: Process,
    /// The bindings, in the order of the configuration.
    pub bindings: Vec<Binding>,
}

/// The configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// The files that it is read from; none when it came from flags or the environment.
    pub files: Vec<String>,
    /// Start of its use, in Unix seconds.
    pub used_since: Option<f64>,
    /// Why the files as they are now are not in use.
    pub rejected: Option<Rejected>,
}

/// Why files are not in use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rejected {
    /// Start of this rejection, in Unix seconds.
    pub since: f64,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub help: Option<String>,
}

/// One worker thread.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Worker {
    /// Whether it answered in time.
    pub up: bool,
    /// Its client connections.
    pub client_connections: usize,
    /// Time that it was not waiting.
    pub busy_seconds: f64,
}

/// The process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// User and system time.
    pub cpu_seconds: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Open descriptors.
    pub open_fds: u64,
    /// Limit of open descriptors.
    pub max_fds: u64,
    /// Log lines that could not be written.
    pub log_lines_dropped: u64,
    /// Panics that were caught.
    pub panics: u64,
    /// Client connections that were cut off, by reason.
    pub client_cutoffs: BTreeMap<String, u64>,
    /// Requests refused before their binding was known, by error type.
    pub requests_refused: BTreeMap<String, u64>,
}

/// How a binding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Requests fail, or will fail with the certificate in use.
    Error,
    /// It works, and needs attention.
    Warning,
    /// All is well.
    Ok,
}

/// One binding.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Binding {
    /// Its name.
    pub name: String,
    /// How it is.
    pub health: Health,
    /// What is wrong, most severe first.
    pub problems: Vec<String>,
    /// Its listeners' addresses.
    pub listen: Vec<String>,
    /// A command that sends a request through it.
    pub curl: String,
    /// The URL of its origin.
    pub origin: Option<String>,
    /// The certificate it presents.
    pub certificate: Certificate,
    /// Its requests.
    pub requests: Requests,
    /// Its connections to origins.
    pub connections: Connections,
    /// Its TLS handshakes.
    pub handshakes: Handshakes,
    /// What its origins showed in their last full handshake.
    pub origins: Vec<Origin>,
    /// The last request that failed at mtlsd.
    pub last_failure: Option<Failure>,
}

/// A certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// The subject's distinguished name.
    pub subject: String,
    /// The issuer's distinguished name.
    pub issuer: String,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// Where it comes from.
    pub source: String,
    /// Start of the presented chain's validity, in Unix seconds.
    pub not_before: f64,
    /// End of the presented chain's validity, in Unix seconds.
    pub not_after: f64,
    /// Seconds until then; negative when it has expired.
    pub expires_in_seconds: f64,
    /// The share of its lifetime that has passed: 0 to 1, above when it has expired.
    pub lifetime_used: f64,
    /// How often it was loaded since the start.
    pub generation: u64,
    /// When it was loaded, in Unix seconds.
    pub published: f64,
    /// Loads of changed files that led to a new generation.
    pub reloads_published: u64,
    /// Loads of changed files that were rejected.
    pub reloads_rejected: u64,
    /// Why the files as they are now are not in use.
    pub rejected: Option<Rejected>,
    /// The last generations, oldest first.
    pub rotations: Vec<Rotation>,
    /// What will be a problem with it.
    pub notes: Vec<Note>,
    /// When the first CA certificate of its `ca` file expires, in Unix seconds.
    pub ca_expires: Option<f64>,
    /// When the first CRL of its `crl` file is out of date, in Unix seconds.
    pub crl_expires: Option<f64>,
}

/// One generation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rotation {
    /// When it was published, in Unix seconds.
    pub at: f64,
    /// Its number.
    pub generation: u64,
    /// The serial number of its leaf in hexadecimal.
    pub serial: String,
}

/// Something that will be a problem with a certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Note {
    /// The word for it.
    pub kind: String,
    /// The note.
    pub text: String,
}

/// The requests of a binding.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Requests {
    /// All that have ended.
    pub total: u64,
    /// By status code.
    pub by_code: BTreeMap<u16, u64>,
    /// A second, over the last minute.
    pub per_second: f64,
    /// The median duration in seconds, over the last minute.
    pub p50_seconds: Option<f64>,
    /// The 99th percentile of the duration in seconds, over the last minute; the largest bound when
    /// it is above that.
    pub p99_seconds: Option<f64>,
    /// Requests in each of the last intervals of five seconds, oldest first, and those of them with
    /// a status of 500 or above.
    pub chart: Vec<(u64, u64)>,
    /// In flight now.
    pub in_flight: usize,
    /// `max_requests_in_flight`.
    pub in_flight_limit: usize,
    /// Bytes of request bodies.
    pub request_bytes: u64,
    /// Bytes of response bodies.
    pub response_bytes: u64,
    /// Sent once more, by reason.
    pub retries: BTreeMap<String, u64>,
    /// Failed at mtlsd, by error type and cause.
    pub errors: Vec<Errors>,
}

/// Requests that failed for the same reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Errors {
    /// The error type (RFC 9209).
    pub error: String,
    /// The cause.
    pub cause: String,
    /// How many.
    pub count: u64,
}

/// The connections of a binding to its origins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Connections {
    /// With at least one request.
    pub active: usize,
    /// Without one.
    pub idle: usize,
    /// Those of them that speak HTTP/2.
    pub http2: usize,
    /// Those of them that still use a certificate which has been replaced.
    pub outdated: usize,
    /// `max_connections`.
    pub limit: usize,
    /// Requests that wait for a connection.
    pub waiting: usize,
    /// Opened since the start.
    pub opened: u64,
    /// Closed since the start, by reason.
    pub closed: BTreeMap<String, u64>,
}

/// The TLS handshakes of a binding with its origins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Handshakes {
    /// By result: `full`, `resumed`, `failed`.
    pub by_result: BTreeMap<String, u64>,
    /// With a request for a client certificate.
    pub certificate_requested: u64,
    /// Without one.
    pub certificate_not_requested: u64,
}

/// What an origin showed in its last full handshake.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// `host:port`.
    pub origin: String,
    /// When, in Unix seconds.
    pub at: f64,
    /// What it asks of clients.
    pub asks: String,
    /// End of its certificate's validity, in Unix seconds.
    pub not_after: Option<f64>,
}

/// A request that failed at mtlsd.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// When, in Unix seconds.
    pub at: f64,
    /// The error type (RFC 9209).
    pub error: String,
    /// The cause.
    pub cause: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub next_step: Option<String>,
}

impl Status {
    /// Returns the status that `report` describes.
    pub fn new(report: &Report, history: &History) -> Self {
        let board = &report.board;
        let bindings = board.bindings.iter().filter_map(|state| {
            let (sample, load) = report.bindings.get(&state.name)?;
            let lately = history.lately(&state.name);
            Some(Binding::new(
                state,
                sample.as_ref(),
                load,
                lately,
                report.at,
            ))
        });
        let words = |counts: &BTreeMap<&'static str, u64>| {
            counts
                .iter()
                .map(|(word, count)| ((*word).to_owned(), *count))
                .collect()
        };
        Self {
            version: VERSION,
            mtlsd: env!("CARGO_PKG_VERSION").to_owned(),
            at: unix(report.at),
            started: report.system.started.map_or(0.0, unix),
            ready: !report.draining,
            live: report.is_live(),
            config: ConfigStatus {
                files: board.config.files.clone(),
                used_since: board.config.used_since.map(unix),
                rejected: board.config.rejected.as_ref().map(Rejected::new),
            },
            workers: report
                .workers
                .iter()
                .map(|worker| Worker {
                    up: worker.up,
                    client_connections: worker.sample.clients,
                    busy_seconds: worker.sample.busy_seconds,
                })
                .collect(),
            process: Process {
                cpu_seconds: report.system.cpu.as_secs_f64(),
                resident_bytes: report.system.resident_bytes,
                open_fds: report.system.open_fds,
                max_fds: report.system.max_fds,
                log_lines_dropped: report.process.dropped.iter().sum(),
                panics: report.process.panics,
                client_cutoffs: words(&report.process.cutoffs),
                requests_refused: words(&report.process.refused),
            },
            bindings: bindings.collect(),
        }
    }

    /// The binding of this name.
    pub fn binding(&self, name: &str) -> Option<&Binding> {
        self.bindings.iter().find(|binding| binding.name == name)
    }
}

impl Rejected {
    fn new(rejection: &Rejection) -> Self {
        Self {
            since: unix(rejection.since),
            reason: rejection.reason.clone(),
            help: rejection.help.clone(),
        }
    }
}

impl Binding {
    fn new(
        state: &BindingState,
        sample: Option<&BindingSample>,
        load: &Load,
        lately: Lately,
        now: SystemTime,
    ) -> Self {
        let empty = BindingSample::default();
        let sample = sample.unwrap_or(&empty);
        let certificate = Certificate::new(state, now);
        let last_failure = sample.last_failure.as_ref();
        let recent = last_failure
            .filter(|failure| now.duration_since(failure.at).is_ok_and(|ago| ago < RECENT));
        let (health, problems) = judge(&certificate, load, state, recent.map(|f| &*f.message));
        let open = load.connections;
        Self {
            name: state.name.to_string(),
            health,
            problems,
            listen: state.listen.clone(),
            curl: state.curl.clone(),
            origin: state.origin.clone(),
            certificate,
            requests: Requests {
                total: sample.requests(),
                by_code: sample.codes.clone(),
                per_second: lately.requests_per_second,
                p50_seconds: lately.p50.map(|p50| p50.min(BUCKETS[BUCKETS.len() - 1])),
                p99_seconds: lately.p99.map(|p99| p99.min(BUCKETS[BUCKETS.len() - 1])),
                chart: lately.chart,
                in_flight: load.in_flight,
                in_flight_limit: state.in_flight_limit,
                request_bytes: sample.request_bytes,
                response_bytes: sample.response_bytes,
                retries: by_word(RetryReason::ALL.map(RetryReason::label), sample.retries),
                errors: sample
                    .errors
                    .iter()
                    .map(|((error, cause), count)| Errors {
                        error: (*error).to_owned(),
                        cause: (*cause).to_owned(),
                        count: *count,
                    })
                    .collect(),
            },
            connections: Connections {
                active: open.http1_active + open.http2_active,
                idle: open.http1_idle + open.http2_idle,
                http2: open.http2_active + open.http2_idle,
                outdated: open.outdated,
                limit: state.connections_limit,
                waiting: load.waiting,
                opened: sample.opened,
                closed: by_word(Closed::ALL.map(Closed::label), sample.closed),
            },
            handshakes: Handshakes {
                by_result: by_word(Handshake::ALL.map(Handshake::label), sample.handshakes),
                certificate_requested: sample.requested[1],
                certificate_not_requested: sample.requested[0],
            },
            origins: sample
                .origins
                .iter()
                .map(|(origin, state)| Origin {
                    origin: origin.to_string(),
                    at: unix(state.at),
                    asks: state.asks.clone(),
                    not_after: state.not_after.map(unix),
                })
                .collect(),
            last_failure: last_failure.map(|failure| Failure {
                at: unix(failure.at),
                error: failure.error.to_owned(),
                cause: failure.cause.to_owned(),
                message: failure.message.clone(),
                next_step: failure.next_step.clone(),
            }),
        }
    }
}

impl Certificate {
    fn new(state: &BindingState, now: SystemTime) -> Self {
        let certificate = &state.certificate;
        Self {
            subject: certificate.identity.subject.clone(),
            issuer: certificate.identity.issuer.clone(),
            serial: certificate.identity.serial.clone(),
            source: state.source.clone(),
            not_before: unix(certificate.not_before),
            not_after: unix(certificate.not_after),
            expires_in_seconds: unix(certificate.not_after) - unix(now),
            lifetime_used: certificate.used(now),
            generation: certificate.generation,
            published: unix(certificate.published),
            reloads_published: certificate.reloads[0],
            reloads_rejected: certificate.reloads[1],
            rejected: certificate.rejected.as_ref().map(Rejected::new),
            rotations: certificate
                .rotations
                .iter()
                .map(|rotation| Rotation {
                    at: unix(rotation.at),
                    generation: rotation.generation,
                    serial: rotation.serial.clone(),
                })
                .collect(),
            notes: certificate
                .notes
                .iter()
                .map(|note| Note {
                    kind: note.kind.to_owned(),
                    text: note.text.clone(),
                })
                .collect(),
            ca_expires: certificate
                .ca_expires
                .as_ref()
                .map(|expiry| unix(expiry.at)),
            crl_expires: certificate
                .crl_expires
                .as_ref()
                .map(|expiry| unix(expiry.at)),
        }
    }
}

/// How a binding is, and what is wrong, most severe first.
fn judge(
    certificate: &Certificate,
    load: &Load,
    state: &BindingState,
    failure: Option<&str>,
) -> (Health, Vec<String>) {
    let mut errors = Vec::new();
    let mut warnings = Vec::new();
    if certificate.expires_in_seconds <= 0.0 {
        errors.push("the certificate has expired".to_owned());
    } else if certificate.lifetime_used < 0.0 {
        errors.push("the certificate is not valid yet".to_owned());
    } else if certificate.lifetime_used >= ALMOST_OVER {
        errors.push("the certificate is about to expire".to_owned());
    }
    if let Some(rejected) = &certificate.rejected {
        errors.push(format!(
            "the files on disk are rejected: {}",
            rejected.reason
        ));
    }
    if let Some(failure) = failure {
        errors.push(format!("a request failed: {failure}"));
    }
    if load.waiting > 0 {
        warnings.push("requests wait for a connection to the origin".to_owned());
    }
    if load.in_flight >= state.in_flight_limit {
        warnings.push("max_requests_in_flight is reached".to_owned());
    }
    warnings.extend(certificate.notes.iter().map(|note| note.text.clone()));
    let health = if !errors.is_empty() {
        Health::Error
    } else if !warnings.is_empty() {
        Health::Warning
    } else {
        Health::Ok
    };
    errors.append(&mut warnings);
    (health, errors)
}

/// A failure younger than this counts as trouble.
const RECENT: Duration = Duration::from_secs(300);
/// The share of a certificate's lifetime after which it should long have been renewed.
const ALMOST_OVER: f64 = 0.95;

fn by_word<const N: usize>(words: [&str; N], counts: [u64; N]) -> BTreeMap<String, u64> {
    words.into_iter().map(str::to_owned).zip(counts).collect()
}
