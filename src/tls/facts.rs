//! What a connection to an origin has gone through.
//!
//! hyper turns the causes of a failure into text, and a refusal in TLS 1.3 arrives on a read long
//! after the handshake. So the IO wrapper writes down what it sees, here, and whoever has to
//! explain a failure reads it.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustls::{AlertDescription, Error, SignatureScheme};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Name};

use crate::error::Failure;

use super::identity::Leaf;

/// The memory of one connection; shared between its IO and the requests sent on it.
#[derive(Debug, Default)]
pub struct Facts {
    read: AtomicU64,
    written: AtomicU64,
    failure: OnceLock<Failure>,
    asked: OnceLock<Asked>,
    // The origin's chain, leaf first.
    peer: OnceLock<Vec<Leaf>>,
}

/// What an origin said when it asked for a certificate.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Asked {
    /// The authorities it accepts; any, when it named none.
    pub authorities: Vec<String>,
    /// The signatures it accepts, as RFC 8446 section 4.2.3 names them.
    pub schemes: Vec<String>,
}

impl Asked {
    /// Of raw names, and the schemes that both sides know.
    pub(super) fn new(authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Self {
        let name = |raw: &&[u8]| match X509Name::from_der(raw) {
            Ok((_, name)) => name.to_string(),
            Err(_) => "a name that cannot be read".to_owned(),
        };
        Self {
            authorities: authorities.iter().map(name).collect(),
            schemes: schemes
                .iter()
                .map(|scheme| format!("{scheme:?}").to_ascii_lowercase())
                .collect(),
        }
    }
}

impl Facts {
    /// Bytes of the application that the origin has sent so far.
    pub fn read(&self) -> u64 {
        self.read.load(Relaxed)
    }

    /// Bytes of the application that were handed to TLS so far.
    pub fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Why the connection ended; `None` while nothing was seen.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.get()
    }

    /// What the origin said when it asked for a certificate; `None` when it did not, or where the
    /// handshake was short because a session was resumed.
    pub fn asked(&self) -> Option<&Asked> {
        self.asked.get()
    }

    /// The certificates that the origin presented, leaf first; none where a session was resumed.
    pub fn peer(&self) -> &[Leaf] {
        self.peer.get().map_or(&[], Vec::as_slice)
    }

    pub(super) fn asks(&self, asked: Asked) {
        let _ = self.asked.set(asked);
    }

    pub(super) fn presents(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) {
        let read = std::iter::once(leaf)
            .chain(others)
            .filter_map(|der| Leaf::parse(der).ok());
        let _ = self.peer.set(read.collect());
    }

    // Plain loads and stores: only the connection's own IO writes.
    pub(super) fn add_read(&self, bytes: usize) {
        self.read.store(self.read() + bytes as u64, Relaxed);
    }

    pub(super) fn add_written(&self, bytes: usize) {
        self.written.store(self.written() + bytes as u64, Relaxed);
    }

    pub(super) fn fail(&self, failure: Failure) {
        let _ = self.failure.set(failure);
    }
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Self {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Error>());
        match tls {
            Some(error) => Self::from(error),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Truncated,
            None => Self::Io(error.kind()),
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        match error {
            Error::AlertReceived(alert) => Self::Alert(u8::from(*alert), alert_name(*alert)),
            other => Self::Tls(other.to_string()),
        }
    }
}

/// The alert's name as RFC 8446 section 6 writes it: `unknown_ca`.
fn alert_name(alert: AlertDescription) -> String {
    let camel = format!("{alert:?}");
    if camel.contains('(') {
        return format!("alert {}", u8::from(alert));
    }
    // rustls spells UnknownCA and BadCertificateHashValue.
    let camel = camel.replace("CA", "Ca").replace("PSK", "Psk");
    let mut name = String::with_capacity(camel.len() + 4);
    for (at, letter) in camel.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_named_as_the_rfc_names_them() {
        let cases = [
            (AlertDescription::UnknownCA, "unknown_ca"),
            (
                AlertDescription::CertificateRequired,
                "certificate_required",
            ),
            (AlertDescription::BadCertificate, "bad_certificate"),
            (AlertDescription::HandshakeFailure, "handshake_failure"),
            (AlertDescription::Unknown(200), "alert 200"),
        ];
        for (alert, name) in cases {
            assert_eq!(alert_name(alert), name);
        }
    }

    #[test]
    fn the_first_failure_is_kept() {
        let facts = Facts::default();
        facts.fail(Failure::Alert(48, "unknown_ca".to_owned()));
        facts.fail(Failure::Closed);
        assert_eq!(
            facts.failure(),
            Some(&Failure::Alert(48, "unknown_ca".to_owned()))
        );
    }
}
