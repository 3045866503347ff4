//! Memory: who hands it out, giving it back, and keeping it out of core files; and the send queue of
//! a socket. Nothing else in mtlsd is `unsafe`.
//!
//! mimalloc in place of glibc's allocator took 3 % off the CPU time of a small request, and keeps what
//! is short-lived apart from what stays: a thousand idle clients hold 2.8 KiB each in place of 7.5.
//! Transparent huge pages would take off another 4 %, and add 10 MB at rest: they are not asked for.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mimalloc::MiMalloc;
use rustix::ioctl::{Getter, Opcode, ioctl};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Keeps keys and request bodies out of core files, and other processes of the same user from
/// reading the memory of this one with ptrace(2).
pub fn forbid_core_dumps() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // mtlsd is as useful where the system does not know these.
    let _ = setrlimit(Resource::Core, none);
    // A debug build stays open to debuggers, and to the tests, which look at it as an ordinary user.
    if !cfg!(debug_assertions) {
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}

/// Gives memory that this thread has freed back to the system, which otherwise happens only while
/// more is being freed.
pub fn give_memory_back() {
    // SAFETY: mi_collect may be called by every thread at any time; it touches nothing but free
    // memory.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Lets the send queue of a socket be read while another owner uses the socket.
#[derive(Debug, Default)]
pub struct Observer(Mutex<Option<RawFd>>);

/// What a socket has not delivered yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SendQueue {
    /// Bytes that the peer has not acknowledged, sent or not.
    pub unacknowledged: u64,
    /// Bytes of those that were not sent, because the peer has closed its window.
    pub unsent: u64,
}

impl Observer {
    /// Observes `socket` from now on. Its owner has to call [`Observer::forget`] before it closes the
    /// socket.
    pub fn watch(&self, socket: &impl AsRawFd) {
        *self.socket() = Some(socket.as_raw_fd());
    }

    /// Stops observing.
    pub fn forget(&self) {
        *self.socket() = None;
    }

    /// The send queue; `None` once the socket is closed, or where the system does not tell.
    pub fn send_queue(&self) -> Option<SendQueue> {
        let socket = self.socket();
        // SAFETY: the owner of the socket calls `forget`, which waits for the lock, before it closes
        // the socket.
        let fd = unsafe { BorrowedFd::borrow_raw((*socket)?) };
        Some(SendQueue {
            unacknowledged: bytes::<SIOCOUTQ>(fd)?,
            unsent: bytes::<SIOCOUTQNSD>(fd)?,
        })
    }

    fn socket(&self) -> MutexGuard<'_, Option<RawFd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes<const REQUEST: Opcode>(socket: BorrowedFd<'_>) -> Option<u64> {
    if !cfg!(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64",
        target_arch = "s390x",
        target_arch = "loongarch64",
        target_arch = "arm",
        target_arch = "x86"
    )) {
        // The numbers differ elsewhere.
        return None;
    }
    // SAFETY: both requests write one int (tcp(7), linux/sockios.h).
    let bytes = unsafe { ioctl(socket, Getter::<REQUEST, i32>::new()) }.ok()?;
    u64::try_from(bytes).ok()
}

/// Bytes in the send queue.
const SIOCOUTQ: Opcode = 0x5411;
/// Bytes in the send queue that were never sent.
const SIOCOUTQNSD: Opcode = 0x894b;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_send_queue_is_read_until_its_socket_is_forgotten() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let observer = Observer::default();
        assert_eq!(observer.send_queue(), None);
        observer.watch(&stream);
        // Nobody reads: at some time neither buffer has room.
        let mut written = 0;
        while let Ok(more) = stream.write(&[0; 64 * 1024]) {
            written += more as u64;
        }
        let queue = observer.send_queue().unwrap();
        assert!(
            queue.unsent > 0 && queue.unsent <= queue.unacknowledged,
            "{queue:?}"
        );
        assert!(queue.unacknowledged < written, "{queue:?} of {written}");
        observer.forget();
        assert_eq!(observer.send_queue(), None);
    }
}
