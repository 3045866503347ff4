//! Refusals by the origin: in the handshake, or, as TLS 1.3 has it, only after it.

use std::io;

use crate::error::Failure;
use crate::timestamp::rfc3339;
use crate::tls::{Asked, Demand, Facts, Identity, Leaf};

use super::{Diagnosis, Evidence, not_tls};

/// The handshake failed.
pub fn in_handshake(failure: &Failure, evidence: Evidence<'_>) -> Diagnosis {
    match failure {
        Failure::NotTls(tongue) => not_tls(*tongue, evidence),
        Failure::Incompatible(reason) => Diagnosis::new(
            "tls_incompatible",
            format!("the origin chose a TLS that was not offered ({reason})"),
            VERSIONS,
        ),
        Failure::Alert(alert, name) => alerted(*alert, name, evidence),
        Failure::Closed | Failure::Truncated | Failure::Io(_) if asked(evidence).is_some() => {
            silent(failure, evidence)
        }
        Failure::Closed | Failure::Truncated | Failure::Io(_) => Diagnosis::new(
            "handshake_cut",
            format!(
                "{} {} when TLS was begun, without an answer in TLS",
                evidence.address(),
                ended(failure)
            ),
            format!(
                "check that it is a TLS port, that the origin knows this name (SNI, `server_name`), and that no firewall blocks TLS{}",
                post_quantum(evidence)
            ),
        ),
        Failure::LateRequest => late(),
        Failure::Unresponsive(_) => unresponsive(failure, evidence),
        Failure::Tls(reason) => Diagnosis::new(
            "tls",
            format!("TLS with the origin failed: {reason}"),
            "look into the origin's log, and try `openssl s_client` to see what it says",
        ),
    }
}

/// The connection ended after the handshake, before an answer.
pub fn before_answer(failure: &Failure, evidence: Evidence<'_>) -> Diagnosis {
    let used = evidence.reached.is_some_and(|(_, reused)| reused);
    let spoken = evidence.facts.is_some_and(|facts| facts.read() > 0);
    match failure {
        Failure::Alert(alert, name) => alerted(*alert, name, evidence),
        Failure::LateRequest => late(),
        Failure::Unresponsive(_) | Failure::Io(io::ErrorKind::TimedOut) => {
            unresponsive(failure, evidence)
        }
        Failure::Closed | Failure::Truncated | Failure::Io(_) if !used && !spoken => {
            match evidence.facts.and_then(Facts::demand) {
                Some(Demand::Asked(_)) => silent(failure, evidence),
                Some(Demand::NotAsked) => unasked(failure, evidence),
                None => hung_up(failure),
            }
        }
        failure => hung_up(failure),
    }
}

/// The origin sent an alert.
fn alerted(alert: u8, name: &str, evidence: Evidence<'_>) -> Diagnosis {
    match (alert, asked(evidence)) {
        (PROTOCOL_VERSION, _) => Diagnosis::new(
            "tls_version",
            format!("the origin speaks none of the TLS versions that were offered (alert {name})"),
            VERSIONS,
        ),
        (UNRECOGNIZED_NAME, _) => Diagnosis::new(
            "unrecognized_name",
            "the origin does not know the name it was called by (SNI; alert unrecognized_name)",
            "set `server_name` to the name the origin goes by; with `connect_to`, look whether it leads to the right one",
        ),
        (NO_APPLICATION_PROTOCOL, _) => Diagnosis::new(
            "no_application_protocol",
            "the origin speaks none of the HTTP versions that were offered (ALPN; alert no_application_protocol)",
            "`protocol` says which are offered: \"auto\" suits most origins",
        ),
        (HANDSHAKE_FAILURE | INSUFFICIENT_SECURITY, None) if !is_secure(evidence) => {
            Diagnosis::new(
                "tls_parameters",
                format!(
                    "the origin accepts no cipher suite, group or signature that was offered (alert {name})"
                ),
                "either the origin has to enable a modern cipher suite (ECDHE with AES-GCM or ChaCha20-Poly1305), or its certificate has a key that few clients support (RSA-PSS, brainpool, secp256k1, DSA): it needs RSA, EC on P-256, P-384 or P-521, or Ed25519",
            )
        }
        (HANDSHAKE_FAILURE | NO_RENEGOTIATION, None) => {
            unasked(&Failure::Alert(alert, name.to_owned()), evidence)
        }
        (DECODE_ERROR | ILLEGAL_PARAMETER | RECORD_OVERFLOW | UNEXPECTED_MESSAGE, None)
            if !is_secure(evidence) =>
        {
            Diagnosis::new(
                "client_hello",
                format!("the origin could not process our ClientHello (alert {name})"),
                format!(
                    "look at the TLS implementation of the origin, or of what terminates TLS before it{}",
                    post_quantum(evidence)
                ),
            )
        }
        (DECRYPT_ERROR, Some(_)) => Diagnosis::new(
            "client_signature",
            format!(
                "the origin could not verify the signature that was made with our key (alert {name})"
            ),
            "does something between decrypt TLS? Otherwise the key may be that of another certificate",
        ),
        (HANDSHAKE_FAILURE, Some(asked)) => refused(
            &by(&format!("alert {name}")),
            true,
            alert,
            Some(asked),
            evidence,
        ),
        (alert, asked) if IS_ABOUT_CERTIFICATES.contains(&alert) => {
            refused(&by(&format!("alert {name}")), false, alert, asked, evidence)
        }
        _ => Diagnosis::new(
            "tls_alert",
            format!("the origin ended TLS with the alert {name}"),
            "look into the origin's log at this moment",
        ),
    }
}

