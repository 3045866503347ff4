//! Keeps what files decide about up to date: when to read them, reading them, and what is made of
//! what they hold. [`Due`] decides when, and is the only place that does. [`Loaders`] reads on
//! threads of their own, because a file system may not answer and a key derivation may take long:
//! neither may hold up another binding. A [`Reloader`] judges what came of it.

mod due;
mod loaders;
mod recipe;
mod reloader;

pub use due::Due;
pub use loaders::{Finished, Loaders, Panicked};
pub use recipe::{Found, Recipe};
pub use reloader::{Outcome, Rejection, Reloader};

/// What a reload is about: a binding, for as long as it is configured with the same files, or the
/// configuration.
pub type Subject = u64;

/// The configuration.
pub const CONFIGURATION: Subject = 0;
