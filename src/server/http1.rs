//! A client that speaks HTTP/1.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::lifecycle::{Alarm, Drain};

use super::activity::{Activity, Phase};
use super::answering::{Answering, Form};
use super::connection::{Client, Settings, Terms};
use super::cutoff::{Ends, HUGE_HEAD, SLOW_HEAD, TAKES_NOTHING, UNREADABLE};
use super::io::Socket;

type Connection<S> = http1::UpgradeableConnection<TokioIo<Socket>, S>;

/// Serves until the client, a limit or a drain ends it, or until nothing has come for a while:
/// then the bare socket is given back, to be served again when something comes.
pub async fn serve<A, F, B>(socket: Socket, client: &Client, answer: &A) -> Option<Socket>
where
    A: Fn(Client, Request<Incoming>) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut clock = Clock {
        activity: Arc::clone(&client.activity),
        settings: client.terms.settings,
        alarm: Alarm::default(),
        draining: None,
    };
    let terms = Rc::clone(&client.terms);
    let ends = &terms.ends;
    let mut begun = pin!(client.terms.drain.clone().begun());
    let upgrade = Cell::new(None);
    let service = service_fn(|mut request: Request<Incoming>| {
        client.activity.request_began();
        if let Some(wanted) = request.extensions().get::<OnUpgrade>() {
            upgrade.set(Some(wanted.clone()));
        }
        if let Some(error) = client.activity.refusal(&request) {
            ends.refuse(&error);
            request.extensions_mut().insert(error);
        }
        let form = Form::of(&request);
        Answering::on(&client.activity, form, answer(client.clone(), request))
    });
    let settings = &clock.settings;
    let mut connection = http1::Builder::new()
        // The origin's Date stands; ours would be a second opinion.
        .auto_date_header(false)
        // Heads are judged before hyper sees them; with characters encoded they may be larger.
        .max_header_size(settings.max_header_size.saturating_mul(3))
        .max_buf_size(BUFFER.max(settings.max_header_size.saturating_mul(3)))
        .max_headers(settings.max_header_fields)
        .preserve_header_case(settings.preserves_case)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut watching = false;
    let ended = poll_fn(|cx| {
        if !watching {
            // Once, to be woken. It is always this task that is polled, and whether a drain has begun
            // is told faster than by asking this again.
            let _ = Pin::new(&mut unconstrained(begun.as_mut())).poll(cx);
            clock.activity.note_task(cx);
            watching = true;
        }
        loop {
            if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(End::Served(result));
            }
            clock.activity.note_turn();
            if clock.draining.is_none() && client.terms.drain.is_draining() {
                clock.draining = Some(Draining::since(Instant::now()));
            }
            if clock.activity.is_evicted() {
                return Poll::Ready(End::Evicted);
            }
            match clock.poll(cx, Pin::new(&mut connection)) {
                Poll::Ready(Tick::Again) => {}
                // The next read refuses the head, and the service explains why.
                Poll::Ready(Tick::Expired(Phase::Head)) if clock.activity.time_out() => {}
                Poll::Ready(Tick::Expired(phase)) => return Poll::Ready(End::Expired(phase)),
                Poll::Ready(Tick::Park) => {
                    // hyper lets go of an idle connection at once.
                    clock.activity.park(true);
                    Pin::new(&mut connection).graceful_shutdown();
                    return Pin::new(&mut connection).poll(cx).map(|_| End::Parked);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    let blocked = clock.activity.blocked_since().is_some();
    match ended {
        End::Parked => {
            client.activity.park(false);
            let (socket, read) = recover(connection, upgrade.take(), client).await?;
            return Some(socket.give_back(&read));
        }
        End::Served(result) => {
            if let Err(error) = result {
                tell(ends, &error);
            }
            if let Some((socket, _)) = recover(connection, upgrade.take(), client).await {
                linger(socket, &client.terms.drain).await;
            }
        }
        End::Expired(Phase::Head) => ends.cut_off(SLOW_HEAD, None),
        End::Evicted => tracing::debug!("client connection closed to make room for another"),
        End::Expired(_) if blocked => ends.cut_off(TAKES_NOTHING, None),
        End::Expired(_) => tracing::debug!("idle client connection closed"),
    }
    None
}

/// Takes the socket back from hyper, with what hyper has read and not used. `None` where it belongs
/// to another protocol now.
///
/// Where a request wanted to switch protocols and the response did not agree, hyper still hands the
/// socket over to `upgrade` at the end of the connection.
async fn recover<S, B>(
    connection: Connection<S>,
    upgrade: Option<OnUpgrade>,
    client: &Client,
) -> Option<(Socket, Bytes)>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if let Some(parts) = connection.into_parts() {
        return Some((parts.io.into_inner(), parts.read_buf));
    }
    if client.activity.has_switched() {
        return None;
    }
    let upgraded = upgrade?.await.ok()?;
    let parts = upgraded.downcast::<TokioIo<Socket>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}

/// Says why a connection broke: loudly where the client sent what no client should, quietly where
/// it only went away.
fn tell(ends: &Ends, error: &hyper::Error) {
    if error.is_parse_too_large() {
        ends.cut_off(HUGE_HEAD, Some(error));
    } else if error.is_parse() {
        ends.cut_off(UNREADABLE, Some(error));
    } else {
        let reason = std::error::Error::source(error).map(ToString::to_string);
        tracing::debug!(%error, reason, "client connection ended");
    }
}

/// Waits on a parked connection until something comes.
///
/// # Errors
///
/// When the connection is broken, or has been idle for long enough.
pub async fn idle(socket: &Socket, client: &Client) -> io::Result<()> {
    let Terms {
        settings, drain, ..
    } = &*client.terms;
    let drained = async {
        drain.clone().begun().await;
        sleep(SETTLE).await;
    };
    tokio::select! {
        readable = socket.readable() => return readable,
        () = sleep_until(client.activity.since() + settings.patience.idle) => {}
        () = drained => {}
        () = client.activity.evicted() => {}
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Ends the response side of the connection, and then takes what the client still sends, for a
/// while (RFC 9112 section 9.6). Closing with unread bytes resets the connection, and a client that is
/// busy with an upload would lose the response that told it to stop.
pub async fn linger(mut socket: Socket, drain: &Drain) {
    if socket.activity().resets_at_end() {
        return;
    }
    // Behind a head that was refused nothing is under way that is worth waiting for.
    let longest = match socket.activity().is_refused() {
        true => LINGER_SILENCE,
        false => LINGER,
    };
    socket.stop_checking();
    // After a broken response hyper leaves that to us, and the client would wait for the rest of it.
    if socket.shutdown().await.is_err() {
        return;
    }
    let mut waste = vec![0; 16 * 1024];
    let until_it_ends = async {
        while matches!(
            timeout(LINGER_SILENCE, socket.read(&mut waste)).await,
            Ok(Ok(1..))
        ) {}
    };
    let draining = async {
        drain.clone().begun().await;
        sleep(LINGER_SILENCE).await;
    };
    tokio::select! {
        () = until_it_ends => {}
        // A client that goes on for longer has had the time to read its response.
        () = sleep(longest) => {}
        () = draining => {}
    }
}

enum End {
    Parked,
    Served(hyper::Result<()>),
    Expired(Phase),
    Evicted,
}

enum Tick {
    /// Something changed: look at the connection again.
    Again,
    /// It has been idle long enough to do without hyper.
    Park,
    /// It has taken too long over this.
    Expired(Phase),
}

/// Watches over what the connection is waiting for.
struct Clock {
    activity: Arc<Activity>,
    settings: Settings,
    alarm: Alarm,
    draining: Option<Draining>,
}

/// How far a connection has got in ending.
struct Draining {
    since: Instant,
    // hyper has been told to end after what it is doing.
    told: bool,
}

impl Draining {
    fn since(now: Instant) -> Self {
        Self {
            since: now,
            told: false,
        }
    }
}

impl Clock {
    fn poll<S, B>(
        &mut self,
        cx: &mut Context<'_>,
        connection: Pin<&mut Connection<S>>,
    ) -> Poll<Tick>
    where
        S: hyper::service::HttpService<Incoming, ResBody = B>,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B: Body + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let phase = self.activity.phase();
        if phase == Phase::Busy
            && let Some(draining) = &mut self.draining
            && !draining.told
        {
            // The answer will say `Connection: close`, and the connection ends after it.
            draining.told = true;
            connection.graceful_shutdown();
            return Poll::Ready(Tick::Again);
        }
        let Some(deadline) = self.deadline(phase) else {
            return Poll::Pending;
        };
        if phase == Phase::Idle && self.may_park() {
            let pause = self.activity.since() + PARK;
            if pause < deadline {
                return self.alarm.poll(cx, pause).map(|()| Tick::Park);
            }
        }
        if self.alarm.poll(cx, deadline).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(Tick::Expired(phase))
    }

    fn may_park(&self) -> bool {
        self.draining.is_none()
            && self.activity.has_answered()
            && self.activity.blocked_since().is_none()
    }

    fn deadline(&self, phase: Phase) -> Option<Instant> {
        // The end of an answer may be waiting for the client when its last piece was handed over.
        let stalled = self
            .activity
            .blocked_since()
            .map(|since| since + self.settings.stall);
        match (self.patience_ends(phase), stalled) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    fn patience_ends(&self, phase: Phase) -> Option<Instant> {
        let patience = &self.settings.patience;
        match phase {
            Phase::Busy => None,
            Phase::Head => Some(self.activity.since() + patience.header),
            Phase::Idle => {
                let idle = self.activity.since() + patience.idle;
                Some(match &self.draining {
                    // A request may be on its way: the client of a fresh connection is about to
                    // send one, and another may have sent it the moment before.
                    Some(draining) if self.activity.has_answered() => {
                        idle.min(draining.since + SETTLE)
                    }
                    Some(draining) => idle.min(draining.since + FIRST_REQUEST),
                    None => idle,
                })
            }
        }
    }
}

/// How long a connection is idle before hyper's state for it is let go of.
const PARK: Duration = Duration::from_millis(300);
/// How long a client may go on sending after its last response, as nginx has it.
const LINGER: Duration = Duration::from_secs(30);
/// How long it may pause meanwhile.
const LINGER_SILENCE: Duration = Duration::from_secs(2);
/// Bytes that hyper may hold of what it reads: its default.
const BUFFER: usize = 408 * 1024;
/// How long an idle connection is kept after a drain has begun.
const SETTLE: Duration = Duration::from_millis(50);
/// How long a client that has sent nothing yet is given after a drain has begun.
pub const FIRST_REQUEST: Duration = Duration::from_secs(1);
