//! One request on one connection: out it goes, and either the head of an answer comes back, or
//! the reason why none did.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use http::Response;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::body::{Stage, Upload};
use crate::config::Timeouts;
use crate::error::fault::{self, Fault};
use crate::error::{Failure, ForwardError, HeadError, HeadFault};
use crate::lifecycle::Alarm;
use crate::tls::Facts;

use super::Outbound;
use super::pool::Lease;

/// Why there is no answer, and what is known about the attempt.
pub struct Unanswered {
    pub error: ForwardError,
    /// Whether the request never left.
    pub unsent: bool,
    /// Whether the connection ended (rather than a wait).
    pub ended: bool,
    /// How the origin says that it has not processed the request, if it does.
    pub refused: Option<Refusal>,
    /// Whether anything was written to the connection.
    pub wrote: bool,
    /// Whether anything came back.
    pub read: bool,
    /// Whether the origin's machine has acknowledged a byte of what was sent.
    pub acknowledged: bool,
    /// Whether the connection is to blame: nothing came on it, and something had to.
    pub suspect: bool,
}

/// How an origin says that it has not processed a request (RFC 9113 section 8.7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It refused the stream.
    Stream,
    /// It closed the connection for this stream and later ones.
    GoAway,
}

impl Unanswered {
    /// Whether the connection died of silence.
    pub fn is_unresponsive(&self) -> bool {
        matches!(
            self.error,
            ForwardError::Terminated(Failure::Unresponsive(_) | Failure::Io(ErrorKind::TimedOut))
        )
    }
}

/// Sends `outbound`, at `began`, and waits for the head of the answer; no longer than `patience`
/// where nothing of the request is acknowledged by then.
pub async fn exchange(
    lease: &mut Lease,
    outbound: &mut Outbound,
    began: Instant,
    timeouts: &Timeouts,
    patience: Option<Duration>,
    alarm: &Alarm,
) -> Result<Response<Incoming>, Unanswered> {
    let facts = lease.facts();
    let before = (facts.written(), facts.read(), facts.sent());
    let stream = lease.is_stream();
    let upload = outbound.upload.share();
    let mut patience = patience;
    let mut answer = pin!(lease.send(outbound, began));
    let waited = poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready(Ok(answer));
        }
        loop {
            let wait = Wait::of(&upload, began, timeouts);
            let look = patience.map(|patience| began + patience);
            let until = look.map_or(wait.until, |look| look.min(wait.until));
            if alarm.poll(cx, until).is_pending() {
                // The end of the body begins another wait, which may be a shorter one.
                upload.wake_at_end(cx);
                return Poll::Pending;
            }
            if let Some(look) = look.filter(|look| *look <= Instant::now()) {
                patience = None;
                if facts.read() == before.1 && is_undelivered(&facts, before.2) {
                    let error = ForwardError::Terminated(Failure::Unresponsive(look - began));
                    return Poll::Ready(Err(error));
                }
                continue;
            }
            // The body may have moved on since the alarm was set.
            if Wait::of(&upload, began, timeouts).until <= Instant::now() {
                return Poll::Ready(Err(wait.error));
            }
        }
    })
    .await;
    let unanswered = |error, unsent: bool, ended: bool| Unanswered {
        acknowledged: facts.acknowledged() > before.2,
        suspect: matches!(
            error,
            ForwardError::Timeout(_)
                | ForwardError::OriginStalled(_)
                | ForwardError::Terminated(Failure::Unresponsive(_))
        ) && !ended
            && (stream || facts.read() == before.1),
        error,
        unsent,
        ended,
        refused: None,
        // On a connection with other streams nothing is known of one from its bytes.
        wrote: stream || facts.written() > before.0,
        read: !stream && facts.read() > before.1,
    };
    match waited {
        Ok(Ok(response)) => Ok(response),
        Err(error) => Err(unanswered(error, false, false)),
        Ok(Err(mut failed)) => {
            let unsent = failed.take_message().is_some();
            let cause = http2_cause(failed.error());
            let error = explain(failed.error(), cause, &upload, &facts);
            Err(Unanswered {
                refused: cause.and_then(refusal),
                // A stream that the origin reset says nothing of the connection.
                ..unanswered(error, unsent, !cause.is_some_and(h2::Error::is_reset))
            })
        }
    }
}

