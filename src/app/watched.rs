//! Threads that must go on: their end, or their panic, is told to the supervisor.

use std::any::Any;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::thread::Builder as Thread;

use tokio::sync::mpsc::UnboundedSender;

use super::StartError;

/// Runs `work`, which may panic.
pub async fn catch<T>(work: impl Future<Output = T>) -> Result<T, Box<dyn Any + Send>> {
    let mut work = pin!(work);
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        },
    )
    .await
}

/// A long-lived part of the process that has ended.
pub struct Ended {
    pub name: String,
    pub panic: Option<String>,
}

/// Runs `work` on a thread of this name. Its end is told to `end`, whichever way it comes.
pub fn watched(
    name: &str,
    end: &UnboundedSender<Ended>,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    let end = end.clone();
    let own = name.to_owned();
    Thread::new()
        .name(name.to_owned())
        .spawn(move || {
            let panic = match catch_unwind(AssertUnwindSafe(work)) {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(panic) => Some(panic_text(&*panic)),
            };
            // Nobody listens any more when the process is ending.
            let _ = end.send(Ended { name: own, panic });
        })
        .map(drop)
}

/// What a panic said.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panicked".to_owned())
}

/// Tells that something is gone, by being dropped.
pub struct Gone {
    pub name: &'static str,
    pub end: UnboundedSender<Ended>,
}

impl Gone {
    pub fn tell(&self, panic: Option<String>) {
        // Nobody listens any more when the process is ending.
        let _ = self.end.send(Ended {
            name: self.name.to_owned(),
            panic,
        });
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.tell(None);
    }
}

/// Logs what has ended, and makes it the end of the process.
pub fn fatal(ended: Option<Ended>) -> StartError {
    let name = match ended {
        Some(Ended {
            name,
            panic: Some(reason),
        }) => {
            tracing::error!(task = name, reason, "a task that must go on has failed");
            name
        }
        Some(Ended { name, panic: None }) => {
            tracing::error!(task = name, "a task that must go on has ended");
            name
        }
        None => "everything".to_owned(),
    };
    StartError::Ended(name)
}
