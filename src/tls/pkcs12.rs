//! Reads PKCS#12 files (RFC 7292), often called .p12 or .pfx, in DER or BER.

use std::path::Path;

use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::ber::{CONTEXT_0, Element, INTEGER, OBJECT_IDENTIFIER, Reader, SEQUENCE};
use super::error::{Input, LoadError};
use super::form::Shape;
use super::pbe::{self, Password, PbeError, Work};
use super::pem::Key;
use super::unusable::Unusable;

/// Whether `bytes` are a PKCS#12 file.
pub fn is_pkcs12(bytes: &[u8]) -> bool {
    Shape::of(bytes) == Some(Shape::Pkcs12)
}

/// What a file contains.
#[derive(Default)]
pub struct Content {
    /// The certificates, in the order of the file.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The private keys, in the order of the file.
    pub keys: Vec<Key>,
}

/// Decrypts a file. The result has a key and a certificate at least.
///
/// # Errors
///
/// If the password is wrong, the file is damaged, or it uses an algorithm that is not supported.
pub fn open(path: &Path, bytes: &[u8], password: Option<&[u8]>) -> Result<Content, LoadError> {
    let unusable = |form| LoadError::Unusable {
        input: Input::Certificate,
        path: path.to_owned(),
        form,
    };
    // A file made without a password has an empty one or none, depending on the program.
    let candidates = match password {
        Some(password) => vec![Password::new(password)],
        None => vec![Password::new(b""), Password::none()],
    };
    let mut work = Work::default();
    let mut result = Err(PbeError::WrongPassword);
    for password in candidates {
        result = read(bytes, &password, &mut work);
        if !matches!(result, Err(PbeError::WrongPassword)) {
            break;
        }
    }
    let content = result.map_err(|error| match error {
        PbeError::WrongPassword if password.is_some() => LoadError::WrongPassword {
            path: path.to_owned(),
        },
        PbeError::WrongPassword => LoadError::Encrypted {
            path: path.to_owned(),
        },
        PbeError::Damaged => LoadError::Damaged {
            input: Input::Certificate,
            path: path.to_owned(),
            reason: "its PKCS#12 structure is invalid".to_owned(),
        },
        PbeError::Unsupported(algorithm) => unusable(Unusable::Pkcs12Scheme(algorithm)),
        PbeError::TooMuchWork => unusable(Unusable::TooMuchWork),
    })?;
    match content.keys.is_empty() || content.certificates.is_empty() {
        true => Err(unusable(Unusable::Pkcs12WithoutKey)),
        false => Ok(content),
    }
}

/// Reads the outer structure: PFX ::= SEQUENCE { version, authSafe ContentInfo, macData OPTIONAL }.
fn read(bytes: &[u8], password: &Password<'_>, work: &mut Work) -> Result<Content, PbeError> {
    let mut pfx = Reader::new(bytes)
        .inside(SEQUENCE)
        .ok_or(PbeError::Damaged)?;
    pfx.tagged(INTEGER).ok_or(PbeError::Damaged)?;
    let (kind, value) = content_info(&mut pfx)?;
    if kind != DATA {
        return Err(PbeError::Unsupported("a public key"));
    }
    let safes = value.octets().ok_or(PbeError::Damaged)?;
    if let Some(mac) = pfx.tagged(SEQUENCE) {
        pbe::verify_mac(&mac, &safes, password, work)?;
    }
    let mut content = Content::default();
    let mut safes = Reader::new(&safes)
        .inside(SEQUENCE)
        .ok_or(PbeError::Damaged)?;
    while !safes.is_empty() {
        let (kind, value) = content_info(&mut safes)?;
        let bags = match kind {
            DATA => value.octets().ok_or(PbeError::Damaged)?,
            ENCRYPTED_DATA => encrypted_data(value, password, work)?,
            _ => return Err(PbeError::Unsupported("a public key")),
        };
        let bags = Reader::new(&bags).inside(SEQUENCE);
        // With a wrong password and no MAC, this is where it shows.
        read_bags(
            bags.ok_or(PbeError::WrongPassword)?,
            password,
            work,
            &mut content,
            DEEPEST,
        )?;
    }
    Ok(content)
}

