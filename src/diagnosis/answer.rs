//! Answers in which an origin complains about a certificate. They are passed on as they are; what
//! is said here goes beside them.

use http::StatusCode;

use crate::tls::{Demand, Facts};

use super::refusal::{self, Reason};
use super::{Diagnosis, Evidence};

/// Whether an answer of this status may be such a complaint, if its body says so.
pub fn may_tell(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 403)
}

/// What an answer says about certificates, if it does. `begin` is the first piece of its body,
/// which is looked at where [`may_tell`] says so.
pub fn told(status: StatusCode, begin: &[u8], evidence: Evidence<'_>) -> Option<Diagnosis> {
    let code = status.as_u16();
    match code {
        421 => Some(Diagnosis::new(
            "misdirected_by_origin",
            "the origin answered 421: it does not serve this name on this connection",
            "the name in the request and the one in TLS have to be the same there: look at `host_header` and `server_name`",
        )),
        496 => Some(absent("answered 496", evidence)),
        495 => Some(bad("answered 495", evidence)),
        400 | 403 if contains(begin, ABSENT) => Some(absent(
            &format!("answered {code}, and its page says that no certificate came"),
            evidence,
        )),
        400 | 403 if contains(begin, BAD) => Some(bad(
            &format!("answered {code}, and its page says that the certificate is not accepted"),
            evidence,
        )),
        401 | 403 => match evidence.facts.and_then(Facts::demand)? {
            Demand::Asked(_) => None,
            Demand::NotAsked => Some(Diagnosis::new(
                "never_asked",
                format!(
                    "the origin answered {code}, and did not ask for a certificate on this connection"
                ),
                "if it should know us by the certificate: have it ask in the handshake for this host (for a path alone, TLS 1.3 cannot), or use the host that does",
            )),
        },
        _ => None,
    }
}

/// An answer without a complaint.
pub fn well(status: StatusCode, evidence: Evidence<'_>) -> Diagnosis {
    let what = match evidence.facts.and_then(Facts::demand) {
        Some(Demand::Asked(_)) => {
            format!("all is well: the origin was shown our certificate, and answered {status}")
        }
        _ => format!(
            "the origin answered {status}, and asked for no certificate: anybody gets such an answer"
        ),
    };
    let next = match status.as_u16() {
        400.. => "TLS is good; what the origin answers is about the request",
        _ => "",
    };
    Diagnosis::new("well", what, next)
}

/// The origin says that no certificate came.
fn absent(how: &str, evidence: Evidence<'_>) -> Diagnosis {
    let asked = evidence.facts.and_then(Facts::asked);
    if asked.is_some_and(|asked| !asked.can_sign()) {
        return bad(how, evidence);
    }
    let (what, next) = match evidence.facts.and_then(Facts::demand) {
        Some(Demand::NotAsked) => (
            "the origin did not ask for one in the handshake",
            "have it ask for certificates on this host and port, or use those where it does",
        ),
        _ => (
            "one was presented on this connection",
            "something between may end TLS, a load balancer for one: there the certificate has to be asked for and passed on",
        ),
    };
    Diagnosis::new(
        "answered_no_certificate",
        format!("the origin {how}; {what}"),
        next,
    )
}

/// The origin says that the certificate is not good.
fn bad(how: &str, evidence: Evidence<'_>) -> Diagnosis {
    let asked = evidence.facts.and_then(Facts::asked);
    let reason = evidence
        .identity
        .map(|identity| refusal::reason(0, asked, identity, evidence));
    match reason {
        Some(Reason {
            cause,
            why: Some(why),
            next,
        }) => Diagnosis::new(cause, format!("the origin {how}: {why}"), next),
        _ => Diagnosis::new(
            "answered_bad_certificate",
            format!("the origin {how}; nothing here tells why"),
            "have the origin's owner look into its log for this serial number; does it trust the authority that issued the certificate?",
        ),
    }
}

fn contains(text: &[u8], words: &[&str]) -> bool {
    let text = String::from_utf8_lossy(text).to_ascii_lowercase();
    words.iter().any(|word| text.contains(word))
}

/// What pages say when no certificate came: nginx and those made of it, IIS (403.7), Azure.
const ABSENT: &[&str] = &[
    "no required ssl certificate was sent",
    "no required tls certificate was sent",
    "client certificate required",
    "client certificate is required",
];
/// What they say when it is not accepted: nginx, IIS (403.13, 403.16, 403.17).
const BAD: &[&str] = &[
    "the ssl certificate error",
    "client certificate revoked",
    "client certificate is untrusted or invalid",
    "client certificate has expired",
];
