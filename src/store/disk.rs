//! Writing so that nothing is ever half there: not for others, not after a crash, not after a loss
//! of power.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::process::geteuid;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::config::CertificateId;

use super::StoreError;

/// The right to write to the store. The system takes it back when the process ends, however that
/// comes about.
pub struct Lock {
    directory: PathBuf,
    // To be told when a change to the directory has to last.
    handle: File,
    owner: Option<(u32, u32)>,
    _file: File,
}

impl Lock {
    /// Waits until nobody else writes to the store in `directory`, which is made if need be.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made or written to, or another writer takes too long.
    pub fn take(directory: &Path) -> io::Result<Self> {
        make(directory)?;
        let handle = File::open(directory)?;
        let metadata = handle.metadata()?;
        // What root writes for a daemon that is another user must be that user's to read.
        let owner =
            (geteuid().is_root() && metadata.uid() != 0).then(|| (metadata.uid(), metadata.gid()));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(directory.join("lock"))?;
        hand_over(&file, owner)?;
        wait_for(&file)?;
        Ok(Self {
            directory: directory.to_owned(),
            handle,
            owner,
            _file: file,
        })
    }
}

/// Makes the store's directory, and those above it.
fn make(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent().filter(|parent| *parent != Path::new("")) {
        make(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        result => result?,
    }
    let parent = match directory.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    File::open(parent)?.sync_all()
}

fn wait_for(file: &File) -> io::Result<()> {
    let deadline = Instant::now() + LONGEST_WAIT;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                sleep(Duration::from_millis(5));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("another program has been writing to it for {LONGEST_WAIT:?}"),
                ));
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn hand_over(file: &File, owner: Option<(u32, u32)>) -> io::Result<()> {
    match owner {
        Some((user, group)) => fchown(file, Some(user), Some(group)),
        None => Ok(()),
    }
}

/// Puts a file with this content at `path`, in place of the one before. Whoever looks sees one of
/// the two, whole; after the return it stays, whatever happens.
///
/// # Errors
///
/// When the system refuses; then the file before is still in place, or the new one whole.
pub fn write(lock: &Lock, path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    let written = hand_over(&file, lock.owner)
        .and_then(|()| file.write_all(content))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // What cannot be removed now is swept away by the next writer.
        let _ = fs::remove_file(&new);
    }
    written?;
    lock.handle.sync_all()
}

/// Removes the file at `path` for good.
///
/// # Errors
///
/// When it is not there, or the system refuses.
pub fn remove(lock: &Lock, path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    lock.handle.sync_all()
}

/// Removes what writers left that did not live to the end of their work: nobody else writes now.
///
/// # Errors
///
/// When the system refuses.
pub fn sweep(lock: &Lock) -> io::Result<()> {
    for file in fs::read_dir(&lock.directory)? {
        let path = file?.path();
        let is_ours = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .is_some_and(|stem| CertificateId::parse(stem).is_some());
        if is_ours && path.extension().is_some_and(|extension| extension == "new") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// An id that nobody has.
///
/// # Errors
///
/// When the system has no random numbers.
pub fn random_id() -> Result<CertificateId, StoreError> {
    let mut bytes = [0; 16];
    // So few bytes come all at once, or not at all (getrandom(2)).
    getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|error| StoreError::NoRandom(error.into()))?;
    Ok(CertificateId::from_random(bytes))
}

/// Writing takes milliseconds; whoever takes longer has been stopped.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
