//! The rest of a request body whose response is over. The origin may go on reading it, and what it does
//! not read has to be read here: the client's next request comes behind it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http_body::Body;
use tokio::time::{Instant, timeout};

use crate::body::{Stage, Upload};
use crate::lifecycle::Alarm;
use crate::server::Activity;
use crate::upstream::Lease;

/// A request body that is still being sent.
pub struct Tail {
    pub lease: Lease,
    pub upload: Upload,
    /// Whether the connection to the origin may serve again.
    pub reusable: bool,
    /// Whether what the origin does not read is read here.
    pub drains: bool,
    /// How long the client or the origin may be silent.
    pub silence: Duration,
    pub busy: Busy,
}

/// Keeps a client connection from counting as idle.
pub struct Busy(pub Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.request_ended(Instant::now());
    }
}

impl Tail {
    /// Waits until all of the body has come, or nothing more of it does.
    pub async fn run(self) {
        let Self {
            lease,
            mut upload,
            reusable,
            drains,
            silence,
            busy,
        } = self;
        until_origin_is_done(&upload, silence).await;
        if upload.stage() == Stage::Finished {
            if reusable {
                lease.give_back(Instant::now());
            }
            return;
        }
        drop(lease);
        if drains {
            drain(&mut upload, silence, u64::MAX).await;
        }
        drop(busy);
    }
}

/// Waits until the body is over, the origin reads no more of it, or nothing has moved for too long.
async fn until_origin_is_done(upload: &Upload, silence: Duration) {
    let alarm = Alarm::default();
    poll_fn(|cx| {
        upload.wake_at_end(cx);
        loop {
            if matches!(upload.stage(), Stage::Finished | Stage::Failed) || upload.is_last() {
                return Poll::Ready(());
            }
            let since = upload.since();
            let deadline = since.map_or_else(Instant::now, |since| since + silence);
            if alarm.poll(cx, deadline).is_pending() {
                return Poll::Pending;
            }
            if upload.since() == since {
                return Poll::Ready(());
            }
        }
    })
    .await;
}

/// Reads up to `most` bytes of a body and drops them. Returns whether that was all of it.
pub async fn drain(upload: &mut Upload, silence: Duration, most: u64) -> bool {
    let mut left = most;
    loop {
        let next = poll_fn(|cx| Pin::new(&mut *upload).poll_frame(cx));
        match timeout(silence, next).await {
            Ok(None) => return true,
            Ok(Some(Ok(frame))) => {
                let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                match left.checked_sub(size) {
                    Some(less) => left = less,
                    None => return false,
                }
                if upload.stage() == Stage::Finished {
                    return true;
                }
            }
            Ok(Some(Err(_))) | Err(_) => return false,
        }
    }
}

/// Reads what is left of a body that nobody wants, if that is little and comes soon. Returns whether it
/// did, so that another request can follow.
pub async fn settle(mut upload: Upload) -> bool {
    if upload.stage() == Stage::Finished {
        return true;
    }
    // A client that waits to be told to send its body is not told.
    !upload.is_held_back() && drain(&mut upload, SOON, LITTLE).await
}

const SOON: Duration = Duration::from_millis(20);
/// Bytes.
const LITTLE: u64 = 256 * 1024;
