//! What an origin says first. Where that is no TLS, rustls says no more than so.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::error::Tongue;

use super::ahead::Ahead;
use super::facts::Facts;

/// A TCP connection that keeps the first bytes that come on it.
pub struct Opening {
    tcp: TcpStream,
    facts: Arc<Facts>,
    ahead: Ahead,
    first: [u8; 5],
    seen: usize,
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.facts.closing();
    }
}

impl Opening {
    pub fn new(tcp: TcpStream, facts: Arc<Facts>) -> Self {
        facts.opened(&tcp);
        Self {
            tcp,
            facts,
            ahead: Ahead::new(),
            first: [0; 5],
            seen: 0,
        }
    }

    /// What lies unread, without waiting for more. Read past tokio, which may not have heard yet
    /// that there is anything to read. `None` where there is nothing.
    pub fn rest<'a>(&mut self, scrap: &'a mut [u8]) -> Option<&'a [u8]> {
        let mut read = self.ahead.take(scrap);
        if read == 0 {
            (read, _) = rustix::net::recv(&self.tcp, &mut *scrap, RecvFlags::DONTWAIT).ok()?;
        }
        (read > 0).then(|| &scrap[..read])
    }

    /// Whether nothing came at all.
    pub fn is_silent(&self) -> bool {
        self.seen == 0
    }

    /// What is spoken, where that is not TLS; `None` where it is, or nothing was said.
    pub fn tongue(&self) -> Option<Tongue> {
        match self.first[..self.seen] {
            [] => None,
            // A record of TLS begins with its type, 20 to 23, and 3 (RFC 8446 section 5.1).
            [20..=23] | [20..=23, 3, ..] => None,
            [b'H', b'T', b'T', b'P', ..] => Some(Tongue::Http),
            _ => Some(Tongue::Other),
        }
    }
}

impl AsyncRead for Opening {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let this = &mut *self;
        let result = ready!(this.ahead.poll_read(&mut this.tcp, cx, buffer));
        if self.seen < self.first.len() {
            let came = &buffer.filled()[before..];
            let seen = self.seen;
            let more = came.len().min(self.first.len() - seen);
            self.first[seen..seen + more].copy_from_slice(&came[..more]);
            self.seen += more;
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Opening {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = ready!(Pin::new(&mut self.tcp).poll_write(cx, data))?;
        self.facts.add_sent(taken);
        Poll::Ready(Ok(taken))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = ready!(Pin::new(&mut self.tcp).poll_write_vectored(cx, data))?;
        self.facts.add_sent(taken);
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
