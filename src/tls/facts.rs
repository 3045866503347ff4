//! What a connection to an origin has gone through.
//!
//! hyper turns the causes of a failure into text, and a refusal in TLS 1.3 arrives on a read long
//! after the handshake. So the IO wrapper writes down what it sees, here, and whoever has to
//! explain a failure reads it.

use std::collections::HashSet;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CipherSuite, Error, HandshakeType, NamedGroup, ProtocolVersion,
    SignatureScheme,
};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use crate::error::Failure;
use crate::sys::{Observer, SendQueue};

use super::identity::Leaf;
use super::x509;

/// The memory of one connection; shared between its IO and the requests sent on it.
#[derive(Debug, Default)]
pub struct Facts {
    read: AtomicU64,
    written: AtomicU64,
    // Bytes that the socket took, and those of them that the peer had acknowledged when it was closed.
    sent: AtomicU64,
    acknowledged: AtomicU64,
    socket: Observer,
    failure: OnceLock<Failure>,
    session: OnceLock<Session>,
    demand: OnceLock<Demand>,
    // End of the validity of the certificate that the origin presented.
    expires: OnceLock<SystemTime>,
    // Set once an origin has responded to a request on a connection on which it was shown our
    // certificate; shared by all connections of a Generation to that origin.
    acceptance: OnceLock<Arc<AtomicBool>>,
    offers_post_quantum: AtomicBool,
    // The chain of an origin that was not believed, leaf first.
    refused: OnceLock<Vec<Leaf>>,
    // What was read since the last write, from the start of a response on; only in http/1.1.
    keeps_head: AtomicBool,
    head: Mutex<Vec<u8>>,
}

/// What a handshake agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    pub(super) version: Option<ProtocolVersion>,
    pub(super) suite: Option<CipherSuite>,
    pub(super) exchange: Option<NamedGroup>,
    /// Whether a session was resumed, without certificates.
    pub resumed: bool,
}

impl Session {
    /// `1.3` or `1.2`.
    pub fn version(&self) -> &'static str {
        match self.version {
            Some(ProtocolVersion::TLSv1_2) => "1.2",
            _ => "1.3",
        }
    }

    /// The cipher suite and the key exchange, as rustls writes them.
    pub fn algorithms(&self) -> String {
        let suite = self.suite.map(|suite| format!("{suite:?}"));
        let exchange = self.exchange.map(|group| format!("{group:?}"));
        let both: Vec<_> = suite.into_iter().chain(exchange).collect();
        both.join(", ")
    }
}

/// Whether an origin asked for a certificate.
#[derive(Clone, Debug)]
pub enum Demand {
    /// It did, in the handshake of this connection or in the one whose session was resumed.
    Asked(Arc<Asked>),
    /// It did not.
    NotAsked,
}

/// What an origin said when it asked for a certificate, and how ours fits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    // Raw names.
    authorities: Vec<Vec<u8>>,
    schemes: Vec<SignatureScheme>,
    qualifies: bool,
    can_sign: bool,
}

impl Asked {
    pub(super) fn new(
        authorities: &[&[u8]],
        schemes: &[SignatureScheme],
        ours: &CertifiedKey,
    ) -> Self {
        Self {
            authorities: authorities.iter().map(|raw| raw.to_vec()).collect(),
            schemes: schemes.to_vec(),
            qualifies: authorities.is_empty() || is_by_one_of(&ours.cert, authorities),
            can_sign: ours.key.choose_scheme(schemes).is_some(),
        }
    }

    /// The authorities it accepts; any, when it named none.
    pub fn authorities(&self) -> Vec<String> {
        let name = |raw: &Vec<u8>| match X509Name::from_der(raw) {
            Ok((_, name)) => x509::display(&name),
            Err(_) => "a name that cannot be read".to_owned(),
        };
        self.authorities.iter().map(name).collect()
    }

    /// The signatures that it accepts and mtlsd knows, as RFC 8446 section 4.2.3 names them.
    pub fn schemes(&self) -> Vec<String> {
        let name = |scheme| format!("{scheme:?}").to_ascii_lowercase();
        self.schemes.iter().map(name).collect()
    }

    /// Whether our chain leads to one of the authorities.
    pub fn qualifies(&self) -> bool {
        self.qualifies
    }

    /// Whether our key can make one of the signatures. If not, no certificate is presented.
    pub fn can_sign(&self) -> bool {
        self.can_sign
    }
}

