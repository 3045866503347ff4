//! The answer's body on its way to the client.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::body::{self, Stage, Upload};
use crate::error::Failure;
use crate::server::Client;
use crate::upstream::Lease;

use super::record::Record;
use super::tail::Tail;

/// The body of what a client is answered.
pub enum ResponseBody {
    /// Nothing: the connection turns into something else.
    Empty,
    /// Text of ours.
    Own(Bytes, Box<Record>),
    /// What the origin sends. Boxed because hyper moves bodies about.
    Relayed(Box<Relay>),
}

/// What an answer that is passed on needs besides itself.
pub struct Relayed {
    /// What was read of the body already.
    pub ahead: Option<Ahead>,
    pub lease: Lease,
    pub upload: Upload,
    /// Whether nothing comes on the connection after this answer.
    pub last: bool,
    /// Whether the client was told that its connection ends.
    pub closes: bool,
    /// Whether the client speaks HTTP/1.0, where the end of the connection ends an answer.
    pub http10: bool,
    /// How long the origin may be silent.
    pub silence: Duration,
}

/// A body that is passed on piece by piece; the next piece is read when the client took the last.
pub struct Relay {
    // Comes before `incoming`.
    ahead: Option<Ahead>,
    incoming: Incoming,
    // Given back to the pool with the last byte.
    lease: Option<Lease>,
    upload: Upload,
    last: bool,
    closes: bool,
    http10: bool,
    silence: Duration,
    // Since when nothing came; not known while something does.
    silent_since: Option<Instant>,
    // Why the response broke off, until the client has been sent what came before that, and where
    // that stands.
    broken: Option<BrokenOff>,
    flushed: Option<u64>,
    client: Client,
    record: Record,
}

/// A piece of a body that was read before the rest was wanted.
pub type Ahead = Result<Frame<Bytes>, hyper::Error>;

