//! `--keylog`: TLS session keys for Wireshark, and the variable that does not do it.

use std::path::Path;

use crate::tls;

use super::usage::UsageError;

/// Starts writing session keys to `file`, if one is named, and warns about that on stderr, and of a
/// variable that other programs heed. Nothing is printed unless `speaks`.
///
/// # Errors
///
/// Returns [`UsageError`] if the file cannot be written.
pub fn start(file: Option<&Path>, speaks: bool) -> Result<(), UsageError> {
    if let Some(file) = file {
        open(file)?;
    }
    if speaks {
        for warning in warnings(file) {
            eprintln!("mtlsd: warning: {warning}");
        }
    }
    Ok(())
}

/// Starts writing session keys to `file`.
///
/// # Errors
///
/// Returns [`UsageError`] if the file cannot be written.
pub fn open(file: &Path) -> Result<(), UsageError> {
    tls::log_keys(file).map_err(|error| {
        UsageError::bare(format!(
            "--keylog: cannot write {}: {error}",
            file.display()
        ))
    })
}

/// What the user has to know.
pub fn warnings(file: Option<&Path>) -> Vec<String> {
    let written = file.map(|file| {
        format!(
            "TLS session keys are written to {}: whoever reads it can decrypt the traffic; use it \
             for debugging only, and delete it",
            file.display()
        )
    });
    let is_set = std::env::var_os(VARIABLE).is_some_and(|value| !value.is_empty());
    let ignored = is_set.then(|| {
        format!("{VARIABLE} in the environment is ignored; --keylog FILE writes session keys")
    });
    written.into_iter().chain(ignored).collect()
}

/// What browsers and curl heed.
const VARIABLE: &str = "SSLKEYLOGFILE";
