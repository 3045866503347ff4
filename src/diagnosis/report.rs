//! A diagnosis with what it is about, for a client, a log or a terminal. What peers have said is
//! escaped here, so that it cannot pass for a line of ours wherever the report is printed.

use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use crate::error::{Failure, ForwardError};
use crate::printable::escape;
use crate::timestamp::rfc3339;
use crate::tls::{Facts, Identity, Leaf};

use super::{Diagnosis, Evidence};

/// Everything that is said about a failure. Its serialized form is an interface.
#[derive(Clone, Serialize, Debug)]
pub struct Report {
    /// What happened, in a sentence.
    pub detail: String,
    /// A word for programs, which stays the same.
    pub cause: &'static str,
    /// What to do about it; empty where `detail` says that.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub next_step: String,
    /// The binding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
    /// The origin's URL, without a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The origin's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// The alert that the origin sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<Alert>,
    /// The client certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// The origin's certificates, where they were not believed, leaf first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub origin_certificates: Vec<Certificate>,
    /// The authorities whose certificates the origin accepts, where it names any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accepted_authorities: Vec<String>,
}

/// A TLS alert (RFC 8446 section 6).
#[derive(Clone, Serialize, Debug)]
pub struct Alert {
    /// Its number.
    pub id: u8,
    /// Its name.
    pub name: String,
}

/// What identifies a certificate.
#[derive(Clone, Serialize, Debug)]
pub struct Certificate {
    /// Whose it is.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// In hexadecimal.
    pub serial: String,
    /// The first moment it is valid.
    pub not_before: String,
    /// The last.
    pub not_after: String,
}

impl From<&Leaf> for Certificate {
    fn from(leaf: &Leaf) -> Self {
        Self {
            subject: escape(&leaf.subject).into_owned(),
            issuer: escape(&leaf.issuer).into_owned(),
            serial: leaf.serial.clone(),
            not_before: rfc3339(leaf.not_before).to_string(),
            not_after: rfc3339(leaf.not_after).to_string(),
        }
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, issued by {}, serial {}, valid until {}",
            self.subject, self.issuer, self.serial, self.not_after
        )
    }
}

impl Report {
    /// A report of `diagnosis`, which was made of `evidence`, on a request of `binding` for
    /// `origin` (`host:port`).
    pub fn new(
        diagnosis: Diagnosis,
        evidence: Evidence<'_>,
        binding: Option<&str>,
        origin: Option<&str>,
    ) -> Self {
        let facts = evidence.facts;
        let refused = facts.map_or(&[][..], Facts::refused);
        let asked = facts.and_then(Facts::asked);
        Self {
            detail: escape(&diagnosis.what).into_owned(),
            cause: diagnosis.cause,
            next_step: escape(&diagnosis.next).into_owned(),
            binding: binding.map(str::to_owned),
            origin: origin.map(|origin| format!("https://{origin}")),
            address: evidence.reached.map(|(address, _)| address),
            alert: None,
            certificate: evidence.identity.map(Identity::leaf).map(Certificate::from),
            origin_certificates: refused.iter().map(Certificate::from).collect(),
            accepted_authorities: asked.map_or(Vec::new(), |asked| {
                let names = asked.authorities();
                names.iter().map(|name| escape(name).into_owned()).collect()
            }),
        }
    }

    /// The same for a request that got no answer because of `error`.
    pub fn of(
        error: &ForwardError,
        evidence: Evidence<'_>,
        binding: Option<&str>,
        origin: Option<&str>,
    ) -> Self {
        let alert = match error {
            ForwardError::Handshake(Failure::Alert(id, name))
            | ForwardError::Terminated(Failure::Alert(id, name)) => Some(Alert {
                id: *id,
                name: name.clone(),
            }),
            _ => None,
        };
        let diagnosis = Diagnosis::of(error, evidence);
        Self {
            alert,
            ..Self::new(diagnosis, evidence, binding, origin)
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "mtlsd: {}", self.detail)?;
        let mut line = |what: &str, said: String| writeln!(f, "  {what}: {said}");
        if let Some(binding) = &self.binding {
            line("binding", binding.clone())?;
        }
        match (&self.origin, self.address) {
            (Some(origin), Some(address)) => line("origin", format!("{origin} at {address}"))?,
            (Some(origin), None) => line("origin", origin.clone())?,
            (None, _) => {}
        }
        if let Some(certificate) = &self.certificate {
            line("certificate", certificate.to_string())?;
        }
        for certificate in &self.origin_certificates {
            line("origin's certificate", certificate.to_string())?;
        }
        if !self.accepted_authorities.is_empty() {
            line("the origin accepts", self.accepted_authorities.join("; "))?;
        }
        if !self.next_step.is_empty() {
            line("next step", self.next_step.clone())?;
        }
        Ok(())
    }
}
