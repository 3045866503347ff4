//! What the user wrote, turned once into types that cannot be wrong.
//!
//! Text goes through [`Draft`], which collects every mistake it can find before anything is
//! reported, and comes out as a [`Config`]. Nothing else in mtlsd reads TOML, and nothing
//! checks a `Config` again.

mod admin;
mod apart;
mod authority;
mod binding;
mod defaults;
mod find;
mod finding;
mod flags;
mod grant;
mod idn;
pub mod keys;
mod layout;
mod listen;
mod mistake;
mod name;
mod origin;
mod overrides;
mod read;
mod roots;
pub mod secret;
mod section;
mod settings;
mod stored;
mod tls;
mod upgrade;
mod web_origin;
mod wrangler;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderValue;

pub use admin::AdminSettings;
pub use authority::{Authority, AuthorityRef, HTTPS};
pub use find::{FindError, find};
pub use finding::{Finding, Severity, SourceText};
pub use flags::{Flags, Word};
pub use listen::Listen;
pub use mistake::{ConfigError, Mistake, Place};
pub use name::{BindingName, HostPrefix};
pub use origin::{Allowed, Domain, Origin};
pub use overrides::{FORMATS, LEVELS, Overrides};
pub use read::Draft;
pub use roots::{Given, Texts};
pub use section::nearest;
pub use stored::{CertificateId, StorePath};
pub use tls::{Pin, SubjectName, TlsPolicy, TlsVersion};
pub use upgrade::UpgradeProtocol;
pub use web_origin::{WebOrigin, WebOrigins};
pub use wrangler::Project;

/// Everything the daemon was told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listener that serves every binding by name, where there is one.
    pub shared: Option<SharedListener>,
    /// Client connections over all listeners; by default what the limit of open files allows.
    pub max_client_connections: Option<NonZeroUsize>,
    /// How many threads serve requests.
    pub workers: NonZeroUsize,
    /// What is logged, and how.
    pub log: LogSettings,
    /// The operator's endpoints.
    pub admin: AdminSettings,
    /// The bindings, in the order of the file; at least one.
    pub bindings: Vec<Binding>,
}

/// A listener that serves every binding; the request says which.
#[derive(Clone, Debug)]
pub struct SharedListener {
    /// The addresses.
    pub listen: Vec<Listen>,
    /// Where in the file they are written, in the same order.
    pub places: Vec<Place>,
    /// How long clients may take.
    pub patience: ClientPatience,
    /// Bytes of a request's head.
    pub max_header_size: usize,
    /// Fields of a request's head.
    pub max_header_fields: usize,
}

/// How long a client connection may take over things that concern no binding yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientPatience {
    /// From the first byte of a request's head to its last.
    pub header: Duration,
    /// From the last answer to the first byte of the next request.
    pub idle: Duration,
}

/// Which HTTP is spoken to an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// As the client speaks: http/1.1 for http/1.1, h2 by ALPN for h2; the other one where the
    /// origin speaks only that.
    Auto,
    /// http/1.1 only.
    Http1,
    /// h2 only, but for what has to switch protocols.
    Http2,
}

/// Whether a request may be sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Never.
    Never,
    /// Where it cannot have had an effect: nothing of it was sent, or it was refused unseen, or
    /// its method is safe and its connection ended before a byte of an answer.
    Safe,
}

/// What is logged, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogSettings {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// Text or JSON.
    pub format: LogFormat,
    /// Whether every request gets a line.
    pub access: bool,
}

impl Default for LogSettings {
    fn default() -> Self {
        defaults::LOG
    }
}

/// Severities, the least talkative first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// A name, a way in, a certificate, and the origins it may reach.
#[derive(Clone, PartialEq, Debug)]
pub struct Binding {
    /// What logs and answers call it.
    pub name: BindingName,
    /// Its own listeners; may be empty when there is a shared one.
    pub listen: Vec<Listen>,
    /// The names that stand for it in a `Host` field.
    pub hosts: Vec<HostPrefix>,
    /// Where origin-form requests go. `None`: only absolute URLs that `allow` covers.
    pub origin: Option<Origin>,
    /// What absolute URLs may reach besides.
    pub allow: Vec<Allowed>,
    /// The certificate and its key.
    pub source: Source,
    /// Where `source` is a file of the certificate store: which certificate it is.
    pub stored: Option<CertificateId>,
    /// Whom to believe about the origin.
    pub trust: Trust,
    /// What else is demanded of it.
    pub tls: TlsPolicy,
    /// SNI and the name to verify, where not the origin's host.
    pub server_name: Option<Box<str>>,
    /// What to dial, where not the origin's host.
    pub connect_to: Option<ConnectTo>,
    /// Whether its listeners are open to other machines.
    pub expose: bool,
    /// Which web pages may use it.
    pub web_origins: WebOrigins,
    /// The protocols that clients may switch to.
    pub upgrades: Vec<UpgradeProtocol>,
    /// Whether wildcards of `allow` may lead to private addresses.
    pub allow_private: bool,
    /// How long its clients may take.
    pub patience: ClientPatience,
    /// Bytes of a request's head.
    pub max_header_size: usize,
    /// Fields of a head, of requests and of responses.
    pub max_header_fields: usize,
    /// Which HTTP the origin is spoken to in.
    pub protocol: Protocol,
    /// Whether a request may be sent once more.
    pub retry: Retry,
    /// How long the origin may take.
    pub timeouts: Timeouts,
    /// How much of everything it may use.
    pub limits: Limits,
    /// What happens to header fields.
    pub headers: HeaderPolicy,
    /// How much a client is told about a failure.
    pub details: Details,
    /// Where in the file it stands, for mistakes that only opening files can find.
    pub places: Places,
}

