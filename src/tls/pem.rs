//! Reads PEM (RFC 7468): finds the blocks of a file and decodes them.
//!
//! It has a reader of its own because the content of a file must never reach an error message, and
//! because key material is decoded into buffers that are wiped. Nothing here quotes the file: a
//! label is printed only where it is one of [`LABELS`].

use std::path::Path;

use base64ct::{Base64, Encoding};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs1KeyDer,
    PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use zeroize::Zeroizing;

use super::error::{Input, LoadError};
use super::form::Shape;
use super::pbe::{Password, PbeError, Work};
use super::unusable::Unusable;
use super::{ber, pbe};

/// A decoded block.
struct Block {
    // `None`: not one of `LABELS`.
    label: Option<&'static str>,
    // Whether its header says that it is encrypted, as PKCS#1 and SEC1 keys do (RFC 1421).
    encrypted: bool,
    der: Zeroizing<Vec<u8>>,
}

/// Why a file cannot be divided into blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// The END line of a block is missing.
    NoEnd(Option<&'static str>),
    /// A BEGIN line does not end in five dashes.
    OpenBegin,
    /// The content of a block is not base64.
    NotBase64(Option<&'static str>),
    /// A marker and base64 are on one line.
    LineBreaks,
    /// A marker is indented.
    Indented,
    /// There is binary data outside of the blocks, such as DER.
    Binary,
    /// There is base64 outside of the blocks: a marker is missing or misspelt.
    Stray,
}

/// A private key, wiped from memory when it is dropped.
pub type Key = Zeroizing<PrivateKeyDer<'static>>;

/// Returns every certificate in `bytes`, in the order of the file; there is at least one.
pub fn certificates(
    input: Input,
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let blocks = blocks_of(input, path, bytes)?;
    // Skipping one of these would present half a chain, or trust half a bundle.
    let form = blocks.iter().find_map(|block| match block.label? {
        "TRUSTED CERTIFICATE" => Some(Unusable::TrustedCertificate),
        "X509 CERTIFICATE" => Some(Unusable::OldCertificate),
        "PKCS7" | "PKCS #7 SIGNED DATA" | "CMS" => Some(Unusable::Pkcs7),
        _ => None,
    });
    if let Some(form) = form {
        return Err(unusable(input, path, form));
    }
    let mut chain = Vec::new();
    for block in &blocks {
        if block.label.is_none() && Shape::of(&block.der) == Some(Shape::Certificate) {
            return Err(unusable(input, path, Unusable::WrongLabel));
        }
        if block.label == Some("CERTIFICATE") {
            verify_shape(input, path, block, Shape::Certificate)?;
            chain.push(CertificateDer::from(block.der.to_vec()));
        }
    }
    match chain.is_empty() {
        true => Err(nothing_found(input, path, bytes, &blocks)),
        false => Ok(chain),
    }
}

/// Returns every CRL in `bytes`, in PEM or DER; there is at least one.
pub fn crls(
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, LoadError> {
    let mut lists = Vec::new();
    if Shape::of(bytes) == Some(Shape::Crl) {
        // CAs publish them so.
        let mut reader = ber::Reader::new(bytes);
        while let Some(crl) = reader.tagged(ber::SEQUENCE) {
            let der = crl.to_der().unwrap_or_default();
            lists.push(CertificateRevocationListDer::from(der));
        }
        if !reader.rest().iter().all(u8::is_ascii_whitespace) {
            return Err(unusable(Input::Crl, path, Unusable::BinaryBeside));
        }
    } else {
        let blocks = blocks_of(Input::Crl, path, bytes)?;
        for block in &blocks {
            if block.label.is_none() && Shape::of(&block.der) == Some(Shape::Crl) {
                return Err(unusable(Input::Crl, path, Unusable::WrongLabel));
            }
            if block.label == Some("X509 CRL") {
                verify_shape(Input::Crl, path, block, Shape::Crl)?;
                lists.push(CertificateRevocationListDer::from(block.der.to_vec()));
            }
        }
        if lists.is_empty() {
            return Err(nothing_found(Input::Crl, path, bytes, &blocks));
        }
    }
    Ok(lists)
}

/// Returns every private key in `bytes`: PKCS#8, encrypted or not, PKCS#1 or SEC1. There is at least
/// one.
pub fn private_keys(
    path: &Path,
    bytes: &[u8],
    password: Option<&[u8]>,
) -> Result<Vec<Key>, LoadError> {
    let blocks = blocks_of(Input::Key, path, bytes)?;
    let mut keys = Vec::new();
    let mut work = Work::default();
    for block in &blocks {
        let label = block.label.unwrap_or_default();
        if !KEYS.contains(&label) {
            continue;
        }
        if block.encrypted {
            return Err(unusable(Input::Key, path, Unusable::EncryptedTraditional));
        }
        verify_key(path, block)?;
        let der = block.der.to_vec();
        keys.push(Zeroizing::new(match label {
            "RSA PRIVATE KEY" => PrivatePkcs1KeyDer::from(der).into(),
            "EC PRIVATE KEY" => PrivateSec1KeyDer::from(der).into(),
            "ENCRYPTED PRIVATE KEY" => decrypt(path, &block.der, password, &mut work)?,
            _ => PrivatePkcs8KeyDer::from(der).into(),
        }));
    }
    match keys.is_empty() {
        true => Err(nothing_found(Input::Key, path, bytes, &blocks)),
        false => Ok(keys),
    }
}

/// Decrypts an encrypted PKCS#8 key (RFC 5958 section 3).
fn decrypt(
    path: &Path,
    der: &[u8],
    password: Option<&[u8]>,
    work: &mut Work,
) -> Result<PrivateKeyDer<'static>, LoadError> {
    let damaged = || LoadError::Damaged {
        input: Input::Key,
        path: path.to_owned(),
        reason: "the ENCRYPTED PRIVATE KEY block is not encrypted PKCS#8".to_owned(),
    };
    let mut sealed = ber::Reader::new(der)
        .inside(ber::SEQUENCE)
        .ok_or_else(damaged)?;
    let algorithm = sealed.tagged(ber::SEQUENCE).ok_or_else(damaged)?;
    let data = sealed.element().and_then(|data| data.octets());
    let data = data.ok_or_else(damaged)?;
    let password = password.ok_or_else(|| LoadError::Encrypted {
        path: path.to_owned(),
    })?;
    match pbe::decrypt(&algorithm, &data, &Password::new(password), work) {
        Ok(key) if Shape::of(&key) == Some(Shape::Pkcs8) => {
            Ok(PrivatePkcs8KeyDer::from(key.to_vec()).into())
        }
        // One wrong password in 256 yields a padding that is right.
        Ok(_) | Err(PbeError::WrongPassword) => Err(LoadError::WrongPassword {
            path: path.to_owned(),
        }),
        Err(PbeError::Damaged) => Err(damaged()),
        Err(PbeError::Unsupported(algorithm)) => Err(unusable(
            Input::Key,
            path,
            Unusable::EncryptionScheme(algorithm),
        )),
        Err(PbeError::TooMuchWork) => Err(unusable(Input::Key, path, Unusable::TooMuchWork)),
    }
}

/// Verifies that a block contains what its label says. `Damaged` is for the parsers that follow,
/// which know more; here it is told what else it is.
fn verify_shape(
    input: Input,
    path: &Path,
    block: &Block,
    expected: Shape,
) -> Result<(), LoadError> {
    if let Some(form) = Unusable::encoded_twice(&block.der) {
        return Err(unusable(input, path, form));
    }
    match Shape::of(&block.der) {
        Some(shape) if shape != expected => Err(LoadError::Damaged {
            input,
            path: path.to_owned(),
            reason: format!(
                "a block labeled {} contains {}",
                block.label.unwrap_or(UNKNOWN),
                shape.name()
            ),
        }),
        _ => Ok(()),
    }
}

fn verify_key(path: &Path, block: &Block) -> Result<(), LoadError> {
    let expected = match block.label {
        Some("RSA PRIVATE KEY") => Shape::Pkcs1,
        Some("EC PRIVATE KEY") => Shape::Sec1,
        Some("ENCRYPTED PRIVATE KEY") => Shape::EncryptedPkcs8,
        _ => Shape::Pkcs8,
    };
    verify_shape(Input::Key, path, block, expected)
}

fn blocks_of(input: Input, path: &Path, bytes: &[u8]) -> Result<Vec<Block>, LoadError> {
    blocks(bytes).map_err(|fault| {
        let label = |label: Option<&'static str>| label.unwrap_or(UNKNOWN);
        let reason = match fault {
            Fault::LineBreaks => return unusable(input, path, Unusable::LineBreaks),
            Fault::Indented => return unusable(input, path, Unusable::Indented),
            Fault::Binary => return unusable(input, path, Unusable::BinaryBeside),
            Fault::Stray => return unusable(input, path, Unusable::Base64Beside),
            Fault::NoEnd(of) => format!("the END line of a {} block is missing", label(of)),
            Fault::OpenBegin => "a BEGIN line does not end with five dashes".to_owned(),
            Fault::NotBase64(of) => {
                format!("the content of a {} block is not base64", label(of))
            }
        };
        let path = path.to_owned();
        LoadError::Damaged {
            input,
            path,
            reason,
        }
    })
}

fn nothing_found(input: Input, path: &Path, bytes: &[u8], blocks: &[Block]) -> LoadError {
    let mut found: Vec<&'static str> = Vec::new();
    for block in blocks {
        let label = block.label.unwrap_or(UNKNOWN);
        if !found.contains(&label) {
            found.push(label);
        }
    }
    let form = match found.as_slice() {
        [] => Unusable::of(input, bytes),
        labels => labels
            .iter()
            .find_map(|label| Unusable::labeled(input, label)),
    };
    let path = path.to_owned();
    match form {
        Some(form) => LoadError::Unusable { input, path, form },
        None if found.is_empty() => LoadError::NotPem { input, path },
        None => LoadError::NothingFound { input, path, found },
    }
}

fn unusable(input: Input, path: &Path, form: Unusable) -> LoadError {
    LoadError::Unusable {
        input,
        path: path.to_owned(),
        form,
    }
}

/// Divides a file into blocks. Text around the blocks is skipped; a marker, DER or base64 that would
/// be skipped along with it is a fault.
fn blocks(bytes: &[u8]) -> Result<Vec<Block>, Fault> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut blocks = Vec::new();
    let mut open: Option<Open<'_>> = None;
    let mut outside = None;
    for line in bytes.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let mut line = line.trim_ascii_end();
        if let Some(block) = &mut open {
            let Some(rest) = block.line(line)? else {
                continue;
            };
            blocks.extend(open.take().map(Open::close).transpose()?);
            // `cat` puts the next block here where the last line had no end.
            line = rest.trim_ascii_start();
        }
        open = begin(line)?;
        let text = memchr::memmem::find(line, BEGIN).map_or(line, |at| &line[..at]);
        outside = outside.or(content(text));
    }
    match (open, outside) {
        (Some(block), _) => Err(Fault::NoEnd(block.known())),
        // Without a block it is a file of another form.
        (None, Some(fault)) if !blocks.is_empty() => Err(fault),
        (None, _) => Ok(blocks),
    }
}