/// Whether the origin's machine has acknowledged nothing of what was sent after the first `before`
/// bytes, while there is something to acknowledge.
fn is_undelivered(facts: &Facts, before: u64) -> bool {
    let queue = facts.send_queue();
    let waits = queue.is_some_and(|queue| queue.unacknowledged > 0);
    waits && facts.acknowledged() <= before
}

/// What is waited for, until when, and what it is called when it does not come.
struct Wait {
    until: Instant,
    error: ForwardError,
}

impl Wait {
    fn of(upload: &Upload, began: Instant, timeouts: &Timeouts) -> Self {
        let since = upload.since().unwrap_or(began);
        match upload.stage() {
            Stage::Finished => Self {
                until: since.max(began) + timeouts.response,
                error: ForwardError::Timeout(timeouts.response),
            },
            Stage::AwaitingClient => Self {
                until: since + timeouts.body,
                error: ForwardError::ClientStalled(timeouts.body),
            },
            Stage::Untouched | Stage::AwaitingOrigin | Stage::Failed => Self {
                until: since.max(began) + timeouts.body,
                error: ForwardError::OriginStalled(timeouts.body),
            },
        }
    }
}

/// Who is to blame for an error of hyper's. What happened to the connection is known from the
/// connection itself; hyper's error only says whether it was the message or its carrier.
fn explain(
    error: &hyper::Error,
    cause: Option<&h2::Error>,
    upload: &Upload,
    facts: &Facts,
) -> ForwardError {
    if upload.stage() == Stage::Failed {
        return ForwardError::BadRequest("the request body broke off or is not framed as it says");
    }
    if error.is_parse() {
        return ForwardError::Response(malformed(error, &facts.head()));
    }
    if let Some(cause) = cause.filter(|cause| cause.is_reset() || cause.is_go_away()) {
        return in_http2(cause);
    }
    ForwardError::Terminated(facts.failure().cloned().unwrap_or(Failure::Closed))
}

/// What is wrong with the head of a response that hyper cannot parse.
fn malformed(error: &hyper::Error, head: &[u8]) -> HeadError {
    let (kind, fault) = if error.is_parse_too_large() {
        let fault = Fault::new(
            "its head has more bytes than `max_header_size` or more fields than `max_header_fields` \
             allows",
            "raise `max_header_size` or `max_header_fields` for this binding",
        );
        (HeadFault::TooLarge, Some(fault))
    } else {
        (HeadFault::Malformed, fault::in_response(head))
    };
    let fault = fault.unwrap_or_else(|| {
        Fault::new(
            error.to_string(),
            "look into the origin's log; `protocol` sets which HTTP is spoken to it",
        )
    });
    HeadError {
        kind,
        what: fault.what,
        fix: fault.fix,
    }
}

/// What the origin did by HTTP/2, or which of its frames broke the protocol.
fn in_http2(cause: &h2::Error) -> ForwardError {
    let reason = cause
        .reason()
        .map_or_else(|| "no reason".to_owned(), |reason| format!("{reason:?}"));
    match (cause.is_remote(), cause.is_go_away()) {
        (true, true) => ForwardError::Unprocessed(format!(
            "it closed the connection for requests after an earlier one (GOAWAY, {reason})"
        )),
        (true, false) if refusal(cause).is_some() => {
            ForwardError::Unprocessed("it refused the HTTP/2 stream (REFUSED_STREAM)".to_owned())
        }
        (true, false) => ForwardError::StreamReset(reason),
        (false, _) => ForwardError::Protocol(format!("HTTP/2 {reason}: {cause}")),
    }
}

/// What HTTP/2 says of a failure.
fn http2_cause(error: &hyper::Error) -> Option<&h2::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

/// How the origin says that it has not processed a request, if it does.
fn refusal(error: &h2::Error) -> Option<Refusal> {
    let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
    match error.is_remote() {
        true if error.is_go_away() => Some(Refusal::GoAway),
        true if error.is_reset() && refused => Some(Refusal::Stream),
        _ => None,
    }
}
