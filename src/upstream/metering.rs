//! What connecting to an origin and losing a connection counts as.

use std::time::SystemTime;

use crate::config::Authority;
use crate::error::{Distrust, Failure, ForwardError};
use crate::metrics::{Handshake, Meter, OriginState};
use crate::tls::{Demand, Facts};

/// Counts a connection that was made. `target` is given when the configuration names it, so that
/// what it showed is kept.
pub fn connected(meter: &Meter, facts: &Facts, target: Option<&Authority>) {
    let counters = meter.counters();
    let resumed = facts.session().is_some_and(|session| session.resumed);
    let requested = matches!(facts.demand(), Some(Demand::Asked(_)));
    let result = match resumed {
        true => Handshake::Resumed,
        false => Handshake::Full,
    };
    counters.opened();
    counters.handshake(result, requested);
    if let Some(target) = target.filter(|_| !resumed) {
        let state = OriginState {
            at: SystemTime::now(),
            not_after: facts.expires(),
            asks: asks(facts),
        };
        counters.origin(target.as_str(), state);
    }
}

fn asks(facts: &Facts) -> String {
    let asked = match facts.demand() {
        Some(Demand::Asked(asked)) => asked,
        Some(Demand::NotAsked) | None => {
            return "does not request a client certificate".to_owned();
        }
    };
    let cas = asked.authorities();
    match cas.as_slice() {
        [] => "requests a client certificate, of any CA".to_owned(),
        [one] => format!("requests a client certificate issued by {one}"),
        [first, others @ ..] => format!(
            "requests a client certificate issued by {first} or {} other CAs",
            others.len()
        ),
    }
}

/// Counts a failure if it is one of a handshake. In TLS 1.3 an origin rejects a certificate when the
/// handshake is over for the client, so that the first read fails.
pub fn failed(meter: &Meter, error: &ForwardError) {
    let (by, reason) = match error {
        ForwardError::Handshake(Failure::Alert(alert, _))
        | ForwardError::Terminated(Failure::Alert(alert, _)) => ("origin", alert_reason(*alert)),
        ForwardError::Handshake(failure) => handshake_reason(failure),
        ForwardError::Certificate(distrust) => ("mtlsd", distrust_reason(distrust)),
        ForwardError::NotAsked => ("mtlsd", "not_requested"),
        ForwardError::NoHttp2 => ("mtlsd", "no_http2"),
        _ => return,
    };
    meter.counters().handshake_failed(by, reason);
}

fn handshake_reason(failure: &Failure) -> (&'static str, &'static str) {
    match failure {
        Failure::Alert(alert, _) => ("origin", alert_reason(*alert)),
        Failure::Closed | Failure::Truncated | Failure::Io(_) => ("origin", "closed"),
        Failure::Unresponsive(_) => ("origin", "unresponsive"),
        Failure::NotTls(_) => ("mtlsd", "not_tls"),
        Failure::Incompatible(_) => ("mtlsd", "incompatible"),
        Failure::LateRequest | Failure::Tls(_) => ("mtlsd", "protocol"),
    }
}

/// The name of an alert (RFC 8446 section 6), for those that say why a certificate was rejected.
fn alert_reason(alert: u8) -> &'static str {
    match alert {
        40 => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        48 => "unknown_ca",
        49 => "access_denied",
        70 => "protocol_version",
        71 => "insufficient_security",
        112 => "unrecognized_name",
        116 => "certificate_required",
        120 => "no_application_protocol",
        _ => "other_alert",
    }
}

fn distrust_reason(distrust: &Distrust) -> &'static str {
    match distrust {
        Distrust::Expired(_) | Distrust::IssuerExpired(..) => "expired",
        Distrust::NotYetValid(_) | Distrust::IssuerNotYetValid(..) => "not_yet_valid",
        Distrust::Names { .. } => "wrong_name",
        Distrust::SelfSigned(_) | Distrust::UnknownIssuer(_) | Distrust::Incomplete(_) => {
            "unknown_issuer"
        }
        Distrust::Revoked | Distrust::IssuerRevoked(_) => "revoked",
        Distrust::Uncovered { .. } | Distrust::CrlExpired(..) | Distrust::CrlNotYetValid(..) => {
            "revocation_unknown"
        }
        Distrust::Pin(_) => "pin",
        _ => "other",
    }
}
