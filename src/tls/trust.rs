//! Whom to believe about an origin: sets of certificate authorities.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;

use super::error::{Input, LoadError};
use super::pem;

/// The authorities in a PEM bundle.
///
/// # Errors
///
/// When one of them cannot be read: an authority that is silently missing is found out in the
/// middle of the night.
pub fn bundle(path: &Path, bytes: &[u8]) -> Result<Arc<RootCertStore>, LoadError> {
    let mut roots = RootCertStore::empty();
    for (at, certificate) in pem::certificates(Input::Ca, path, bytes)?
        .into_iter()
        .enumerate()
    {
        roots.add(certificate).map_err(|error| LoadError::Damaged {
            input: Input::Ca,
            path: path.to_owned(),
            reason: format!("certificate {} in it is no authority: {error}", at + 1),
        })?;
    }
    Ok(Arc::new(roots))
}

/// The authorities of this machine, as `SSL_CERT_FILE`, `SSL_CERT_DIR` or the usual places have
/// them. Read once: they are large, and change with the system's packages.
///
/// # Errors
///
/// When there are none.
pub fn system() -> Result<Arc<RootCertStore>, LoadError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(Arc::clone(roots));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some systems carry authorities that webpki does not understand; the others count.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(LoadError::NoSystemRoots {
            detail: found.errors.first().map(ToString::to_string),
        });
    }
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(roots))))
}

/// Mozilla's list, as it was when mtlsd was built.
pub fn mozilla() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let list = || RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    Arc::clone(ROOTS.get_or_init(|| Arc::new(list())))
}
