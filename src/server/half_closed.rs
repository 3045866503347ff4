//! Tells a client that has closed its side of the connection, and waits for the response, from one that
//! is gone: both look the same on the connection. For clients on this machine the kernel knows.

use std::cell::Cell;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Whether the client at `peer`, which is connected to `local`, still has its socket. Clients on other
/// machines get the benefit of the doubt.
pub fn is_open(peer: SocketAddr, local: SocketAddr) -> bool {
    if !peer.ip().to_canonical().is_loopback() && peer.ip() != local.ip() {
        return true;
    }
    let began = Instant::now();
    let budget = match BUDGET.get() {
        Some((left, at)) => MOST.min(left + began.duration_since(at) / 5),
        None => MOST,
    };
    if budget.is_zero() {
        return false;
    }
    let found = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .into_iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|table| inode(&table, peer, local));
    let ended = Instant::now();
    BUDGET.set(Some((budget.saturating_sub(ended - began), ended)));
    found.is_some_and(|inode| inode != 0)
}

/// The inode of the socket between these addresses; 0 if no process has it.
fn inode(table: &str, from: SocketAddr, to: SocketAddr) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let ends = (address(fields.next()?)?, address(fields.next()?)?);
        let same = |one: SocketAddr, other: SocketAddr| {
            one.port() == other.port() && one.ip().to_canonical() == other.ip().to_canonical()
        };
        (same(ends.0, from) && same(ends.1, to))
            .then(|| fields.nth(6)?.parse().ok())
            .flatten()
    })
}

/// Reads an address such as `0100007F:1F90`: words in the byte order of the machine, and a port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = ip.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for at in 0..4 {
                bytes[at * 4..at * 4 + 4].copy_from_slice(&word(at)?);
            }
            IpAddr::from(bytes)
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

thread_local! {
    // How long lookups may still take, and since when. Clients decide how often they happen, so they get
    // a fifth of the time; beyond that, a client that closes its side is taken for gone.
    static BUDGET: Cell<Option<(Duration, Instant)>> = const { Cell::new(None) };
}

/// The longest that lookups may take in a row.
const MOST: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_client_that_closes_its_side_is_open_until_it_closes_the_socket() {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(bind) else {
                continue;
            };
            let local = listener.local_addr().unwrap();
            let client = TcpStream::connect(local).unwrap();
            let (_accepted, peer) = listener.accept().unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            assert!(is_open(peer, local), "{bind}");
            drop(client);
            assert!(!is_open(peer, local), "{bind}");
        }
    }
}
