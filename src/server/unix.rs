//! Unix sockets: who may connect, what is stale, and whose file it is at the end.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use super::listener::BindError;

/// The file of a listening socket. It is removed when this is dropped, unless another process has
/// put its own in the place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    // Device and inode: what tells our file from another of the same name.
    identity: Option<(u64, u64)>,
}

/// Binds a socket at `path`, with mode 0660 from the moment it can be connected to. A socket file
/// that nobody listens on is replaced.
pub fn bind(path: &Path) -> Result<(UnixListener, SocketFile), BindError> {
    let failed = |source| BindError::Failed {
        address: format!("unix:{}", path.display()),
        source,
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Two that start at once must not both find the file stale, and a socket that is bound and
    // does not listen yet must not look stale: the directory is locked until it listens.
    let lock = lock(directory);
    clear(path)?;
    let listener = listen(path).map_err(failed)?;
    drop(lock);
    let file = SocketFile {
        path: path.to_owned(),
        identity: identity(path),
    };
    Ok((listener, file))
}

/// Finds out whether a socket could be bound at `path`: nothing else is there, nobody listens, and
/// its directory can be written to.
pub fn try_bind(path: &Path) -> Result<(), BindError> {
    let failed = |source| BindError::Failed {
        address: format!("unix:{}", path.display()),
        source,
    };
    SockAddr::unix(path).map_err(failed)?;
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) if is_live(path).unwrap_or(false) => {
            return Err(BindError::Taken(format!("unix:{}", path.display())));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let allowed = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(directory, allowed).map_err(|errno| failed(errno.into()))
}

fn clear(path: &Path) -> Result<(), BindError> {
    let failed = |source| BindError::Failed {
        address: format!("unix:{}", path.display()),
        source,
    };
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !kind.is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match is_live(path) {
        Ok(false) => fs::remove_file(path).map_err(failed),
        Ok(true) => Err(BindError::Taken(format!("unix:{}", path.display()))),
        Err(error) => Err(failed(error)),
    }
}

/// Locks a directory for as long as the result lives. Everyone who can read the directory can hold
/// this lock; another mtlsd does for a moment, so whoever does for longer is not waited for.
fn lock(directory: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(directory, flags, Mode::empty());
    let locked = opened.and_then(|opened| {
        let until = Instant::now() + LONGEST_LOCK;
        loop {
            match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                result => return result.map(|()| opened),
            }
        }
    });
    locked
        .inspect_err(|errno| {
            let (directory, error) = (directory.display(), io::Error::from(*errno));
            tracing::warn!(%directory, %error, "cannot lock a socket's directory; going on without");
        })
        .ok()
}

/// Returns `true` if a program listens on the socket at `path`.
fn is_live(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A program that accepts nothing would let us wait for ever.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock => Ok(true),
            io::ErrorKind::ConnectionRefused => Ok(false),
            _ => Err(error),
        },
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody can connect before `listen`.
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    socket.listen(1024)?;
    Ok(socket.into())
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl SocketFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file, if it is still ours, so that nobody can connect any more.
    pub fn remove(&mut self) {
        if self.identity.is_some() && self.identity == identity(&self.path) {
            // Whoever cleans the directory up at the same time has done it for us.
            let _ = fs::remove_file(&self.path);
        }
        self.identity = None;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A start holds the lock for less than a millisecond.
const LONGEST_LOCK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_another_user_holds_keeps_nobody_from_binding() {
        let directory = tempfile::tempdir().unwrap();
        let held = fs::File::open(directory.path()).unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        let start = Instant::now();
        bind(&directory.path().join("a.sock")).unwrap();
        assert!(start.elapsed() < LONGEST_LOCK * 3, "{:?}", start.elapsed());
        // And those that start at once take turns.
        drop(held);
        let path = directory.path().join("b.sock");
        let bound: usize = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| bind(&path).ok())).collect();
            let bound: Vec<_> = starts
                .into_iter()
                .map(|start| start.join().unwrap())
                .collect();
            bound.iter().flatten().count()
        });
        assert_eq!(bound, 1);
    }

    #[test]
    fn a_program_that_accepts_nothing_has_the_socket_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(1).unwrap();
        // Fills its queue.
        let waiting: Vec<_> = (0..8)
            .map(|_| {
                let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
                client.set_nonblocking(true).unwrap();
                let _ = client.connect(&SockAddr::unix(&path).unwrap());
                client
            })
            .collect();
        let error = bind(&path).unwrap_err();
        assert!(error.to_string().contains("is taken"), "{error}");
        drop(waiting);
    }

    #[test]
    fn the_file_has_mode_0660_and_goes_with_the_listener() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let bound = bind(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o660
        );
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_file_is_replaced_and_a_live_one_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves the file");
        let _live = bind(&path).unwrap();
        let error = bind(&path).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "unix:{} is taken: another program listens there",
                path.display()
            )
        );
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes.txt");
        fs::write(&path, "mine").unwrap();
        let error = bind(&path).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} exists and is not a socket", path.display())
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn another_process_s_file_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let ours = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let theirs = UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(path.exists());
        drop(theirs);
    }
}
