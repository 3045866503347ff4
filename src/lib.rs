//! mtlsd
pub mod config;
