//! Why a request was not forwarded, and who is to blame: the blame decides the status.

pub mod fault;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

mod distrust;

pub use distrust::{Distrust, NameHint, Uncovered};

/// Why a connection to an origin ended, as seen where it happened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// The origin sent a TLS alert: its number and its name (RFC 8446 section 6).
    #[error("the origin sent the TLS alert {1}")]
    Alert(u8, String),
    /// The origin closed the connection.
    #[error("the origin closed the connection")]
    Closed,
    /// The connection was reset, or failed in another way of the system's.
    #[error("the connection failed: {0}")]
    Io(io::ErrorKind),
    /// What answered does not speak TLS.
    #[error("what answers there speaks {0}")]
    NotTls(Tongue),
    /// The origin speaks no TLS that mtlsd does.
    #[error("the origin's TLS is not compatible: {0}")]
    Incompatible(String),
    /// The origin asked for a certificate after the handshake.
    #[error("the origin asked for a certificate after the handshake")]
    LateRequest,
    /// TLS broke on our side.
    #[error("TLS: {0}")]
    Tls(String),
    /// The origin closed the connection without saying so in TLS (no close_notify).
    #[error("the origin closed the connection without a TLS close_notify")]
    Truncated,
    /// The connection did not respond: nothing was acknowledged, or a PING was not answered.
    #[error("the connection did not respond within {}", humantime::format_duration(*.0))]
    Unresponsive(Duration),
}

/// A limit of this machine, or of this process on it, that was reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Exhausted {
    /// The file descriptors of this process, of which there may be so many.
    #[error("mtlsd has reached its limit of {0} open file descriptors (RLIMIT_NOFILE)")]
    Descriptors(u64),
    /// The file descriptors of this machine.
    #[error("this machine has reached its limit of open files (fs.file-max)")]
    SystemDescriptors,
    /// The local ports for connections to one address.
    #[error("this machine has no free local port for another connection to the origin")]
    Ports,
    /// Memory for sockets.
    #[error("this machine has no memory for another socket")]
    Memory,
    /// Threads.
    #[error("this machine allows no further thread")]
    Threads,
}

impl Exhausted {
    /// The limit that a failed system call has met; `None` where it failed for another reason.
    /// `EADDRNOTAVAIL` has two reasons, and is left to the code that dials.
    pub fn of(error: &io::Error) -> Option<Self> {
        match Errno::from_io_error(error)? {
            Errno::MFILE => Some(Self::Descriptors(
                getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            )),
            Errno::NFILE => Some(Self::SystemDescriptors),
            Errno::NOMEM | Errno::NOBUFS => Some(Self::Memory),
            _ => None,
        }
    }

    /// A word for programs.
    pub fn cause(self) -> &'static str {
        match self {
            Self::Descriptors(_) => "file_descriptors",
            Self::SystemDescriptors => "system_file_descriptors",
            Self::Ports => "local_ports",
            Self::Memory => "socket_memory",
            Self::Threads => "threads",
        }
    }

    /// What to do about it.
    pub fn help(self) -> &'static str {
        match self {
            Self::Descriptors(_) => {
                "raise the limit (`LimitNOFILE=` in the systemd unit, `ulimit -n` in a shell), or lower `max_connections`"
            }
            Self::SystemDescriptors => {
                "raise the sysctl fs.file-max, or find the process that holds so many open files (`lsof`)"
            }
            Self::Ports => {
                "widen the sysctl net.ipv4.ip_local_port_range, or lower `max_connections`; `ss -tan` shows what holds the ports"
            }
            Self::Memory => {
                "raise the memory limit of the container or service, or the sysctl net.ipv4.tcp_mem"
            }
            Self::Threads => {
                "raise the limit on tasks (`TasksMax=` in the systemd unit, `--pids-limit` of a container)"
            }
        }
    }
}

/// What is spoken where TLS was expected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tongue {
    /// HTTP, in plain text.
    Http,
    /// Something else.
    Other,
}

impl fmt::Display for Tongue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "plain HTTP",
            Self::Other => "no TLS",
        })
    }
}

/// How far a new connection had come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// The origin's name was looked up.
    Name,
    /// TCP was being established.
    Tcp,
    /// TLS was being established.
    Tls,
}

fn unfinished(phase: Phase) -> &'static str {
    match phase {
        Phase::Name => "the origin's name was not found",
        Phase::Tcp => "the origin took no connection",
        Phase::Tls => "the TLS handshake was not finished",
    }
}

