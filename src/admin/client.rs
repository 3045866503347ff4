//! Asking a running mtlsd, for the commands that do.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Where the admin endpoint of a running mtlsd is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// A loopback address.
    Tcp(SocketAddr),
}

/// A response of the admin endpoint.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error(
        "cannot connect to {endpoint}: {source}; is mtlsd running, with this [admin] listener?"
    )]
    Connect {
        /// Where.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// It took too long.
    #[error("{0} did not respond within {1:?}")]
    Timeout(Endpoint, Duration),
    /// What came back is no response.
    #[error("{0} is not an admin endpoint of mtlsd: {1}")]
    Protocol(Endpoint, String),
}

impl Endpoint {
    /// Sends one request, and waits for the whole response for this long at most.
    ///
    /// # Errors
    ///
    /// When there is no response.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        patience: Duration,
    ) -> Result<Response, AskError> {
        let asking = async {
            let refused = |source| AskError::Connect {
                endpoint: self.clone(),
                source,
            };
            match self {
                Self::Unix(path_of_socket) => {
                    let stream = connect_unix(path_of_socket).await.map_err(refused)?;
                    self.exchange(stream, method, path).await
                }
                Self::Tcp(address) => {
                    let stream = TcpStream::connect(address).await.map_err(refused)?;
                    self.exchange(stream, method, path).await
                }
            }
        };
        timeout(patience, asking)
            .await
            .unwrap_or_else(|_| Err(AskError::Timeout(self.clone(), patience)))
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        method: Method,
        path: &str,
    ) -> Result<Response, AskError> {
        let failed = |error: &dyn fmt::Display| AskError::Protocol(self.clone(), error.to_string());
        let host = match self {
            Self::Unix(_) => "localhost".to_owned(),
            Self::Tcp(address) => address.to_string(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .body(Empty::<Bytes>::new())
            .map_err(|error| failed(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
        let respond = async {
            let response = sender.send_request(request).await.map_err(|e| failed(&e))?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            let body = body.map_err(|error| failed(&error))?.to_bytes();
            Ok(Response {
                status,
                body: String::from_utf8_lossy(&body).into_owned(),
            })
        };
        let mut respond = std::pin::pin!(respond);
        tokio::select! {
            response = &mut respond => response,
            // The end of the connection may be noticed before the response that came with it.
            ended = connection => match ended {
                Ok(()) => respond.await,
                Err(error) => Err(failed(&error)),
            },
        }
    }
}

async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path).await
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

/// A status of a thousand bindings is two MiB.
const LARGEST: usize = 64 * 1024 * 1024;
