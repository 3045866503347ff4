//! Connections that turn into something else: a protocol that client and origin agreed on, or a
//! CONNECT tunnel in which plain HTTP is spoken.

use std::cell::Cell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::{Instant, sleep, sleep_until};

use crate::lifecycle::{DRAIN, Drain};
use crate::server::{self, Client, Socket, Terms};
use crate::upstream::Lease;

use super::record::Record;
use super::{Current, From};

/// Both ends of a switch that both ends have agreed to.
pub struct Switch {
    pub client: OnUpgrade,
    pub origin: OnUpgrade,
    pub lease: Lease,
}

impl Switch {
    /// Passes bytes both ways until both sides are done, or until neither has said anything for as
    /// long as a client may be idle. Each side may end its half before the other.
    pub async fn run(self, client: &Client, record: Record) {
        let Self {
            client: theirs,
            origin,
            lease,
        } = self;
        let (theirs, origin) = match tokio::try_join!(theirs, origin) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(%error, "a switch of protocols failed");
                return;
            }
        };
        let terms = &client.terms;
        let drain = terms.drain.clone();
        let drain = match &record.service {
            Some(service) => drain.or(service.replaced.drain()),
            None => drain,
        };
        let moved = Rc::new(Cell::new(Instant::now()));
        let mut theirs = Noticing {
            inner: TokioIo::new(theirs),
            moved: Rc::clone(&moved),
        };
        let mut origin = TokioIo::new(origin);
        tokio::select! {
            ended = copy_bidirectional(&mut theirs, &mut origin) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a tunnel broke");
                }
            }
            () = silence(&moved, terms.settings.patience.idle, drain) => {
                tracing::debug!("a silent tunnel was closed");
            }
        }
        // The line is written when the tunnel is over, as for any other answer.
        drop((record, lease));
    }
}

/// Ready when nothing has moved for `longest`. During a drain, ready when nothing has moved for a
/// moment, and at the latest when the drain times out: a tunnel has no end of its own.
async fn silence(moved: &Cell<Instant>, longest: Duration, drain: Drain) {
    let mut longest = longest;
    let mut begun = pin!(drain.begun());
    let mut drained = None;
    loop {
        let quiet = moved.get() + longest;
        tokio::select! {
            () = &mut begun, if drained.is_none() => {
                drained = Some(Instant::now() + DRAIN);
                longest = longest.min(LINGER);
            }
            () = sleep_until(drained.map_or(quiet, |drained| quiet.min(drained))) => {
                let now = Instant::now();
                if moved.get() + longest <= now || drained.is_some_and(|drained| drained <= now) {
                    return;
                }
            }
        }
    }
}

/// Serves the plain HTTP that is spoken inside the CONNECT tunnel `from.tunnel`, until the
/// binding that it was opened for is `removed`. Each request is answered by the configuration
/// in use when it arrives.
pub async fn serve(
    connected: OnUpgrade,
    current: Current,
    from: From,
    client: Client,
    removed: Option<Drain>,
) {
    let socket = match connected
        .await
        .map(hyper::upgrade::Upgraded::downcast::<TokioIo<Socket>>)
    {
        Ok(Ok(parts)) => parts.io.into_inner().begin_tunnel(&parts.read_buf),
        Ok(Err(_)) | Err(_) => {
            tracing::debug!("a tunnel ended before it began");
            return;
        }
    };
    let drain = client.terms.drain.clone();
    let drain = match removed {
        Some(removed) => drain.or(removed),
        None => drain,
    };
    let terms = Rc::new(Terms {
        drain: drain.clone(),
        ..Terms::clone(&client.terms)
    });
    let serving = server::serve(socket, terms, move |client, request| {
        current.answer(from.clone(), client, request)
    });
    let drained = async {
        drain.begun().await;
        sleep(DRAIN).await;
    };
    tokio::select! {
        () = serving => {}
        () = drained => tracing::debug!("drain timed out; closing a tunnel"),
    }
}

/// A stream that notes when anything was read from it or written to it.
struct Noticing<S> {
    inner: S,
    moved: Rc<Cell<Instant>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Noticing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buffer));
        self.moved.set(Instant::now());
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noticing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, data));
        self.moved.set(Instant::now());
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// How long a tunnel may be silent while the process is ending.
const LINGER: Duration = Duration::from_secs(1);
