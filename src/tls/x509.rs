//! What the X.509 parser leaves open: comparing names, checking who signed a certificate or a CRL,
//! and writing names for people.

use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::SignatureVerificationAlgorithm;
use x509_parser::der_parser::asn1_rs::{Any, Tag};
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, X509Name};

use crate::printable::escape;

/// Returns a form of `name` that is equal for names that RFC 5280 section 7.1 calls equal: case,
/// runs of spaces and the string type do not count.
pub fn canonical(name: &X509Name<'_>) -> Vec<u8> {
    let mut canonical = Vec::new();
    for rdn in name.iter() {
        let mut attributes: Vec<Vec<u8>> = rdn.iter().map(canonical_attribute).collect();
        attributes.sort();
        write_part(&mut canonical, &attributes.concat());
    }
    canonical
}

fn canonical_attribute(attribute: &AttributeTypeAndValue<'_>) -> Vec<u8> {
    let mut canonical = Vec::new();
    write_part(&mut canonical, attribute.attr_type().as_bytes());
    let value = attribute.attr_value();
    match text(value) {
        Some(text) => {
            let words: Vec<_> = text.split_whitespace().map(str::to_lowercase).collect();
            write_part(&mut canonical, words.join(" ").as_bytes());
        }
        None => {
            write_part(&mut canonical, &value.tag().0.to_be_bytes());
            write_part(&mut canonical, value.data);
        }
    }
    canonical
}

/// Appends `part` with its length in front, so that parts cannot run into each other.
fn write_part(to: &mut Vec<u8>, part: &[u8]) {
    to.extend_from_slice(&part.len().to_be_bytes());
    to.extend_from_slice(part);
}

/// Returns the text of an ASN.1 string of any type.
fn text(value: &Any<'_>) -> Option<String> {
    let bytes = value.data;
    match value.tag() {
        Tag::Utf8String
        | Tag::PrintableString
        | Tag::Ia5String
        | Tag::NumericString
        | Tag::VisibleString => str::from_utf8(bytes).ok().map(str::to_owned),
        // T.61, which everybody writes as Latin-1.
        Tag::T61String => Some(bytes.iter().copied().map(char::from).collect()),
        Tag::BmpString => {
            let (pairs, []) = bytes.as_chunks() else {
                return None;
            };
            let units: Vec<u16> = pairs.iter().copied().map(u16::from_be_bytes).collect();
            String::from_utf16(&units).ok()
        }
        Tag::UniversalString => {
            let (units, []) = bytes.as_chunks() else {
                return None;
            };
            let scalar = |unit: &[u8; 4]| char::from_u32(u32::from_be_bytes(*unit));
            units.iter().map(scalar).collect()
        }
        _ => None,
    }
}

/// Writes `name` for people: `C=XX, O=Example, CN=client-1`.
pub fn display(name: &X509Name<'_>) -> String {
    let attribute = |attribute: &AttributeTypeAndValue<'_>| {
        let oid = attribute.attr_type();
        let kind = match oid2abbrev(oid, oid_registry()) {
            Ok(abbreviation) => abbreviation.to_owned(),
            Err(_) => oid.to_id_string(),
        };
        let value = text(attribute.attr_value())
            .unwrap_or_else(|| format!("#{}", hex(attribute.attr_value().data)));
        format!("{kind}={value}")
    };
    let rdns: Vec<String> = name
        .iter()
        .map(|rdn| rdn.iter().map(attribute).collect::<Vec<_>>().join(" + "))
        .collect();
    printable(&rdns.join(", "))
}

/// Returns `text` without what could break a line of a log or drive a terminal, and not longer
/// than anybody reads.
pub fn printable(text: &str) -> String {
    let cut = text.char_indices().nth(LONGEST).map(|(at, _)| at);
    let shown = escape(&text[..cut.unwrap_or(text.len())]);
    match cut {
        Some(_) => format!("{shown}…"),
        None => shown.into_owned(),
    }
}

/// Returns `bytes` in upper-case hexadecimal, as openssl prints serial numbers, cut where a number
/// is longer than RFC 5280 allows.
pub fn hex(bytes: &[u8]) -> String {
    let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    match bytes.get(..LONGEST / 2) {
        Some(first) if first.len() < bytes.len() => {
            let mut first: String = digits(first);
            first.push('…');
            first
        }
        _ => digits(bytes),
    }
}

