//! mtlsd
pub mod body;
pub mod config;
pub mod error;
pub mod head;
pub mod lifecycle;
pub mod log;
pub mod route;
pub mod tls;
