//! The client connections of a worker, grouped by listener, so that those of a listener that is
//! removed or given to another binding can be drained on their own.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;

use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::lifecycle::{DRAIN, Drain, Drainer};

/// All client connections of a worker.
#[derive(Default)]
pub struct Connections {
    // By the number of the listener.
    open: HashMap<usize, Rc<Group>>,
    closing: Vec<Rc<Group>>,
}

/// The connections of one listener.
struct Group {
    drainer: Drainer,
    tasks: RefCell<HashMap<u64, AbortHandle>>,
    next: Cell<u64>,
}

impl Connections {
    /// Runs `serve` for a connection of the listener with this number. The [`Drain`] begins when
    /// the listener is closed; what then takes too long is aborted.
    pub fn spawn<F>(&mut self, listener: usize, serve: impl FnOnce(Drain) -> F)
    where
        F: Future<Output = ()> + 'static,
    {
        let group = self.open.entry(listener).or_insert_with(Group::new);
        let key = group.next.get();
        group.next.set(key + 1);
        let registered = Registered {
            group: Rc::clone(group),
            key,
        };
        let serving = serve(group.drainer.drain());
        let task = tokio::task::spawn_local(async move {
            let _registered = registered;
            serving.await;
        });
        let mut tasks = group.tasks.borrow_mut();
        tasks.insert(key, task.abort_handle());
    }

    /// Drains the connections of every listener that `is_open` does not know.
    pub fn close_all_but(&mut self, is_open: impl Fn(usize) -> bool) {
        let gone = self.open.extract_if(|listener, _| !is_open(*listener));
        let gone: Vec<_> = gone.map(|(_, group)| group).collect();
        self.closing.retain(|group| group.drainer.left() > 0);
        for group in gone {
            group.drainer.start();
            self.closing.push(Rc::clone(&group));
            tokio::task::spawn_local(async move { group.end().await });
        }
    }

    /// Asks all connections to finish.
    pub fn drain(&self) {
        for group in self.open.values() {
            group.drainer.start();
        }
    }

    /// Waits until all connections are gone.
    pub async fn finished(&self) {
        for group in self.open.values().chain(&self.closing) {
            group.drainer.finished().await;
        }
    }

    /// How many connections there are, counting what they have turned into.
    pub fn left(&self) -> usize {
        let groups = self.open.values().chain(&self.closing);
        groups.map(|group| group.drainer.left()).sum()
    }
}

impl Group {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            drainer: Drainer::new().0,
            tasks: RefCell::default(),
            next: Cell::new(0),
        })
    }

    /// Waits until its connections are gone, and aborts those that take too long.
    async fn end(&self) {
        if timeout(DRAIN, self.drainer.finished()).await.is_err() {
            let tasks = self.tasks.take();
            tracing::warn!(
                connections = tasks.len(),
                "drain timed out; closing the remaining connections of a removed listener"
            );
            for task in tasks.into_values() {
                task.abort();
            }
        }
    }
}

/// A connection that is served; removed from its group when it is dropped.
struct Registered {
    group: Rc<Group>,
    key: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.group.tasks.borrow_mut().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `test` where tasks of one thread can be spawned, with a clock that does not run.
    fn on_a_worker(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build_local(tokio::runtime::LocalOptions::default())
            .unwrap();
        runtime.block_on(test);
    }

    #[test]
    fn connections_of_a_closed_listener_are_drained_and_others_are_not() {
        on_a_worker(async {
            let mut connections = Connections::default();
            for listener in [1, 1, 2] {
                connections.spawn(listener, Drain::begun);
            }
            assert_eq!(connections.left(), 3);
            connections.close_all_but(|listener| listener == 2);
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            assert_eq!(connections.left(), 1);
            connections.drain();
            connections.finished().await;
            assert_eq!(connections.left(), 0);
        });
    }

    #[test]
    fn a_connection_that_ignores_its_drain_is_aborted_when_that_times_out() {
        on_a_worker(async {
            let mut connections = Connections::default();
            connections.spawn(1, |drain| async move {
                let _drain = drain;
                std::future::pending::<()>().await;
            });
            tokio::task::yield_now().await;
            connections.close_all_but(|_| false);
            tokio::time::sleep(DRAIN / 2).await;
            assert_eq!(connections.left(), 1);
            tokio::time::sleep(DRAIN).await;
            assert_eq!(connections.left(), 0);
        });
    }
}