/// Whether one of the certificates was issued by one of the authorities, by their names.
fn is_by_one_of(chain: &[CertificateDer<'_>], authorities: &[&[u8]]) -> bool {
    let canonical = |raw: &&[u8]| match X509Name::from_der(raw) {
        Ok((_, name)) => x509::canonical(&name),
        Err(_) => raw.to_vec(),
    };
    let authorities: HashSet<Vec<u8>> = authorities.iter().map(canonical).collect();
    chain.iter().any(|der| {
        X509Certificate::from_der(der).is_ok_and(|(_, certificate)| {
            authorities.contains(&x509::canonical(certificate.issuer()))
        })
    })
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

    /// Bytes that were handed to TCP so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// How many of the bytes in [`Facts::sent`] the origin's machine has acknowledged. Where that is
    /// not known, all of them.
    pub fn acknowledged(&self) -> u64 {
        match self.send_queue() {
            Some(queue) => self.sent().saturating_sub(queue.unacknowledged),
            None => self.acknowledged.load(Relaxed),
        }
    }

    /// What TCP has not delivered yet; `None` once the socket is closed.
    pub fn send_queue(&self) -> Option<SendQueue> {
        self.socket.send_queue()
    }

    /// Why the connection ended; `None` while nothing was seen.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.get()
    }

    /// What the handshake agreed on; `None` when it did not succeed.
    pub fn session(&self) -> Option<&Session> {
        self.session.get()
    }

    /// Whether the origin asked for a certificate; `None` when that is not known: the handshake did
    /// not get so far, or resumed a session of which nothing is known any more.
    pub fn demand(&self) -> Option<&Demand> {
        self.demand.get()
    }

    /// What the origin said when it asked for a certificate.
    pub fn asked(&self) -> Option<&Asked> {
        match self.demand()? {
            Demand::Asked(asked) => Some(asked),
            Demand::NotAsked => None,
        }
    }

    /// Whether this origin has accepted our certificate before, under the same Generation.
    pub fn accepted_before(&self) -> bool {
        let acceptance = self.acceptance.get();
        acceptance.is_some_and(|accepted| accepted.load(Relaxed))
    }

    /// Whether the post-quantum key exchange was offered, whose key makes a ClientHello larger than
    /// one TCP segment.
    pub fn offers_post_quantum(&self) -> bool {
        self.offers_post_quantum.load(Relaxed)
    }

    /// The certificates of an origin that was not believed, leaf first.
    pub fn refused(&self) -> &[Leaf] {
        self.refused.get().map_or(&[], Vec::as_slice)
    }

    /// Returns the end of the validity of the certificate that the origin presented; `None` when it
    /// presented none on this connection, which resumed a session, or none that can be read.
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires.get().copied()
    }

    pub(super) fn presented(&self, leaf: &CertificateDer<'_>) {
        if let Ok(leaf) = Leaf::parse(leaf) {
            let _ = self.expires.set(leaf.not_after);
        }
    }

    pub(super) fn demands(&self, demand: Demand) {
        let _ = self.demand.set(demand);
    }

    pub(super) fn starts(&self, acceptance: Arc<AtomicBool>, offers_post_quantum: bool) {
        let _ = self.acceptance.set(acceptance);
        self.offers_post_quantum.store(offers_post_quantum, Relaxed);
    }

    pub(super) fn agreed(&self, session: Session) {
        let _ = self.session.set(session);
    }

    pub(super) fn refuses(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) {
        let _ = self.refused.set(leaves(leaf, others));
    }

    // Plain loads and stores: only the connection's own IO writes.
    pub(super) fn add_read(&self, bytes: usize) {
        if self.read() == 0
            && self.asked().is_some_and(Asked::can_sign)
            && let Some(acceptance) = self.acceptance.get()
        {
            acceptance.store(true, Relaxed);
        }
        self.read.store(self.read() + bytes as u64, Relaxed);
    }

    pub(super) fn add_written(&self, bytes: usize) {
        self.written.store(self.written() + bytes as u64, Relaxed);
    }

    pub(super) fn add_sent(&self, bytes: usize) {
        let sent = self.sent() + bytes as u64;
        self.sent.store(sent, Relaxed);
        self.acknowledged.store(sent, Relaxed);
    }

    pub(super) fn opened(&self, socket: &impl AsRawFd) {
        self.socket.watch(socket);
    }

    /// The socket is about to be closed.
    pub(super) fn closing(&self) {
        self.acknowledged.store(self.acknowledged(), Relaxed);
        self.socket.forget();
    }

    /// The beginning of what came last in http/1.1: hyper says of a head that it cannot parse neither
    /// which field it is nor what is wrong with it.
    pub fn head(&self) -> Vec<u8> {
        let head = self.head.lock();
        head.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A request is being sent: what comes next is the head of a response.
    pub(super) fn expect_head(&self) {
        if !self.keeps_head.swap(true, Relaxed) {
            let head = self.head.lock();
            head.unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// Keeps what was read, up to the end of a head.
    pub(super) fn note_head(&self, read: &[u8]) {
        if !self.keeps_head.load(Relaxed) {
            return;
        }
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MOST_KEPT.saturating_sub(head.len());
        // The empty line may have begun in what was read before.
        let from = head.len().saturating_sub(3);
        head.extend_from_slice(&read[..read.len().min(room)]);
        let is_interim = head.starts_with(b"HTTP/1.1 1");
        let is_whole = !is_interim && has_empty_line(&head[from..]);
        if head.len() >= MOST_KEPT || is_whole {
            self.keeps_head.store(false, Relaxed);
        }
    }

    /// Notes why the connection ended. The first reason counts.
    pub fn fail(&self, failure: Failure) {
        let _ = self.failure.set(failure);
    }
}

/// Whether a head ends in `bytes`. Most are small, where preparing a search for all four bytes at once
/// costs more than looking at each line.
fn has_empty_line(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes).any(|at| bytes[..at].ends_with(b"\r\n\r"))
}

/// Bytes of a head that are kept.
const MOST_KEPT: usize = 16 * 1024;

/// What the certificates say that can be read.
pub fn leaves(leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Vec<Leaf> {
    // Some servers send their own certificate twice.
    let others = others.iter().filter(|one| *one != leaf);
    std::iter::once(leaf)
        .chain(others)
        .filter_map(|der| Leaf::parse(der).ok())
        .collect()
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
            Error::PeerIncompatible(reason) => Self::Incompatible(words(reason)),
            Error::InappropriateHandshakeMessage {
                got_type: HandshakeType::CertificateRequest,
                ..
            } => Self::LateRequest,
            Error::InvalidMessage(reason) => Self::Tls(format!(
                "the origin sent a message that is not valid ({})",
                words(reason)
            )),
            Error::PeerMisbehaved(reason) => Self::Tls(format!(
                "the origin does not follow the TLS protocol ({})",
                words(reason)
            )),
            Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
                Self::Tls("the origin sent a message that does not belong there".to_owned())
            }
            Error::DecryptError => Self::Tls("a record could not be decrypted".to_owned()),
            Error::PeerSentOversizedRecord => {
                Self::Tls("the origin sent a record that is too large".to_owned())
            }
            Error::NoCertificatesPresented => {
                Self::Tls("the origin presented no certificate".to_owned())
            }
            other => Self::Tls(words(other)),
        }
    }
}

