//! PINGs on HTTP/2 connections that are suspected to be dead, and on no others.
//!
//! hyper keeps its PING to itself: it sends one when its keepalive timer fires, and it has no timer
//! of its own. The one below fires when a connection is suspected. A keepalive interval would send
//! PINGs on quiet streams too, which servers count as abuse and answer with `GOAWAY`.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// Sends a PING on request, and knows whether its connection has to prove that it is alive.
#[derive(Default)]
pub struct Pinger {
    suspected: AtomicBool,
    // Whether a PING is out that was not answered.
    sent: AtomicBool,
    connection: Mutex<Option<Waker>>,
}

/// The timer of hyper's keepalive.
pub struct PingTimer(pub Arc<Pinger>);

/// hyper's keepalive interval, far beyond the life of a connection.
pub const INTERVAL: Duration = Duration::from_secs(4 * YEAR);
/// hyper's wait for the response to a PING; shorter, to tell one from the other.
pub const TIMEOUT: Duration = Duration::from_secs(YEAR);

impl Pinger {
    /// Has a PING sent. The connection is suspected until something comes.
    pub fn suspect(&self) {
        self.suspected.store(true, Relaxed);
        let connection = self.connection.lock();
        let connection = connection.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(connection) = connection {
            connection.wake();
        }
    }

    /// The connection is alive: something came on it.
    pub fn heard(&self) {
        if self.is_suspected() {
            self.suspected.store(false, Relaxed);
        }
    }

    /// Whether nothing has come since the connection was suspected.
    pub fn is_suspected(&self) -> bool {
        self.suspected.load(Relaxed)
    }
}

impl Timer for PingTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    /// hyper resets its timer for the next PING, first at the beginning and then whenever one was
    /// answered, and for the wait for an answer, which is not left to hyper.
    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let waits = deadline < self.now() + 2 * TIMEOUT;
        let answered = self.0.sent.swap(waits, Relaxed) && !waits;
        if answered {
            self.0.heard();
        }
        Box::pin(Due {
            pinger: Arc::clone(&self.0),
            never: waits,
        })
    }
}

/// Ready when a PING is to be sent.
struct Due {
    pinger: Arc<Pinger>,
    never: bool,
}

impl Sleep for Due {}

impl Future for Due {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.never {
            return Poll::Pending;
        }
        if self.pinger.is_suspected() {
            return Poll::Ready(());
        }
        let connection = self.pinger.connection.lock();
        let mut connection = connection.unwrap_or_else(PoisonError::into_inner);
        if !connection
            .as_ref()
            .is_some_and(|task| task.will_wake(cx.waker()))
        {
            *connection = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

const YEAR: u64 = 365 * 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    fn is_due(sleep: &mut Pin<Box<dyn Sleep>>) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        sleep.as_mut().poll(&mut cx).is_ready()
    }

    #[test]
    fn a_ping_is_due_on_suspicion_only_and_its_answer_ends_that() {
        let pinger = Arc::new(Pinger::default());
        let timer = PingTimer(Arc::clone(&pinger));
        // As hyper does it.
        let mut sleep = timer.sleep(INTERVAL);
        timer.reset(&mut sleep, timer.now() + INTERVAL);
        assert!(!is_due(&mut sleep));
        pinger.suspect();
        assert!(is_due(&mut sleep));
        // It was sent.
        timer.reset(&mut sleep, timer.now() + TIMEOUT);
        assert!(!is_due(&mut sleep));
        assert!(pinger.is_suspected());
        // It was answered.
        timer.reset(&mut sleep, timer.now() + INTERVAL);
        assert!(!pinger.is_suspected());
        assert!(!is_due(&mut sleep));
        // A response came instead.
        pinger.suspect();
        pinger.heard();
        assert!(!is_due(&mut sleep));
    }
}
