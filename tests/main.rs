//! Whole-program tests, one module per promise. They are one binary, so that the program and its
//! dependencies are linked once.
//!
//! `cargo test --test suite rotation::` runs one module.

mod support;

mod abuse;
mod admin;
mod broken_responses;
mod browsers;
mod certificate_dir;
mod client_connections;
mod command_line;
mod config_reload;
mod dead_connections;
mod documents;
mod early_responses;
mod fetch;
mod forwarding;
mod grpc;
mod hostile_text;
mod key_formats;
mod large_hello;
mod layers;
mod limits;
mod listeners;
mod live_connections;
mod logging;
mod messages;
mod mtls_certificates;
mod odd_certificates;
mod origin_faults;
mod process;
mod refused_heads;
mod refused_streams;
mod reload_retry;
mod retry;
mod rotation;
mod routing;
mod secrets;
mod smuggling;
mod store;
mod story;
mod terminal;
mod tunnels;
mod upstream;
mod verification;
