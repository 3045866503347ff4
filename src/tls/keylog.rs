//! Session keys in the format of NSS (SSLKEYLOGFILE), for debugging with Wireshark.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use data_encoding::HEXLOWER;
use rustls::KeyLog;

/// Writes the session keys of every connection from now on to the file at `path`, behind what it
/// holds. A new file is readable by its owner only.
///
/// # Errors
///
/// Returns an error if the file cannot be opened.
pub fn log_keys(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    // The first one stays: there is one command line.
    let _ = LOG.set(Arc::new(KeyFile(Mutex::new(file))));
    Ok(())
}

/// Where session keys go, if anywhere.
pub(super) fn key_log() -> Option<Arc<dyn KeyLog>> {
    let log = Arc::clone(LOG.get()?);
    Some(log)
}

static LOG: OnceLock<Arc<KeyFile>> = OnceLock::new();

struct KeyFile(Mutex<File>);

impl KeyLog for KeyFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let random = HEXLOWER.encode(client_random);
        let line = format!("{label} {random} {}\n", HEXLOWER.encode(secret));
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk must not end connections.
        let _ = file.write_all(line.as_bytes());
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyFile")
    }
}
