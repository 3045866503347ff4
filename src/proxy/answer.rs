//! mtlsd's own answers: what went wrong, and what to do about it.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, Version};
use hyper::ext::ReasonPhrase;

use crate::error::ForwardError;

use super::record::Record;
use super::relay::ResponseBody;

/// The answer that explains `error`.
pub fn explain(error: &ForwardError, record: Record) -> Response<ResponseBody> {
    let mut response = match record.grpc && record.version == Version::HTTP_2 {
        true => explain_to_grpc(error, record),
        false => explain_to_http(error, record),
    };
    // For whoever asked in this very process, and can tell more from it than from a status.
    response.extensions_mut().insert(error.clone());
    response
}

/// What gRPC calls Trailers-Only: the outcome in the head, and no body.
fn explain_to_grpc(error: &ForwardError, record: Record) -> Response<ResponseBody> {
    let message = format!("mtlsd: {error}");
    let mut response = Response::new(ResponseBody::Own(Bytes::new(), Box::new(record)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(
        "grpc-status",
        HeaderValue::from(u16::from(error.grpc_status())),
    );
    // Printable ASCII is always a field value.
    if let Ok(message) = HeaderValue::try_from(percent_encoded(&message)) {
        headers.insert("grpc-message", message);
    }
    headers.insert("proxy-status", proxy_status(error));
    response
}

fn explain_to_http(error: &ForwardError, record: Record) -> Response<ResponseBody> {
    let mut text = format!("mtlsd: {error}\n");
    if let Some(service) = &record.service {
        text.push_str(&format!("  binding: {}\n", service.name));
    }
    if let Some(target) = &record.target {
        text.push_str(&format!("  origin: https://{target}\n"));
    }
    if let Some(next) = next_step(error) {
        text.push_str(&format!("  next step: {next}\n"));
    }
    let mut response = Response::new(ResponseBody::Own(Bytes::from(text), Box::new(record)));
    *response.status_mut() = error.status();
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("proxy-status", proxy_status(error));
    match error {
        // Where a message ends is no longer certain.
        ForwardError::BadRequest(_) | ForwardError::ClientStalled(_) => {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        ForwardError::NoConnection(_) | ForwardError::NoRequest(_) => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        ForwardError::Connect => {
            headers.insert(
                ALLOW,
                HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            );
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
            response.extensions_mut().insert(ReasonPhrase::from_static(
                b"CONNECT is not served, use an http:// URL and mtlsd adds the TLS",
            ));
        }
        _ => {}
    }
    response
}

/// RFC 9209.
fn proxy_status(error: &ForwardError) -> HeaderValue {
    HeaderValue::try_from(format!("mtlsd; error={}", error.token()))
        .expect("an error type consists of letters and underscores")
}

/// As gRPC writes `grpc-message`: everything but printable ASCII, and `%`, as %XX.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(byte as char),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn next_step(error: &ForwardError) -> Option<&'static str> {
    Some(match error {
        ForwardError::Connect => {
            "use an http:// URL in place of https://; mtlsd adds the TLS and the certificate. In a tunnel it could add neither"
        }
        ForwardError::Certificate(distrust) => distrust.help(),
        ForwardError::NotAsked => {
            "have the origin ask for a client certificate; without `require_request` mtlsd talks to it all the same"
        }
        ForwardError::Dial(..) => {
            "is the origin running, and is its port the one in the configuration?"
        }
        ForwardError::Dns(..) => {
            "is the host spelt right, and does this machine resolve it? `connect_to` dials an address instead"
        }
        ForwardError::Grpc => {
            "have the origin offer h2 by ALPN; `protocol = \"http1\"` keeps mtlsd from asking for it"
        }
        ForwardError::Handshake(_) => {
            "compare the authority that issued the client certificate with those the origin accepts"
        }
        ForwardError::NoConnection(_) => {
            "raise `max_connections`, or find out what keeps the origin busy"
        }
        ForwardError::NoRequest(_) => {
            "raise `max_requests_in_flight`, or find out what keeps the origin busy"
        }
        ForwardError::NotPublic(_) => {
            "name the host itself in `allow`, or set allow_private = true"
        }
        ForwardError::Timeout(_) => "raise `response_timeout` if the origin needs longer",
        ForwardError::TimeoutConnecting(_) => {
            "is a firewall dropping the connection? `connect_timeout` says how long it may take"
        }
        ForwardError::Terminated(_) => {
            "an origin that refuses the client certificate may do so only now: look into its log"
        }
        ForwardError::BadRequest(_)
        | ForwardError::ClientStalled(_)
        | ForwardError::Forbidden(_)
        | ForwardError::Misdirected(_)
        | ForwardError::OriginStalled(_)
        | ForwardError::Protocol(_)
        | ForwardError::ServerName(_)
        | ForwardError::Upgrade => return None,
    })
}
