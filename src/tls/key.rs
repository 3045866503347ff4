//! What kind of key a private key is, in words, and which of several keys is used.

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ber::{CONTEXT_0, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE};
use super::pem::Key;
use super::x509;

/// Chooses among several keys: the first one whose certificate is for client authentication, else
/// the first one that has a certificate, else the first one.
pub fn choose(mut keys: Vec<Key>, certificates: &[CertificateDer<'_>]) -> Option<Key> {
    let rank = |key: &Key| {
        let public = any_supported_type(key).ok();
        let public = public.and_then(|key| Some(x509::key_bits(&key.public_key()?)?.to_vec()));
        let ranks = certificates.iter().filter_map(|certificate| {
            let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
            let bits = x509::key_bits(certificate.public_key().raw);
            let is_its_own = bits.is_some() && bits == public.as_deref();
            is_its_own.then(|| u8::from(!is_for_clients(&certificate)))
        });
        ranks.min().unwrap_or(2)
    };
    let ranks: Vec<_> = match keys.len() {
        0 | 1 => vec![0; keys.len()],
        _ => keys.iter().map(rank).collect(),
    };
    let (at, _) = ranks.iter().enumerate().min_by_key(|(_, rank)| **rank)?;
    Some(keys.swap_remove(at))
}

fn is_for_clients(certificate: &X509Certificate<'_>) -> bool {
    match certificate.extended_key_usage() {
        Ok(Some(usage)) => usage.value.client_auth || usage.value.any,
        _ => true,
    }
}

/// Whether the SubjectPublicKeyInfo spells out its curve in place of naming it.
pub fn has_explicit_curve(spki: &[u8]) -> bool {
    let is_explicit = || {
        let mut algorithm = Reader::new(spki).inside(SEQUENCE)?.inside(SEQUENCE)?;
        let is_ec = algorithm.tagged(OBJECT_IDENTIFIER)?.content == EC;
        Some(is_ec && algorithm.element()?.tag == SEQUENCE)
    };
    is_explicit().unwrap_or(false)
}

/// Says what is wrong with a key that the TLS library does not take.
pub fn fault(key: &PrivateKeyDer<'_>) -> String {
    let fault = match key {
        PrivateKeyDer::Pkcs1(key) => rsa(key.secret_pkcs1_der()),
        PrivateKeyDer::Sec1(key) => sec1(key.secret_sec1_der()),
        PrivateKeyDer::Pkcs8(key) => pkcs8(key.secret_pkcs8_der()),
        _ => None,
    };
    fault.unwrap_or_else(|| "its structure is invalid".to_owned())
}

fn pkcs8(der: &[u8]) -> Option<String> {
    let mut fields = Reader::new(der).inside(SEQUENCE)?;
    fields.tagged(INTEGER)?;
    let mut algorithm = fields.inside(SEQUENCE)?;
    let oid = algorithm.tagged(OBJECT_IDENTIFIER)?;
    let inner = fields.tagged(OCTET_STRING)?;
    match oid.content {
        RSA => rsa(inner.content),
        EC => curve(&mut algorithm),
        other => {
            let known = ALGORITHMS.iter().find(|(oid, _)| other.starts_with(oid));
            let name = known.map_or("a key of an unknown kind", |(_, name)| *name);
            Some(format!("it is {name}"))
        }
    }
}

fn sec1(der: &[u8]) -> Option<String> {
    let mut fields = Reader::new(der).inside(SEQUENCE)?;
    fields.tagged(INTEGER)?;
    fields.tagged(OCTET_STRING)?;
    match fields.inside(CONTEXT_0) {
        Some(mut parameters) => curve(&mut parameters),
        None => Some("it does not say which curve it is on".to_owned()),
    }
}

fn curve(parameters: &mut Reader<'_>) -> Option<String> {
    let parameters = parameters.element()?;
    if parameters.tag == SEQUENCE {
        return Some("it is an EC key whose curve is spelled out (explicit parameters)".to_owned());
    }
    match CURVES.iter().find(|(oid, _)| *oid == parameters.content) {
        Some((_, "")) => None,
        Some((_, name)) => Some(format!("it is an EC key on {name}")),
        None => Some("it is an EC key on an unknown curve".to_owned()),
    }
}

fn rsa(der: &[u8]) -> Option<String> {
    let mut fields = Reader::new(der).inside(SEQUENCE)?;
    fields.tagged(INTEGER)?;
    let modulus = fields.tagged(INTEGER)?.content;
    let digits = &modulus[modulus.iter().take_while(|byte| **byte == 0).count()..];
    let first = usize::try_from(digits.first()?.leading_zeros()).ok()?;
    let bits = digits.len() * 8 - first;
    match bits {
        2048..=8192 => None,
        _ => Some(format!("it is an RSA key of {bits} bits")),
    }
}

// The contents of object identifiers (X.690 section 8.19).
const RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
const EC: &[u8] = b"\x2a\x86\x48\xce\x3d\x02\x01";

const ALGORITHMS: &[(&[u8], &str)] = &[
    (
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a",
        "an RSA key that is for RSA-PSS only",
    ),
    (b"\x2a\x86\x48\xce\x38\x04\x01", "a DSA key"),
    (
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x03\x01",
        "a Diffie-Hellman key",
    ),
    (b"\x2b\x65\x6e", "an X25519 key, which cannot sign"),
    (b"\x2b\x65\x6f", "an X448 key, which cannot sign"),
    (b"\x2b\x65\x71", "an Ed448 key"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x03", "a post-quantum key"),
    (b"\x2a\x85\x03", "a GOST key"),
];

/// Curves, and what they are called; those that are supported have no name.
const CURVES: &[(&[u8], &str)] = &[
    (b"\x2a\x86\x48\xce\x3d\x03\x01\x07", ""),
    (b"\x2b\x81\x04\x00\x22", ""),
    (b"\x2b\x81\x04\x00\x23", ""),
    (b"\x2a\x86\x48\xce\x3d\x03\x01\x01", "P-192"),
    (b"\x2b\x81\x04\x00\x21", "P-224"),
    (b"\x2b\x81\x04\x00\x0a", "secp256k1"),
    (b"\x2b\x24\x03\x03\x02\x08\x01\x01\x05", "brainpoolP224r1"),
    (b"\x2b\x24\x03\x03\x02\x08\x01\x01\x07", "brainpoolP256r1"),
    (b"\x2b\x24\x03\x03\x02\x08\x01\x01\x08", "brainpoolP256t1"),
    (b"\x2b\x24\x03\x03\x02\x08\x01\x01\x09", "brainpoolP320r1"),
    (b"\x2b\x24\x03\x03\x02\x08\x01\x01\x0b", "brainpoolP384r1"),
    (b"\x2b\x24\x03\x03\x02\x08\x01\x01\x0c", "brainpoolP384t1"),
    (b"\x2b\x24\x03\x03\x02\x08\x01\x01\x0d", "brainpoolP512r1"),
    (b"\x2b\x24\x03\x03\x02\x08\x01\x01\x0e", "brainpoolP512t1"),
    (b"\x2a\x81\x1c\xcf\x55\x01\x82\x2d", "SM2"),
];
