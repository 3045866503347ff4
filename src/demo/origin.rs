//! An origin that lets nobody in without a certificate, and tells everybody whose it saw.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};

use crate::tls::{Demanding, Leaf};

use super::pki::Pki;

/// The origin; it runs on a thread of its own until the process ends.
pub struct Origin {
    address: SocketAddr,
}

impl Origin {
    /// Starts it on a port that is free.
    pub fn start(pki: &Pki) -> io::Result<Self> {
        let issued = pki.server()?;
        let tls =
            Demanding::new(&issued.certificate, &issued.key, pki.ca()).map_err(io::Error::other)?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        std::thread::Builder::new()
            .name("demo-origin".to_owned())
            .spawn(move || {
                let runtime = Builder::new_current_thread()
                    .enable_all()
                    .build_local(LocalOptions::default());
                match runtime {
                    Ok(runtime) => runtime.block_on(serve(listener, tls)),
                    Err(error) => {
                        eprintln!("mtlsd: the demonstration's origin does not run: {error}")
                    }
                }
            })?;
        Ok(Self { address })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

async fn serve(listener: std::net::TcpListener, tls: Demanding) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::task::spawn_local(connection(stream, tls.clone()));
            }
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    }
}

async fn connection(stream: TcpStream, tls: Demanding) {
    // Who has no certificate is gone here; that is what the demonstration shows.
    let Ok((stream, client)) = tls.accept(stream).await else {
        return;
    };
    let service = service_fn(move |request| {
        let answer = answer(&request, &client);
        async move { Ok::<_, Infallible>(answer) }
    });
    // The end of the connection is nobody's business here.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn answer(request: &Request<Incoming>, client: &Leaf) -> Response<Full<Bytes>> {
    let text = format!(
        "You are {}, serial {}. You asked for {} {}.\n",
        client.subject,
        client.serial,
        request.method(),
        request.uri().path()
    );
    let mut response = Response::new(Full::new(Bytes::from(text)));
    if let Ok(serial) = http::HeaderValue::from_str(&client.serial) {
        response.headers_mut().insert("x-client-serial", serial);
    }
    response
}
