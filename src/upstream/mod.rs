//! One binding's side towards its origins, on one worker: a pool under each Generation,
//! connecting, sending, and sending again where that is safe.

mod address;
mod connect;
mod dial;
mod exchange;
mod lookup;
mod metering;
mod offer;
mod outbound;
mod ping;
mod pool;
mod shared;
mod slots;
mod story;
mod task;
mod trace;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use http::{Method, StatusCode};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::config::{Authority, Binding, ConnectTo, Limits, Protocol, Retry, Timeouts};
use crate::error::{Failure, ForwardError};
use crate::lifecycle::Alarm;
use crate::metrics::{Connections, Meter, RetryReason};
use crate::tls::Generation;

use connect::Heads;
use exchange::{Refusal, Unanswered};
use lookup::Lookups;
use pool::{Fresh, Pool};

pub use connect::Dial;
pub use dial::failed as dial_failed;

pub use outbound::{Inbound, Manner, Outbound};
pub use pool::Lease;
pub use slots::Slots;
pub use trace::{Evidence, Trace};

/// A Generation together with the count of connections that were opened under it; the count is
/// shared by all workers, and ends with the Generation.
#[derive(Clone)]
pub struct Published {
    /// The identity and its TLS configuration.
    pub generation: Arc<Generation>,
    /// The connections under it.
    pub slots: Arc<Slots>,
}

/// What a worker keeps of one binding.
pub struct Upstream {
    settings: Rc<Settings>,
    pool: RefCell<Rc<Pool>>,
    // The connections of Generations that were replaced, until the last of them is closed.
    outdated: RefCell<Vec<Weak<Slots>>>,
    worker: usize,
    house: Rc<dyn House>,
    meter: Rc<Meter>,
}

/// What one worker's side of a binding can ask of the rest of the process.
pub trait House {
    /// Asks the worker with this index to give up a connection of this binding.
    fn give_up_one(&self, worker: usize);

    /// Has the files of this binding looked at, because an origin refused the certificate. The
    /// answer is the number of the Generation in use then; there is none when the process ends.
    fn suspect(&self) -> oneshot::Receiver<u64>;
}

/// What the user decided about this binding's connections, and its name lookups.
pub struct Settings {
    // The binding's name.
    binding: Box<str>,
    timeouts: Timeouts,
    limits: Limits,
    // The origin, and the name that it goes by in place of its host's.
    server_name: Option<(Arc<Authority>, Box<str>)>,
    connect_to: Option<ConnectTo>,
    allow_private: bool,
    heads: Heads,
    protocol: Protocol,
    retry: Retry,
    lookups: Lookups,
}

impl Settings {
    /// Those of `binding`.
    pub fn of(binding: &Binding) -> Self {
        Self {
            binding: binding.name.as_str().into(),
            timeouts: binding.timeouts,
            limits: binding.limits,
            server_name: binding.origin.as_ref().and_then(|origin| {
                Some((Arc::clone(&origin.authority), binding.server_name.clone()?))
            }),
            connect_to: binding.connect_to.clone(),
            allow_private: binding.allow_private,
            heads: Heads {
                size: binding.max_header_size,
                fields: binding.max_header_fields,
                preserve_case: binding.headers.preserve_case,
            },
            protocol: binding.protocol,
            retry: binding.retry,
            lookups: Lookups::default(),
        }
    }

    /// The name that `target` must prove to have.
    fn name_of<'a>(&'a self, target: &'a Authority) -> &'a str {
        match &self.server_name {
            Some((origin, name)) if **origin == *target => name,
            _ => target.host(),
        }
    }
}

impl Upstream {
    /// The upstream of `binding` on the worker with this index, under `published`.
    pub fn new(
        binding: &Binding,
        published: Published,
        worker: usize,
        house: Rc<dyn House>,
        meter: Rc<Meter>,
    ) -> Self {
        let settings = Rc::new(Settings::of(binding));
        let pool = Pool::new(
            Rc::clone(&settings),
            published,
            worker,
            Rc::clone(&house),
            Rc::clone(&meter),
        );
        Self {
            settings,
            pool: RefCell::new(pool),
            outdated: RefCell::default(),
            worker,
            house,
            meter,
        }
    }