/// The connection stopped carrying anything.
fn unresponsive(failure: &Failure, evidence: Evidence<'_>) -> Diagnosis {
    Diagnosis::new(
        "unresponsive",
        format!("no response from {}: {failure}", evidence.address()),
        "check whether the origin is running and whether a firewall or NAT drops idle connections; `idle_timeout` closes them earlier",
    )
}

/// The origin was shown the certificate, and ended the connection without an alert.
fn silent(failure: &Failure, evidence: Evidence<'_>) -> Diagnosis {
    refused(
        &format!("it {} without an alert", ended(failure)),
        true,
        0,
        asked(evidence),
        evidence,
    )
}

/// The origin refused the certificate, as `how` says; `probably`, where it did not say so itself.
fn refused(
    how: &str,
    probably: bool,
    alert: u8,
    asked: Option<&Asked>,
    evidence: Evidence<'_>,
) -> Diagnosis {
    if probably && is_ruled_out(evidence) {
        return Diagnosis::new(
            "connection_ended",
            format!("no response came: {how}"),
            "look into the origin's log at this moment: it has accepted our certificate, and may have been restarted, or have failed over the request",
        );
    }
    let Some(identity) = evidence.identity else {
        return Diagnosis::new(
            "client_certificate",
            format!("the origin refused the certificate: {how}"),
            ASK_OWNER,
        );
    };
    let verb = match probably {
        true => "probably refused",
        false => "refused",
    };
    let reason = reason(alert, asked, identity, evidence);
    let what = match reason.why {
        Some(why) => format!("the origin {verb} our certificate ({how}): {why}"),
        None => format!("the origin {verb} our certificate ({how})"),
    };
    Diagnosis::new(reason.cause, what, reason.next)
}

/// Whether the origin is known to have accepted our certificate: because it did before, in this
/// Generation, or because the handshake of TLS 1.2 is over, in which it verifies it.
fn is_ruled_out(evidence: Evidence<'_>) -> bool {
    let presented = asked(evidence).is_none_or(Asked::can_sign);
    presented
        && evidence.facts.is_some_and(|facts| {
            let finished = facts.session();
            facts.accepted_before() || finished.is_some_and(|session| session.version() == "1.2")
        })
}

/// A handshake failed, and succeeded without the post-quantum key exchange.
pub fn post_quantum_blamed(evidence: Evidence<'_>) -> Diagnosis {
    Diagnosis::new(
        "post_quantum",
        format!(
            "the TLS handshake with {} succeeds only without the post-quantum key exchange: the origin, or something before it, does not take a ClientHello larger than one packet",
            evidence.address()
        ),
        "set `post_quantum = false` for this binding, until the origin or the firewall is updated",
    )
}

