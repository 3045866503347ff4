//! A connection while a request has it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::Instant;

use crate::body::Upload;
use crate::config::Authority;
use crate::head;
use crate::tls::{Facts, Generation};

use super::super::Outbound;
use super::super::shared::Stream;
use super::super::story::reason;
use super::Pool;
use super::lane::Connection;

/// A connection in use. Unless it is given back it is cut off: whatever is still under way on it
/// is wanted no more, and an origin that reads nothing must not keep it alive.
pub struct Lease {
    // `None` once it was given back.
    pub(super) held: Option<Held>,
    pub(super) target: Arc<Authority>,
    pub(super) pool: Rc<Pool>,
    pub(super) reused: bool,
    // Since when a response is waited for on a stream, and what was read on its connection by then.
    pub(super) asked: Option<(Instant, u64)>,
}

pub(super) enum Held {
    /// A connection that is this request's alone.
    Own(Connection),
    /// A stream of one that others use too.
    Stream(Stream),
}

impl Lease {
    /// Whether it has served before.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// The address it leads to.
    pub fn address(&self) -> SocketAddr {
        match self.held() {
            Held::Own(connection) => connection.address,
            Held::Stream(stream) => stream.address(),
        }
    }

    /// What its connection has gone through.
    pub fn facts(&self) -> Arc<Facts> {
        Arc::clone(match self.held() {
            Held::Own(connection) => &connection.facts,
            Held::Stream(stream) => stream.facts(),
        })
    }

    /// The Generation it was made with.
    pub fn generation(&self) -> &Arc<Generation> {
        self.pool.generation()
    }

    /// Whether other requests use its connection at the same time.
    pub fn is_stream(&self) -> bool {
        matches!(self.held(), Held::Stream(_))
    }

    /// Puts a request on the connection, at `now`.
    pub(in super::super) async fn send(&mut self, outbound: &mut Outbound, now: Instant) -> Sent {
        let held = self.held.as_mut();
        match held.expect("a lease holds its connection until it is given back") {
            Held::Own(connection) => {
                let request = outbound.request();
                let answer = connection.sender.try_send_request(request).await;
                if let Ok(response) = &answer {
                    connection.keep_alive.note(response.headers());
                }
                answer
            }
            Held::Stream(stream) => {
                self.asked = Some((now, stream.facts().read()));
                let mut sender = stream.sender();
                // The origin may say later that it has not processed it.
                outbound.upload.keep();
                let request = head::to_http2(outbound.request());
                let answer = sender.try_send_request(request).await;
                self.asked = None;
                if answer.is_ok() {
                    outbound.upload.release();
                    stream.answered();
                }
                answer
            }
        }
    }

    /// The origin was silent for too long, since `began` at the latest: others do not run into that
    /// too.
    pub fn suspect(&self, began: Instant) {
        match self.held() {
            Held::Own(connection) => {
                if self.reused && connection.facts.failure().is_none() {
                    self.pool.close_idle_since(&self.target, began);
                }
            }
            Held::Stream(stream) => {
                let bound = self.pool.settings.timeouts.connect;
                stream.connection().suspect(bound);
            }
        }
    }

    /// A frame came on its stream.
    pub fn heard(&self) {
        if let Some(Held::Stream(stream)) = &self.held {
            stream.heard();
        }
    }

    fn held(&self) -> &Held {
        self.held
            .as_ref()
            .expect("a lease holds its connection until it is given back")
    }

    /// Gives the connection back, at `now`: its request was sent and its answer read, to the last
    /// byte.
    pub fn give_back(mut self, now: Instant) {
        if let Some(Held::Own(connection)) = self.held.take() {
            let pool = Rc::clone(&self.pool);
            pool.take_back(&self.target, connection, now);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match self.held.take() {
            Some(Held::Own(connection)) => {
                let reason = match connection.facts.failure() {
                    Some(_) => reason::ORIGIN,
                    None => reason::UNFINISHED,
                };
                self.pool
                    .log_closed(&self.target, connection.address, reason);
                connection.owner.end();
            }
            // hyper resets the stream if it is not over.
            Some(Held::Stream(stream)) => {
                let shared = Rc::clone(stream.connection());
                // The client did not wait for the response. Where nothing has come on the connection
                // either, it may be dead.
                if let Some((since, read)) = self.asked
                    && stream.facts().read() == read
                    && since.elapsed() >= PATIENCE
                {
                    shared.suspect(self.pool.settings.timeouts.connect);
                }
                drop(stream);
                self.pool.stream_ended(&self.target, &shared);
            }
            None => {}
        }
    }
}

/// A connection is suspected when nothing has come on it for so long and its client gives up.
const PATIENCE: Duration = Duration::from_secs(1);

/// What hyper says of a request that was put on a connection.
pub(in super::super) type Sent = Result<Response<Incoming>, TrySendError<Request<Upload>>>;