/// Why an answer broke off. The client sees its connection end before the answer does.
#[derive(Debug, thiserror::Error)]
pub enum BrokenOff {
    /// The connection to the origin ended.
    #[error("the response broke off: {0}")]
    Ended(Failure),
    /// The origin sent what is no body.
    #[error("the response is damaged")]
    Damaged(#[source] hyper::Error),
    /// The origin went silent.
    #[error("the origin sent nothing of the response body for {}", humantime::format_duration(*.0))]
    Silent(Duration),
}

impl ResponseBody {
    /// The body `incoming`, which comes as `relayed` says.
    pub fn relay(incoming: Incoming, relayed: Relayed, client: Client, record: Record) -> Self {
        let mut relay = Relay {
            ahead: relayed.ahead,
            incoming,
            lease: Some(relayed.lease),
            upload: relayed.upload,
            last: relayed.last,
            closes: relayed.closes,
            http10: relayed.http10,
            silence: relayed.silence,
            silent_since: None,
            broken: None,
            flushed: None,
            client,
            record,
        };
        if relay.incoming.is_end_stream() {
            relay.finish();
        }
        Self::Relayed(Box::new(relay))
    }
}

impl Relay {
    /// The answer is complete: its connection may serve again, if the request is complete too.
    fn finish(&mut self) {
        let Some(lease) = self.lease.take() else {
            return;
        };
        let now = Instant::now();
        if self.ahead.is_none() {
            self.record.ended(now);
        }
        match self.upload.stage() {
            Stage::Finished if !self.last => lease.give_back(now),
            Stage::Finished | Stage::Failed => {}
            // The rest is read from the client when its connection ends.
            _ if self.closes => {}
            _ => {
                let tail = Tail {
                    lease,
                    upload: std::mem::replace(&mut self.upload, Upload::Empty),
                    reusable: !self.last,
                    drains: self.client.stream.is_none(),
                    silence: self.silence,
                    busy: self.record.stay_busy(),
                };
                tokio::task::spawn_local(tail.run());
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        crate::lifecycle::fault("response");
        if let Some(stream) = &self.client.stream {
            stream.taken();
        }
        if self.broken.is_some() {
            return self.poll_break(cx);
        }
        let next = match self.ahead.take() {
            Some(ahead) => Poll::Ready(Some(ahead)),
            None => Pin::new(&mut self.incoming).poll_frame(cx),
        };
        match next {
            Poll::Ready(Some(Ok(frame))) => {
                self.silent_since = None;
                let frame = match frame.into_trailers() {
                    Ok(mut trailers) => {
                        body::response_trailers(&mut trailers);
                        if trailers.is_empty() {
                            self.finish();
                            return Poll::Ready(None);
                        }
                        Frame::trailers(trailers)
                    }
                    Err(frame) => self.piece_of(frame),
                };
                self.record.received += frame.data_ref().map_or(0, |data| data.len() as u64);
                if let Some(lease) = &self.lease {
                    lease.heard();
                }
                let more = self.ahead.is_some() || !self.incoming.is_end_stream();
                if self.incoming.is_end_stream() {
                    self.finish();
                }
                if let Some(stream) = self.client.stream.as_ref().filter(|_| more) {
                    stream.handed(Instant::now());
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                let failure = self
                    .lease
                    .as_ref()
                    .and_then(|lease| lease.facts().failure().cloned());
                let broken = match failure {
                    Some(failure) => BrokenOff::Ended(failure),
                    None => BrokenOff::Damaged(error),
                };
                self.break_off(broken);
                self.poll_break(cx)
            }
            Poll::Pending => self.poll_silence(cx),
        }
    }

    /// The first piece of a frame for a client of HTTP/2; the rest comes next. A client that takes such a
    /// piece within `body_timeout` is slow, and not stuck.
    fn piece_of(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_data() {
            Ok(mut data) if self.client.stream.is_some() && data.len() > PIECE => {
                let piece = data.split_to(PIECE);
                self.ahead = Some(Ok(Frame::data(data)));
                Frame::data(piece)
            }
            Ok(data) => Frame::data(data),
            Err(frame) => frame,
        }
    }

    fn poll_silence(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        loop {
            // An origin that takes a long upload while it answers is not silent.
            let moved = self
                .upload
                .since()
                .map_or(since, |upload| upload.max(since));
            let deadline = moved + self.silence;
            if self.client.alarm.poll(cx, deadline).is_pending() {
                return Poll::Pending;
            }
            if deadline <= Instant::now()
                && self.upload.since().is_none_or(|upload| upload <= moved)
            {
                self.break_off(BrokenOff::Silent(self.silence));
                return self.poll_break(cx);
            }
        }
    }

    /// Ends the response with its error once the head, and what came of the body, is on its way to
    /// the client: hyper drops whatever it has not written when a body fails.
    fn poll_break(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        ready!(self.client.activity.poll_flushed(cx, &mut self.flushed));
        Poll::Ready(self.broken.take().map(Err))
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.incoming.size_hint();
        if let Some(Ok(frame)) = &self.ahead {
            let more = frame.data_ref().map_or(0, |data| data.len() as u64);
            // The upper bound first: the lower one is never above it.
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper + more);
            }
            hint.set_lower(hint.lower() + more);
        }
        hint
    }

    fn break_off(&mut self, why: BrokenOff) {
        if let (BrokenOff::Silent(_), Some(lease)) = (&why, &self.lease) {
            lease.suspect(self.silent_since.unwrap_or_else(Instant::now));
        }
        let token = match why {
            BrokenOff::Silent(_) => "connection_read_timeout",
            BrokenOff::Ended(_) | BrokenOff::Damaged(_) => "http_response_incomplete",
        };
        self.record.error = Some(token);
        if self.http10 {
            self.client.activity.reset_at_end();
        }
        self.record.log_break(token, &why);
        self.broken = Some(why);
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Own(text, _) if text.is_empty() => Poll::Ready(None),
            Self::Own(text, _) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            Self::Relayed(relay) => match catch_unwind(AssertUnwindSafe(|| relay.poll(cx))) {
                Ok(polled) => polled,
                Err(panic) => {
                    relay.record.log_panic();
                    resume_unwind(panic)
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Own(text, _) => text.is_empty(),
            Self::Relayed(relay) => relay.ahead.is_none() && relay.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Own(text, _) => SizeHint::with_exact(text.len() as u64),
            Self::Relayed(relay) => relay.size_hint(),
        }
    }
}

/// Bytes that a client of HTTP/2 is handed at once.
const PIECE: usize = 32 * 1024;
