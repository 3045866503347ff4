//! mtlsd: an mTLS forward proxy daemon. Plain HTTP comes in on a local port, and goes out over TLS
//! with the client certificate of the *binding* it belongs to.
//!
//! Two flows, one meeting point. A *request* goes down, [`server`] → [`proxy`] → [`route`] →
//! [`head`] → [`upstream`] → origin, and back. A *certificate* goes across: [`watch`] →
//! [`reload`] → [`tls::Identity`] → [`tls::Generation`]. They meet in the Generation, an immutable
//! value that every worker holds its own pointer to, and nowhere else.
//!
//! In reading order, from the top floor down; a module imports only from lower floors, which
//! `tests/layers.rs` holds against the code:
//!
//! | floor | modules | what lives there |
//! |---|---|---|
//! | 5 | [`cli`], [`commands`] | arguments to a command, its result to an exit code |
//! | 4 | [`app`], [`demo`] | build everything from a configuration, start the threads, supervise, drain |
//! | 3 | [`proxy`], [`reload`], [`admin`], [`probe`] | answer one request; keep the identities fresh; serve the operator's endpoints; go the way of a request step by step |
//! | 2 | [`upstream`], [`diagnosis`] | the pool under one Generation, connecting, sending and retrying; why that failed, in words |
//! | 1 | [`tls`], [`route`], [`head`], [`server`], [`watch`], [`store`], [`systemd`] | mechanism |
//! | 0 | [`access`], [`config`], [`log`], [`metrics`], [`body`], [`lifecycle`], [`error`], [`printable`], [`sys`], [`terminal`], [`timestamp`] | vocabulary |

#[macro_use]
pub mod terminal;

pub mod cli;
pub mod commands;

pub mod app;
pub mod demo;

pub mod admin;
pub mod probe;
pub mod proxy;
pub mod reload;

pub mod diagnosis;
pub mod upstream;

pub mod head;
pub mod route;
pub mod server;
pub mod store;
pub mod systemd;
pub mod tls;
pub mod watch;

pub mod access;
pub mod body;
pub mod config;
pub mod error;
pub mod lifecycle;
pub mod log;
pub mod metrics;
pub mod printable;
pub mod sys;
pub mod timestamp;