/// Why a request head was refused before it was parsed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}")]
pub struct HeadError {
    /// What kind of fault it is.
    pub kind: HeadFault,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl HeadError {
    /// A request head has more than `limit` fields.
    pub fn too_many_fields(limit: usize) -> Self {
        Self {
            kind: HeadFault::TooLarge,
            what: format!("the request head has more than {limit} fields (`max_header_fields`)"),
            fix: "send fewer fields, or raise `max_header_fields`".to_owned(),
        }
    }
}

/// What kind of fault a head has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadFault {
    /// It is not HTTP/1.
    Malformed,
    /// It has too many bytes or fields.
    TooLarge,
    /// Its target is too long.
    TargetTooLong,
    /// It did not come in time.
    Timeout,
}

/// Why a request got no answer from an origin.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ForwardError {
    /// The request is not one that can be passed on as one unambiguous message.
    #[error("{0}")]
    BadRequest(&'static str),
    /// A request head was refused before it was parsed.
    #[error("{0}")]
    Head(HeadError),
    /// The origin's certificate failed verification.
    #[error("the origin's certificate failed verification: {0}")]
    Certificate(Distrust),
    /// The client stopped sending its request body.
    #[error("the client sent nothing of the request body for {}", humantime::format_duration(*.0))]
    ClientStalled(Duration),
    /// CONNECT, which would hide the request from mtlsd.
    #[error("CONNECT is not served")]
    Connect,
    /// No connection could be established.
    #[error("cannot connect to {0}: {1}")]
    Dial(SocketAddr, Failure),
    /// The origin's name has no address.
    #[error("cannot find the address of {0}: {1}")]
    Dns(String, String),
    /// This machine has no resources for another connection or lookup.
    #[error("cannot connect to the origin: {0}")]
    Exhausted(Exhausted),
    /// A web page that was not allowed to use the binding.
    #[error("{0}")]
    Forbidden(String),
    /// gRPC, whose outcome stands in trailers that HTTP/1.1 does not carry reliably.
    #[error("gRPC needs HTTP/2, and the origin speaks http/1.1 here")]
    Grpc,
    /// The origin does not speak HTTP/2, which the binding demands.
    #[error("the origin does not speak HTTP/2 (ALPN), and `protocol` demands it")]
    NoHttp2,
    /// The origin asked for no certificate, though the binding wants to be asked.
    #[error("the origin did not ask for a certificate (`require_request`)")]
    NotAsked,
    /// The TLS handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Handshake(Failure),
    /// No connection became free in time.
    #[error("all {0} connections are busy (`max_connections`)")]
    NoConnection(usize),
    /// Too many requests at once.
    #[error("{0} requests are in flight already (`max_requests_in_flight`)")]
    NoRequest(usize),
    /// The request names no binding, or nothing that its binding may reach.
    #[error("{0}")]
    Misdirected(String),
    /// A wildcard led to an address that is not public.
    #[error("{0} leads only to addresses that are not public")]
    NotPublic(String),
    /// The host is no name that a certificate could prove.
    #[error("{0} is not a name that TLS can verify")]
    ServerName(String),
    /// The origin stopped taking the request body.
    #[error("the origin took nothing of the request body for {}", humantime::format_duration(*.0))]
    OriginStalled(Duration),
    /// The connection ended before the response's head had come.
    #[error("no response came: {0}")]
    Terminated(Failure),
    /// The head of the response cannot be parsed, or exceeds a limit.
    #[error("the origin's response is malformed: {0}")]
    Response(HeadError),
    /// What came is not HTTP.
    #[error("the origin's response is not HTTP: {0}")]
    Protocol(String),
    /// The origin says in HTTP/2 that it has not processed the request (RFC 9113 section 8.7).
    #[error("the origin did not process the request: {0}")]
    Unprocessed(String),
    /// The origin reset the request's HTTP/2 stream.
    #[error("the origin reset the request's HTTP/2 stream ({0})")]
    StreamReset(String),
    /// The response's head did not come in time.
    #[error("the origin sent no response within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// DNS, TCP and TLS took too long, and how far they had come.
    #[error("{} within {}", unfinished(*.1), humantime::format_duration(*.0))]
    TimeoutConnecting(Duration, Phase),
    /// The origin switched protocols, and nobody had asked it to.
    #[error("the origin answered 101 and nobody asked it to switch protocols")]
    Upgrade,
}

