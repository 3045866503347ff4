//! mtlsd's own answers: what went wrong, and what to do about it.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response};
use hyper::ext::ReasonPhrase;

use crate::error::ForwardError;

use super::record::Record;
use super::relay::ResponseBody;

/// The answer that explains `error`.
pub fn explain(error: &ForwardError, record: Record) -> Response<ResponseBody> {
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
    let proxy_status = format!("mtlsd; error={}", error.token());
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::try_from(proxy_status) {
        headers.insert(HeaderName::from_static("proxy-status"), value);
    }
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

fn next_step(error: &ForwardError) -> Option<&'static str> {
    Some(match error {
        ForwardError::Connect => {
            "use an http:// URL in place of https://; mtlsd adds the TLS and the certificate. In a tunnel it could add neither"
        }
        ForwardError::Certificate(_) => {
            "if the origin's certificate was issued by a private authority, name that with `ca`; if it is for another name, set `server_name`"
        }
        ForwardError::Dial(..) => {
            "is the origin running, and is its port the one in the configuration?"
        }
        ForwardError::Dns(..) => {
            "is the host spelt right, and does this machine resolve it? `connect_to` dials an address instead"
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
