//! Why an address cannot be bound, who has it, and what to do about it.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::access::{self, Use};
use crate::config::Listen;

use super::listener::{self, BindError};
use super::unix;

/// Finds out whether `listen` could be bound, without serving anybody meanwhile.
///
/// # Errors
///
/// Returns the error that binding it would meet now.
pub fn try_bind(listen: &Listen) -> Result<(), BindError> {
    match listen {
        Listen::Unix(path) => unix::try_bind(path),
        Listen::Localhost(port) => {
            let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
            let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, *port));
            match (listener::try_bind(v4), listener::try_bind(v6)) {
                (Err(error), Ok(())) | (Ok(()), Err(error)) if error.family_is_missing() => Ok(()),
                (Err(error), other) => match error.family_is_missing() {
                    true => other,
                    false => Err(error),
                },
                (Ok(()), other) => other,
            }
        }
        Listen::Tcp(address) => listener::try_bind(*address),
    }
}

/// A process that listens on an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// The name of its program, at most 15 bytes of it.
    pub name: String,
    /// Its process id.
    pub pid: u32,
}

impl BindError {
    /// The process that has the address, as far as this user may know.
    pub fn holder(&self) -> Option<Holder> {
        let Self::Taken(address) = self else {
            return None;
        };
        holder(address.parse().ok()?)
    }

    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Taken(address) => Some(match (self.holder(), address.parse::<SocketAddr>()) {
                (Some(Holder { name, pid }), _) => {
                    format!("{name} (pid {pid}) listens there: stop it, or choose another address")
                }
                (None, Ok(address)) => format!(
                    "choose another port; `ss -ltnp 'sport = :{}'` as root shows the program",
                    address.port()
                ),
                (None, Err(_)) => "stop that program, or choose another path".to_owned(),
            }),
            Self::NotASocket(path) => Some(format!(
                "choose another path; mtlsd replaces only sockets, not {}",
                path.display()
            )),
            Self::Failed { address, source } => match address.strip_prefix("unix:") {
                Some(path) => access::help(Path::new(path), Use::Create, source),
                None => unbindable(address.parse().ok()?, source),
            },
        }
    }
}

/// What to do where the system does not let an address be bound.
fn unbindable(address: SocketAddr, error: &io::Error) -> Option<String> {
    let code = error.raw_os_error()?;
    if error.kind() == io::ErrorKind::PermissionDenied {
        let first = first_unprivileged();
        return Some(match address.port() < first {
            true => format!(
                "ports below {first} need the capability CAP_NET_BIND_SERVICE: choose a port from \
                 {first} up, or grant it (in a systemd unit AmbientCapabilities=CAP_NET_BIND_SERVICE, \
                 for a container --sysctl net.ipv4.ip_unprivileged_port_start=0)"
            ),
            false => {
                "AppArmor, SELinux or a seccomp filter forbids it: see journalctl -k".to_owned()
            }
        });
    }
    if error.kind() == io::ErrorKind::AddrNotAvailable {
        return Some(format!(
            "no network interface of this machine has the address {}: `ip address` lists them",
            address.ip()
        ));
    }
    (code == Errno::AFNOSUPPORT.raw_os_error()).then(|| {
        "this machine or this unit (RestrictAddressFamilies=) has no such address family".to_owned()
    })
}

fn first_unprivileged() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024)
}

/// Finds the process that listens where it keeps `address` from being bound.
fn holder(address: SocketAddr) -> Option<Holder> {
    let table = match address {
        SocketAddr::V4(_) => "/proc/net/tcp",
        SocketAddr::V6(_) => "/proc/net/tcp6",
    };
    let table = fs::read_to_string(table).ok()?;
    let inodes: Vec<PathBuf> = table
        .lines()
        .skip(1)
        .filter_map(|line| listening(line, address))
        .map(|inode| PathBuf::from(format!("socket:[{inode}]")))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter_map(|process| Some((process.file_name().to_str()?.parse().ok()?, process.path())))
        .find(|(_, path)| {
            let descriptors = fs::read_dir(path.join("fd"))
                .into_iter()
                .flatten()
                .flatten();
            descriptors
                .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
                .any(|target| inodes.contains(&target))
        })
        .and_then(|(pid, path)| {
            let name = fs::read_to_string(path.join("comm")).ok()?;
            let name = name.trim().to_owned();
            Some(Holder { name, pid })
        })
}

/// The inode of a line of /proc/net/tcp, if it is a listener that is in the way of `address`.
fn listening(line: &str, address: SocketAddr) -> Option<&str> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (ip, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let ip = from_hex(ip)?;
    let same = ip == address.ip() || ip.is_unspecified() || address.ip().is_unspecified();
    (*state == LISTEN && port == address.port() && same).then_some(inode)
}

/// An address as /proc/net writes it: words of 32 bits in the order of this machine.
fn from_hex(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = text.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match text.len() {
        8 => Some(IpAddr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Some(IpAddr::from(bytes))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_program_that_has_a_port_is_named() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else {
                continue;
            };
            let address = listener.local_addr().unwrap();
            let error = try_bind(&Listen::Tcp(address)).unwrap_err();
            assert!(matches!(error, BindError::Taken(_)), "{error}");
            let holder = error.holder().unwrap();
            assert_eq!(holder.pid, std::process::id());
            let help = error.help().unwrap();
            assert!(
                help.starts_with(&format!("{} (pid {})", holder.name, holder.pid)),
                "{help}"
            );
            drop(listener);
            try_bind(&Listen::Tcp(address)).unwrap();
        }
    }

    #[test]
    fn an_address_of_no_interface_is_explained() {
        let address = "192.0.2.1:8001".parse().unwrap();
        let error = try_bind(&Listen::Tcp(address)).unwrap_err();
        assert!(
            error
                .help()
                .unwrap()
                .contains("no network interface of this machine has the address 192.0.2.1"),
            "{error}"
        );
    }

    #[test]
    fn a_privileged_port_is_explained() {
        let denied = io::Error::from_raw_os_error(Errno::ACCESS.raw_os_error());
        let help = unbindable("127.0.0.1:1".parse().unwrap(), &denied);
        match first_unprivileged() {
            0 | 1 => {}
            first => assert!(
                help.unwrap()
                    .starts_with(&format!("ports below {first} need the capability"))
            ),
        }
    }
}
