//! Why a request failed, in words that somebody can act on: who refused whom, over what, and what
//! to do next. Pure functions from what was seen to what is said.

mod answer;
mod refusal;
mod report;

use std::io;
use std::net::SocketAddr;
use std::time::SystemTime;

use crate::error::{Distrust, Failure, ForwardError, HeadFault, Phase, Tongue};
use crate::timestamp::rfc3339;
use crate::tls::{Facts, Identity, Leaf};

pub use answer::{may_tell, told, well};
pub use refusal::post_quantum_blamed;
pub use report::{Alert, Certificate, Report};

/// The first of `names`, and how many more there are: an origin may list hundreds of authorities, and
/// what is said of them has to fit into a header field and a line of a log.
pub fn some_of(names: &[String]) -> String {
    let (first, others) = names.split_at(names.len().min(FEW));
    match others.len() {
        0 => first.join("; "),
        more => format!("{}; and {more} more", first.join("; ")),
    }
}

const FEW: usize = 8;

/// What there is to judge by.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// What the connection went through; `None` where there was none.
    pub facts: Option<&'a Facts>,
    /// The certificate that was to be presented; `None` where no binding was found.
    pub identity: Option<&'a Identity>,
    /// The origin's address, and whether the connection had served before.
    pub reached: Option<(SocketAddr, bool)>,
    /// The time by this machine's clock.
    pub now: SystemTime,
}

/// What went wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnosis {
    /// A word for programs, which stays the same.
    pub cause: &'static str,
    /// What happened, in a sentence.
    pub what: String,
    /// What to do about it.
    pub next: String,
}

impl Diagnosis {
    fn new(cause: &'static str, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            cause,
            what: what.into(),
            next: next.into(),
        }
    }

    /// Explains why there is no answer.
    pub fn of(error: &ForwardError, evidence: Evidence<'_>) -> Self {
        match error {
            ForwardError::Certificate(distrust) => distrusted(distrust, evidence),
            ForwardError::Handshake(failure) => refusal::in_handshake(failure, evidence),
            ForwardError::Terminated(failure) => refusal::before_answer(failure, evidence),
            ForwardError::Dial(address, failure) => undialled(*address, failure),
            ForwardError::TimeoutConnecting(_, phase) => unfinished(*phase, error, evidence),
            ForwardError::Response(head) => Self::new(cause(error), error.to_string(), &*head.fix),
            ForwardError::Head(head) => Self::new(cause(error), &*head.what, &*head.fix),
            error => Self::new(cause(error), error.to_string(), next_step(error)),
        }
    }
}

impl Evidence<'_> {
    /// What there is when there was no connection, nor anything to present on one.
    pub fn nothing(now: SystemTime) -> Self {
        Self {
            facts: None,
            identity: None,
            reached: None,
            now,
        }
    }

    fn leaf(&self) -> Option<&Leaf> {
        self.identity.map(Identity::leaf)
    }

    fn address(&self) -> String {
        match self.reached {
            Some((address, _)) => address.to_string(),
            None => "the origin's address".to_owned(),
        }
    }
}

/// The origin's certificate was not believed.
fn distrusted(distrust: &Distrust, evidence: Evidence<'_>) -> Diagnosis {
    let ours_is = |state: fn(&Leaf, SystemTime) -> bool| {
        evidence
            .leaf()
            .is_some_and(|leaf| state(leaf, evidence.now))
    };
    let clock = match distrust {
        Distrust::NotYetValid(_) if ours_is(Leaf::is_early) => Some("not yet valid"),
        Distrust::Expired(_) if ours_is(Leaf::is_expired) => Some("expired"),
        _ => None,
    };
    if let Some(state) = clock {
        let now = rfc3339(evidence.now);
        return Diagnosis::new(
            "clock",
            format!(
                "by this machine's clock, which says {now}, the origin's certificate and ours are both {state}: probably the clock is wrong"
            ),
            "set this machine's clock, and see that it is kept (timedatectl, chronyc tracking)",
        );
    }
    let what = ForwardError::Certificate(distrust.clone()).to_string();
    let mut next = distrust.help();
    let is_about_cas = matches!(
        distrust,
        Distrust::UnknownIssuer(_)
            | Distrust::SelfSigned(_)
            | Distrust::Incomplete(_)
            | Distrust::BadSignature
    );
    let implied_ca = evidence.identity.and_then(Identity::implied_ca);
    if let Some(path) = implied_ca.filter(|_| is_about_cas) {
        next = format!(
            "the trusted CAs are those in {}, because it is in `certificate_dir`; if these issue client certificates only, set `ca = \"system\"`; {next}",
            path.display()
        );
    }
    let next = match evidence.reached {
        Some((address, _)) => next.replace("HOST:PORT", &address.to_string()),
        None => next,
    };
    Diagnosis::new(distrust_cause(distrust), what, next)
}

