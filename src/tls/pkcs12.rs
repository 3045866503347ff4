//! PKCS#12 files (RFC 7292), often called .p12 or .pfx.

use std::path::Path;

use p12_keystore::error::Error;
use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::error::{Input, LoadError};
use super::unusable::Unusable;

/// Whether `bytes` look like one: a SEQUENCE that begins with the version 3.
pub fn is_pkcs12(bytes: &[u8]) -> bool {
    let content = match bytes {
        [0x30, 0x80, rest @ ..] => rest,
        [0x30, length @ 0x81..=0x84, rest @ ..] => {
            rest.get(usize::from(length - 0x80)..).unwrap_or_default()
        }
        [0x30, _, rest @ ..] => rest,
        _ => return false,
    };
    content.starts_with(&[0x02, 0x01, 0x03])
}

/// The key in a file, and the certificates beside it.
///
/// # Errors
///
/// When the password is wrong, the file is damaged, or it is encrypted in a way that is not
/// supported.
pub fn open(
    path: &Path,
    bytes: &[u8],
    password: Option<&[u8]>,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), LoadError> {
    let text =
        str::from_utf8(password.unwrap_or_default()).map_err(|_| LoadError::WrongPassword {
            path: path.to_owned(),
        })?;
    let store = KeyStore::from_pkcs12(bytes, text, Pkcs12ImportPolicy::Relaxed)
        .map_err(|error| refusal(path, password.is_some(), &error))?;
    let (_, chain) = store
        .private_key_chain()
        .ok_or_else(|| LoadError::Unusable {
            input: Input::Certificate,
            path: path.to_owned(),
            form: Unusable::Pkcs12WithoutKey,
        })?;
    let certificates: Vec<_> = chain
        .certs()
        .iter()
        .map(|certificate| CertificateDer::from(certificate.as_der().to_vec()))
        .collect();
    if certificates.is_empty() {
        return Err(LoadError::Unusable {
            input: Input::Certificate,
            path: path.to_owned(),
            form: Unusable::Pkcs12WithoutKey,
        });
    }
    let key = PrivatePkcs8KeyDer::from(chain.key().as_der().to_vec());
    Ok((certificates, key.into()))
}

fn refusal(path: &Path, has_password: bool, error: &Error) -> LoadError {
    let path = path.to_owned();
    match error {
        // The checksum depends on the password, and so does everything inside.
        Error::MacError(_) | Error::UnpadError | Error::Pkcs5Error(_) if has_password => {
            LoadError::WrongPassword { path }
        }
        Error::MacError(_) | Error::UnpadError | Error::Pkcs5Error(_) => {
            LoadError::Encrypted { path }
        }
        Error::UnsupportedEncryptionScheme | Error::UnsupportedMacAlgorithm => {
            LoadError::Unusable {
                input: Input::Certificate,
                path,
                form: Unusable::Pkcs12Scheme,
            }
        }
        error => LoadError::Damaged {
            input: Input::Certificate,
            path,
            reason: format!("as PKCS#12: {error}"),
        },
    }
}

/// Whether `bytes` are one certificate without PEM around it.
pub fn is_der_certificate(bytes: &[u8]) -> bool {
    X509Certificate::from_der(bytes).is_ok()
}
