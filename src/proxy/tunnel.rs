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
use tokio::time::{Instant, sleep_until};

use crate::lifecycle::Drain;
use crate::server::{self, Client, Socket};
use crate::upstream::Lease;

use super::record::Record;
use super::{From, Proxy};

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
            () = silence(&moved, terms.settings.patience.idle, terms.drain.clone()) => {
                tracing::debug!("a silent tunnel was closed");
            }
        }
        // The line is written when the tunnel is over, as for any other answer.
        drop((record, lease));
    }
}

/// Ready when nothing has moved for `longest`; during a drain, for a moment: a tunnel has no end of
/// its own, and one that is in use is given the time there is.
async fn silence(moved: &Cell<Instant>, longest: Duration, drain: Drain) {
    let mut longest = longest;
    let mut begun = pin!(drain.begun());
    let mut draining = false;
    loop {
        let until = moved.get() + longest;
        tokio::select! {
            () = &mut begun, if !draining => {
                draining = true;
                longest = longest.min(LINGER);
            }
            () = sleep_until(until) => {
                if moved.get() + longest <= Instant::now() {
                    return;
                }
            }
        }
    }
}

/// Serves the plain HTTP that is spoken inside the CONNECT tunnel `from.tunnel`.
pub async fn serve(connected: OnUpgrade, proxy: Rc<Proxy>, from: From, client: Client) {
    let socket = match connected
        .await
        .map(hyper::upgrade::Upgraded::downcast::<TokioIo<Socket>>)
    {
        Ok(Ok(parts)) => parts.io.into_inner().begin_tunnel(parts.read_buf),
        Ok(Err(_)) | Err(_) => {
            tracing::debug!("a tunnel ended before it began");
            return;
        }
    };
    server::serve(socket, client.terms, move |client, request| {
        Rc::clone(&proxy).answer(from.clone(), client, request)
    })
    .await;
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
