//! A new connection to an origin: name, TCP, TLS, HTTP; each with its own way to fail, and all of
//! them together within `connect_timeout`.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::body::Upload;
use crate::config::Authority;
use crate::error::{ForwardError, Phase};
use crate::metrics::{ConnectPhase, Meter};
use crate::tls::{self, Alpn, Facts, Generation, HandshakeError, ServerName};

use super::Settings;
use super::address::is_public;
use super::dial;
use super::ping::{self, PingTimer, Pinger};
use super::shared::Multiplexed;
use super::slots::Hold;
use super::task::Owner;

/// Whom to connect to.
pub struct Dial<'a> {
    /// The origin.
    pub target: &'a Authority,
    /// How.
    pub settings: &'a Settings,
    /// Whether to refuse addresses that are not public.
    pub public_only: bool,
    /// Which HTTP to offer.
    pub alpn: Alpn,
}

/// A connection that is ready for requests. Another task of this worker drives it.
pub struct Made {
    pub wire: Wire,
    pub facts: Arc<Facts>,
    pub address: SocketAddr,
}

/// How the heads of responses are read.
#[derive(Clone, Copy)]
pub struct Heads {
    /// Bytes of one.
    pub size: usize,
    /// Fields of one.
    pub fields: usize,
    /// Whether field names keep their case.
    pub preserve_case: bool,
}

/// How requests are put on a connection.
pub enum Wire {
    /// One after the other.
    Http1(http1::SendRequest<Upload>, Owner),
    /// Many at once.
    Http2(Multiplexed),
}

impl Dial<'_> {
    /// Connects as `generation`. The connection keeps `hold` until it is closed; `reached` is
    /// told the address as soon as TCP is there, and `facts` what TLS reveals.
    pub(super) async fn connect(
        &self,
        generation: &Generation,
        deadline: Instant,
        hold: Hold,
        facts: &Arc<Facts>,
        reached: impl FnOnce(SocketAddr),
        meter: &Meter,
    ) -> Result<Made, ForwardError> {
        let phase = Cell::new(Phase::Name);
        let steps = async {
            let mut began = Instant::now();
            let mut done = |phase| {
                let now = Instant::now();
                meter.connected(phase, now - began);
                began = now;
            };
            let addresses = self.addresses().await?;
            done(ConnectPhase::Dns);
            self.settings.log_resolved(self.target, &addresses);
            phase.set(Phase::Tcp);
            let (tcp, address) = dial::first_of(addresses).await?;
            done(ConnectPhase::Tcp);
            reached(address);
            self.settings.log_dialed(self.target, address);
            phase.set(Phase::Tls);
            let stream = self.secure(generation, tcp, address, facts).await?;
            done(ConnectPhase::Tls);
            let settings = self.settings;
            settings.log_handshake(self.target, address, generation, &stream);
            Ok((stream, address))
        };
        match timeout_at(deadline, steps).await {
            Ok(connected) => {
                let (stream, address) = connected?;
                drive(stream.keep(hold), address, self.settings.heads).await
            }
            Err(_) => Err(ForwardError::TimeoutConnecting(
                self.settings.timeouts.connect,
                phase.get(),
            )),
        }
    }

    /// Speaks TLS as `generation` on a connection to `address`.
    ///
    /// # Errors
    ///
    /// When either side refuses.
    pub async fn secure(
        &self,
        generation: &Generation,
        tcp: TcpStream,
        address: SocketAddr,
        facts: &Arc<Facts>,
    ) -> Result<tls::Stream, ForwardError> {
        let name = self.settings.name_of(self.target);
        let name =
            ServerName::parse(name).ok_or_else(|| ForwardError::ServerName(name.to_owned()))?;
        // Requests are written whole; waiting to fill a segment would only delay them.
        if let Err(error) = tcp.set_nodelay(true) {
            return Err(dial::failed(address, &error));
        }
        // What is not acknowledged for so long, or not taken by an origin that is alive, fails.
        let patience = self.settings.timeouts.body.as_millis();
        let patience = u32::try_from(patience).unwrap_or(u32::MAX).max(1);
        if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&tcp, patience) {
            tracing::debug!(%address, %error, "cannot set TCP_USER_TIMEOUT");
        }
        match tls::connect(generation, self.alpn, name, tcp, facts).await {
            Ok(stream) if self.alpn == Alpn::Http2 && !stream.is_http2() => {
                Err(ForwardError::NoHttp2)
            }
            Ok(stream) => Ok(stream),
            Err(HandshakeError::Certificate(reason)) => Err(ForwardError::Certificate(reason)),
            Err(HandshakeError::NotAsked) => Err(ForwardError::NotAsked),
            Err(HandshakeError::Failed(failure)) => Err(ForwardError::Handshake(failure)),
        }
    }

    /// The addresses to try, in the order to try them.
    ///
    /// # Errors
    ///
    /// [`ForwardError::Dns`], [`ForwardError::NotPublic`].
    pub async fn addresses(&self) -> Result<Vec<SocketAddr>, ForwardError> {
        let (host, port) = match &self.settings.connect_to {
            Some(to) => (&*to.host, to.port.unwrap_or(self.target.port())),
            None => (self.target.host(), self.target.port()),
        };
        let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) => {
                let mut found = self.settings.lookups.resolve(host).await?;
                for address in &mut found {
                    address.set_port(port);
                }
                found
            }
        };
        if found.is_empty() {
            return Err(ForwardError::Dns(host.to_owned(), "it has none".to_owned()));
        }
        // Naming an address to dial is consent to it.
        if !self.public_only || self.settings.connect_to.is_some() {
            return Ok(alternate(found));
        }
        let public: Vec<_> = found
            .into_iter()
            .filter(|address| is_public(address.ip()))
            .collect();
        match public.is_empty() {
            true => Err(ForwardError::NotPublic(host.to_owned())),
            false => Ok(alternate(public)),
        }
    }
}

