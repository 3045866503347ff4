//! Listening, accepting, and serving one client connection.

mod accept;
mod activity;
mod admission;
mod answering;
mod bindable;
mod connection;
mod cutoff;
mod frames;
mod gathered;
mod half_closed;
mod heads;
mod http1;
mod http2;
mod io;
mod listener;
mod tidy;
mod unix;

pub use accept::{Accepted, Acceptor, Porter};
pub use activity::Activity;
pub use admission::Admission;
pub use bindable::{Holder, try_bind};
pub use connection::{Client, Settings, Terms, serve};
pub use cutoff::Ends;
pub use io::Socket;
pub use listener::{BindError, Listener, bind, bind_address, bind_path};
