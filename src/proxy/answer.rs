//! mtlsd's own answers: what went wrong, and what to do about it.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL,
    CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Response, StatusCode, Version};
use hyper::ext::ReasonPhrase;
use serde::Serialize;

use crate::diagnosis::Report;
use crate::error::ForwardError;

use super::forwards::Reply;
use super::record::Record;
use super::relay::ResponseBody;

/// What stands in the extensions of an answer of ours.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Why there is no other answer.
    pub error: ForwardError,
    /// The same in a sentence.
    pub detail: String,
}

/// The answer that explains `error` as `report` does, or, where that is nobody's business, `brief`.
pub fn explain(
    error: &ForwardError,
    report: &Report,
    brief: bool,
    record: Record,
) -> Response<ResponseBody> {
    let page = record.page.clone();
    let mut response = match record.grpc && record.version == Version::HTTP_2 {
        true => explain_to_grpc(error, report, brief, record),
        false => explain_to_http(error, report, brief, record),
    };
    let status = proxy_status(error, report, brief);
    response.headers_mut().insert("proxy-status", status);
    if let Some(page) = page {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, page);
        // Also where the page sends its cookies along.
        let yes = HeaderValue::from_static("true");
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        headers.insert(VARY, HeaderValue::from_static("Origin"));
    }
    // For whoever asked in this very process, and can tell more from it than from a status.
    let (error, detail) = (error.clone(), report.detail.clone());
    response.extensions_mut().insert(Failed { error, detail });
    response
}

/// A response of mtlsd's own that is no error.
pub fn reply(reply: Reply, mut record: Record) -> Response<ResponseBody> {
    record.status = StatusCode::OK;
    let body = ResponseBody::Own(Bytes::from(reply.text), Box::new(record));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    if let Some(methods) = reply.allow {
        headers.insert(ALLOW, HeaderValue::from_static(methods));
    }
    if let Some(kind) = reply.content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    response
}

/// What gRPC calls Trailers-Only: the outcome in the head, and no body.
fn explain_to_grpc(
    error: &ForwardError,
    report: &Report,
    brief: bool,
    record: Record,
) -> Response<ResponseBody> {
    let message = match (brief, report.next_step.as_str()) {
        (true, _) => format!("mtlsd: {}", error.token()),
        (false, "") => format!("mtlsd: {}", report.detail),
        (false, next) => format!("mtlsd: {}. Next step: {next}", report.detail),
    };
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
    response
}

fn explain_to_http(
    error: &ForwardError,
    report: &Report,
    brief: bool,
    record: Record,
) -> Response<ResponseBody> {
    let (content_type, text) = match (record.prefers_json, brief) {
        (true, _) => ("application/problem+json", problem(error, report, brief)),
        (false, true) => (
            "text/plain; charset=utf-8",
            format!("mtlsd: {}\n", error.token()),
        ),
        (false, false) => ("text/plain; charset=utf-8", report.to_string()),
    };
    let mut response = Response::new(ResponseBody::Own(Bytes::from(text), Box::new(record)));
    *response.status_mut() = error.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match error {
        // Where a message ends is no longer certain.
        ForwardError::BadRequest(_) | ForwardError::Head(_) | ForwardError::ClientStalled(_) => {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        ForwardError::Forbidden(_) => {
            // Where a page of another site opened a window, its icon would be asked for in the name
            // of this page, which is mtlsd's own.
            headers.insert(CONTENT_SECURITY_POLICY, NOTHING);
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
        ForwardError::Exhausted(_) | ForwardError::NoConnection(_) | ForwardError::NoRequest(_) => {
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

/// A problem (RFC 9457) of no further type, with the members of a [`Report`].
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    proxy_error: &'static str,
    #[serde(flatten)]
    report: Option<&'a Report>,
}

fn problem(error: &ForwardError, report: &Report, brief: bool) -> String {
    let status = error.status();
    let problem = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or_default(),
        status: status.as_u16(),
        proxy_error: error.token(),
        report: (!brief).then_some(report),
    };
    serde_json::to_string(&problem).expect("a report is JSON")
}

/// What `Proxy-Status` (RFC 9209) says of a request without an answer.
fn proxy_status(error: &ForwardError, report: &Report, brief: bool) -> HeaderValue {
    let mut text = format!("mtlsd; error={}", error.token());
    if !brief {
        if let Some(alert) = &report.alert {
            let (id, name) = (alert.id, quoted(&alert.name));
            text.push_str(&format!("; alert-id={id}; alert-message={name}"));
        }
        if let Some(address) = report.address {
            text.push_str(&format!("; next-hop=\"{address}\""));
        }
        let details = match error {
            // Which field or character it is says more than the kind.
            ForwardError::BadRequest(_) | ForwardError::Head(_) => &*report.detail,
            _ => report.cause,
        };
        text.push_str(&format!("; details={}", quoted(details)));
    }
    HeaderValue::try_from(text).expect("these are letters, digits and what is quoted")
}

/// What it says of an answer that complains about a certificate.
pub fn remark(status: u16, report: &Report) -> HeaderValue {
    let details = quoted(&format!(
        "{}. Next step: {}",
        report.detail, report.next_step
    ));
    HeaderValue::try_from(format!(
        "mtlsd; received-status={status}; details={details}"
    ))
    .expect("these are letters, digits and what is quoted")
}

/// A String of RFC 9651 section 3.3.3, which has ASCII only.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            ' '..='~' => quoted.push(letter),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
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

/// A page that loads nothing, and is of no origin.
const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'; sandbox");
