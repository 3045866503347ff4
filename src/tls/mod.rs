//! Identities, whom to trust, and TLS connections. The only room that knows rustls.

mod ahead;
mod ber;
mod chain;
mod connect;
mod crl;
mod demanding;
mod error;
mod facts;
mod form;
mod generation;
mod identity;
mod inputs;
mod key;
mod material;
mod opening;
mod pbe;
mod pem;
mod pkcs12;
mod remark;
mod slot;
mod stream;
mod trust;
mod unusable;
mod verify;
mod x509;

pub use connect::{HandshakeError, ServerName, connect};
pub use demanding::{Demanding, call_without_certificate};
pub use error::{Input, LoadError};
pub use facts::{Asked, Demand, Facts, Session};
pub use generation::{Alpn, Generation};
pub use identity::{Identity, Leaf};
pub use inputs::{Fingerprint, Inputs};
pub use material::{Material, leaf};
pub use remark::Remark;
pub use stream::Stream;
pub use unusable::Unusable;