/// Speaks HTTP on the connection, from a task that ends with it.
async fn drive(
    stream: tls::Stream,
    address: SocketAddr,
    heads: Heads,
) -> Result<Made, ForwardError> {
    let facts = stream.facts();
    let failed = |error: hyper::Error| ForwardError::Protocol(error.to_string());
    let ended = move |result: hyper::Result<()>| {
        if let Err(error) = result {
            tracing::debug!(%address, %error, "connection to the origin ended");
        }
    };
    let wire = if stream.is_http2() {
        let (owner, spawner) = Owner::of_spawned();
        let pinger = Arc::new(Pinger::default());
        let (sender, connection) = http2::Builder::new(spawner)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(u32::try_from(heads.size).unwrap_or(u32::MAX))
            .timer(PingTimer(Arc::clone(&pinger)))
            .keep_alive_interval(Some(ping::INTERVAL))
            .keep_alive_timeout(ping::TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        let most = Rc::new(Cell::new(connection.current_max_send_streams()));
        let known = Rc::clone(&most);
        let mut connection = Box::pin(connection);
        // Ends with the connection's socket, which is the owner's.
        tokio::task::spawn_local(poll_fn(move |cx| {
            let polled = connection.as_mut().poll(cx);
            known.set(connection.current_max_send_streams());
            polled.map(ended)
        }));
        Wire::Http2(Multiplexed {
            sender,
            owner,
            pinger,
            most,
        })
    } else {
        let (sender, connection) = http1::Builder::new()
            .max_header_size(heads.size)
            .max_buf_size(BUFFER.max(heads.size.saturating_mul(2)))
            .max_headers(heads.fields)
            .preserve_header_case(heads.preserve_case)
            // RFC 9112 section 5.1: a proxy removes the whitespace.
            .allow_spaces_after_header_name_in_responses(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        let mut connection = connection.with_upgrades();
        // An async block would hold the connection twice.
        let driven = poll_fn(move |cx| Pin::new(&mut connection).poll(cx).map(ended));
        Wire::Http1(sender, Owner::of(driven))
    };
    Ok(Made {
        wire,
        facts,
        address,
    })
}

/// Alternates between the families, beginning with the one the system prefers (RFC 8305
/// section 4).
fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let mut ordered = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        match (first.next(), second.next()) {
            (None, None) => return ordered,
            (one, other) => ordered.extend(one.into_iter().chain(other)),
        }
    }
}

/// What an origin may send on one stream before the client has taken it.
const STREAM_WINDOW: u32 = 512 * 1024;
/// The same over all streams of a connection.
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// What is kept of a request body for an origin that reads slowly.
const SEND_BUFFER: usize = 256 * 1024;
/// Bytes that hyper may hold of what it reads: its default.
const BUFFER: usize = 408 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate_beginning_with_the_preferred_one() {
        let read = |list: &[&str]| -> Vec<SocketAddr> {
            list.iter().map(|a| a.parse().unwrap()).collect()
        };
        let ordered = alternate(read(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"]));
        assert_eq!(
            ordered,
            read(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"])
        );
    }
}
