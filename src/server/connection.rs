//! One client connection, from its first byte: which HTTP it speaks, and who serves it.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};

use crate::config::ClientPatience;
use crate::lifecycle::{Alarm, Drain};

use super::activity::Activity;
use super::cutoff::{Ends, SLOW_PREFACE, TLS_IN_TUNNEL, TLS_ON_LISTENER};
use super::heads::HeadLimits;
use super::http2::StreamClock;
use super::io::Socket;
use super::{http1, http2, tidy};

/// How long a client may take, and how much it may send before a request is whole.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Over its requests' heads, and between requests.
    pub patience: ClientPatience,
    /// Over taking what is ready for it.
    pub stall: Duration,
    /// Bytes of a request's head.
    pub max_header_size: usize,
    /// Fields of a request's head.
    pub max_header_fields: usize,
    /// Whether field names keep their case (HTTP/1 only).
    pub preserves_case: bool,
}

/// What holds for a connection as long as it lasts, and for what it may turn into.
#[derive(Clone)]
pub struct Terms {
    /// Where it came in, and from whom.
    pub ends: Ends,
    /// How long the client may take.
    pub settings: Settings,
    /// When all of this has to come to an end.
    pub drain: Drain,
}

/// A connection as the one who answers sees it.
#[derive(Clone)]
pub struct Client {
    /// What the connection is waiting for; whoever answers tells it.
    pub activity: Arc<Activity>,
    /// A timer for the waits of one request at a time.
    pub alarm: Rc<Alarm>,
    /// What was agreed on.
    pub terms: Rc<Terms>,
    /// Notes what the client has not taken of this response; only where connections multiplex.
    pub stream: Option<Rc<StreamClock>>,
}

/// Serves HTTP on `socket`: each request goes to `answer`. Returns when the connection is over. A
/// panic of `answer` passes through; it costs this connection (with HTTP/2, this request) and
/// nothing else.
pub async fn serve<A, F, B>(mut socket: Socket, terms: Rc<Terms>, answer: A)
where
    A: Fn(Client, Request<Incoming>) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let client = Client {
        activity: socket.activity(),
        alarm: Rc::default(),
        terms,
        stream: None,
    };
    // Boxed, so that an idle connection is no more than this and its socket: 2.5 KiB, and with all of
    // hyper's state 42 KiB.
    let Some((began, version)) = Box::pin(begin(&mut socket, &client)).await else {
        return;
    };
    let settings = &client.terms.settings;
    match version {
        Version::Http1 => {
            let limits = HeadLimits {
                size: settings.max_header_size,
                fields: settings.max_header_fields,
            };
            socket = socket.begin_http1(began, limits, settings.patience.header);
        }
        Version::Http2 => {
            let socket = socket.begin_http2(began);
            return Box::pin(http2::serve(socket, client, answer)).await;
        }
        Version::Tls => return Box::pin(reject_tls(socket, &client)).await,
    }
    let mut has_parked = false;
    while let Some(parked) = Box::pin(http1::serve(socket, &client, &answer)).await {
        socket = parked;
        has_parked = true;
        client.alarm.disarm();
        tidy::after_freeing();
        if let Err(why) = http1::idle(&socket, &client).await {
            tracing::debug!(%why, "client connection ended");
            break;
        }
    }
    // Short connections free what the next one takes.
    if has_parked {
        tidy::after_freeing();
    }
}

/// Waits for the first bytes.
async fn begin(socket: &mut Socket, client: &Client) -> Option<(Bytes, Version)> {
    let Terms {
        ends,
        settings,
        drain,
    } = &*client.terms;
    tokio::select! {
        first = first_bytes(socket) => first
            .inspect_err(|error| {
                tracing::debug!(%error, "client connection ended before a request");
            })
            .ok(),
        () = client.activity.evicted() => {
            tracing::debug!("client connection closed to make room for another");
            None
        }
        () = too_late(&client.activity, settings, drain.clone()) => {
            match client.activity.has_begun() && !drain.is_draining() {
                true => ends.cut_off(SLOW_PREFACE, None),
                false => tracing::debug!("client connection closed: nothing came"),
            }
            None
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Version {
    Http1,
    Http2,
    /// No HTTP, but a TLS handshake.
    Tls,
}

/// Reads until it is clear whether the client begins with the preface of HTTP/2 (RFC 9113
/// section 3.4), which no request of HTTP/1 begins like, or with a TLS record.
async fn first_bytes(socket: &mut Socket) -> io::Result<(Bytes, Version)> {
    // Most first requests fit; the rest is read by whoever serves.
    let mut read = BytesMut::with_capacity(2048);
    loop {
        if socket.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if read[0] == TLS_HANDSHAKE {
            return Ok((read.freeze(), Version::Tls));
        }
        let known = read.len().min(PREFACE.len());
        if read[..known] != PREFACE[..known] {
            return Ok((read.freeze(), Version::Http1));
        }
        if known == PREFACE.len() {
            return Ok((read.freeze(), Version::Http2));
        }
    }
}

/// Ends a connection on which the client began TLS: with an alert, which its TLS library reports.
async fn reject_tls(mut socket: Socket, client: &Client) {
    let reason = match client.activity.is_tunneled() {
        true => TLS_IN_TUNNEL,
        false => TLS_ON_LISTENER,
    };
    client.terms.ends.cut_off(reason, None);
    socket.try_write(ACCESS_DENIED);
    // Closing while the rest of its hello is unread would reset the connection, alert and all.
    let _ = socket.shutdown().await;
    http1::linger(socket, &client.terms.drain).await;
}

/// Ready when the first byte, or the rest of the preface, has been waited for long enough.
async fn too_late(activity: &Activity, settings: &Settings, drain: Drain) {
    let born = Instant::now();
    let idle = sleep_until(born + settings.patience.idle);
    let drained = async {
        drain.begun().await;
        // Whoever has just connected is about to send something.
        tokio::time::sleep(http1::FIRST_REQUEST).await;
    };
    let (mut idle, mut drained) = (pin!(idle), pin!(drained));
    tokio::select! {
        () = &mut idle => {}
        () = &mut drained => {}
    }
    // A preface that has begun is given the time of a head.
    if activity.has_begun() {
        sleep_until(activity.since() + settings.patience.header).await;
    }
}

/// Content type of a TLS record that carries a handshake message (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 22;
/// A TLS record with the fatal alert access_denied (RFC 8446 section 6).
const ACCESS_DENIED: &[u8] = &[21, 3, 1, 0, 2, 2, 49];
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
