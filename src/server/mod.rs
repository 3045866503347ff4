//! Listening, accepting, and serving one client connection.

mod accept;
mod answering;
mod bindable;
mod connection;
mod cutoff;
mod gathered;
mod heads;
mod http1;
mod http2;
mod io;
mod listener;
mod tidy;
mod unix;

pub use accept::{Accepted, Acceptor, Porter};
pub use bindable::{Holder, try_bind};
pub use connection::{Client, Settings, Terms, serve};
pub use cutoff::Ends;
pub use io::{Activity, Socket};
pub use listener::{BindError, Listener, bind, bind_address, bind_path};