/// Reads SafeContents ::= SEQUENCE OF SafeBag.
fn read_bags(
    mut bags: Reader<'_>,
    password: &Password<'_>,
    work: &mut Work,
    content: &mut Content,
    depth: usize,
) -> Result<(), PbeError> {
    while !bags.is_empty() {
        let mut bag = bags.inside(SEQUENCE).ok_or(PbeError::Damaged)?;
        let kind = bag.tagged(OBJECT_IDENTIFIER).ok_or(PbeError::Damaged)?;
        let mut value = bag.inside(CONTEXT_0).ok_or(PbeError::Damaged)?;
        match kind.content {
            KEY_BAG => {
                let key = value.tagged(SEQUENCE).and_then(Element::to_der);
                let key = key.map(Zeroizing::new).ok_or(PbeError::Damaged)?;
                content.keys.push(private_key(&key)?);
            }
            SHROUDED_KEY_BAG => {
                let mut sealed = value.inside(SEQUENCE).ok_or(PbeError::Damaged)?;
                let algorithm = sealed.tagged(SEQUENCE).ok_or(PbeError::Damaged)?;
                let data = sealed.element().and_then(|data| data.octets());
                let data = data.ok_or(PbeError::Damaged)?;
                let key = pbe::decrypt(&algorithm, &data, password, work)?;
                content.keys.push(private_key(&key)?);
            }
            CERTIFICATE_BAG => {
                let mut certificate = value.inside(SEQUENCE).ok_or(PbeError::Damaged)?;
                let kind = certificate.tagged(OBJECT_IDENTIFIER);
                // The other kind is SDSI, of which nothing is left.
                if kind.is_some_and(|kind| kind.content == X509_CERTIFICATE) {
                    let value = certificate.inside(CONTEXT_0);
                    let octets = value.and_then(|mut value| value.element()?.octets());
                    let der = octets.ok_or(PbeError::Damaged)?;
                    content
                        .certificates
                        .push(CertificateDer::from(der.to_vec()));
                }
            }
            SAFE_CONTENTS_BAG => {
                let inner = value.inside(SEQUENCE).ok_or(PbeError::Damaged)?;
                let depth = depth.checked_sub(1).ok_or(PbeError::Damaged)?;
                read_bags(inner, password, work, content, depth)?;
            }
            // CRLs, and secrets that are neither keys nor certificates.
            _ => {}
        }
    }
    Ok(())
}

fn private_key(der: &[u8]) -> Result<Key, PbeError> {
    match Shape::of(der) {
        Some(Shape::Pkcs8) => Ok(Zeroizing::new(
            PrivatePkcs8KeyDer::from(der.to_vec()).into(),
        )),
        _ => Err(PbeError::WrongPassword),
    }
}

/// ContentInfo ::= SEQUENCE { contentType, content [0] EXPLICIT }
fn content_info<'b>(from: &mut Reader<'b>) -> Result<(&'b [u8], Element<'b>), PbeError> {
    let mut info = from.inside(SEQUENCE).ok_or(PbeError::Damaged)?;
    let kind = info.tagged(OBJECT_IDENTIFIER).ok_or(PbeError::Damaged)?;
    let value = info.inside(CONTEXT_0).and_then(|mut value| value.element());
    Ok((kind.content, value.ok_or(PbeError::Damaged)?))
}

/// EncryptedData ::= SEQUENCE { version, SEQUENCE { contentType, algorithm, [0] IMPLICIT data } }
fn encrypted_data(
    value: Element<'_>,
    password: &Password<'_>,
    work: &mut Work,
) -> Result<Zeroizing<Vec<u8>>, PbeError> {
    let mut fields = value.reader();
    fields.tagged(INTEGER).ok_or(PbeError::Damaged)?;
    let mut info = fields.inside(SEQUENCE).ok_or(PbeError::Damaged)?;
    info.tagged(OBJECT_IDENTIFIER).ok_or(PbeError::Damaged)?;
    let algorithm = info.tagged(SEQUENCE).ok_or(PbeError::Damaged)?;
    let data = info.element().and_then(|data| data.octets());
    let data = data.ok_or(PbeError::Damaged)?;
    pbe::decrypt(&algorithm, &data, password, work)
}

// The contents of object identifiers (X.690 section 8.19).
const DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
const ENCRYPTED_DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x06";
const KEY_BAG: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x01";
const SHROUDED_KEY_BAG: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x02";
const CERTIFICATE_BAG: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x03";
const SAFE_CONTENTS_BAG: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x06";
const X509_CERTIFICATE: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x16\x01";
/// Nested SafeContents are allowed, and made by no program.
const DEEPEST: usize = 4;