impl ForwardError {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Head(error) => match error.kind {
                HeadFault::Malformed => StatusCode::BAD_REQUEST,
                HeadFault::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                HeadFault::TargetTooLong => StatusCode::URI_TOO_LONG,
                HeadFault::Timeout => StatusCode::REQUEST_TIMEOUT,
            },
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::ClientStalled(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Misdirected(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::Certificate(_)
            | Self::Dial(..)
            | Self::Dns(..)
            | Self::Grpc
            | Self::Handshake(_)
            | Self::NoHttp2
            | Self::NotAsked
            | Self::NotPublic(_)
            | Self::Protocol(_)
            | Self::Response(_)
            | Self::ServerName(_)
            | Self::StreamReset(_)
            | Self::Unprocessed(_)
            | Self::Upgrade => StatusCode::BAD_GATEWAY,
            Self::Terminated(Failure::Unresponsive(_)) => StatusCode::GATEWAY_TIMEOUT,
            Self::Terminated(_) => StatusCode::BAD_GATEWAY,
            Self::Exhausted(_) | Self::NoConnection(_) | Self::NoRequest(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::OriginStalled(_) | Self::Timeout(_) | Self::TimeoutConnecting(..) => {
                StatusCode::GATEWAY_TIMEOUT
            }
        }
    }

    /// The status a gRPC client is told (its "Status codes and their use in gRPC"); never one that
    /// invites a retry where the origin may have acted.
    pub fn grpc_status(&self) -> u8 {
        const UNKNOWN: u8 = 2;
        const DEADLINE_EXCEEDED: u8 = 4;
        const PERMISSION_DENIED: u8 = 7;
        const FAILED_PRECONDITION: u8 = 9;
        const UNIMPLEMENTED: u8 = 12;
        const INTERNAL: u8 = 13;
        const UNAVAILABLE: u8 = 14;
        match self {
            Self::BadRequest(_)
            | Self::Head(_)
            | Self::Protocol(_)
            | Self::Response(_)
            | Self::StreamReset(_) => INTERNAL,
            Self::Forbidden(_) => PERMISSION_DENIED,
            Self::Misdirected(_)
            | Self::NoHttp2
            | Self::NotAsked
            | Self::NotPublic(_)
            | Self::ServerName(_) => FAILED_PRECONDITION,
            Self::Grpc | Self::Connect | Self::Upgrade => UNIMPLEMENTED,
            Self::ClientStalled(_) | Self::OriginStalled(_) | Self::Timeout(_) => DEADLINE_EXCEEDED,
            // In TLS 1.3 a certificate is refused after the handshake, before anybody looked at a
            // request. Clients that speak TLS themselves say the same of it.
            Self::Terminated(Failure::Alert(40 | 42..=46 | 48 | 49 | 51 | 116, _)) => UNAVAILABLE,
            Self::Terminated(Failure::Unresponsive(_)) => DEADLINE_EXCEEDED,
            Self::Terminated(_) => UNKNOWN,
            Self::Certificate(_)
            | Self::Dial(..)
            | Self::Dns(..)
            | Self::Exhausted(_)
            | Self::Handshake(_)
            | Self::NoConnection(_)
            | Self::NoRequest(_)
            | Self::TimeoutConnecting(..)
            | Self::Unprocessed(_) => UNAVAILABLE,
        }
    }

    /// The error type of RFC 9209 section 2.3, for `Proxy-Status` and the log.
    pub fn token(&self) -> &'static str {
        match self {
            Self::BadRequest(_) | Self::Head(_) => "http_request_error",
            Self::Forbidden(_) | Self::Connect => "http_request_denied",
            Self::ClientStalled(_) => "http_request_error",
            Self::Misdirected(_) => "destination_not_found",
            Self::Certificate(_) => "tls_certificate_error",
            Self::Dial(_, Failure::Io(io::ErrorKind::ConnectionRefused)) => "connection_refused",
            Self::Dial(..) => "destination_ip_unroutable",
            Self::Dns(..) => "dns_error",
            Self::NotPublic(_) => "destination_ip_prohibited",
            Self::NotAsked => "tls_protocol_error",
            Self::Grpc | Self::ServerName(_) => "proxy_configuration_error",
            Self::Exhausted(Exhausted::Descriptors(_) | Exhausted::Ports) => {
                "connection_limit_reached"
            }
            Self::Exhausted(_) => "proxy_internal_error",
            Self::Response(error) if error.kind == HeadFault::TooLarge => {
                "http_response_header_section_size"
            }
            Self::Protocol(_) | Self::Response(_) | Self::NoHttp2 | Self::StreamReset(_) => {
                "http_protocol_error"
            }
            Self::Unprocessed(_) => "connection_terminated",
            Self::Handshake(failure) | Self::Terminated(failure) => match failure {
                Failure::Alert(..) => "tls_alert_received",
                Failure::Tls(_)
                | Failure::NotTls(_)
                | Failure::Incompatible(_)
                | Failure::LateRequest => "tls_protocol_error",
                Failure::Closed | Failure::Io(_) | Failure::Truncated => "connection_terminated",
                Failure::Unresponsive(_) => "connection_read_timeout",
            },
            Self::Upgrade => "http_upgrade_failed",
            Self::NoConnection(_) | Self::NoRequest(_) => "connection_limit_reached",
            Self::OriginStalled(_) => "connection_write_timeout",
            Self::Timeout(_) => "http_response_timeout",
            Self::TimeoutConnecting(_, Phase::Name) => "dns_timeout",
            Self::TimeoutConnecting(..) => "connection_timeout",
        }
    }
}