/// What the identity of a binding is made from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// A chain in PEM, or all in PKCS#12.
    pub certificate: PathBuf,
    /// A key in PEM; may be the same file.
    pub key: PathBuf,
    /// A file with the password of the key, or of the PKCS#12 file.
    pub password: Option<PathBuf>,
}

/// Whom to believe about an origin's certificate.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Trust {
    /// The certificate authorities of this machine.
    System,
    /// Mozilla's list, as it was when mtlsd was built.
    Mozilla,
    /// A PEM bundle.
    Bundle(PathBuf),
    /// The `ca.crt` of a `certificate_dir`, and the certificate authorities of this machine where
    /// there is none.
    BundleOrSystem(PathBuf),
}

impl Trust {
    /// The file that decides, where it is a file.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Bundle(path) | Self::BundleOrSystem(path) => Some(path),
            Self::System | Self::Mozilla => None,
        }
    }
}

/// An address to dial in place of the origin's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectTo {
    /// A name or an address.
    pub host: Box<str>,
    /// `None`: the origin's port.
    pub port: Option<u16>,
}

/// How long an origin may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// Name lookup, TCP and TLS together; also the longest wait for a free connection.
    pub connect: Duration,
    /// From the request's last byte to the response's head.
    pub response: Duration,
    /// Silence between two pieces of a body, either way.
    pub body: Duration,
    /// An idle connection in the pool.
    pub idle: Duration,
}

/// How much a binding may use at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections to origins, over all workers.
    pub connections: NonZeroUsize,
    /// Requests, over all workers.
    pub requests_in_flight: NonZeroUsize,
    /// After this long a connection takes no further request.
    pub connection_age: Duration,
}

/// What mtlsd does to header fields beyond what HTTP demands of a proxy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeaderPolicy {
    /// What the origin reads in `Host`.
    pub host: HostHeader,
    /// Whether to add `X-Forwarded-*` and `Forwarded`.
    pub forwarded: bool,
    /// Whether to add `Via`.
    pub via: bool,
    /// Whether field names keep their case between HTTP/1 on both sides.
    pub preserve_case: bool,
    /// Whether the origin's own URLs in header fields lead back to mtlsd.
    pub rewrite_location: bool,
    /// Whether the origin's cookies are made acceptable for a plain-HTTP listener.
    pub rewrite_cookies: bool,
}

impl Binding {
    /// Whether it is the same but for where it stands in the file.
    pub fn is_like(&self, other: &Self) -> bool {
        let anywhere = |binding: &Self| Self {
            places: Places::default(),
            ..binding.clone()
        };
        anywhere(self) == anywhere(other)
    }
}

impl HeaderPolicy {
    /// Whether the origin is told what the client called mtlsd.
    pub fn repeats_host(&self) -> bool {
        self.forwarded || self.host == HostHeader::Preserve
    }
}

/// How much a client is told about a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Details {
    /// Everything that helps to put it right.
    Full,
    /// What kind it is. The rest is in the log.
    Brief,
}

/// What the origin reads in `Host`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostHeader {
    /// The origin's own authority.
    Origin,
    /// What the client sent.
    Preserve,
    /// This.
    Literal(HeaderValue),
}

/// Where in the file the inputs of a binding are named.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Places {
    /// The certificate, or the directory that holds it.
    pub certificate: Place,
    /// The key, or where the certificate is named when it holds both.
    pub key: Place,
    /// The file with the key's password.
    pub password: Place,
    /// The CA bundle.
    pub ca: Place,
    /// The revocation lists.
    pub crl: Place,
    /// `server_name`, or `origin`.
    pub server_name: Place,
    /// The addresses, in the order of `Binding::listen`; none where they are not in the file.
    pub listen: Vec<Place>,
}
