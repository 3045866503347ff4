//! Recognizes what the bytes of a key, certificate or list are, by their structure alone.

use super::ber::{
    BIT_STRING, CONTEXT_0, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE,
};

/// What an ASN.1 structure is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// A certificate (RFC 5280).
    Certificate,
    /// A certificate signing request (RFC 2986).
    Request,
    /// A certificate revocation list (RFC 5280).
    Crl,
    /// A private key (RFC 5958).
    Pkcs8,
    /// An encrypted private key (RFC 5958).
    EncryptedPkcs8,
    /// An RSA private key (RFC 8017).
    Pkcs1,
    /// An EC private key (RFC 5915).
    Sec1,
    /// A public key (RFC 5280, SubjectPublicKeyInfo).
    PublicKey,
    /// PKCS#7, or CMS (RFC 5652).
    Pkcs7,
    /// PKCS#12 (RFC 7292).
    Pkcs12,
}

impl Shape {
    /// Recognizes the first structure in `bytes`.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let content = Reader::new(bytes).inside(SEQUENCE)?;
        Some(match tags(content).as_slice() {
            [SEQUENCE, SEQUENCE, BIT_STRING] => return signed(content),
            [SEQUENCE, OCTET_STRING] => Self::EncryptedPkcs8,
            [SEQUENCE, BIT_STRING] => Self::PublicKey,
            [OBJECT_IDENTIFIER, CONTEXT_0] => Self::Pkcs7,
            [INTEGER, SEQUENCE, OCTET_STRING, ..] => Self::Pkcs8,
            [INTEGER, SEQUENCE] | [INTEGER, SEQUENCE, SEQUENCE] => Self::Pkcs12,
            [INTEGER, OCTET_STRING, ..] => Self::Sec1,
            [INTEGER, INTEGER, INTEGER, ..] => Self::Pkcs1,
            [INTEGER, INTEGER] => Self::PublicKey,
            _ => return None,
        })
    }

    /// What it is, as the end of "the block contains …".
    pub fn name(self) -> &'static str {
        match self {
            Self::Certificate => "a certificate",
            Self::Request => "a certificate signing request",
            Self::Crl => "a CRL",
            Self::Pkcs8 => "a PKCS#8 private key",
            Self::EncryptedPkcs8 => "an encrypted PKCS#8 private key",
            Self::Pkcs1 => "an RSA private key in PKCS#1",
            Self::Sec1 => "an EC private key in SEC1",
            Self::PublicKey => "a public key",
            Self::Pkcs7 => "a PKCS#7 bundle",
            Self::Pkcs12 => "a PKCS#12 file",
        }
    }
}

/// What a structure with a signature is.
fn signed(mut content: Reader<'_>) -> Option<Shape> {
    let inner = tags(content.inside(SEQUENCE)?);
    let is_time = |tag: &u8| matches!(tag, 0x17 | 0x18);
    match inner.as_slice() {
        [CONTEXT_0, ..] => Some(Shape::Certificate),
        [SEQUENCE, SEQUENCE, time, ..] | [INTEGER, SEQUENCE, SEQUENCE, time, ..]
            if is_time(time) =>
        {
            Some(Shape::Crl)
        }
        [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE, ..] => Some(Shape::Certificate),
        [INTEGER, SEQUENCE, SEQUENCE, ..] => Some(Shape::Request),
        _ => None,
    }
}

/// The tags of the data values in `content`, up to the first that is damaged.
fn tags(mut content: Reader<'_>) -> Vec<u8> {
    let mut tags = Vec::new();
    // More than these decide nothing; a list may have a million.
    while tags.len() < 8
        && let Some(element) = content.element()
    {
        tags.push(element.tag);
    }
    tags
}
