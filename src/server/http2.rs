//! A client that speaks HTTP/2 with prior knowledge (RFC 9113 section 3.3), as gRPC clients do.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::lifecycle::{Alarm, Local};

use super::answering::Answering;
use super::connection::{Client, Terms};
use super::cutoff::{Ends, FLOOD, TAKES_NOTHING, UNLAWFUL};
use super::gathered::Gathered;
use super::io::Socket;

/// Serves until the client, a limit or a drain ends it. Each request is a task of its own.
pub async fn serve<A, F, B>(socket: Socket, client: Client, answer: A)
where
    A: Fn(Client, Request<Incoming>) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let activity = Arc::clone(&client.activity);
    let Terms { ends, settings, .. } = *client.terms;
    activity.multiplexes();
    let mut begun = pin!(client.terms.drain.clone().begun());
    let service = service_fn(move |request| {
        client.activity.request_began();
        // Requests wait at the same time, each for its own.
        let client = Client {
            alarm: Rc::default(),
            ..client.clone()
        };
        Answering::alone(answer(client, request))
    });
    let socket = Gathered::new(socket);
    let connection = http2::Builder::new(Local)
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(settings.max_header_size).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .serve_connection(TokioIo::new(socket.clone()), service);
    let mut connection = pin!(connection);
    let alarm = Alarm::default();
    let mut draining = false;
    let ended = poll_fn(|cx| {
        activity.note_task(cx);
        let mut polled = connection.as_mut().poll(cx);
        if polled.is_pending() && !draining && begun.as_mut().poll(cx).is_ready() {
            draining = true;
            // GOAWAY: streams that have begun are finished, and then the connection ends.
            connection.as_mut().graceful_shutdown();
            polled = connection.as_mut().poll(cx);
        }
        socket.let_go(cx);
        activity.note_turn();
        if let Poll::Ready(result) = polled {
            return Poll::Ready(Some(result));
        }
        let idle = activity
            .is_idle()
            .then(|| activity.since() + settings.patience.idle);
        let stalled = activity.blocked_since().map(|since| since + settings.stall);
        let stuck = activity.stuck_since().map(|since| since + settings.stall);
        match idle.into_iter().chain(stalled).chain(stuck).min() {
            Some(deadline) => alarm.poll(cx, deadline).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await;
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            tell(ends, &error);
        }
        None if !activity.is_idle() => ends.cut_off(TAKES_NOTHING, None),
        None => tracing::debug!("idle client connection closed"),
    }
}

/// Says why a connection broke: loudly where it was this side that would not go on with it,
/// quietly where the client went away.
fn tell(ends: Ends, error: &hyper::Error) {
    let cause = std::error::Error::source(error);
    match cause.and_then(|cause| cause.downcast_ref::<h2::Error>()) {
        Some(cause) if cause.is_library() && cause.is_go_away() => {
            let calm = cause.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
            ends.cut_off(if calm { FLOOD } else { UNLAWFUL }, Some(cause));
        }
        _ => {
            let reason = cause.map(ToString::to_string);
            tracing::debug!(%error, reason, "client connection ended");
        }
    }
}

/// Requests at once on one connection; also what bounds the memory one client can claim.
const STREAMS: u32 = 200;
/// What a client may send on one stream before it is read: enough for a fast upload on loopback.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same over all streams.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What is kept of answers for a client that reads slowly, per stream.
const SEND_BUFFER: usize = 128 * 1024;