fn distrust_cause(distrust: &Distrust) -> &'static str {
    match distrust {
        Distrust::Expired(_) => "origin_certificate_expired",
        Distrust::NotYetValid(_) => "origin_certificate_not_yet_valid",
        Distrust::IssuerExpired(..) => "origin_chain_expired",
        Distrust::IssuerNotYetValid(..) => "origin_chain_not_yet_valid",
        Distrust::Names { .. } => "origin_certificate_name",
        Distrust::SelfSigned(_) => "origin_certificate_self_signed",
        Distrust::UnknownIssuer(_) => "origin_certificate_unknown_issuer",
        Distrust::Incomplete(_) => "origin_certificate_incomplete",
        Distrust::Revoked => "origin_certificate_revoked",
        Distrust::IssuerRevoked(_) => "origin_chain_revoked",
        Distrust::Uncovered { .. } => "origin_certificate_not_covered",
        Distrust::CrlExpired(..) => "revocation_list_expired",
        Distrust::CrlNotYetValid(..) => "revocation_list_not_yet_valid",
        Distrust::BadSignature => "origin_certificate_signature",
        Distrust::HandshakeSignature => "origin_handshake_signature",
        Distrust::Algorithm => "origin_certificate_algorithm",
        Distrust::Key(..) => "origin_certificate_key",
        Distrust::Usage | Distrust::KeyUsage => "origin_certificate_usage",
        Distrust::CaAsLeaf => "origin_certificate_is_ca",
        Distrust::NotCa => "origin_chain_not_ca",
        Distrust::Version(..) => "origin_certificate_version",
        Distrust::CriticalExtension(..) => "origin_certificate_extension",
        Distrust::TooLarge => "origin_certificate_too_large",
        Distrust::Pin(_) => "origin_certificate_pin",
        Distrust::Backwards
        | Distrust::Date
        | Distrust::Constraint(_)
        | Distrust::Unreadable(_)
        | Distrust::Other(_) => "origin_certificate",
    }
}

/// TCP was not established.
fn undialled(address: SocketAddr, failure: &Failure) -> Diagnosis {
    let unreachable = [
        io::ErrorKind::HostUnreachable,
        io::ErrorKind::NetworkUnreachable,
    ];
    match failure {
        Failure::Io(io::ErrorKind::ConnectionRefused) => Diagnosis::new(
            "connection_refused",
            format!("{address} refused the connection: nothing listens there"),
            "is the origin running, and is its port the one in the configuration?",
        ),
        Failure::Io(kind) if unreachable.contains(kind) => Diagnosis::new(
            "unreachable",
            format!("there is no way to {address}: {kind}"),
            "look at this machine's routes and at the VPN that may be down (`ip route get`); `connect_to` dials another address",
        ),
        failure => Diagnosis::new(
            "connection_failed",
            format!("cannot connect to {address}: {failure}"),
            "is the origin running, and is a firewall in between?",
        ),
    }
}

fn unfinished(phase: Phase, error: &ForwardError, evidence: Evidence<'_>) -> Diagnosis {
    match phase {
        Phase::Name => Diagnosis::new(
            "dns_timeout",
            error.to_string(),
            "this machine's resolver does not answer: look at /etc/resolv.conf; `connect_to` dials an address without it",
        ),
        Phase::Tcp => Diagnosis::new(
            "tcp_timeout",
            error.to_string(),
            "is a firewall dropping packets on the way, or is the address wrong? `connect_timeout` says how long it may take",
        ),
        Phase::Tls => Diagnosis::new(
            "tls_timeout",
            format!("{} took the connection, but {error}", evidence.address()),
            format!(
                "check that it is a TLS port and that the origin is not overloaded; `connect_timeout` sets how long it may take{}",
                refusal::post_quantum(evidence)
            ),
        ),
    }
}

