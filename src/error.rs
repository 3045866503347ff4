//! Why a request was not forwarded, and who is to blame: the blame decides the status.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;

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
    /// TLS broke on our side.
    #[error("TLS: {0}")]
    Tls(String),
    /// The origin closed the connection without saying so in TLS (no close_notify).
    #[error("the origin closed the connection without a TLS close_notify")]
    Truncated,
}

/// Why a request got no answer from an origin.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ForwardError {
    /// The request is not one that can be passed on as one unambiguous message.
    #[error("{0}")]
    BadRequest(&'static str),
    /// The origin's certificate is not to be believed.
    #[error("the origin's certificate was refused: {0}")]
    Certificate(String),
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
    /// A web page that was not allowed to use the binding.
    #[error("{0}")]
    Forbidden(String),
    /// gRPC, whose outcome stands in trailers that HTTP/1.1 does not carry reliably.
    #[error("gRPC needs HTTP/2, and the origin speaks http/1.1 here")]
    Grpc,
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
    /// What came is not HTTP.
    #[error("the origin's response is not HTTP: {0}")]
    Protocol(String),
    /// The response's head did not come in time.
    #[error("the origin sent no response within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// DNS, TCP and TLS took too long.
    #[error("no connection within {}", humantime::format_duration(*.0))]
    TimeoutConnecting(Duration),
    /// The origin switched protocols, and nobody had asked it to.
    #[error("the origin answered 101 and nobody asked it to switch protocols")]
    Upgrade,
}

impl ForwardError {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::ClientStalled(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Misdirected(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::Certificate(_)
            | Self::Dial(..)
            | Self::Dns(..)
            | Self::Grpc
            | Self::Handshake(_)
            | Self::NotPublic(_)
            | Self::Protocol(_)
            | Self::ServerName(_)
            | Self::Terminated(_)
            | Self::Upgrade => StatusCode::BAD_GATEWAY,
            Self::NoConnection(_) | Self::NoRequest(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::OriginStalled(_) | Self::Timeout(_) | Self::TimeoutConnecting(_) => {
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
            Self::BadRequest(_) | Self::Protocol(_) => INTERNAL,
            Self::Forbidden(_) => PERMISSION_DENIED,
            Self::Misdirected(_) | Self::NotPublic(_) | Self::ServerName(_) => FAILED_PRECONDITION,
            Self::Grpc | Self::Connect | Self::Upgrade => UNIMPLEMENTED,
            Self::ClientStalled(_) | Self::OriginStalled(_) | Self::Timeout(_) => DEADLINE_EXCEEDED,
            Self::Terminated(_) => UNKNOWN,
            Self::Certificate(_)
            | Self::Dial(..)
            | Self::Dns(..)
            | Self::Handshake(_)
            | Self::NoConnection(_)
            | Self::NoRequest(_)
            | Self::TimeoutConnecting(_) => UNAVAILABLE,
        }
    }

    /// The error type of RFC 9209 section 2.3, for `Proxy-Status` and the log.
    pub fn token(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "http_request_error",
            Self::Forbidden(_) | Self::Connect => "http_request_denied",
            Self::ClientStalled(_) => "http_request_error",
            Self::Misdirected(_) => "destination_not_found",
            Self::Certificate(_) => "tls_certificate_error",
            Self::Dial(_, Failure::Io(io::ErrorKind::ConnectionRefused)) => "connection_refused",
            Self::Dial(..) => "destination_ip_unroutable",
            Self::Dns(..) => "dns_error",
            Self::NotPublic(_) => "destination_ip_prohibited",
            Self::Grpc | Self::ServerName(_) => "proxy_configuration_error",
            Self::Protocol(_) => "http_protocol_error",
            Self::Handshake(failure) | Self::Terminated(failure) => match failure {
                Failure::Alert(..) => "tls_alert_received",
                Failure::Tls(_) => "tls_protocol_error",
                Failure::Closed | Failure::Io(_) | Failure::Truncated => "connection_terminated",
            },
            Self::Upgrade => "http_upgrade_failed",
            Self::NoConnection(_) | Self::NoRequest(_) => "connection_limit_reached",
            Self::OriginStalled(_) => "connection_write_timeout",
            Self::Timeout(_) => "http_response_timeout",
            Self::TimeoutConnecting(_) => "connection_timeout",
        }
    }
}
