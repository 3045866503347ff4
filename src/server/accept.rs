//! Accepting: survives what goes wrong, and stops without resetting anybody.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use socket2::{SockFilter, SockRef};

use crate::log::{self, Sparing};

use super::admission::{Admission, Full, Seat};
use super::listener::Listener;

/// A connection that has just been accepted; not blocking, and known to no runtime yet.
#[derive(Debug)]
pub struct Accepted {
    pub(super) client: ClientStream,
    // Its place among the client connections, where they are counted.
    pub(super) seat: Option<Seat>,
}

/// What a client has connected over.
#[derive(Debug)]
pub(super) enum ClientStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Accepts on a set of listeners. A thread of its own runs it: accepting needs no runtime, and a
/// connection that is registered with none can be handed to any worker.
pub struct Acceptor {
    // By the number of the door.
    listeners: BTreeMap<usize, Listener>,
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
    orders: Receiver<Order>,
    admission: Arc<Admission>,
}

/// Tells an [`Acceptor`] what to do.
#[derive(Clone, Debug)]
pub struct Porter {
    wake: Arc<OwnedFd>,
    orders: Sender<Order>,
    admission: Arc<Admission>,
}

#[derive(Debug)]
enum Order {
    Open(Vec<(usize, Listener)>),
    Close(Vec<usize>, SyncSender<()>),
    Take(Vec<usize>, SyncSender<Vec<(usize, Listener)>>),
    SharePort(Vec<usize>, bool, SyncSender<()>),
    End,
}