/// The cause, where the kind of the error says it.
fn cause(error: &ForwardError) -> &'static str {
    match error {
        ForwardError::BadRequest(_) => "bad_request",
        ForwardError::Head(error) => match error.kind {
            HeadFault::Malformed => "bad_request",
            HeadFault::TooLarge => "request_head_too_large",
            HeadFault::TargetTooLong => "request_target_too_long",
            HeadFault::Timeout => "header_timeout",
        },
        ForwardError::ClientStalled(_) => "client_stalled",
        ForwardError::Connect => "connect",
        ForwardError::Dns(..) => "dns",
        ForwardError::Exhausted(limit) => limit.cause(),
        ForwardError::Forbidden(_) => "forbidden",
        ForwardError::Grpc => "grpc_over_http1",
        ForwardError::NoHttp2 => "no_http2",
        ForwardError::NotAsked => "not_asked",
        ForwardError::NoConnection(_) => "max_connections",
        ForwardError::NoRequest(_) => "max_requests_in_flight",
        ForwardError::Misdirected(_) => "misdirected",
        ForwardError::NotPublic(_) => "not_public",
        ForwardError::ServerName(_) => "server_name",
        ForwardError::OriginStalled(_) => "upload_timeout",
        ForwardError::Protocol(_) => "not_http",
        ForwardError::StreamReset(_) => "stream_reset",
        ForwardError::Unprocessed(_) => "unprocessed",
        ForwardError::Response(error) => match error.kind {
            HeadFault::TooLarge => "response_head_too_large",
            _ => "malformed_response",
        },
        ForwardError::Timeout(_) => "response_timeout",
        ForwardError::Upgrade => "unasked_upgrade",
        ForwardError::Certificate(_)
        | ForwardError::Dial(..)
        | ForwardError::Handshake(_)
        | ForwardError::Terminated(_)
        | ForwardError::TimeoutConnecting(..) => "connection",
    }
}

/// What to do, where the kind of the error says it.
fn next_step(error: &ForwardError) -> &'static str {
    match error {
        ForwardError::Connect => {
            "use an http:// URL in place of https://; mtlsd adds the TLS and the certificate. In a tunnel it could add neither"
        }
        ForwardError::NoHttp2 => {
            "leave `protocol` out, or set it to \"http1\"; or have the origin offer h2"
        }
        ForwardError::NotAsked => {
            "have the origin ask for a client certificate; without `require_request` mtlsd talks to it all the same"
        }
        ForwardError::Dns(..) => {
            "is the host spelt right, and does this machine resolve it? `connect_to` dials an address instead"
        }
        ForwardError::Exhausted(limit) => limit.help(),
        ForwardError::StreamReset(_) => "check the origin's log for this request",
        ForwardError::Unprocessed(_) => {
            "send the request again; if this persists, check the origin's log"
        }
        ForwardError::Grpc => {
            "have the origin offer h2 by ALPN; `protocol = \"http1\"` keeps mtlsd from asking for it"
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
        ForwardError::OriginStalled(_) => "raise `body_timeout` if the origin reads so slowly",
        ForwardError::ClientStalled(_) => {
            "send the body without such pauses, or raise `body_timeout`"
        }
        ForwardError::Protocol(_) => {
            "look into the origin's log; `protocol` says which HTTP is spoken to it"
        }
        ForwardError::ServerName(_) => {
            "give the origin a host name or an IP address; `server_name` sets the name to verify"
        }
        ForwardError::Upgrade => "the origin is broken: look into its log",
        // What they say is what to do.
        ForwardError::BadRequest(_)
        | ForwardError::Head(_)
        | ForwardError::Response(_)
        | ForwardError::Forbidden(_)
        | ForwardError::Misdirected(_)
        | ForwardError::Certificate(_)
        | ForwardError::Dial(..)
        | ForwardError::Handshake(_)
        | ForwardError::Terminated(_)
        | ForwardError::TimeoutConnecting(..) => "",
    }
}

/// What listens on the origin's port does not speak TLS.
fn not_tls(tongue: Tongue, evidence: Evidence<'_>) -> Diagnosis {
    let address = evidence.address();
    match tongue {
        Tongue::Http => Diagnosis::new(
            "plain_http",
            format!("{address} speaks plain HTTP, not TLS"),
            "use the origin's https port in `origin` (or `connect_to`); this one is for http",
        ),
        Tongue::Other => Diagnosis::new(
            "not_tls",
            format!("what listens on {address} speaks neither TLS nor HTTP"),
            "is the port right? Something other than a web server answers there",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_of_names_is_cut_and_says_so() {
        let names: Vec<String> = (1..=300).map(|number| format!("CN={number}")).collect();
        assert_eq!(some_of(&names[..2]), "CN=1; CN=2");
        let cut = some_of(&names);
        assert!(cut.ends_with("CN=8; and 292 more"), "{cut}");
    }
}
