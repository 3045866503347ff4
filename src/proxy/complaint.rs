//! What is said about failures: mtlsd's own, and answers in which an origin complains about a
//! certificate.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::response;
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::diagnosis::{self, Evidence, Report};
use crate::error::ForwardError;
use crate::log;
use crate::metrics::{self, Failure};
use crate::upstream::Lease;

use super::answer;
use super::record::Record;
use super::relay::Ahead;

/// What is known about a request that gets no answer because of `error`.
pub fn report(error: &ForwardError, record: &Record) -> Report {
    let kept = record.trace.evidence.borrow();
    let evidence = Evidence {
        facts: kept.as_ref().map(|kept| &*kept.facts),
        identity: kept.as_ref().map(|kept| kept.generation.identity()),
        reached: record.trace.upstream.get(),
        now: SystemTime::now(),
    };
    Report::of(error, evidence, record.binding(), record.origin())
}

/// Counts a failure, for its binding or, where none is known, for the process.
pub fn count(error: &ForwardError, report: &Report, record: &Record) {
    let Some(service) = &record.service else {
        metrics::process().refused(error.token());
        return;
    };
    let counters = service.meter().counters();
    counters.error(error.token(), report.cause);
    if error.status().is_server_error() {
        counters.failed(Failure {
            at: SystemTime::now(),
            error: error.token(),
            cause: report.cause,
            message: report.detail.clone(),
            next_step: (!report.next_step.is_empty()).then(|| report.next_step.clone()),
        });
    }
}

/// Logs a failure that somebody should look at.
pub fn log_failure(error: &ForwardError, report: &Report, record: &Record) {
    let peer = record.peer.map(tracing::field::display);
    let host = record.host.as_deref();
    let connect = matches!(error, ForwardError::Connect);
    // A head that was refused before it was parsed is in the log already.
    let malformed = matches!(error, ForwardError::BadRequest(_));
    if !error.status().is_server_error() && !connect && !malformed {
        return;
    }
    let binding = record.logged_binding();
    let Some(unsaid) = log::once_a_minute(binding.unwrap_or_default(), report.cause) else {
        return;
    };
    if connect {
        tracing::warn!(
            binding,
            host,
            peer,
            unsaid,
            "a client sent CONNECT: have it use http:// URLs, mtlsd adds the TLS"
        );
        return;
    }
    let certificate = report.certificate.as_ref();
    let accepts = diagnosis::some_of(&report.accepted_authorities);
    tracing::warn!(
        binding,
        origin = report.origin,
        address = report.address.map(tracing::field::display),
        status = error.status().as_u16(),
        kind = error.token(),
        cause = report.cause,
        alert = report.alert.as_ref().map(|alert| alert.name.as_str()),
        subject = certificate.map(|one| one.subject.as_str()),
        issuer = certificate.map(|one| one.issuer.as_str()),
        serial = certificate.map(|one| one.serial.as_str()),
        not_after = certificate.map(|one| one.not_after.as_str()),
        accepts = (!accepts.is_empty()).then_some(accepts),
        host,
        peer,
        error = report.detail,
        next_step = report.next_step,
        unsaid,
        "request failed"
    );
}

/// Looks whether an answer complains about a certificate, and says so beside it: in the log, and
/// in the field `Proxy-Status`. Returns what it had to read of the body for that.
pub async fn look(
    head: &mut response::Parts,
    body: &mut Incoming,
    lease: &Lease,
    record: &Record,
) -> Option<Ahead> {
    let begin = match diagnosis::may_tell(head.status) && is_page(head) {
        true => begin(body).await,
        false => None,
    };
    let facts = lease.facts();
    let evidence = Evidence {
        facts: Some(&facts),
        identity: Some(lease.generation().identity()),
        reached: record.trace.upstream.get(),
        now: SystemTime::now(),
    };
    let text = match &begin {
        Some(Ok(frame)) => frame.data_ref().map_or(&[][..], |data| data.as_ref()),
        _ => &[],
    };
    if let Some(diagnosis) = diagnosis::told(head.status, text, evidence) {
        let report = Report::new(diagnosis, evidence, record.binding(), record.origin());
        let status = head.status.as_u16();
        log_complaint(status, &report);
        if !record.is_brief() {
            let remark = answer::remark(status, &report);
            head.headers.append("proxy-status", remark);
        }
        // For `mtlsd fetch`, which tells the user more than a field of the head can.
        head.extensions.insert(report);
    }
    begin
}

fn log_complaint(status: u16, report: &Report) {
    let binding = report.binding.as_deref();
    let Some(unsaid) = log::once_a_minute(binding.unwrap_or_default(), report.cause) else {
        return;
    };
    let certificate = report.certificate.as_ref();
    tracing::warn!(
        binding,
        origin = report.origin,
        address = report.address.map(tracing::field::display),
        status,
        cause = report.cause,
        subject = certificate.map(|one| one.subject.as_str()),
        issuer = certificate.map(|one| one.issuer.as_str()),
        serial = certificate.map(|one| one.serial.as_str()),
        not_after = certificate.map(|one| one.not_after.as_str()),
        detail = report.detail,
        next_step = report.next_step,
        unsaid,
        "the origin complains"
    );
}

/// Whether a body can be read by looking at it.
fn is_page(head: &response::Parts) -> bool {
    let mut kinds = head.headers.get_all(CONTENT_TYPE).iter();
    let is_text = kinds.any(|kind| kind.as_bytes().starts_with(b"text/"));
    is_text && !head.headers.contains_key(CONTENT_ENCODING)
}

/// The first piece of a body, if it comes soon: an error page comes with its head.
async fn begin(body: &mut Incoming) -> Option<Ahead> {
    if body.is_end_stream() {
        return None;
    }
    let first = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
    timeout(SOON, first).await.ok()?
}

const SOON: Duration = Duration::from_millis(300);