/// Returns what to try where a large ClientHello may be the reason.
pub fn post_quantum(evidence: Evidence<'_>) -> &'static str {
    match evidence.facts.is_some_and(Facts::offers_post_quantum) {
        true => {
            "; some origins and firewalls do not take the large ClientHello of the post-quantum key exchange: `post_quantum = false` turns that off, and `mtlsd probe` tries it"
        }
        false => "",
    }
}

/// Why a certificate was refused, as far as can be said.
pub struct Reason {
    pub cause: &'static str,
    pub why: Option<String>,
    pub next: String,
}

/// The reason that what is known of the certificate gives, else the one that the alert gives.
pub fn reason(
    alert: u8,
    asked: Option<&Asked>,
    identity: &Identity,
    evidence: Evidence<'_>,
) -> Reason {
    let leaf = identity.leaf();
    let why = |cause, why: String, next: &str| Reason {
        cause,
        why: Some(why),
        next: next.to_owned(),
    };
    if let Some(asked) = asked.filter(|asked| !asked.can_sign()) {
        return why(
            "signature_scheme",
            format!(
                "it accepts only the signatures {}, which our key cannot make, so none was presented",
                asked.schemes().join(", ")
            ),
            "have the certificate issued for another kind of key (ECDSA P-256 suits nearly everybody)",
        );
    }
    if alert == REVOKED {
        return why(
            "client_certificate_revoked",
            "it was revoked".to_owned(),
            "have it issued again, and ask its authority why it was revoked",
        );
    }
    if leaf.is_expired(evidence.now) {
        return why(
            "client_certificate_expired",
            format!("it expired at {}", rfc3339(leaf.not_after)),
            "renew it; mtlsd takes the new files as soon as they are there",
        );
    }
    if leaf.is_early(evidence.now) {
        return why(
            "client_certificate_not_yet_valid",
            format!("it is valid only from {}", rfc3339(leaf.not_before)),
            "wait until then, have it issued again, or look at this machine's clock",
        );
    }
    if let Some(issuer) = identity.expired_issuer(evidence.now) {
        return why(
            "client_chain_expired",
            format!(
                "our certificate is valid, but the certificate of the intermediate CA \"{}\" that we send with it expired at {}",
                issuer.subject,
                rfc3339(issuer.not_after)
            ),
            "replace the expired CA certificate in the file of `certificate` with the renewed one",
        );
    }
    if alert == EXPIRED {
        return why(
            "client_certificate_expired_there",
            format!(
                "by the origin's clock it is expired, by this machine's it is valid until {}",
                rfc3339(leaf.not_after)
            ),
            "compare the clocks of this machine and of the origin",
        );
    }
    if !identity.is_for_clients() {
        return why(
            "client_certificate_usage",
            "it is not for clients: its extended key usage lacks clientAuth".to_owned(),
            "have it issued again with the extended key usage clientAuth",
        );
    }
    if let Some(asked) = asked.filter(|asked| !asked.qualifies()) {
        return unlisted(asked, leaf, identity.is_alone());
    }
    by_alert(alert, leaf)
}

/// The origin names the authorities it accepts, and ours is none of them.
fn unlisted(asked: &Asked, leaf: &Leaf, alone: bool) -> Reason {
    let authorities = asked.authorities();
    let listed = super::some_of(&authorities);
    let issuer = &leaf.issuer;
    let family = organization(issuer);
    let is_family = |authority: &String| family.is_some() && organization(authority) == family;
    match authorities.iter().find(|authority| is_family(authority)) {
        Some(root) if alone => Reason {
            cause: "client_chain_incomplete",
            why: Some(format!(
                "it was issued by \"{issuer}\", which seems to be an intermediate authority below \"{root}\", and comes without that one's certificate"
            )),
            next: format!(
                "append the certificate of \"{issuer}\" to the file of `certificate`, below ours"
            ),
        },
        _ => Reason {
            cause: "client_authority_not_listed",
            why: Some(format!(
                "it accepts certificates that were issued by {listed}, and ours was issued by \"{issuer}\""
            )),
            next: "is this the right certificate for this origin? If so, its owner has to accept its authority; if the authority is an intermediate one, append its certificate".to_owned(),
        },
    }
}

/// What the alert alone says.
fn by_alert(alert: u8, leaf: &Leaf) -> Reason {
    let issuer = &leaf.issuer;
    let (cause, why, next) = match alert {
        UNKNOWN_CA => (
            "client_authority_unknown",
            format!("it does not know the authority that issued it, \"{issuer}\""),
            "have the origin's owner add that authority to those it trusts for clients; if it is an intermediate one, append its certificate to the file of `certificate`",
        ),
        BAD => (
            "client_certificate_bad",
            "it calls the certificate bad: damaged, or with a signature it cannot verify"
                .to_owned(),
            ASK_OWNER,
        ),
        UNSUPPORTED => (
            "client_certificate_unsupported",
            "it does not support this kind of certificate".to_owned(),
            "ask the origin's owner which keys and usages certificates need there",
        ),
        UNKNOWN => (
            "client_certificate_unknown",
            "it accepts the certificate for some reason not, and does not say which".to_owned(),
            "ask the origin's owner to look for this serial number in its log",
        ),
        ACCESS_DENIED => (
            "client_certificate_denied",
            "the certificate is valid, but its owner may not use this origin".to_owned(),
            "ask the origin's owner to let this subject in",
        ),
        REQUIRED => (
            "client_certificate_required",
            "it says that no certificate came".to_owned(),
            "a middlebox may have taken it out; ask the origin's owner what arrived there",
        ),
        _ => {
            return Reason {
                cause: "client_certificate_silently_refused",
                why: None,
                next: ASK_OWNER.to_owned(),
            };
        }
    };
    Reason {
        cause,
        why: Some(why),
        next: next.to_owned(),
    }
}

/// The origin did not ask for a certificate in the handshake, and ended the connection.
fn unasked(failure: &Failure, evidence: Evidence<'_>) -> Diagnosis {
    let facts = evidence.facts.and_then(Facts::session);
    match facts.map(|session| session.version()) {
        Some("1.2") => Diagnosis::new(
            "renegotiation",
            format!(
                "the origin did not ask for a certificate in the handshake, and {} on the request: probably it asks only by renegotiation, as IIS does, which mtlsd does not do",
                ended(failure)
            ),
            "have the origin ask in the handshake (IIS: `netsh http update sslcert … clientcertnegotiation=enable`), or enable TLS 1.3 there",
        ),
        _ => Diagnosis::new(
            "closed_unasked",
            format!(
                "the origin did not ask for a certificate, and {} on the request",
                ended(failure)
            ),
            "is this the host and port that asks for certificates? Look into the origin's log",
        ),
    }
}

/// The origin asks when the handshake is over (RFC 8446 section 4.6.2).
fn late() -> Diagnosis {
    Diagnosis::new(
        "post_handshake_request",
        "the origin asked for a certificate after the handshake (post-handshake authentication), which mtlsd does not do",
        "have the origin ask in the handshake: for the whole host, not for a path of it",
    )
}

/// An end that says nothing about certificates.
fn hung_up(failure: &Failure) -> Diagnosis {
    Diagnosis::new(
        "connection_ended",
        format!("no response came: {failure}"),
        "look into the origin's log at this moment: it may have been restarted, or have failed over the request",
    )
}

fn asked(evidence: Evidence<'_>) -> Option<&Asked> {
    evidence.facts.and_then(Facts::asked)
}

fn is_secure(evidence: Evidence<'_>) -> bool {
    evidence
        .facts
        .is_some_and(|facts| facts.session().is_some())
}

fn by(what: &str) -> String {
    what.to_owned()
}

/// What the other side did.
fn ended(failure: &Failure) -> String {
    match failure {
        Failure::Io(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
            "reset the connection".to_owned()
        }
        Failure::Io(kind) => format!("left the connection failing ({kind})"),
        Failure::Alert(_, name) => format!("sent the alert {name}"),
        _ => "closed the connection".to_owned(),
    }
}

/// The organisation in a name such as `C=XX, O=Example, CN=Issuing CA`.
fn organization(name: &str) -> Option<&str> {
    name.split(", ").find_map(|part| part.strip_prefix("O="))
}

const VERSIONS: &str = "the origin has to enable TLS 1.2 or 1.3; `tls_min` and `tls_max` say which of them mtlsd offers";
const ASK_OWNER: &str =
    "ask the origin's owner why this certificate is not accepted: its log says more than TLS does";

// RFC 8446 section 6; 100 is of RFC 5246 section 7.2.2.
const HANDSHAKE_FAILURE: u8 = 40;
const BAD: u8 = 42;
const UNSUPPORTED: u8 = 43;
const REVOKED: u8 = 44;
const EXPIRED: u8 = 45;
const UNKNOWN: u8 = 46;
const UNKNOWN_CA: u8 = 48;
const ACCESS_DENIED: u8 = 49;
const UNEXPECTED_MESSAGE: u8 = 10;
const RECORD_OVERFLOW: u8 = 22;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const DECRYPT_ERROR: u8 = 51;
const PROTOCOL_VERSION: u8 = 70;
const INSUFFICIENT_SECURITY: u8 = 71;
const NO_RENEGOTIATION: u8 = 100;
const UNRECOGNIZED_NAME: u8 = 112;
const REQUIRED: u8 = 116;
const NO_APPLICATION_PROTOCOL: u8 = 120;
const IS_ABOUT_CERTIFICATES: [u8; 8] = [
    BAD,
    UNSUPPORTED,
    REVOKED,
    EXPIRED,
    UNKNOWN,
    UNKNOWN_CA,
    ACCESS_DENIED,
    REQUIRED,
];