/// What a line outside of blocks contains that is not text.
fn content(line: &[u8]) -> Option<Fault> {
    let is_control = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t' | 0x0b | 0x0c);
    // Some tools fill up the last sector with zeros, or end a text with Ctrl-Z.
    let is_filler = line.iter().all(|byte| matches!(byte, 0 | 0x1a));
    if line.iter().any(is_control) && !is_filler {
        return Some(Fault::Binary);
    }
    let digits = line.trim_ascii_start();
    let digits = digits.strip_suffix(b"=").unwrap_or(digits);
    let digits = digits.strip_suffix(b"=").unwrap_or(digits);
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let has = |is: fn(&u8) -> bool| digits.iter().any(is);
    let is_stray = digits.len() >= SHORTEST_LINE
        && digits.iter().all(is_base64)
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_digit);
    is_stray.then_some(Fault::Stray)
}

/// A block whose END line has not been seen.
struct Open<'b> {
    label: &'b [u8],
    encrypted: bool,
    base64: Zeroizing<Vec<u8>>,
}

/// Looks for a BEGIN marker in a line outside of blocks.
fn begin(line: &[u8]) -> Result<Option<Open<'_>>, Fault> {
    let Some(at) = memchr::memmem::find(line, BEGIN) else {
        return Ok(None);
    };
    let before = line[..at].trim_ascii_start();
    // A block that is commented out.
    if [&b"#"[..], b";", b"//"]
        .iter()
        .any(|mark| before.starts_with(mark))
    {
        return Ok(None);
    }
    let after = &line[at + BEGIN.len()..];
    let Some(end) = memchr::memmem::find(after, DASHES) else {
        return match at {
            0 => Err(Fault::OpenBegin),
            _ => Ok(None),
        };
    };
    let rest = &after[end + DASHES.len()..];
    if !rest.is_empty() {
        // Every key and certificate is a SEQUENCE, whose base64 begins with this letter; the two
        // characters `\n` are what is left of a line break in an environment variable.
        let content = rest.trim_ascii_start();
        let escaped = content.starts_with(b"\\");
        let is_content = escaped || content.starts_with(b"M") || content.starts_with(b"Proc-Type");
        return match is_content || memchr::memmem::find(rest, DASHES).is_some() {
            true => Err(Fault::LineBreaks),
            false => Ok(None),
        };
    }
    if at > 0 && before.is_empty() {
        return Err(Fault::Indented);
    }
    Ok(Some(Open {
        label: &after[..end],
        encrypted: false,
        base64: Zeroizing::new(Vec::new()),
    }))
}

