//! An origin that demands a client certificate and does what a test tells it to. A thread for each
//! connection and blocking calls: every byte is where the test can see it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, ServerConnection,
    StreamOwned,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::pki::{Ca, Issued};

pub type Tls = StreamOwned<ServerConnection, TcpStream>;

/// What an origin does with a connection, given the client's serial, the connection's number and
/// whom to tell of requests.
pub trait Serve:
    Fn(&mut Tls, &str, usize, &dyn Fn(Option<&Request>)) -> io::Result<()> + Send + Sync + 'static
{
}

impl<F> Serve for F where
    F: Fn(&mut Tls, &str, usize, &dyn Fn(Option<&Request>)) -> io::Result<()>
        + Send
        + Sync
        + 'static
{
}

/// The origin; it goes on until the test ends.
pub struct Origin {
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Connections by number: the client's serial, and whether a request is under way.
    open: Mutex<BTreeMap<usize, (String, bool)>>,
    accepted: AtomicUsize,
    resumed: AtomicUsize,
    requests: Mutex<Vec<Request>>,
}

/// What came.
#[derive(Clone, Debug)]
pub struct Request {
    pub head: String,
    pub body: Vec<u8>,
    pub serial: String,
    pub connection: usize,
}

/// What becomes of the connection after an answer.
pub enum Then {
    Keep,
    Close,
    CloseAfter(Duration),
    /// The socket is closed without a word of TLS.
    Cut,
}

impl Request {
    pub fn method(&self) -> &str {
        self.head.split(' ').next().unwrap_or_default()
    }

    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The values of a field, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let field = |line: &'_ str| -> Option<(usize, usize)> {
            let colon = line.find(':')?;
            line[..colon]
                .eq_ignore_ascii_case(name)
                .then_some((colon + 1, line.len()))
        };
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| field(line).map(|(from, to)| line[from..to].trim()))
            .collect()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

impl Origin {
    /// Answers every request with the serial it saw.
    pub fn start(ca: &Ca) -> Self {
        Self::with(ca, |request, tls| {
            answer(tls, &request.serial)?;
            Ok(Then::Keep)
        })
    }

    /// The same with this certificate, whose chain is sent as it is.
    pub fn presenting(ca: &Ca, served: &Issued) -> Self {
        let config = server_config(ca, served, true, rustls::ALL_VERSIONS);
        Self::over(config, answer_serial())
    }

    /// The same, and asks no client for a certificate.
    pub fn indifferent(ca: &Ca) -> Self {
        let config = server_config(ca, &ca.issue("origin"), false, rustls::ALL_VERSIONS);
        Self::over(config, answer_serial())
    }

    /// The same in these versions of TLS.
    pub fn speaking(ca: &Ca, versions: &[&'static rustls::SupportedProtocolVersion]) -> Self {
        let config = server_config(ca, &ca.issue("origin"), true, versions);
        Self::over(config, answer_serial())
    }

    /// The same, and lets only the client in whose serial is in `wanted`. In TLS 1.3 a client learns
    /// that it is refused after it has sent its request. Each connection is good for one.
    pub fn choosy(ca: &Ca, wanted: Arc<Mutex<String>>) -> Self {
        let config = server_config(ca, &ca.issue("origin"), true, rustls::ALL_VERSIONS);
        let mut config = Arc::unwrap_or_clone(config);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca), provider);
        let choosy = Choosy {
            inner: verifier.build().unwrap(),
            wanted,
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(config.crypto_provider()))
            .with_safe_default_protocol_versions()
            .unwrap();
        config = builder
            .with_client_cert_verifier(Arc::new(choosy))
            .with_cert_resolver(Arc::clone(&config.cert_resolver));
        // A resumed session would not be judged again.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let serve = each(|request, tls| {
            answer(tls, &request.serial)?;
            Ok(Then::Close)
        });
        Self::over(Arc::new(config), serve)
    }

    /// Does with every request what `handle` does; the request's body has been read.
    pub fn with(
        ca: &Ca,
        handle: impl Fn(&Request, &mut Tls) -> io::Result<Then> + Send + Sync + 'static,
    ) -> Self {
        Self::raw(ca, each(handle))
    }

    /// Does with every connection what `serve` does, from the first byte of the application on.
    pub fn raw(ca: &Ca, serve: impl Serve) -> Self {
        let config = server_config(ca, &ca.issue("origin"), true, rustls::ALL_VERSIONS);
        Self::over(config, serve)
    }

    fn over(config: Arc<ServerConfig>, serve: impl Serve) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let (serve, shared) = (Arc::new(serve), Arc::clone(&state));
        std::thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                let (serve, state, config) =
                    (Arc::clone(&serve), Arc::clone(&shared), Arc::clone(&config));
                std::thread::spawn(move || {
                    let number = state.accepted.fetch_add(1, Relaxed);
                    // How a connection ends is for the test to judge, from the other side.
                    let _ = connection(tcp, config, number, &state, &*serve);
                    state.open.lock().unwrap().remove(&number);
                });
            }
        });
        Self { port, state }
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> usize {
        self.state.accepted.load(Relaxed)
    }

    /// How many of them resumed a TLS session.
    pub fn resumed(&self) -> usize {
        self.state.resumed.load(Relaxed)
    }

    /// The open connections of a client's serial that no request is under way on.
    pub fn idle(&self, serial: &str) -> usize {
        let open = self.state.open.lock().unwrap();
        open.values()
            .filter(|(whose, busy)| whose == serial && !busy)
            .count()
    }

    pub fn open(&self) -> usize {
        self.state.open.lock().unwrap().len()
    }

    /// Everything that came so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }
}

