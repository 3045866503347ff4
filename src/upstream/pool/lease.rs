//! A connection while a request has it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

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

    /// Puts a request on the connection.
    pub(in super::super) async fn send(&mut self, outbound: &mut Outbound) -> Sent {
        let held = self.held.as_mut();
        match held.expect("a lease holds its connection until it is given back") {
            Held::Own(connection) => connection.sender.try_send_request(outbound.request()).await,
            Held::Stream(stream) => {
                let mut sender = stream.sender();
                let request = head::to_http2(outbound.request());
                let answer = sender.try_send_request(request).await;
                if answer.is_ok() {
                    stream.answered();
                }
                answer
            }
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
            Some(Held::Own(connection)) => connection.task.abort(),
            // hyper resets the stream if it is not over.
            Some(Held::Stream(stream)) => {
                drop(stream);
                self.pool.count_idle();
            }
            None => {}
        }
    }
}

/// What hyper says of a request that was put on a connection.
pub(in super::super) type Sent = Result<Response<Incoming>, TrySendError<Request<Upload>>>;
