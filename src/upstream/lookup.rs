//! Name lookups of one binding on one worker. The system's resolver blocks a thread for as long as a
//! name server is silent, so there are only so many at once; requests for the same name share one,
//! and a failure is remembered for a moment.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::error::{Exhausted, ForwardError};

/// The lookups.
#[derive(Clone)]
pub struct Lookups(Rc<State>);

struct State {
    running: RefCell<HashMap<Box<str>, Running>>,
    failed: RefCell<HashMap<Box<str>, (Instant, ForwardError)>>,
    slots: Arc<Semaphore>,
    find: Find,
}

type Found = Result<Vec<SocketAddr>, ForwardError>;
type Running = watch::Receiver<Option<Found>>;
type Find = fn(&str) -> Found;

impl Default for Lookups {
    fn default() -> Self {
        Self::with(find)
    }
}

impl Lookups {
    fn with(find: Find) -> Self {
        Self(Rc::new(State {
            running: RefCell::default(),
            failed: RefCell::default(),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            find,
        }))
    }

    /// The addresses of `host`, with port 0.
    ///
    /// # Errors
    ///
    /// [`ForwardError::Dns`], or [`ForwardError::Exhausted`].
    pub async fn resolve(&self, host: &str) -> Found {
        if let Some((when, error)) = self.0.failed.borrow().get(host)
            && when.elapsed() < REMEMBERED
        {
            return Err(error.clone());
        }
        let running = self.0.running.borrow().get(host).cloned();
        let mut running = running.unwrap_or_else(|| self.start(host));
        // Waits as long as the caller does. The sender is gone only where its task had no thread.
        let found = running.wait_for(Option::is_some).await;
        let found = found.ok().and_then(|found| found.clone());
        found.unwrap_or(Err(ForwardError::Exhausted(Exhausted::Threads)))
    }

    fn start(&self, host: &str) -> Running {
        let (sender, receiver) = watch::channel(None);
        let host: Box<str> = host.into();
        self.0
            .running
            .borrow_mut()
            .insert(host.clone(), receiver.clone());
        let entry = Entry(Rc::clone(&self.0), host);
        tokio::task::spawn_local(async move {
            let Entry(state, host) = &entry;
            let slots = Arc::clone(&state.slots);
            let permit = tokio::select! {
                permit = slots.acquire_owned() => permit,
                // Only the map still has a receiver: nobody waits any more.
                () = unwanted(&sender) => return,
            };
            let (find, name) = (state.find, host.clone());
            let found = spawn_blocking(move || {
                let _permit = permit;
                find(&name)
            });
            let Ok(found) = found.await else { return };
            if let Err(error @ ForwardError::Dns(..)) = &found {
                state.remember(host, error);
            }
            sender.send_replace(Some(found));
        });
        receiver
    }
}

impl State {
    fn remember(&self, host: &str, error: &ForwardError) {
        let mut failed = self.failed.borrow_mut();
        failed.retain(|_, (when, _)| when.elapsed() < REMEMBERED);
        if failed.len() < MOST_REMEMBERED {
            failed.insert(host.into(), (Instant::now(), error.clone()));
        }
    }
}

/// A lookup's place among those that run; given up when dropped.
struct Entry(Rc<State>, Box<str>);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.running.borrow_mut().remove(&self.1);
    }
}

/// Ready when nobody waits for the result of a lookup that has not begun.
async fn unwanted(sender: &watch::Sender<Option<Found>>) {
    while sender.receiver_count() > 1 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Asks the system's resolver.
fn find(host: &str) -> Found {
    match (host, 0).to_socket_addrs() {
        Ok(found) => Ok(found.collect()),
        Err(error) => Err(match exhausted(&error) {
            Some(limit) => ForwardError::Exhausted(limit),
            None => ForwardError::Dns(host.to_owned(), error.to_string()),
        }),
    }
}

/// The limit that a lookup has met. The resolver says of most failures only that there is no such
/// name, so it is tried whether there is a socket to ask with.
fn exhausted(error: &std::io::Error) -> Option<Exhausted> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).err();
    Exhausted::of(error).or_else(|| Exhausted::of(&socket?))
}

/// So many lookups at once.
const AT_ONCE: usize = 8;
/// How long a failure is remembered.
const REMEMBERED: Duration = Duration::from_secs(1);
const MOST_REMEMBERED: usize = 256;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use tokio::runtime::{Builder, LocalOptions};
    use tokio::time::{sleep, timeout};

    use super::*;

    static ASKED: AtomicUsize = AtomicUsize::new(0);

    /// Takes as long as the name says, in milliseconds.
    fn slow(name: &str) -> Found {
        ASKED.fetch_add(1, Relaxed);
        let millis = name.rsplit('-').next().and_then(|text| text.parse().ok());
        std::thread::sleep(Duration::from_millis(millis.unwrap_or_default()));
        match name.starts_with("bad") {
            true => Err(ForwardError::Dns(
                name.to_owned(),
                "no such name".to_owned(),
            )),
            false => Ok(vec!["192.0.2.1:0".parse().unwrap()]),
        }
    }

    #[test]
    fn lookups_are_bounded_and_shared_and_failures_are_remembered() {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_all().build_local(LocalOptions::default());
        let runtime = runtime.unwrap();
        runtime.block_on(async {
            let lookups = Lookups::with(slow);
            // Two requests for one name.
            let (one, other) = tokio::join!(lookups.resolve("a-50"), lookups.resolve("a-50"));
            assert!(one.is_ok() && other.is_ok());
            assert_eq!(ASKED.load(Relaxed), 1);
            assert!(lookups.0.running.borrow().is_empty());
            // A failure, twice.
            for _ in 0..2 {
                assert!(lookups.resolve("bad-1").await.is_err());
            }
            assert_eq!(ASKED.load(Relaxed), 2);
            // More than may run at once, whose requests give up; those that had not begun are dropped.
            for at in 0..4 * AT_ONCE {
                let name = format!("hangs-{at}-1000");
                let wait = timeout(Duration::from_millis(1), lookups.resolve(&name));
                assert!(wait.await.is_err());
            }
            sleep(Duration::from_millis(300)).await;
            assert!(lookups.0.running.borrow().len() <= AT_ONCE);
            // Another binding is not held up.
            let others = Lookups::with(slow);
            let wait = timeout(Duration::from_millis(500), others.resolve("b-1"));
            assert!(wait.await.unwrap().is_ok());
        });
        runtime.shutdown_background();
    }
}
