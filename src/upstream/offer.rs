//! A connection for a request, and which HTTP is offered on it.

use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use crate::config::Protocol;
use crate::error::{Failure, ForwardError};
use crate::tls::{Alpn, Facts};

use super::connect::{Dial, Wire};
use super::pool::{Acquired, Fresh, Knows, Lease};
use super::{Outbound, Trace, Upstream, metering};

impl Upstream {
    /// What to offer an origin that nothing is known of yet.
    fn want(&self, outbound: &Outbound) -> Alpn {
        match self.settings.protocol {
            // Only HTTP/1 switches protocols.
            _ if outbound.manner.upgrades => Alpn::Http1,
            Protocol::Http1 => Alpn::Http1,
            Protocol::Http2 => Alpn::Http2,
            Protocol::Auto if outbound.manner.http2 => Alpn::Either,
            Protocol::Auto => Alpn::Http1,
        }
    }

    /// What to offer an origin of which this is known.
    fn alpn(&self, want: Alpn, knows: Knows) -> Alpn {
        match want {
            Alpn::Http1 if knows.http2_only && self.settings.protocol == Protocol::Auto => {
                Alpn::Http2
            }
            Alpn::Either if knows.http1_only => Alpn::Http1,
            want => want,
        }
    }

    /// A connection for `outbound` that can be used at once, at `now`.
    pub(super) fn ready(&self, outbound: &Outbound, now: Instant, trace: &Trace) -> Option<Lease> {
        let pool = self.pool.borrow();
        let target = &outbound.target;
        let lease = match self.alpn(self.want(outbound), pool.knows(target, now)) {
            Alpn::Http1 => pool.ready(target, now),
            Alpn::Http2 | Alpn::Either => pool.ready_stream(target, now),
        }?;
        trace.generation.set(Some(pool.generation().number()));
        trace.upstream.set(Some((lease.address(), true)));
        self.settings.log_reused(target, &lease);
        Some(lease)
    }

    /// A connection for `outbound`: one that is there, unless it has to be `fresh`, else a new one.
    pub(super) async fn connection(
        &self,
        outbound: &Outbound,
        fresh: Option<Fresh>,
        trace: &Trace,
    ) -> Result<Lease, ForwardError> {
        let target = &outbound.target;
        let want = self.want(outbound);
        let patience = self.settings.timeouts.connect;
        let deadline = Instant::now() + patience;
        // What is offered though something else is wanted or known.
        let mut instead = None;
        loop {
            let pool = Rc::clone(&self.pool.borrow());
            trace.generation.set(Some(pool.generation().number()));
            let knows = pool.knows(target, Instant::now());
            let alpn = instead.unwrap_or(self.alpn(want, knows));
            let acquired = match alpn {
                Alpn::Http1 => pool.acquire(target, fresh.is_some(), deadline).await?,
                Alpn::Http2 | Alpn::Either => {
                    pool.acquire_stream(target, fresh, deadline, trace).await?
                }
            };
            let (permit, mut launch) = match acquired {
                Acquired::Connection(lease) => {
                    trace.upstream.set(Some((lease.address(), true)));
                    self.settings.log_reused(target, &lease);
                    return Ok(lease);
                }
                Acquired::Permit(permit, launch) => (permit, launch),
                Acquired::Again => continue,
            };
            let dial = Dial {
                target,
                settings: &self.settings,
                public_only: outbound.manner.public_only && !self.settings.allow_private,
                alpn,
            };
            let hold = pool.hold(permit);
            let facts = Arc::new(Facts::default());
            let until = Instant::now() + patience;
            let reached = |address| trace.upstream.set(Some((address, false)));
            let made = dial.connect(pool.generation(), until, hold, &facts, reached, &self.meter);
            return match made.await {
                Ok(made) => {
                    let learnt = Knows {
                        http1_only: alpn == Alpn::Either && matches!(made.wire, Wire::Http1(..)),
                        http2_only: alpn == Alpn::Http2 && want == Alpn::Http1,
                    };
                    if learnt != Knows::default() {
                        pool.learn(target, learnt);
                    }
                    let named = (!outbound.manner.public_only).then_some(&**target);
                    metering::connected(&self.meter, &facts, named);
                    Ok(pool.lease(target, made))
                }
                // What is idle may hold what is missing.
                Err(ForwardError::Exhausted(_))
                    if Instant::now() < deadline && pool.close_one() =>
                {
                    // The connection's task closes its socket.
                    tokio::task::yield_now().await;
                    continue;
                }
                Err(error) => {
                    metering::failed(&self.meter, &error);
                    let address = trace.upstream.get().map(|(address, _)| address);
                    self.settings
                        .log_unconnected(target, address, pool.generation(), &error);
                    if instead.is_none()
                        && let Some(other) = self.other_offer(want, alpn, &error)
                    {
                        // Whatever was known led here. What works is learnt when it has worked: the
                        // alert may be anybody's.
                        pool.learn(target, Knows::default());
                        instead = Some(other);
                        continue;
                    }
                    trace.keep(facts, pool.generation());
                    if let Some(launch) = &mut launch {
                        launch.fail(&error, trace);
                    }
                    Err(error)
                }
            };
        }
    }

    /// What to offer an origin that did not agree to `offered`, though the request would `want`
    /// something else.
    fn other_offer(&self, want: Alpn, offered: Alpn, error: &ForwardError) -> Option<Alpn> {
        let disagreed = matches!(
            error,
            ForwardError::Handshake(Failure::Alert(NO_APPLICATION_PROTOCOL, _))
                | ForwardError::NoHttp2
        );
        if !disagreed || self.settings.protocol != Protocol::Auto {
            return None;
        }
        match (want, offered) {
            (Alpn::Http1, Alpn::Http1) => Some(Alpn::Http2),
            (Alpn::Http1, _) => Some(Alpn::Http1),
            (Alpn::Either, Alpn::Http1) => Some(Alpn::Either),
            _ => None,
        }
    }
}

/// The alert of an origin that speaks none of the protocols it was offered (RFC 7301 section 3.2).
const NO_APPLICATION_PROTOCOL: u8 = 120;
