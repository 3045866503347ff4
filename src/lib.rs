//! mtlsd
pub mod body;
pub mod config;
pub mod error;
pub mod head;
pub mod lifecycle;
pub mod log;
pub mod proxy;
pub mod route;
pub mod server;
pub mod systemd;
pub mod tls;
pub mod upstream;
pub mod watch;
