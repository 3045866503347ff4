//! The handshake with an origin.

use std::sync::Arc;

use rustls::HandshakeKind;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::{Distrust, Failure};

use super::facts::Facts;
use super::generation::{Alpn, Generation};
use super::stream::Stream;
use super::{slot, verify};

/// The name an origin must prove, and the SNI it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerName(rustls_pki_types::ServerName<'static>);

/// Why there is no TLS connection.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The origin's certificate is not to be believed.
    #[error("the origin's certificate was refused: {0}")]
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
///
/// # Errors
///
/// When either side refuses.
pub async fn connect(
    generation: &Generation,
    alpn: Alpn,
    name: ServerName,
    tcp: TcpStream,
) -> Result<Stream, HandshakeError> {
    let connector = TlsConnector::from(generation.offering(alpn));
    let facts = Arc::new(Facts::default());
    let stream = slot::noting(&facts, connector.connect(name.0.clone(), tcp))
        .await
        .map_err(
            |error| match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(rustls::Error::InvalidCertificate(reason)) => {
                    HandshakeError::Certificate(verify::explain(reason))
                }
                Some(rustls::Error::InvalidCertRevocationList(reason)) => {
                    HandshakeError::Certificate(verify::explain_list(reason))
                }
                _ => HandshakeError::Failed(Failure::from(&error)),
            },
        )?;
    let asked = match stream.get_ref().1.handshake_kind() {
        Some(HandshakeKind::Resumed) => generation.recall(&name.0),
        _ => {
            generation.remember(name.0, facts.asked().is_some());
            Some(facts.asked().is_some())
        }
    };
    // What is not known of a resumed session was not asked for as far as anybody can say.
    match generation.requires_request() && asked != Some(true) {
        true => Err(HandshakeError::NotAsked),
        false => Ok(Stream::new(stream, facts)),
    }
}