impl Open<'_> {
    fn known(&self) -> Option<&'static str> {
        LABELS
            .iter()
            .find(|label| label.as_bytes() == self.label)
            .copied()
    }

    /// Takes a line of the block. Returns what follows the END marker where it is that.
    fn line<'l>(&mut self, line: &'l [u8]) -> Result<Option<&'l [u8]>, Fault> {
        if let Some(at) = memchr::memmem::find(line, DASHES) {
            let marker = line[at..].strip_prefix(END);
            let rest = marker
                .and_then(|rest| rest.strip_prefix(self.label))
                .and_then(|rest| rest.strip_prefix(DASHES));
            return match (rest, at) {
                (Some(rest), 0) => Ok(Some(rest)),
                (Some(_), _) if line[..at].trim_ascii().is_empty() => Err(Fault::Indented),
                (Some(_), _) => Err(Fault::LineBreaks),
                (None, _) => Err(Fault::NoEnd(self.known())),
            };
        }
        if self.base64.is_empty() && line.contains(&b':') {
            self.encrypted |= line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED");
            return Ok(None);
        }
        // Grown by hand: a buffer that moves leaves a copy behind.
        if self.base64.capacity() < self.base64.len() + line.len() {
            let larger = (self.base64.len() + line.len()).max(2048) * 2;
            let mut moved = Zeroizing::new(Vec::with_capacity(larger));
            moved.extend_from_slice(&self.base64);
            self.base64 = moved;
        }
        let content = line.iter().filter(|byte| !byte.is_ascii_whitespace());
        self.base64.extend(content);
        Ok(None)
    }

    fn close(self) -> Result<Block, Fault> {
        let label = self.known();
        // The base64 of an encrypted key need not be looked at, and neither need what is unknown.
        let mut der = Zeroizing::new(vec![0; self.base64.len() / 4 * 3]);
        let length = match Base64::decode(&*self.base64, &mut der) {
            Ok(der) => der.len(),
            Err(_) if label.is_none() => 0,
            Err(_) => return Err(Fault::NotBase64(label)),
        };
        der.truncate(length);
        Ok(Block {
            label,
            encrypted: self.encrypted,
            der,
        })
    }
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
/// Lines of PEM have 64 characters; shorter ones may be words.
const SHORTEST_LINE: usize = 40;

