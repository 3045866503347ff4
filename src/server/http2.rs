//! A client that speaks HTTP/2 with prior knowledge (RFC 9113 section 3.3), as gRPC clients do.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use crate::lifecycle::Alarm;

use super::answering::Answering;
use super::connection::Client;
use super::cutoff::{Ends, FLOOD, SLOW_HEAD, TAKES_NOTHING, UNLAWFUL};
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
    let ends = client.terms.ends.clone();
    let settings = client.terms.settings;
    activity.multiplexes();
    let mut begun = pin!(client.terms.drain.clone().begun());
    let streams = Streams {
        made: Rc::default(),
        stall: settings.stall,
        ends: ends.clone(),
    };
    let made = Rc::clone(&streams.made);
    let service = service_fn(move |request| {
        client.activity.request_began();
        let clock = Rc::<StreamClock>::default();
        made.replace(Some(Rc::clone(&clock)));
        // Requests wait at the same time, each for its own.
        let client = Client {
            alarm: Rc::default(),
            stream: Some(clock),
            ..client.clone()
        };
        Answering::alone(answer(client, request))
    });
    let socket = Gathered::new(socket);
    let connection = http2::Builder::new(streams)
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
        if activity.is_evicted() {
            return Poll::Ready(None);
        }
        let idle = activity
            .is_idle()
            .then(|| activity.since() + settings.patience.idle);
        let stalled = activity.blocked_since().map(|since| since + settings.stall);
        let slow = activity
            .head_since()
            .map(|since| since + settings.patience.header);
        match idle.into_iter().chain(stalled).chain(slow).min() {
            Some(deadline) => alarm.poll(cx, deadline).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await;
    let slow_head = activity
        .head_since()
        .is_some_and(|since| since.elapsed() >= settings.patience.header);
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            tell(&ends, &error);
        }
        None if slow_head => ends.cut_off(SLOW_HEAD, None),
        None if !activity.is_idle() => ends.cut_off(TAKES_NOTHING, None),
        None => tracing::debug!("idle client connection closed"),
    }
}

/// When a response's stream was last handed a piece of the body that the client has not taken.
#[derive(Default)]
pub struct StreamClock(Cell<Option<Instant>>);

impl StreamClock {
    /// A piece was handed over, at `now`.
    pub fn handed(&self, now: Instant) {
        self.0.set(Some(now));
    }

    /// The next piece was asked for.
    pub fn taken(&self) {
        self.0.set(None);
    }
}

/// Runs the streams of a connection, each as a task that ends when the client takes nothing of its
/// response for too long: others on the connection may go on.
#[derive(Clone)]
struct Streams {
    // The clock of the request that hyper has just handed over, and is about to start a task for.
    made: Rc<RefCell<Option<Rc<StreamClock>>>>,
    stall: Duration,
    ends: Ends,
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, task: F) {
        let Some(clock) = self.made.take() else {
            tokio::task::spawn_local(task);
            return;
        };
        let (stall, ends) = (self.stall, self.ends.clone());
        let alarm = Alarm::default();
        let mut task = Box::pin(task);
        tokio::task::spawn_local(poll_fn(move |cx| {
            if task.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let Some(handed) = clock.0.get() else {
                return Poll::Pending;
            };
            // When the task is dropped, h2 resets the stream.
            alarm
                .poll(cx, handed + stall)
                .map(|()| ends.cut_off(TAKES_NOTHING, None))
        }));
    }
}

/// Says why a connection broke: loudly where it was this side that would not go on with it,
/// quietly where the client went away.
fn tell(ends: &Ends, error: &hyper::Error) {
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