/// Returns the name of a library's variant as words: `NoKxGroupsInCommon` is
/// "no kx groups in common".
fn words(variant: &impl std::fmt::Debug) -> String {
    let name = format!("{variant:?}");
    let end = name.find(|c: char| !c.is_ascii_alphanumeric());
    let mut words = String::new();
    let mut before = ' ';
    for letter in name[..end.unwrap_or(name.len())].chars() {
        let starts = letter.is_ascii_uppercase() && !before.is_ascii_uppercase()
            || letter.is_ascii_digit() && !before.is_ascii_digit();
        if starts && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
        before = letter;
    }
    words
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
    fn variants_are_written_as_words() {
        use rustls::{InvalidMessage, PeerIncompatible, PeerMisbehaved};
        let cases = [
            (
                words(&PeerIncompatible::NoKxGroupsInCommon),
                "no kx groups in common",
            ),
            (
                words(&PeerIncompatible::ServerDoesNotSupportTls12Or13),
                "server does not support tls 12 or 13",
            ),
            (words(&InvalidMessage::InvalidCcs), "invalid ccs"),
            (
                words(&PeerMisbehaved::SelectedUnofferedKxGroup),
                "selected unoffered kx group",
            ),
        ];
        for (said, expected) in cases {
            assert_eq!(said, expected);
        }
        for error in [
            Error::InvalidMessage(InvalidMessage::MessageTooLarge),
            Error::PeerMisbehaved(PeerMisbehaved::MissingKeyShare),
            Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
            Error::General("something".to_owned()),
        ] {
            let said = Failure::from(&error).to_string();
            let is_variant = |word: &str| word.chars().skip(1).any(|c| c.is_ascii_uppercase());
            let mut others = said.split(' ').filter(|word| !word.starts_with("TLS"));
            assert!(!others.any(is_variant), "{said}");
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
