//! The handshake with an origin.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::Failure;

use super::facts::Facts;
use super::generation::{Alpn, Generation};
use super::stream::Stream;

/// The name an origin must prove, and the SNI it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerName(rustls_pki_types::ServerName<'static>);

/// Why there is no TLS connection.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The origin's certificate is not to be believed.
    #[error("the origin's certificate was refused: {0}")]
    Certificate(String),
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
    match connector.connect(name.0, tcp).await {
        Ok(stream) => Ok(Stream::new(stream, Arc::new(Facts::default()))),
        Err(error) => Err(
            match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(rustls::Error::InvalidCertificate(reason)) => {
                    HandshakeError::Certificate(reason.to_string())
                }
                _ => HandshakeError::Failed(Failure::from(&error)),
            },
        ),
    }
}
