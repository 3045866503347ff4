//! TCP to the first of several addresses that takes a connection, and what a failure of that means.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::error::{Exhausted, Failure, ForwardError};

type Attempt = Pin<Box<dyn Future<Output = (SocketAddr, io::Result<TcpStream>)>>>;

/// Connects to whichever address answers first, starting the next attempt when one fails or has
/// not answered for a quarter of a second (RFC 8305 section 5).
pub async fn first_of(addresses: Vec<SocketAddr>) -> Result<(TcpStream, SocketAddr), ForwardError> {
    let mut left = addresses.into_iter();
    let mut running: Vec<Attempt> = Vec::new();
    let mut first = None;
    loop {
        let started = left.next();
        if let Some(address) = started {
            running.push(Box::pin(async move {
                (address, TcpStream::connect(address).await)
            }));
        }
        let more = left.len() > 0;
        let mut stagger = Box::pin(sleep(STAGGER));
        let step = poll_fn(|cx| {
            let mut at = 0;
            while at < running.len() {
                match running[at].as_mut().poll(cx) {
                    Poll::Ready((address, Ok(stream))) => {
                        return Poll::Ready(Some(Ok((stream, address))));
                    }
                    Poll::Ready((address, Err(error))) => {
                        drop(running.swap_remove(at));
                        return Poll::Ready(Some(Err(failed(address, &error))));
                    }
                    Poll::Pending => at += 1,
                }
            }
            match more && stagger.as_mut().poll(cx).is_ready() {
                true => Poll::Ready(None),
                false => Poll::Pending,
            }
        });
        match step.await {
            Some(Ok(connected)) => return Ok(connected),
            Some(Err(error)) => {
                // The first failure is that of the address the system prefers.
                let first = first.get_or_insert(error);
                if running.is_empty() && !more {
                    return Err(first.clone());
                }
            }
            None => {}
        }
    }
}

/// Why there is no connection to `address`.
pub fn failed(address: SocketAddr, error: &io::Error) -> ForwardError {
    let exhausted = match Errno::from_io_error(error) {
        Some(Errno::ADDRNOTAVAIL) if has_source(address) => Some(Exhausted::Ports),
        _ => Exhausted::of(error),
    };
    exhausted.map_or_else(
        || ForwardError::Dial(address, Failure::Io(error.kind())),
        ForwardError::Exhausted,
    )
}

/// Whether this machine has an address to reach `address` from. If it has, and TCP finds none, then
/// TCP lacks a port. Nothing is sent.
fn has_source(address: SocketAddr) -> bool {
    let any = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    UdpSocket::bind(any).is_ok_and(|socket| socket.connect(address).is_ok())
}

const STAGGER: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_next_address_is_tried_when_one_refuses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let closed = {
            let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            gone.local_addr().unwrap()
        };
        let (_, reached) = first_of(vec![closed, open]).await.unwrap();
        assert_eq!(reached, open);
        let error = first_of(vec![closed, closed]).await.unwrap_err();
        assert_eq!(
            error,
            ForwardError::Dial(closed, Failure::Io(io::ErrorKind::ConnectionRefused))
        );
    }

    #[test]
    fn a_limit_of_this_machine_is_told_from_a_failure_of_the_connection() {
        let local: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let cases = [
            (Errno::MFILE, "file_descriptors"),
            (Errno::NFILE, "system_file_descriptors"),
            (Errno::NOBUFS, "socket_memory"),
            (Errno::NOMEM, "socket_memory"),
            (Errno::ADDRNOTAVAIL, "local_ports"),
        ];
        for (errno, cause) in cases {
            let error = failed(local, &io::Error::from(errno));
            assert_eq!(error.status(), 503, "{error}");
            match error {
                ForwardError::Exhausted(limit) => assert_eq!(limit.cause(), cause),
                other => panic!("{errno}: {other}"),
            }
        }
        let refused = failed(local, &io::Error::from(Errno::CONNREFUSED));
        assert_eq!(
            refused,
            ForwardError::Dial(local, Failure::Io(io::ErrorKind::ConnectionRefused))
        );
    }
}
