//! Unix sockets: who may connect, what is stale, and whose file it is at the end.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
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
    let lock = File::open(directory).map_err(failed)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
    clear(path)?;
    let listener = listen(path).map_err(failed)?;
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
        Ok(_) if UnixStream::connect(path).is_ok() => {
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
    // As `bind` opens it, to lock it.
    File::open(directory).map_err(failed)?;
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
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
        Ok(_) => Err(BindError::Taken(format!("unix:{}", path.display()))),
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

#[cfg(test)]
mod tests {
    use super::*;

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
