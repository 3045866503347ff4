//! HTTP/2: an origin whose every frame a test decides about, and a client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_rustls::TlsAcceptor;

use super::origin::server_config;
use super::pki::Ca;

/// What an origin can do to a whole connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doom {
    /// GOAWAY with an error, and the end.
    GoAway,
    /// The socket is closed without a word.
    Cut,
}

/// One stream, as a test answers it.
pub struct Stream {
    pub request: Request<h2::RecvStream>,
    pub respond: SendResponse<Bytes>,
    /// The number of its connection, from 0.
    pub connection: usize,
    doom: UnboundedSender<Doom>,
}

impl Stream {
    /// Ends the whole connection.
    pub fn doom(&self, doom: Doom) {
        let _ = self.doom.send(doom);
    }

    /// A complete answer.
    pub fn answer(mut self, body: &'static str) {
        let mut sending = self
            .respond
            .send_response(Response::new(()), false)
            .unwrap();
        sending
            .send_data(Bytes::from_static(body.as_bytes()), true)
            .unwrap();
    }
}

/// An origin that speaks only h2, demands a client certificate, and goes on until it is dropped.
pub struct Http2Origin {
    pub port: u16,
    accepted: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl Http2Origin {
    /// Does with every stream what `handle` does, on a task of its own.
    pub fn start<F>(ca: &Ca, handle: impl Fn(Stream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut config =
            (*server_config(ca, &ca.issue("origin"), true, rustls::ALL_VERSIONS)).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (count, handle) = (Arc::clone(&accepted), Arc::new(handle));
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let number = count.fetch_add(1, Relaxed);
                let (acceptor, handle) = (acceptor.clone(), Arc::clone(&handle));
                tokio::spawn(async move {
                    // How a connection ends is for the test to judge, from the other side.
                    if let Ok(tls) = acceptor.accept(tcp).await {
                        let _ = serve(tls, number, &*handle).await;
                    }
                });
            }
        });
        Self {
            port,
            accepted,
            _runtime: runtime,
        }
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Relaxed)
    }
}

async fn serve<F>(
    tls: tokio_rustls::server::TlsStream<TcpStream>,
    number: usize,
    handle: &impl Fn(Stream) -> F,
) -> Result<(), h2::Error>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connection = server::handshake(tls).await?;
    let (doom, mut doomed) = unbounded_channel();
    loop {
        tokio::select! {
            stream = connection.accept() => {
                let Some(stream) = stream else { return Ok(()) };
                let (request, respond) = stream?;
                tokio::spawn(handle(Stream {
                    request,
                    respond,
                    connection: number,
                    doom: doom.clone(),
                }));
            }
            Some(doom) = doomed.recv() => {
                // What was sent before goes out first.
                let settle = tokio::time::sleep(Duration::from_millis(50));
                tokio::pin!(settle);
                loop {
                    tokio::select! {
                        () = &mut settle => break,
                        stream = connection.accept() => if stream.is_none() { return Ok(()) },
                    }
                }
                if doom == Doom::GoAway {
                    connection.abrupt_shutdown(h2::Reason::INTERNAL_ERROR);
                    while connection.accept().await.is_some() {}
                }
                return Ok(());
            }
        }
    }
}

/// A GET over HTTP/2 on a connection of its own: status and body, or the error that broke it off.
pub fn get_http2(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    let url = format!("http://localhost:{}{path}", address.port());
    ask_http2(address, "GET", &url, &[])
}

/// A request over HTTP/2 without a body, on a connection of its own.
pub fn ask_http2(
    address: SocketAddr,
    method: &str,
    url: &str,
    fields: &[(&str, &str)],
) -> Result<(u16, String), String> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    exchange(address, request.body(Full::default()).unwrap())
}

/// A POST over HTTP/2 on a connection of its own.
pub fn post_http2(address: SocketAddr, path: &str, body: String) -> Result<(u16, String), String> {
    let url = format!("http://localhost:{}{path}", address.port());
    exchange(address, Request::post(url).body(Full::from(body)).unwrap())
}

fn exchange(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<(u16, String), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let text = |error: &dyn std::error::Error| format!("{error}");
    runtime.block_on(async {
        let tcp = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
                .await
                .map_err(|error| text(&error))?;
        tokio::spawn(connection);
        let exchange = async {
            let answer = sender
                .send_request(request)
                .await
                .map_err(|error| text(&error))?;
            let status = answer.status().as_u16();
            let body = answer
                .into_body()
                .collect()
                .await
                .map_err(|error| text(&error))?;
            Ok((
                status,
                String::from_utf8_lossy(&body.to_bytes()).into_owned(),
            ))
        };
        tokio::time::timeout(Duration::from_secs(20), exchange)
            .await
            .unwrap_or_else(|_| Err("nothing came for 20 s".to_owned()))
    })
}
