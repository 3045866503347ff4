//! Identities, whom to trust, and TLS connections. The only room that knows rustls.

mod connect;
mod demanding;
mod error;
mod facts;
mod generation;
mod identity;
mod material;
mod pem;
mod stream;
mod trust;

pub use connect::{HandshakeError, ServerName, connect};
pub use demanding::{Demanding, call_without_certificate};
pub use error::{Input, LoadError};
pub use facts::Facts;
pub use generation::{Alpn, Fingerprint, Generation, Inputs};
pub use identity::{Identity, Leaf};
pub use material::{Material, leaf};
pub use stream::Stream;