    /// From here on, new requests use `published`. Idle connections of the Generation before are
    /// closed at once, busy ones when they are done.
    pub fn publish(&self, published: Published) {
        let settings = Rc::clone(&self.settings);
        let pool = Pool::new(
            settings,
            published,
            self.worker,
            Rc::clone(&self.house),
            Rc::clone(&self.meter),
        );
        let former = self.pool.replace(pool);
        former.retire();
        let mut outdated = self.outdated.borrow_mut();
        outdated.retain(|slots| slots.strong_count() > 0);
        outdated.push(Arc::downgrade(former.slots()));
    }

    /// Closes idle connections at once, busy ones when they are done: the binding is gone.
    pub fn retire(&self) {
        self.pool.borrow().retire();
    }

    /// Gives up a connection for another worker: an idle one now, or the next one that would
    /// become idle.
    pub fn give_up_one(&self) {
        self.pool.borrow().give_up_one();
    }

    /// What is counted on this worker.
    pub fn meter(&self) -> &Rc<Meter> {
        &self.meter
    }

    /// How many connections there are on this worker.
    pub fn connections(&self) -> Connections {
        let outdated = self.outdated.borrow();
        let outdated = outdated.iter().filter_map(Weak::upgrade);
        Connections {
            outdated: outdated.map(|slots| slots.open(self.worker)).sum(),
            ..self.pool.borrow().connections()
        }
    }

    /// How many requests wait for a connection, on all workers.
    pub fn waiting(&self) -> usize {
        self.pool.borrow().waiting()
    }

    /// Closes every idle connection.
    pub fn close_idle(&self) {
        self.pool.borrow().close_idle();
    }

    /// Sends a request, at `began`, and waits for the head of its answer, with `alarm` as the timer.
    ///
    /// A request is sent once more, on a fresh connection, when nothing of it was written; when
    /// the origin says that it did not process it (RFC 9113 section 8.7); or when a reused connection
    /// ended before a byte of a response, or acknowledged nothing of the request, and the method is
    /// safe (RFC 9110 section 9.2.1) and nothing of its body was read.
    ///
    /// # Errors
    ///
    /// When there is no answer: who is to blame, and why.
    pub async fn send(
        &self,
        outbound: &mut Outbound,
        began: Instant,
        alarm: &Alarm,
        trace: &Trace,
    ) -> Result<Inbound, ForwardError> {
        let mut now = began;
        let mut fresh = None;
        let mut tries = Tries::default();
        loop {
            let ready = match fresh {
                Some(_) => None,
                None => self.ready(outbound, now, trace),
            };
            let connected = match ready {
                Some(lease) => Ok(lease),
                None => {
                    // Boxed: it is rare, and would make the state of every request larger.
                    let connected = Box::pin(self.connection(outbound, fresh, trace)).await;
                    now = Instant::now();
                    connected
                }
            };
            let mut lease = match connected {
                Ok(lease) => lease,
                Err(error) if !tries.suspected && self.has_newer(&error, trace).await => {
                    let reason = RetryReason::NewerCertificate;
                    self.meter.counters().retry(reason);
                    self.settings.log_retry(outbound, reason);
                    tries.suspected = true;
                    now = Instant::now();
                    continue;
                }
                Err(error) => return Err(error),
            };
            if outbound.manner.grpc && !lease.is_stream() {
                lease.give_back(now);
                return Err(ForwardError::Grpc);
            }
            let reused = lease.is_reused();
            let timeouts = &self.settings.timeouts;
            let patience = (reused && self.may_repeat(outbound) && is_safe(outbound.method()))
                .then(|| timeouts.connect.min(timeouts.response / 2));
            self.settings.log_sending(outbound, &lease);
            let answer =
                exchange::exchange(&mut lease, outbound, now, timeouts, patience, alarm).await;
            if let Ok(response) = &answer {
                self.settings.log_response(outbound, &lease, response);
            }
            if let Err(unanswered) = &answer {
                let error = &unanswered.error;
                self.settings.log_unanswered(outbound, &lease, error);
                trace.keep(lease.facts(), lease.generation());
                metering::failed(&self.meter, &unanswered.error);
                if unanswered.suspect {
                    lease.suspect(now);
                }
            }
            let reason = match answer {
                Ok(response)
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS
                        && !outbound.manner.upgrades =>
                {
                    return Err(ForwardError::Upgrade);
                }
                // RFC 9110 section 15.5.20: the connection was the wrong one for this host.
                Ok(response)
                    if response.status() == StatusCode::MISDIRECTED_REQUEST
                        && reused
                        && self.may_repeat(outbound) =>
                {
                    RetryReason::Misdirected
                }
                Ok(response) => return Ok(Inbound { response, lease }),
                Err(unanswered) => {
                    let again = self.retry_of(&unanswered, reused, outbound, &mut tries, trace);
                    match again.await {
                        Some(reason) => reason,
                        None => return Err(unanswered.error),
                    }
                }
            };
            self.meter.counters().retry(reason);
            self.settings.log_retry(outbound, reason);
            // What is left of the attempt before gets no more of the body.
            outbound.upload.rewind();
            fresh = Some(Fresh {
                since: now,
                first: tries.refusals > 1,
            });
            now = Instant::now();
        }
    }

