//! Accepting: survives what goes wrong, and stops without resetting anybody.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use socket2::{SockFilter, SockRef};

use super::listener::Listener;

/// A connection that has just been accepted; not blocking, and known to no runtime yet.
#[derive(Debug)]
pub enum Accepted {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
}

/// Accepts on a set of listeners. A thread of its own runs it: accepting needs no runtime, and a
/// connection that is registered with none can be handed to any worker.
pub struct Acceptor {
    listeners: Vec<Listener>,
    epoll: OwnedFd,
    stop: Arc<OwnedFd>,
}

/// Ends an [`Acceptor`].
#[derive(Clone, Debug)]
pub struct Stop(Arc<OwnedFd>);

impl Acceptor {
    /// Prepares to accept on `listeners`.
    ///
    /// # Errors
    ///
    /// When descriptors run out.
    pub fn new(listeners: Vec<Listener>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &stop,
            epoll::EventData::new_u64(STOP),
            epoll::EventFlags::IN,
        )?;
        for (index, listener) in listeners.iter().enumerate() {
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, listener, data, epoll::EventFlags::IN)?;
        }
        Ok(Self {
            listeners,
            epoll,
            stop: Arc::new(stop),
        })
    }

    /// What ends it.
    pub fn stop(&self) -> Stop {
        Stop(Arc::clone(&self.stop))
    }

    /// Hands over every connection, with the index of its listener, until told to stop.
    /// Connections that were established by then are handed over before the sockets close.
    ///
    /// # Errors
    ///
    /// When waiting is impossible. An error of one accept is logged and survived.
    pub fn run(mut self, mut hand: impl FnMut(usize, Accepted)) -> io::Result<()> {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            crate::lifecycle::fault("acceptor");
            for event in &events {
                let index = event.data.u64();
                if index == STOP {
                    self.close(&mut hand);
                    return Ok(());
                }
                let index = index as usize;
                let listener = &self.listeners[index];
                if let Err(error) = accept_all(listener, |accepted| hand(index, accepted)) {
                    // Out of descriptors, mostly: waiting lets some be closed; trying again at
                    // once would spin, because the connection is still there.
                    tracing::warn!(%listener, %error, "cannot accept");
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Stops new connections from being established, and hands over those that were.
    fn close(&mut self, hand: &mut impl FnMut(usize, Accepted)) {
        for listener in &mut self.listeners {
            listener.refuse_newcomers();
        }
        // What was in flight arrives within a moment.
        for _ in 0..SETTLING {
            for (index, listener) in self.listeners.iter().enumerate() {
                if let Err(error) = accept_all(listener, |accepted| hand(index, accepted)) {
                    tracing::warn!(%listener, %error, "cannot accept while closing");
                }
            }
            std::thread::sleep(SETTLE);
        }
        for (index, listener) in self.listeners.iter().enumerate() {
            // Said above if it fails.
            let _ = accept_all(listener, |accepted| hand(index, accepted));
        }
    }
}

impl Stop {
    /// Ends the acceptor; more than once is the same as once.
    pub fn stop(&self) {
        // Cannot fail before the counter of the eventfd is full.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

fn accept_all(listener: &Listener, mut hand: impl FnMut(Accepted)) -> io::Result<()> {
    loop {
        match accept_one(listener) {
            Ok(accepted) => hand(accepted),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(()),
                // The client gave up while it waited.
                io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                _ => return Err(error),
            },
        }
    }
}

fn accept_one(listener: &Listener) -> io::Result<Accepted> {
    let socket: OwnedFd = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    Ok(match listener {
        Listener::Tcp(..) => Accepted::Tcp(socket.into()),
        Listener::Unix(..) => Accepted::Unix(socket.into()),
    })
}

impl Listener {
    /// Closing a listening socket resets what waits in its queue, also what is put there between
    /// the last accept and the close. So new SYNs are dropped first: who sent one tries again,
    /// and finds either our successor or a closed port.
    fn refuse_newcomers(&mut self) {
        match self {
            Self::Tcp(socket, _) => {
                if let Err(error) = SockRef::from(&*socket).attach_filter(&drop_syn()) {
                    tracing::debug!(%error, "cannot filter new connections while closing");
                }
            }
            Self::Unix(_, file) => file.remove(),
        }
    }
}

/// A classic BPF program that drops TCP segments with SYN set and ACK not set; the segment starts
/// with the TCP header, whose 14th byte holds the flags (RFC 9293 section 3.1).
fn drop_syn() -> [SockFilter; 5] {
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
    const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
}

impl Accepted {
    /// The client's address; `None` on a unix socket.
    pub fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

const PAUSE: Duration = Duration::from_millis(100);
const SETTLE: Duration = Duration::from_millis(10);
const SETTLING: u32 = 5;
/// What the stop event is called; no listener has such an index.
const STOP: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;
    use crate::config::Listen;
    use crate::server::bind;

    /// Connects as fast as it can until it cannot. Whoever got through must be served, which here
    /// is an orderly end.
    fn connect_until_closed(address: SocketAddr) -> usize {
        let mut served = 0;
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            match TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
                Ok(mut stream) => {
                    let read = stream.read(&mut [0]);
                    assert!(matches!(read, Ok(0)), "after {served}: {read:?}");
                    served += 1;
                }
                Err(_) => break,
            }
        }
        served
    }

    #[test]
    fn nobody_who_connected_is_reset_when_accepting_stops() {
        // The moment between the last accept and the close is short; many tries find it.
        for _ in 0..20 {
            let mut listeners = bind(&Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
            let address = listeners[0].address().unwrap();
            let acceptor = Acceptor::new(vec![listeners.remove(0)]).unwrap();
            let stop = acceptor.stop();
            let (accepted, count) = mpsc::channel();
            let accepting = std::thread::spawn(move || {
                acceptor.run(|_, connection| {
                    drop(connection);
                    accepted.send(()).unwrap();
                })
            });
            let clients: Vec<_> = (0..6)
                .map(|_| std::thread::spawn(move || connect_until_closed(address)))
                .collect();
            std::thread::sleep(Duration::from_millis(20));
            stop.stop();
            accepting.join().unwrap().unwrap();
            let served: usize = clients
                .into_iter()
                .map(|client| client.join().unwrap())
                .sum();
            assert!(served > 10, "{served}");
            assert_eq!(count.iter().count(), served);
        }
    }
}