/// A certificate or a CRL, in the three parts that make up both (RFC 5280 sections 4.1 and 5.1).
#[derive(Clone, Copy)]
pub struct Signed<'d> {
    content: &'d [u8],
    algorithm: &'d [u8],
    signature: &'d [u8],
}

/// What was found out about a signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signature {
    /// The key made it.
    Valid,
    /// The key did not make it.
    Invalid,
    /// The TLS library does not know the algorithm or rejects the key.
    Unsupported,
}

impl<'d> Signed<'d> {
    /// Splits the DER of a certificate or a CRL; `None` if it is neither.
    pub fn new(der: &'d [u8]) -> Option<Self> {
        let (_, outer) = Any::from_der(der).ok()?;
        let (rest, _) = Any::from_der(outer.data).ok()?;
        let content = &outer.data[..outer.data.len() - rest.len()];
        let (rest, algorithm) = Any::from_der(rest).ok()?;
        let (_, signature) = Any::from_der(rest).ok()?;
        Some(Self {
            content,
            algorithm: algorithm.data,
            signature: bits(signature.data)?,
        })
    }

    /// Checks whether the key of `spki` (a SubjectPublicKeyInfo with its SEQUENCE) made the
    /// signature.
    pub fn check(&self, spki: &[u8]) -> Signature {
        let key = || {
            let (_, spki) = Any::from_der(spki).ok()?;
            let (rest, algorithm) = Any::from_der(spki.data).ok()?;
            let (_, key) = Any::from_der(rest).ok()?;
            Some((algorithm.data, bits(key.data)?))
        };
        let Some((key_algorithm, key)) = key() else {
            return Signature::Unsupported;
        };
        let suits = |algorithm: &&&dyn SignatureVerificationAlgorithm| {
            *algorithm.signature_alg_id() == *self.algorithm
                && *algorithm.public_key_alg_id() == *key_algorithm
        };
        let algorithms = default_provider().signature_verification_algorithms.all;
        let Some(algorithm) = algorithms.iter().find(suits) else {
            return Signature::Unsupported;
        };
        match algorithm.verify_signature(key, self.content, self.signature) {
            Ok(()) => Signature::Valid,
            // aws-lc-rs says the same of a signature by an RSA key below 2048 bits.
            Err(_) if key_algorithm.starts_with(RSA) && key.len() < 256 => Signature::Unsupported,
            Err(_) => Signature::Invalid,
        }
    }
}

/// Returns the bytes of a BIT STRING that has no unused bits.
fn bits(content: &[u8]) -> Option<&[u8]> {
    match content {
        [0, bytes @ ..] => Some(bytes),
        _ => None,
    }
}

/// Returns `content` as a SEQUENCE in DER: rustls keeps names without that.
pub fn sequence(content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let skipped = length.iter().take_while(|byte| **byte == 0).count();
    let mut der = vec![0x30];
    match &length[skipped..] {
        [] => der.push(0),
        [short @ 0..=0x7f] => der.push(*short),
        long => {
            // At most 8 bytes.
            der.push(0x80 | long.len() as u8);
            der.extend_from_slice(long);
        }
    }
    der.extend_from_slice(content);
    der
}

/// Returns the content of a SEQUENCE in DER.
pub fn content(der: &[u8]) -> Option<&[u8]> {
    Any::from_der(der).ok().map(|(_, sequence)| sequence.data)
}

/// Returns the bytes of the key in a SubjectPublicKeyInfo, which are the same however its
/// algorithm is written.
pub fn key_bits(spki: &[u8]) -> Option<&[u8]> {
    let (_, spki) = Any::from_der(spki).ok()?;
    let (rest, _) = Any::from_der(spki.data).ok()?;
    let (_, key) = Any::from_der(rest).ok()?;
    bits(key.data)
}

/// rsaEncryption (RFC 3279 section 2.3.1), as an OBJECT IDENTIFIER in DER.
const RSA: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01,
];
/// Characters of a name that are shown.
const LONGEST: usize = 256;