/// Answers every request with the serial it saw.
fn answer_serial() -> impl Serve {
    each(|request, tls| {
        answer(tls, &request.serial)?;
        Ok(Then::Keep)
    })
}

/// Does with every request on a connection what `handle` does.
fn each(
    handle: impl Fn(&Request, &mut Tls) -> io::Result<Then> + Send + Sync + 'static,
) -> impl Serve {
    move |tls, serial, connection, note| {
        loop {
            note(None);
            let Some(request) = read_request(tls, serial, connection)? else {
                return Ok(());
            };
            note(Some(&request));
            match handle(&request, tls)? {
                Then::Keep => {}
                Then::Close => return Ok(()),
                Then::CloseAfter(pause) => {
                    note(None);
                    std::thread::sleep(pause);
                    return Ok(());
                }
                Then::Cut => {
                    tls.sock.shutdown(Shutdown::Both)?;
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            }
        }
    }
}

/// Writes a complete answer with this text.
pub fn answer(tls: &mut Tls, text: &str) -> io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
    tls.write_all(format!("{head}{text}").as_bytes())?;
    tls.flush()
}

fn roots(ca: &Ca) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap())
        .unwrap();
    Arc::new(roots)
}

/// Lets one client in.
#[derive(Debug)]
struct Choosy {
    inner: Arc<dyn ClientCertVerifier>,
    wanted: Arc<Mutex<String>>,
}

impl ClientCertVerifier for Choosy {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if serial(leaf) != *self.wanted.lock().unwrap() {
            return Err(rustls::CertificateError::Revoked.into());
        }
        self.inner.verify_client_cert(leaf, others, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A certificate's serial number.
fn serial(der: &CertificateDer<'_>) -> String {
    let (_, leaf) = X509Certificate::from_der(der).unwrap();
    let bytes = leaf.raw_serial().iter();
    bytes.map(|byte| format!("{byte:02X}")).collect()
}

pub fn server_config(
    ca: &Ca,
    served: &Issued,
    asks: bool,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap();
    let builder = match asks {
        true => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(roots(ca), provider)
                .build()
                .unwrap(),
        ),
        false => builder.with_no_client_auth(),
    };
    let chain = CertificateDer::pem_slice_iter(served.chain.as_bytes());
    let config = builder
        .with_single_cert(
            chain.map(Result::unwrap).collect(),
            PrivateKeyDer::from_pem_slice(served.key.as_bytes()).unwrap(),
        )
        .unwrap();
    Arc::new(config)
}

fn connection(
    mut tcp: TcpStream,
    config: Arc<ServerConfig>,
    number: usize,
    state: &State,
    serve: &(impl Fn(&mut Tls, &str, usize, &dyn Fn(Option<&Request>)) -> io::Result<()> + ?Sized),
) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let mut server = ServerConnection::new(config).map_err(io::Error::other)?;
    while server.is_handshaking() {
        if let Err(error) = server.complete_io(&mut tcp) {
            // What lies unread at the close would reset the connection, and its alert with it.
            tcp.shutdown(Shutdown::Write)?;
            tcp.set_read_timeout(Some(Duration::from_secs(2)))?;
            let mut waste = [0; 4096];
            while matches!(tcp.read(&mut waste), Ok(1..)) {}
            return Err(error);
        }
    }
    if server.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
        state.resumed.fetch_add(1, Relaxed);
    }
    let serial = match server.peer_certificates().and_then(|chain| chain.first()) {
        Some(der) => self::serial(der),
        None => String::new(),
    };
    let mut tls = StreamOwned::new(server, tcp);
    state
        .open
        .lock()
        .unwrap()
        .insert(number, (serial.clone(), false));
    let note = |request: Option<&Request>| {
        if let Some(entry) = state.open.lock().unwrap().get_mut(&number) {
            entry.1 = request.is_some();
        }
        if let Some(request) = request {
            state.requests.lock().unwrap().push(request.clone());
        }
    };
    serve(&mut tls, &serial, number, &note)?;
    tls.conn.send_close_notify();
    tls.flush()
}

/// Reads one request with its body; `None` when the client is done.
pub fn read_request(tls: &mut Tls, serial: &str, connection: usize) -> io::Result<Option<Request>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match tls.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => head.push(byte[0]),
            Err(error) => return Err(error),
        }
    }
    let mut request = Request {
        head: String::from_utf8_lossy(&head).trim_end().to_owned(),
        body: Vec::new(),
        serial: serial.to_owned(),
        connection,
    };
    if let Some(length) = request
        .field("content-length")
        .and_then(|length| length.parse().ok())
    {
        request.body.resize(length, 0);
        tls.read_exact(&mut request.body)?;
    } else if request.field("transfer-encoding").is_some() {
        while !request.body.ends_with(b"0\r\n\r\n") {
            tls.read_exact(&mut byte)?;
            request.body.push(byte[0]);
        }
    }
    Ok(Some(request))
}
