//! Waiting with a limit, and ending without haste.

use std::cell::RefCell;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer for a wait whose end keeps moving later: it is armed once and moved only when it goes
/// off too early, so a busy connection pays for a timer about once per timeout and not once per
/// request.
#[derive(Default)]
pub struct Alarm {
    armed: RefCell<Option<Armed>>,
}

struct Armed {
    sleep: Pin<Box<Sleep>>,
    // Who is woken.
    waker: Waker,
}

impl Alarm {
    /// Forgets all deadlines, and gives the timer up.
    pub fn disarm(&self) {
        self.armed.take();
    }

    /// Ready once `deadline` has passed; wakes the task at the latest then.
    pub fn poll(&self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let mut slot = self.armed.borrow_mut();
        let Armed { sleep, waker } = match &mut *slot {
            // Already set, for this task: nearly always. Asking the timer takes 250 instructions more.
            Some(armed)
                if armed.sleep.deadline() <= deadline
                    && armed.waker.will_wake(cx.waker())
                    && !armed.sleep.is_elapsed() =>
            {
                return Poll::Pending;
            }
            Some(armed) => armed,
            None => slot.insert(Armed {
                sleep: Box::pin(sleep_until(deadline)),
                waker: cx.waker().clone(),
            }),
        };
        waker.clone_from(cx.waker());
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            // Whatever this task has done before: a timer that was refused its turn wakes nobody.
            ready!(Pin::new(&mut unconstrained(sleep.as_mut())).poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

/// Runs hyper's tasks on the thread they come from.
#[derive(Clone, Copy, Debug)]
pub struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// Tells everything that serves to finish, and learns when it has. Cloned into whatever has to
/// finish; dropping the clone says that it has.
#[derive(Clone)]
pub struct Drain {
    draining: watch::Receiver<bool>,
    // A second reason to finish.
    or: Option<watch::Receiver<bool>>,
}

/// The other end of every [`Drain`].
pub struct Drainer(watch::Sender<bool>);

impl Drainer {
    /// A drainer and the first of its [`Drain`]s.
    pub fn new() -> (Self, Drain) {
        let (sender, draining) = watch::channel(false);
        let drain = Drain { draining, or: None };
        (Self(sender), drain)
    }

    /// Returns one more [`Drain`].
    pub fn drain(&self) -> Drain {
        Drain {
            draining: self.0.subscribe(),
            or: None,
        }
    }

    /// Asks everybody to finish.
    pub fn start(&self) {
        self.0.send_replace(true);
    }

    /// Waits until every [`Drain`] is gone.
    pub async fn finished(&self) {
        self.0.closed().await;
    }

    /// How many [`Drain`]s are left.
    pub fn left(&self) -> usize {
        self.0.receiver_count()
    }
}

impl Drain {
    /// Whether it has begun. Costs next to nothing.
    pub fn is_draining(&self) -> bool {
        // The value changes once, and nobody marks it as seen here. An error means that the drainer
        // is gone, which is an end as well.
        self.draining.has_changed().unwrap_or(true)
            || self
                .or
                .as_ref()
                .is_some_and(|or| or.has_changed().unwrap_or(true))
    }

    /// Waits until it begins.
    pub async fn begun(self) {
        match self.or {
            None => begun(self.draining).await,
            Some(or) => tokio::select! {
                () = begun(self.draining) => {}
                () = begun(or) => {}
            },
        }
    }

    /// A drain that begins when either of the two does. Replaces an earlier `or`.
    pub fn or(self, other: Self) -> Self {
        Self {
            draining: self.draining,
            or: Some(other.draining),
        }
    }
}

async fn begun(mut draining: watch::Receiver<bool>) {
    let _ = draining.wait_for(|draining| *draining).await;
}

/// The longest a drain takes: under the 30 s after which Kubernetes kills.
pub const DRAIN: Duration = Duration::from_secs(25);

/// Panics when `MTLSD_FAULT` names `place`; exists in debug builds only, so that tests can see
/// what becomes of the process when a task of its dies.
#[inline]
pub fn fault(place: &str) {
    if cfg!(debug_assertions) && std::env::var("MTLSD_FAULT").is_ok_and(|named| named == place) {
        panic!("MTLSD_FAULT names {place}");
    }
}

/// Panics while the working directory has a file `panic.PLACE.NAME`, and hangs while it has one
/// `hang.PLACE.NAME`; exists in debug builds only, and only where `MTLSD_FAULT` is `files`.
#[inline]
pub fn fault_in(place: &str, name: &str) {
    if cfg!(debug_assertions) && std::env::var("MTLSD_FAULT").is_ok_and(|named| named == "files") {
        let is_there = |what: &str| Path::new(&format!("{what}.{place}.{name}")).exists();
        while is_there("hang") {
            std::thread::sleep(Duration::from_millis(5));
        }
        if is_there("panic") {
            panic!("a file demands it");
        }
    }
}

/// Returns the time by the wall clock. In debug builds, the file that `MTLSD_CLOCK` names can hold a
/// number of seconds by which it is off.
#[inline]
pub fn wall_clock() -> SystemTime {
    let now = SystemTime::now();
    if cfg!(debug_assertions)
        && let Some(file) = std::env::var_os("MTLSD_CLOCK")
        && let Ok(text) = std::fs::read_to_string(file)
        && let Ok(offset) = text.trim().parse::<i64>()
    {
        let offset = Duration::from_secs(offset.unsigned_abs());
        return match text.trim().starts_with('-') {
            true => now - offset,
            false => now + offset,
        };
    }
    now
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use tokio::task::coop::{consume_budget, has_budget_remaining};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_alarm_goes_off_at_the_deadline_it_is_last_asked_about() {
        let alarm = Alarm::default();
        let start = Instant::now();
        let first = start + Duration::from_secs(1);
        let second = start + Duration::from_secs(5);
        poll_fn(|cx| {
            assert!(alarm.poll(cx, first).is_pending());
            Poll::Ready(())
        })
        .await;
        poll_fn(|cx| alarm.poll(cx, second)).await;
        assert_eq!(start.elapsed().as_secs(), 5);
        let sooner = Instant::now() + Duration::from_secs(2);
        poll_fn(|cx| alarm.poll(cx, sooner)).await;
        assert_eq!(start.elapsed().as_secs(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_goes_off_for_a_task_that_had_done_all_it_may_when_it_set_it() {
        let alarm = Alarm::default();
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut polls = 0;
        let waited = poll_fn(|cx| {
            polls += 1;
            while polls == 1 && has_budget_remaining() {
                let _ = pin!(consume_budget()).poll(cx);
            }
            alarm.poll(cx, deadline)
        });
        let patience = Duration::from_secs(5);
        assert!(tokio::time::timeout(patience, waited).await.is_ok());
    }

    #[tokio::test]
    async fn a_drain_with_two_reasons_begins_with_the_first_of_them() {
        for second in [false, true] {
            let (one, drain) = Drainer::new();
            let (other, also) = Drainer::new();
            let both = drain.or(also);
            assert!(!both.is_draining());
            match second {
                false => one.start(),
                true => other.start(),
            }
            assert!(both.is_draining());
            both.begun().await;
        }
    }

    #[tokio::test]
    async fn a_drain_is_finished_when_every_clone_is_gone() {
        let (drainer, drain) = Drainer::new();
        let other = drain.clone();
        drainer.start();
        drain.begun().await;
        assert_eq!(drainer.left(), 1);
        drop(other);
        drainer.finished().await;
    }
}
