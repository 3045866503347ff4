//! The other side: a server that demands a client certificate, and a client that has none. Only
//! the demonstration needs them.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream as BlockingStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, ServerConfig, StreamOwned};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::error::Failure;

use super::error::Input;
use super::identity::Leaf;
use super::{pem, trust};

/// Accepts TLS connections from clients with a certificate of one authority, and no others.
#[derive(Clone)]
pub struct Demanding(TlsAcceptor);

impl Demanding {
    /// A server with this certificate and key, for clients with certificates of `ca`; all PEM.
    ///
    /// # Errors
    ///
    /// When one of them makes no sense.
    pub fn new(
        certificate: &str,
        key: &str,
        ca: &str,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let here = Path::new("demo");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = trust::bundle(here, ca.as_bytes())?.roots;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?;
        let chain = pem::certificates(Input::Certificate, here, certificate.as_bytes())?;
        let mut keys = pem::private_keys(here, key.as_bytes(), None)?;
        let key = keys.swap_remove(0).clone_key();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Shakes hands; returns the connection and what the client presented.
    ///
    /// # Errors
    ///
    /// When the client has no certificate that is accepted.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<(TlsStream<TcpStream>, Leaf)> {
        let stream = self.0.accept(tcp).await?;
        let chain = stream.get_ref().1.peer_certificates();
        let leaf = chain.and_then(|chain| Leaf::parse(chain.first()?).ok());
        let leaf =
            leaf.ok_or_else(|| io::Error::other("the client's certificate cannot be read"))?;
        Ok((stream, leaf))
    }
}

/// Makes a request over TLS without a client certificate, trusting `ca` (PEM) about the server.
///
/// # Errors
///
/// How the server refused. In TLS 1.3 that comes in answer to the request, since the client has
/// finished the handshake before the server judges it.
pub fn call_without_certificate(address: SocketAddr, name: &str, ca: &str) -> Result<(), Failure> {
    let wrong = |text: &str| Failure::Tls(text.to_owned());
    let roots = trust::bundle(Path::new("demo"), ca.as_bytes())
        .map_err(|error| wrong(&error.to_string()))?
        .roots;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::from(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls_pki_types::ServerName::try_from(name.to_owned())
        .map_err(|_| wrong("no server name"))?;
    let client =
        ClientConnection::new(Arc::new(config), name).map_err(|error| Failure::from(&error))?;
    let io = |error: io::Error| Failure::from(&error);
    let tcp = BlockingStream::connect(address).map_err(io)?;
    tcp.set_read_timeout(Some(Duration::from_secs(10)))
        .map_err(io)?;
    let mut stream = StreamOwned::new(client, tcp);
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(io)?;
    stream.read(&mut [0; 64]).map_err(io)?;
    Ok(())
}