impl Acceptor {
    /// An acceptor without a listener that hands over what `admission` admits, and what tells it of
    /// listeners.
    ///
    /// # Errors
    ///
    /// When descriptors run out.
    pub fn new(admission: Arc<Admission>) -> io::Result<(Self, Porter)> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let data = epoll::EventData::new_u64(WAKE);
        epoll::add(&epoll, &wake, data, epoll::EventFlags::IN)?;
        let wake = Arc::new(wake);
        let (orders, received) = mpsc::channel();
        let porter = Porter {
            wake: Arc::clone(&wake),
            orders,
            admission: Arc::clone(&admission),
        };
        let acceptor = Self {
            listeners: BTreeMap::new(),
            epoll,
            wake,
            orders: received,
            admission,
        };
        Ok((acceptor, porter))
    }

    /// Hands over every connection, with the number of its listener's door, until told to end.
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
                let door = event.data.u64();
                if door == WAKE {
                    if self.obey(&mut hand)? {
                        return Ok(());
                    }
                    continue;
                }
                let door = door as usize;
                // It may have been closed since the event.
                let Some(listener) = self.listeners.get(&door) else {
                    continue;
                };
                let several = self.listeners.len() > 1;
                let mut hand = Gate {
                    admission: &self.admission,
                    several,
                    hand: &mut hand,
                };
                if let Err(error) = accept_all(listener, |accepted| hand.pass(door, accepted)) {
                    // Out of descriptors, mostly: waiting lets some be closed; trying again at
                    // once would spin, because the connection is still there.
                    if is_out_of_files(&error) {
                        self.admission.relieve();
                    }
                    if let Some(suppressed) =
                        log::once_a_minute(&listener.to_string(), "cannot accept")
                    {
                        tracing::warn!(%listener, %error, suppressed, "cannot accept");
                    }
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Does what it was told; says whether that was to end.
    fn obey(&mut self, hand: &mut impl FnMut(usize, Accepted)) -> io::Result<bool> {
        // Only resets the counter; what is to be done stands in the orders.
        let _ = rustix::io::read(&*self.wake, &mut [0u8; 8]);
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Open(listeners) => {
                    for (door, listener) in listeners {
                        let data = epoll::EventData::new_u64(door as u64);
                        epoll::add(&self.epoll, &listener, data, epoll::EventFlags::IN)?;
                        self.listeners.insert(door, listener);
                    }
                }
                Order::Close(doors, done) => {
                    let several = self.listeners.len() > 1;
                    let closing = doors
                        .iter()
                        .filter_map(|door| Some((*door, self.listeners.remove(door)?)));
                    let mut hand = Gate {
                        admission: &self.admission,
                        several,
                        hand,
                    };
                    close(closing.collect(), &mut hand);
                    // Whoever waits may have given up.
                    let _ = done.send(());
                }
                Order::Take(doors, taken) => {
                    let taking = doors
                        .iter()
                        .filter_map(|door| Some((*door, self.listeners.remove(door)?)));
                    let listeners: Vec<_> = taking.collect();
                    for (_, listener) in &listeners {
                        epoll::delete(&self.epoll, listener)?;
                    }
                    // The receiver may be gone: its wait has a limit.
                    let _ = taken.send(listeners);
                }
                Order::SharePort(doors, allowed, done) => {
                    for listener in doors.iter().filter_map(|door| self.listeners.get(door)) {
                        listener.share_port(allowed);
                    }
                    // The receiver may be gone: its wait has a limit.
                    let _ = done.send(());
                }
                Order::End => {
                    let mut hand = Gate {
                        admission: &self.admission,
                        several: self.listeners.len() > 1,
                        hand,
                    };
                    close(std::mem::take(&mut self.listeners), &mut hand);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Stops new connections from being established, and hands over those that were.
fn close<H: FnMut(usize, Accepted)>(
    mut listeners: BTreeMap<usize, Listener>,
    hand: &mut Gate<'_, H>,
) {
    for listener in listeners.values_mut() {
        listener.refuse_newcomers();
    }
    // What was in flight arrives within a moment.
    for _ in 0..SETTLING {
        for (door, listener) in &listeners {
            if let Err(error) = accept_all(listener, |accepted| hand.pass(*door, accepted)) {
                tracing::warn!(%listener, %error, "cannot accept while closing");
            }
        }
        std::thread::sleep(SETTLE);
    }
    for (door, listener) in &listeners {
        // Said above if it fails.
        let _ = accept_all(listener, |accepted| hand.pass(*door, accepted));
    }
}

/// Hands over the connections for which there is room.
struct Gate<'a, H> {
    admission: &'a Arc<Admission>,
    several: bool,
    hand: &'a mut H,
}

impl<H: FnMut(usize, Accepted)> Gate<'_, H> {
    fn pass(&mut self, door: usize, mut accepted: Accepted) {
        match self.admission.admit(door, self.several) {
            Ok(seat) => {
                accepted.seat = Some(seat);
                (self.hand)(door, accepted);
            }
            Err(full) => accepted.turn_away(full),
        }
    }
}

impl Porter {
    /// Has connections of these listeners accepted from here on, each by the door of its number.
    pub fn open(&self, listeners: Vec<(usize, Listener)>) {
        self.order(Order::Open(listeners));
    }

    /// Closes the listeners of these doors, and returns when that is done.
    pub fn close(&self, doors: Vec<usize>) {
        let (done, closed) = mpsc::sync_channel(1);
        self.order(Order::Close(doors, done));
        // An acceptor that has ended has closed everything.
        let _ = closed.recv();
    }

    /// Stops accepting on listeners that are to go on under other numbers, and returns their
    /// sockets under these. Connections that arrive meanwhile wait in their queues.
    pub fn take(&self, transfer: &[(usize, usize)]) -> Vec<(usize, Listener)> {
        if transfer.is_empty() {
            return Vec::new();
        }
        let (taken, listeners) = mpsc::sync_channel(1);
        let old = transfer.iter().map(|(old, _)| *old).collect();
        self.order(Order::Take(old, taken));
        // An acceptor that has ended has closed everything.
        let listeners = listeners.recv().unwrap_or_default();
        let renumber = |(old, listener)| {
            let (_, new) = transfer.iter().find(|(number, _)| *number == old)?;
            Some((*new, listener))
        };
        listeners.into_iter().filter_map(renumber).collect()
    }

    /// Sets whether another socket of this process may be bound to an address that overlaps with
    /// those of these listeners, and returns when that is done.
    pub fn share_port(&self, doors: Vec<usize>, allowed: bool) {
        let (done, set) = mpsc::sync_channel(1);
        self.order(Order::SharePort(doors, allowed, done));
        // An acceptor that has ended has closed everything.
        let _ = set.recv();
    }

    /// Ends the acceptor; more than once is the same as once.
    pub fn end(&self) {
        self.order(Order::End);
    }

    /// Admits up to `limit` client connections from here on.
    pub fn limit_clients(&self, limit: usize) {
        self.admission.limit(limit);
    }

    fn order(&self, order: Order) {
        // An acceptor that has ended takes no more orders.
        let _ = self.orders.send(order);
        // Cannot fail before the counter of the eventfd is full.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
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

/// Whether an error means that the process or the system may open no more files.
fn is_out_of_files(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE)
    )
}

fn accept_one(listener: &Listener) -> io::Result<Accepted> {
    let socket: OwnedFd = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let client = match listener {
        Listener::Tcp(..) => ClientStream::Tcp(socket.into()),
        Listener::Unix(..) => ClientStream::Unix(socket.into()),
    };
    Ok(Accepted { client, seat: None })
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
    /// A connection over a unix socket that counts nowhere.
    pub fn unix(stream: UnixStream) -> Self {
        Self {
            client: ClientStream::Unix(stream),
            seat: None,
        }
    }

    /// The client's address; `None` on a unix socket.
    pub fn peer(&self) -> Option<SocketAddr> {
        match &self.client {
            ClientStream::Tcp(stream) => stream.peer_addr().ok(),
            ClientStream::Unix(_) => None,
        }
    }

    /// Tells a client that there is no room for it, and closes the connection.
    fn turn_away(self, Full(limit): Full) {
        let peer = self.peer().map(|peer| peer.to_string());
        match WARNINGS.admit((), Instant::now()) {
            Some(suppressed) => tracing::warn!(
                peer,
                limit,
                suppressed,
                "client connection rejected: all are in use (`max_client_connections`)"
            ),
            None => tracing::debug!(peer, limit, "client connection rejected"),
        }
        let text = format!(
            "mtlsd: all {limit} client connections are in use (`max_client_connections`)\n  \
             next step: try again, or raise `max_client_connections`, and the limit of open files if \
             mtlsd's log says that it is lower\n"
        );
        let response = format!(
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
             proxy-status: mtlsd; error=connection_limit_reached; \
             details=\"max_client_connections\"\r\nretry-after: 1\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{text}",
            text.len()
        );
        // A client that does not take it learns as much from the end of the connection.
        let _ = match &self.client {
            ClientStream::Tcp(stream) => {
                let _ = (&*stream).write(response.as_bytes());
                stream.shutdown(Shutdown::Write)
            }
            ClientStream::Unix(stream) => {
                let _ = (&*stream).write(response.as_bytes());
                stream.shutdown(Shutdown::Write)
            }
        };
    }
}

static WARNINGS: Sparing<()> = Sparing::new(Duration::from_secs(10));
const PAUSE: Duration = Duration::from_millis(100);
const SETTLE: Duration = Duration::from_millis(10);
const SETTLING: u32 = 5;
/// What the event of new orders is called; no door has such a number.
const WAKE: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use std::io::Read;

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
            let (acceptor, porter) = Acceptor::new(Admission::new(1000)).unwrap();
            porter.open(vec![(0, listeners.remove(0))]);
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
            for _ in 0..=10 {
                count.recv().unwrap();
            }
            porter.end();
            accepting.join().unwrap().unwrap();
            let served: usize = clients
                .into_iter()
                .map(|client| client.join().unwrap())
                .sum();
            assert!(served > 10, "{served}");
            // A client may have given up that was accepted after all.
            assert!(11 + count.iter().count() >= served, "{served}");
        }
    }
}
