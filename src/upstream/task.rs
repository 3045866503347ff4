//! The task that drives a connection, and the handle by which the connection's owner ends it.
//!
//! A connection whose task waits for an origin that reads nothing never ends by itself, and keeps
//! its slot and the certificate it was opened with. So every connection has one owner.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Ends its connection: a moment after it is dropped, or at once.
pub struct Owner(Rc<End>);

/// When a connection has to end.
#[derive(Default)]
struct End {
    at: Cell<Option<Instant>>,
    task: RefCell<Option<Waker>>,
}

/// Drives a connection until it ends or its owner ends it.
struct Driven<F> {
    connection: Pin<Box<F>>,
    end: Rc<End>,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// Spawns the tasks of one HTTP/2 connection. The first of them is the one that owns its socket, and
/// ends with its [`Owner`]; hyper spawns it during its handshake, and one for each request later.
#[derive(Clone)]
pub struct Spawner {
    first: Rc<Cell<Option<Rc<End>>>>,
}

impl Owner {
    /// Drives `connection`, on a task of this thread.
    pub fn of(connection: impl Future<Output = ()> + 'static) -> Self {
        let owner = Self(Rc::default());
        owner.0.spawn(connection);
        owner
    }

    /// The owner of an HTTP/2 connection, and what spawns its tasks.
    pub fn of_spawned() -> (Self, Spawner) {
        let owner = Self(Rc::default());
        let first = Rc::new(Cell::new(Some(Rc::clone(&owner.0))));
        (owner, Spawner { first })
    }

    /// Ends the connection at once.
    pub fn end(&self) {
        self.0.by(Instant::now());
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // Enough for what is left to be flushed, and for TLS to say goodbye.
        self.0.by(Instant::now() + FAREWELL);
    }
}

impl End {
    fn by(&self, at: Instant) {
        if self.at.get().is_none_or(|earlier| at < earlier) {
            self.at.set(Some(at));
            if let Some(task) = self.task.take() {
                task.wake();
            }
        }
    }

    fn spawn(self: &Rc<Self>, connection: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(Driven {
            connection: Box::pin(connection),
            end: Rc::clone(self),
            sleep: None,
        });
    }
}

impl<F: Future<Output = ()>> Driven<F> {
    /// Ready once the owner's time is over.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut task = self.end.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
        let Some(at) = self.end.at.get() else {
            return Poll::Pending;
        };
        if at <= Instant::now() {
            return Poll::Ready(());
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().poll(cx)
    }
}

impl<F: Future<Output = ()>> Future for Driven<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.poll_end(cx) {
            // Dropping the connection closes its socket.
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => self.connection.as_mut().poll(cx),
        }
    }
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Spawner {
    fn execute(&self, task: F) {
        match self.first.take() {
            Some(end) => end.spawn(task),
            None => drop(tokio::task::spawn_local(task)),
        }
    }
}

/// How long a connection that nobody owns any more may take to close.
const FAREWELL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::runtime::{Builder, LocalOptions};
    use tokio::time::{sleep, timeout};

    use super::*;

    /// Counts itself as gone when it is dropped.
    struct Held(Rc<Cell<bool>>);

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }

    fn stuck() -> (impl Future<Output = ()>, Rc<Cell<bool>>) {
        let closed = Rc::new(Cell::new(false));
        let held = Held(Rc::clone(&closed));
        let task = async move {
            let _held = held;
            pending().await
        };
        (task, closed)
    }

    fn run(test: impl Future<Output = ()>) {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true);
        let runtime = runtime.build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async { timeout(Duration::from_secs(60), test).await.unwrap() });
    }

    #[test]
    fn a_stuck_connection_ends_at_once_or_a_moment_after_its_owner() {
        run(async {
            let (task, closed) = stuck();
            let owner = Owner::of(task);
            sleep(FAREWELL * 2).await;
            assert!(!closed.get());
            owner.end();
            sleep(Duration::from_millis(1)).await;
            assert!(closed.get());

            let (task, closed) = stuck();
            let (owner, spawner) = Owner::of_spawned();
            hyper::rt::Executor::execute(&spawner, task);
            let (request, ended) = stuck();
            hyper::rt::Executor::execute(&spawner, request);
            drop(owner);
            sleep(FAREWELL / 2).await;
            assert!(!closed.get());
            sleep(FAREWELL).await;
            assert!(closed.get());
            assert!(!ended.get());
        });
    }
}
