//! PEM files: which blocks there are, and those that are wanted of them.

use std::path::Path;

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::error::{Input, LoadError};

/// Every certificate in `bytes`, in the order of the file; at least one.
pub fn certificates(
    input: Input,
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| damaged(input, path, &error))?;
    match chain.is_empty() {
        true => Err(nothing_found(input, path, bytes)),
        false => Ok(chain),
    }
}

/// The first private key in `bytes`: PKCS#8, PKCS#1 or SEC1, not encrypted.
pub fn private_key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, LoadError> {
    // PKCS#1 and SEC1 keys say inside the block that they are encrypted.
    let text = String::from_utf8_lossy(bytes);
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(LoadError::Encrypted {
            path: path.to_owned(),
        });
    }
    match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(nothing_found(Input::Key, path, bytes)),
        Err(error) => Err(damaged(Input::Key, path, &error)),
    }
}

fn nothing_found(input: Input, path: &Path, bytes: &[u8]) -> LoadError {
    let found = labels(bytes);
    let path = path.to_owned();
    if found.is_empty() {
        // A DER structure is a SEQUENCE with a long-form length.
        let der = matches!(bytes, [0x30, 0x80..=0x84, ..]);
        return LoadError::NotPem { input, path, der };
    }
    LoadError::NothingFound { input, path, found }
}

fn damaged(input: Input, path: &Path, error: &pem::Error) -> LoadError {
    LoadError::Damaged {
        input,
        path: path.to_owned(),
        reason: match error {
            pem::Error::MissingSectionEnd { end_marker } => format!(
                "the line {} is missing",
                String::from_utf8_lossy(end_marker).trim_end()
            ),
            pem::Error::IllegalSectionStart { line } => {
                format!("{:?} is no BEGIN line", String::from_utf8_lossy(line))
            }
            pem::Error::Base64Decode(_) => {
                "what stands between BEGIN and END is not base64".to_owned()
            }
            other => format!("{other:?}"),
        },
    }
}

/// The labels of the blocks in `bytes`, each once.
fn labels(bytes: &[u8]) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    for line in String::from_utf8_lossy(bytes).lines() {
        let label = line
            .trim()
            .strip_prefix("-----BEGIN ")
            .and_then(|rest| rest.strip_suffix("-----"));
        if let Some(label) = label
            && !labels.iter().any(|known| known == label)
        {
            labels.push(label.to_owned());
        }
    }
    labels
}
