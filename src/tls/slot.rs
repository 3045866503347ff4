//! rustls tells its resolver and its verifier what a handshake revealed, and does not tell them
//! whose handshake it was: both serve all connections of a Generation. So whoever drives a
//! handshake lays its connection's facts into a slot of the thread, each time it does.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use super::facts::{Asked, Demand, Facts};

thread_local! {
    static CURRENT: RefCell<Option<Arc<Facts>>> = const { RefCell::new(None) };
}

/// Runs a handshake whose facts go into `facts`.
pub async fn noting<T>(facts: &Arc<Facts>, handshake: impl Future<Output = T>) -> T {
    let mut handshake = pin!(handshake);
    poll_fn(|cx| {
        CURRENT.set(Some(Arc::clone(facts)));
        let polled = handshake.as_mut().poll(cx);
        CURRENT.set(None);
        polled
    })
    .await
}

/// The origin asks for a certificate.
pub fn asked(asked: Asked) {
    with(|facts| facts.demands(Demand::Asked(Arc::new(asked))));
}

/// The origin presents these certificates, and is not believed.
pub fn refused(leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) {
    with(|facts| facts.refuses(leaf, others));
}

fn with(note: impl FnOnce(&Facts)) {
    CURRENT.with_borrow(|current| {
        if let Some(facts) = current {
            note(facts);
        }
    });
}