    /// Why a request that went out on a connection, a `reused` one or a new one, goes out again, if it
    /// does.
    async fn retry_of(
        &self,
        unanswered: &Unanswered,
        reused: bool,
        outbound: &Outbound,
        tries: &mut Tries,
        trace: &Trace,
    ) -> Option<RetryReason> {
        // A connection can end before a request was put on it, or be refused, at any time, also as
        // soon as it is there.
        let unprocessed = match unanswered.refused {
            Some(Refusal::Stream) => tries.refusals == 0,
            // Each connection may be good for a few requests only.
            Some(Refusal::GoAway) => tries.refusals < MOST_GOAWAYS,
            None => unanswered.unsent && tries.refusals < MOST_GOAWAYS,
        };
        if unprocessed && self.settings.retry == Retry::Safe && outbound.upload.is_whole() {
            tries.refusals += 1;
            return Some(match unanswered.refused {
                Some(_) => RetryReason::Refused,
                None => RetryReason::Closed,
            });
        }
        if reused && unanswered.refused.is_none() && self.has_second_chance(unanswered, outbound) {
            return Some(RetryReason::Closed);
        }
        // An origin that rejects our certificate has not acted on the request.
        if !tries.suspected
            && self.may_repeat(outbound)
            && self.has_newer(&unanswered.error, trace).await
        {
            tries.suspected = true;
            return Some(RetryReason::NewerCertificate);
        }
        None
    }

    /// Whether an origin's refusal was met by files that make a newer Generation than the one it
    /// refused. Every worker uses that by the time this is known.
    async fn has_newer(&self, error: &ForwardError, trace: &Trace) -> bool {
        let refused = match error {
            ForwardError::Handshake(Failure::Alert(alert, _))
            | ForwardError::Terminated(Failure::Alert(alert, _)) => {
                CERTIFICATE_ALERTS.contains(alert)
            }
            _ => false,
        };
        if !refused {
            return false;
        }
        let answer = timeout(self.settings.timeouts.connect, self.house.suspect());
        let answer = Box::pin(answer).await;
        matches!((answer, trace.generation.get()), (Ok(Ok(newest)), Some(used)) if newest > used)
    }

    /// Whether a request that went out on a reused connection may be sent once more.
    fn has_second_chance(&self, unanswered: &Unanswered, outbound: &Outbound) -> bool {
        let unseen = unanswered.ended && !unanswered.wrote;
        // A connection that died of silence may have delivered the request before that.
        let lost = match unanswered.is_unresponsive() {
            true => !unanswered.acknowledged,
            false => unanswered.ended && !unanswered.read,
        };
        let safe = lost && is_safe(outbound.method());
        self.may_repeat(outbound) && (unseen || safe)
    }

    /// Whether a request may go out again as far as the user and its body are concerned.
    fn may_repeat(&self, outbound: &Outbound) -> bool {
        self.settings.retry == Retry::Safe && outbound.upload.is_untouched()
    }
}

/// Why a request was sent again so far.
#[derive(Default)]
struct Tries {
    // Whether the certificate was looked at because it was rejected.
    suspected: bool,
    // How often nothing of the request was processed.
    refusals: u32,
}

/// How often a request is sent again whose connection was closed before it was processed.
const MOST_GOAWAYS: u32 = 5;

/// Methods that a request may be repeated with though the origin may have acted on it.
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The alerts of an origin that does not like the certificate it was shown, or misses one (RFC 8446
/// section 6.2): bad, unsupported, revoked, expired, unknown, of an unknown authority, without
/// access, required.
const CERTIFICATE_ALERTS: [u8; 8] = [42, 43, 44, 45, 46, 48, 49, 116];
