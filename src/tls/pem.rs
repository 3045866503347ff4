//! PEM files: which blocks there are, and those that are wanted of them.

use std::path::Path;

use pkcs8::pkcs5;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer};
use zeroize::Zeroizing;

use super::error::{Input, LoadError};
use super::unusable::Unusable;

/// Every certificate in `bytes`, in the order of the file; at least one.
pub fn certificates(
    input: Input,
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(without_mark(bytes))
        .collect::<Result<_, _>>()
        .map_err(|error| damaged(input, path, &error))?;
    match chain.is_empty() {
        true => Err(nothing_found(input, path, bytes)),
        false => Ok(chain),
    }
}

/// Every revocation list in `bytes`; at least one.
pub fn revocation_lists(
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, LoadError> {
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(without_mark(bytes))
        .collect::<Result<_, _>>()
        .map_err(|error| damaged(Input::Crl, path, &error))?;
    // The version is left out where it is 1 (RFC 5280 section 5.1.2.1).
    let is_version_1 = |der: &CertificateRevocationListDer<'_>| {
        let parsed = CertificateRevocationList::from_der(der);
        parsed.is_ok_and(|(_, list)| list.version().is_none())
    };
    match lists.is_empty() {
        true => Err(nothing_found(Input::Crl, path, bytes)),
        false if lists.iter().any(is_version_1) => Err(LoadError::Unusable {
            input: Input::Crl,
            path: path.to_owned(),
            form: Unusable::CrlVersion1,
        }),
        false => Ok(lists),
    }
}

/// The first private key in `bytes`: PKCS#8, encrypted or not, PKCS#1 or SEC1.
pub fn private_key(
    path: &Path,
    bytes: &[u8],
    password: Option<&[u8]>,
) -> Result<PrivateKeyDer<'static>, LoadError> {
    let bytes = without_mark(bytes);
    let text = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
    // PKCS#1 and SEC1 keys say inside the block that they are encrypted.
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(LoadError::Unusable {
            input: Input::Key,
            path: path.to_owned(),
            form: Unusable::EncryptedTraditional,
        });
    }
    match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) if text.contains(ENCRYPTED) => decrypt(path, &text, password),
        Err(pem::Error::NoItemsFound) => Err(nothing_found(Input::Key, path, bytes)),
        Err(error) => Err(damaged(Input::Key, path, &error)),
    }
}

/// The key in an encrypted PKCS#8 block (RFC 5958 section 3).
fn decrypt(
    path: &Path,
    text: &str,
    password: Option<&[u8]>,
) -> Result<PrivateKeyDer<'static>, LoadError> {
    let password = password.ok_or_else(|| LoadError::Encrypted {
        path: path.to_owned(),
    })?;
    // The reader of PEM knows the plain label only; what it makes of the block is the same.
    let plain = text.replace(ENCRYPTED, "PRIVATE KEY");
    let block = PrivatePkcs8KeyDer::from_pem_slice(plain.as_bytes())
        .map_err(|error| damaged(Input::Key, path, &error))?;
    let sealed =
        pkcs8::EncryptedPrivateKeyInfoRef::try_from(block.secret_pkcs8_der()).map_err(|error| {
            LoadError::Damaged {
                input: Input::Key,
                path: path.to_owned(),
                reason: format!("as encrypted PKCS#8: {error}"),
            }
        })?;
    match sealed.decrypt(password) {
        Ok(key) => Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into()),
        Err(pkcs8::Error::EncryptedPrivateKey(
            pkcs5::Error::UnsupportedAlgorithm { .. }
            | pkcs5::Error::AlgorithmParametersInvalid { .. }
            | pkcs5::Error::NoPbes1CryptSupport,
        )) => Err(LoadError::Unusable {
            input: Input::Key,
            path: path.to_owned(),
            form: Unusable::EncryptionScheme,
        }),
        // A wrong password yields a wrong padding, or what is no key.
        Err(_) => Err(LoadError::WrongPassword {
            path: path.to_owned(),
        }),
    }
}

fn nothing_found(input: Input, path: &Path, bytes: &[u8]) -> LoadError {
    let found = labels(bytes);
    let path = path.to_owned();
    let form = match (bytes, found.as_slice()) {
        ([], _) => Some(Unusable::Empty),
        (bytes, []) => Unusable::of(bytes),
        (_, [label]) => Unusable::labelled(input, label),
        _ => None,
    };
    match form {
        Some(form) => LoadError::Unusable { input, path, form },
        None if found.is_empty() => LoadError::NotPem { input, path },
        None => LoadError::NothingFound { input, path, found },
    }
}

/// Without the byte order mark that some editors put in front.
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
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

const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
