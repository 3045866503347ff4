//! A TCP relay in front of an origin, which can fall silent: connections stay open, and nothing goes
//! through them any more.
//!
//! On loopback the relay's kernel acknowledges what mtlsd sends, as an origin does that hangs, and
//! until the relay's receive buffer is full. A path that loses everything acknowledges nothing at
//! all; that needs a firewall rule or a network namespace, and so is not tested here.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

/// The relay; it goes on until the test ends.
pub struct Relay {
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    accepted: AtomicUsize,
    links: Mutex<Vec<Arc<Link>>>,
}

struct Link {
    silent: AtomicBool,
    client: TcpStream,
}

impl Relay {
    /// A relay to the origin on this port.
    pub fn to(port: u16) -> Self {
        Self::with(move |client, _| {
            let origin = TcpStream::connect(("127.0.0.1", port))?;
            Ok((client, origin))
        })
    }

    /// A relay whose connections, by their numbers, `connect` connects to an origin.
    pub fn with(
        connect: impl Fn(TcpStream, usize) -> io::Result<(TcpStream, TcpStream)> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Inherited by what it accepts: a silent connection takes little before its window closes.
        SockRef::from(&listener)
            .set_recv_buffer_size(8 * 1024)
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let number = shared.accepted.fetch_add(1, Relaxed);
                let Ok((client, origin)) = connect(client, number) else {
                    continue;
                };
                let link = Arc::new(Link {
                    silent: AtomicBool::new(false),
                    client: client.try_clone().unwrap(),
                });
                shared.links.lock().unwrap().push(Arc::clone(&link));
                for (from, to) in [
                    (client.try_clone().unwrap(), origin.try_clone().unwrap()),
                    (origin, client),
                ] {
                    let link = Arc::clone(&link);
                    std::thread::spawn(move || {
                        let _ = pump(from, to, &link);
                    });
                }
            }
        });
        Self { port, state }
    }

    pub fn accepted(&self) -> usize {
        self.state.accepted.load(Relaxed)
    }

    /// From here on nothing goes through the connections that there are, and nothing is read from
    /// them.
    pub fn silence(&self) {
        for link in &*self.state.links.lock().unwrap() {
            link.silent.store(true, Relaxed);
        }
        // A pump looks at it at least so often.
        std::thread::sleep(TURN * 2);
    }

    /// How many connections mtlsd has not closed.
    pub fn open(&self) -> usize {
        let links = self.state.links.lock().unwrap();
        links.iter().filter(|link| !is_closed(&link.client)).count()
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, link: &Link) -> io::Result<()> {
    from.set_read_timeout(Some(TURN))?;
    let mut piece = [0; 16 * 1024];
    loop {
        if link.silent.load(Relaxed) {
            // Held open.
            std::thread::sleep(Duration::from_secs(60));
            return Ok(());
        }
        match from.read(&mut piece) {
            Ok(0) => return to.shutdown(Shutdown::Write),
            Ok(count) => to.write_all(&piece[..count])?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                let _ = to.shutdown(Shutdown::Both);
                return Err(error);
            }
        }
    }
}

/// Whether the other side has closed, or reset, a connection that nobody reads from.
fn is_closed(stream: &TcpStream) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::RDHUP)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

const TURN: Duration = Duration::from_millis(10);
