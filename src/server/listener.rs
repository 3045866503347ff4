//! Listening sockets: one per address, so that a second mtlsd on a taken port is an error and
//! closing a socket resets nobody that another one could serve.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::config::Listen;

use super::unix::{self, SocketFile};

/// One listening socket, not blocking.
#[derive(Debug)]
pub enum Listener {
    /// On an address.
    Tcp(TcpListener, SocketAddr),
    /// In the file system; the file goes with it.
    Unix(UnixListener, SocketFile),
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program listens there.
    #[error("{0} is taken: another program listens there")]
    Taken(String),
    /// The path is in use by something that is no socket.
    #[error("{} exists and is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// Anything else.
    #[error("cannot listen on {address}")]
    Failed {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Binds what `listen` stands for: one socket, or for `localhost` one for each family that this
/// machine has.
///
/// # Errors
///
/// When an address cannot be bound.
pub fn bind(listen: &Listen) -> Result<Vec<Listener>, BindError> {
    match listen {
        Listen::Unix(path) => Ok(vec![bind_path(path)?]),
        Listen::Tcp(address) => Ok(vec![bind_tcp(*address, false)?]),
        Listen::Localhost(port) => bind_localhost(*port),
    }
}

/// Binds one address. `shared` is whether a socket of this process that overlaps with it is still
/// open, and allows that (see [`Listener::share_port`]).
///
/// # Errors
///
/// Returns a [`BindError`] if the address cannot be bound.
pub fn bind_address(address: SocketAddr, shared: bool) -> Result<Listener, BindError> {
    let listener = bind_tcp(address, shared)?;
    listener.share_port(false);
    Ok(listener)
}

/// Binds a unix socket.
///
/// # Errors
///
/// Returns a [`BindError`] if the path cannot be bound.
pub fn bind_path(path: &Path) -> Result<Listener, BindError> {
    let (listener, file) = unix::bind(path)?;
    Ok(Listener::Unix(listener, file))
}

fn bind_localhost(port: u16) -> Result<Vec<Listener>, BindError> {
    let mut tries = if port == 0 { TRIES } else { 1 };
    loop {
        tries -= 1;
        match bind_both(port) {
            // The port that one family was given may be taken on the other.
            Err(BindError::Taken(_)) if tries > 0 => {}
            bound => return bound,
        }
    }
}

fn bind_both(port: u16) -> Result<Vec<Listener>, BindError> {
    let v4 = SocketAddr::from(([127, 0, 0, 1], port));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let first = match bind_tcp(v4, false) {
        Ok(listener) => listener,
        Err(error) if error.family_is_missing() => return Ok(vec![bind_tcp(v6, false)?]),
        Err(error) => return Err(error),
    };
    // With port 0 both families get the port that the first one was given.
    let port = first.address().map_or(port, |address| address.port());
    match bind_tcp(SocketAddr::from((Ipv6Addr::LOCALHOST, port)), false) {
        Ok(second) => Ok(vec![first, second]),
        Err(error) if error.family_is_missing() => Ok(vec![first]),
        Err(error) => Err(error),
    }
}

fn bind_tcp(address: SocketAddr, shared: bool) -> Result<Listener, BindError> {
    let listener = tcp_socket(address, shared).map_err(|source| failed(address, source))?;
    let bound = listener.local_addr().unwrap_or(address);
    Ok(Listener::Tcp(listener, bound))
}

/// Finds out whether `address` could be bound. Nobody can connect meanwhile.
pub(super) fn try_bind(address: SocketAddr) -> Result<(), BindError> {
    bound_socket(address, false)
        .map(drop)
        .map_err(|source| failed(address, source))
}

fn failed(address: SocketAddr, source: io::Error) -> BindError {
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::Taken(address.to_string()),
        _ => BindError::Failed {
            address: address.to_string(),
            source,
        },
    }
}

fn tcp_socket(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = bound_socket(address, shared)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bound_socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Lets a restart bind while connections of the last run are in TIME_WAIT; on Linux a second
    // listener is refused all the same.
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

impl Listener {
    /// The address it was bound to; `None` for a unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(_, address) => Some(*address),
            Self::Unix(..) => None,
        }
    }

    /// Sets whether another socket of this user may be bound to an overlapping address. Allowed for
    /// moments only: otherwise a second mtlsd would take half of the connections, unnoticed.
    pub fn share_port(&self, allowed: bool) {
        if let Self::Tcp(socket, _) = self
            && let Err(error) = SockRef::from(socket).set_reuse_port(allowed)
        {
            tracing::warn!(listener = %self, %error, "cannot set SO_REUSEPORT");
        }
    }

    /// How curl is told to use it.
    pub fn curl(&self) -> String {
        match self {
            Self::Tcp(_, address) if address.ip().is_unspecified() => {
                format!("curl http://localhost:{}/", address.port())
            }
            Self::Tcp(_, address) => format!("curl http://{address}/"),
            Self::Unix(_, file) => {
                format!(
                    "curl --unix-socket {} http://localhost/",
                    file.path().display()
                )
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener, _) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl std::os::fd::AsRawFd for Listener {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(_, address) => address.fmt(f),
            Self::Unix(_, file) => write!(f, "unix:{}", file.path().display()),
        }
    }
}

impl BindError {
    /// Whether the machine has no such address family.
    pub fn family_is_missing(&self) -> bool {
        let Self::Failed { source, .. } = self else {
            return false;
        };
        source.kind() == io::ErrorKind::AddrNotAvailable
            || source.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
    }
}

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Ports that are tried for both families of `localhost:0`.
const TRIES: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_binds_one_port_on_every_family_there_is() {
        let listeners = bind(&Listen::Localhost(0)).unwrap();
        let ports: Vec<_> = listeners
            .iter()
            .map(|l| l.address().unwrap().port())
            .collect();
        assert!(
            ports.iter().all(|port| *port == ports[0] && *port != 0),
            "{ports:?}"
        );
    }

    #[test]
    fn a_taken_port_is_an_error_that_names_it() {
        let first = bind(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        let address = first[0].address().unwrap();
        let error = bind(&Listen::Tcp(address)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{address} is taken: another program listens there")
        );
    }
}