/// The labels of private keys.
const KEYS: &[&str] = &[
    "PRIVATE KEY",
    "ENCRYPTED PRIVATE KEY",
    "RSA PRIVATE KEY",
    "EC PRIVATE KEY",
];

/// The labels that may be printed. Anything else comes from the file and may be a secret.
const LABELS: &[&str] = &[
    "CERTIFICATE",
    "X509 CERTIFICATE",
    "TRUSTED CERTIFICATE",
    "ATTRIBUTE CERTIFICATE",
    "CERTIFICATE REQUEST",
    "NEW CERTIFICATE REQUEST",
    "X509 CRL",
    "PKCS7",
    "PKCS #7 SIGNED DATA",
    "CMS",
    "PRIVATE KEY",
    "ENCRYPTED PRIVATE KEY",
    "RSA PRIVATE KEY",
    "EC PRIVATE KEY",
    "DSA PRIVATE KEY",
    "ANY PRIVATE KEY",
    "OPENSSH PRIVATE KEY",
    "SSH2 ENCRYPTED PRIVATE KEY",
    "TSS2 PRIVATE KEY",
    "PUBLIC KEY",
    "RSA PUBLIC KEY",
    "EC PARAMETERS",
    "DH PARAMETERS",
    "DSA PARAMETERS",
    "SSL SESSION PARAMETERS",
    "PGP PRIVATE KEY BLOCK",
    "PGP PUBLIC KEY BLOCK",
    "PGP MESSAGE",
];

/// What is printed for any other label.
const UNKNOWN: &str = "block with an unknown label";

#[cfg(test)]
mod tests;
