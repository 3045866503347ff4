//! The handshake with an origin.

use std::io;
use std::sync::Arc;

use rustls::{ClientConnection, HandshakeKind, InvalidMessage};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::{Distrust, Failure};

use super::facts::{Demand, Facts, Session};
use super::generation::{Alpn, Generation};
use super::opening::Opening;
use super::stream::Stream;
use super::{slot, verify};

/// The name an origin must prove, and the SNI it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerName(rustls_pki_types::ServerName<'static>);

/// Why there is no TLS connection.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The origin's certificate failed verification.
    #[error("the origin's certificate failed verification: {0}")]
    Certificate(Distrust),
    /// The origin asked for no certificate, and the binding wants to be asked.
    #[error("the origin did not ask for a certificate")]
    NotAsked,
    /// Anything else that was seen on the connection.
    #[error("the TLS handshake failed")]
    Failed(Failure),
}

impl ServerName {
    /// `None` when `host` is neither a DNS name nor an IP address.
    pub fn parse(host: &str) -> Option<Self> {
        let name = rustls_pki_types::ServerName::try_from(host).ok()?;
        Some(Self(name.to_owned()))
    }
}

/// Shakes hands as `generation`, offering `alpn`, over a connection that is established already.
/// What the handshake reveals goes into `facts`, also when it fails.
///
/// # Errors
///
/// When either side refuses.
pub async fn connect(
    generation: &Generation,
    alpn: Alpn,
    name: ServerName,
    tcp: TcpStream,
    facts: &Arc<Facts>,
) -> Result<Stream, HandshakeError> {
    facts.starts(
        generation.acceptance(&name.0),
        generation.offers_post_quantum(),
    );
    let connector = TlsConnector::from(generation.offering(alpn));
    let connecting = connector.connect(name.0.clone(), Opening::new(tcp, Arc::clone(facts)));
    let mut stream = slot::noting(facts, connecting.into_fallible())
        .await
        .map_err(|(error, opening)| explain(&error, &opening, facts))?;
    stream.get_mut().1.set_buffer_limit(Some(UNWRITTEN));
    let session = stream.get_ref().1;
    let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    facts.agreed(session_of(session, resumed));
    if let Some([leaf, ..]) = session.peer_certificates().filter(|_| !resumed) {
        facts.presented(leaf);
    }
    let demand = match resumed {
        true => generation.recall(&name.0),
        false => {
            let demand = facts.demand().cloned().unwrap_or(Demand::NotAsked);
            generation.remember(name.0, demand.clone());
            Some(demand)
        }
    };
    let asked = matches!(demand, Some(Demand::Asked(_)));
    if let Some(demand) = demand {
        facts.demands(demand);
    }
    // What is not known of a resumed session was not asked for as far as anybody can say.
    match generation.requires_request() && !asked {
        true => Err(HandshakeError::NotAsked),
        false => Ok(Stream::new(stream, Arc::clone(facts))),
    }
}

fn explain(error: &io::Error, opening: &Opening, facts: &Facts) -> HandshakeError {
    let failure = match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(reason)) => {
            return HandshakeError::Certificate(verify::explain(reason));
        }
        Some(rustls::Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge)) => {
            return HandshakeError::Certificate(Distrust::TooLarge);
        }
        Some(rustls::Error::InvalidMessage(_)) => match opening.tongue() {
            Some(tongue) => Failure::NotTls(tongue),
            None => Failure::from(error),
        },
        _ => match (Failure::from(error), opening.is_silent()) {
            // Without a byte, an end is nothing but an end.
            (Failure::Truncated, true) => Failure::Closed,
            (failure, _) => failure,
        },
    };
    facts.fail(failure.clone());
    HandshakeError::Failed(failure)
}

/// Bytes that are encrypted before any of them is written, in one system call; also what an origin
/// that reads slowly makes a connection hold, and what of an upload counts as sent by then. rustls's own limit of 64 KiB took a quarter more CPU
/// time for a large upload, one of 128 KiB a seventh more.
const UNWRITTEN: usize = 256 * 1024;

fn session_of(session: &ClientConnection, resumed: bool) -> Session {
    let suite = session.negotiated_cipher_suite();
    let exchange = session.negotiated_key_exchange_group();
    Session {
        version: session.protocol_version(),
        suite: suite.map(|suite| suite.suite()),
        exchange: exchange.map(|group| group.name()),
        resumed,
    }
}
