//! A TLS connection that writes down what happens to it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::error::Failure;

use super::facts::{Facts, leaves};
use super::identity::Leaf;
use super::opening::Opening;

/// A client's TLS connection to an origin.
pub struct Stream {
    inner: TlsStream<Opening>,
    facts: Arc<Facts>,
    http2: bool,
    // Let go of when the connection is, wherever it has gone by then.
    _kept: Option<Box<dyn Send>>,
}

impl Stream {
    pub(super) fn new(inner: TlsStream<Opening>, facts: Arc<Facts>) -> Self {
        let http2 = inner.get_ref().1.alpn_protocol() == Some(b"h2");
        Self {
            inner,
            facts,
            http2,
            _kept: None,
        }
    }

    /// Whether the origin chose h2.
    pub fn is_http2(&self) -> bool {
        self.http2
    }

    /// Returns the protocol that the origin chose by ALPN, if it chose one.
    pub fn alpn(&self) -> Option<&str> {
        let chosen = self.inner.get_ref().1.alpn_protocol()?;
        std::str::from_utf8(chosen).ok()
    }

    /// The origin's certificates, leaf first; none where a session was resumed.
    pub fn peer(&self) -> Vec<Leaf> {
        match self.inner.get_ref().1.peer_certificates() {
            Some([leaf, others @ ..]) => leaves(leaf, others),
            _ => Vec::new(),
        }
    }

    /// Keeps `guard` until this connection is closed.
    pub fn keep(self, guard: impl Send + 'static) -> Self {
        Self {
            _kept: Some(Box::new(guard)),
            ..self
        }
    }

    /// What this connection has gone through; stays readable when the connection is gone.
    pub fn facts(&self) -> Arc<Facts> {
        Arc::clone(&self.facts)
    }

    fn failed(&mut self, error: io::Error) -> io::Error {
        let failure = Failure::from(&error);
        // A write that fails hides the reason: the origin's alert may lie unread in front of the
        // reset.
        if matches!(failure, Failure::Io(_))
            && let Some(reason) = self.last_words()
        {
            self.facts.fail(reason);
        }
        self.facts.fail(failure);
        error
    }

    /// The alert that lies unread on a connection that has failed.
    fn last_words(&mut self) -> Option<Failure> {
        let (opening, session) = self.inner.get_mut();
        let mut scrap = [0; 4096];
        for _ in 0..MOST_WORDS {
            let mut words = opening.rest(&mut scrap)?;
            while !words.is_empty() {
                if session.read_tls(&mut words).ok()? == 0 {
                    return None;
                }
                if let Err(reason) = session.process_new_packets() {
                    return Some(Failure::from(&reason));
                }
            }
        }
        None
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.inner).poll_read(cx, buffer));
        match &result {
            Ok(()) => match buffer.filled().len() - before {
                0 => self.facts.fail(Failure::Closed),
                bytes => {
                    self.facts.add_read(bytes);
                    if !self.http2 {
                        self.facts.note_head(&buffer.filled()[before..]);
                    }
                }
            },
            Err(error) => self.facts.fail(Failure::from(error)),
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.inner).poll_write(cx, data));
        Poll::Ready(match result {
            Ok(bytes) => {
                self.facts.add_written(bytes);
                if !self.http2 {
                    self.facts.expect_head();
                }
                Ok(bytes)
            }
            Err(error) => Err(self.failed(error)),
        })
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, data));
        Poll::Ready(match result {
            Ok(bytes) => {
                self.facts.add_written(bytes);
                if !self.http2 {
                    self.facts.expect_head();
                }
                Ok(bytes)
            }
            Err(error) => Err(self.failed(error)),
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.inner).poll_flush(cx));
        Poll::Ready(result.map_err(|error| self.failed(error)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Pieces of 4 KiB that are looked through for an alert.
const MOST_WORDS: usize = 16;
