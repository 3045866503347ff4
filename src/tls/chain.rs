//! From a heap of certificates to the chain of one key.

use rustls::server::ParsedCertificate;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::remark::Remark;

/// Why certificates and a key make no chain.
#[derive(Debug, PartialEq, Eq)]
pub enum ChainError {
    /// No certificate was issued for the key.
    NoLeaf,
    /// One of them (counted from 1) is no certificate.
    Damaged(usize, String),
}

/// Puts certificates in order: that of the key whose SubjectPublicKeyInfo is `key` first, then its
/// issuer, and so on (RFC 8446 section 4.4.2). Without `key`, the first one leads.
pub fn order(
    certificates: Vec<CertificateDer<'static>>,
    key: Option<&[u8]>,
) -> Result<(Vec<CertificateDer<'static>>, Vec<Remark>), ChainError> {
    let mut links = Vec::new();
    for (at, der) in certificates.iter().enumerate() {
        links.push(Link::of(der).map_err(|reason| ChainError::Damaged(at + 1, reason))?);
    }
    let leaf = match key {
        Some(key) => links.iter().position(|link| link.key == key),
        None => Some(0),
    };
    let mut chain = vec![leaf.ok_or(ChainError::NoLeaf)?];
    loop {
        let last = &links[chain[chain.len() - 1]];
        let next = (0..links.len())
            .filter(|at| !chain.contains(at))
            .find(|at| links[*at].subject == last.issuer && last.subject != last.issuer);
        match next {
            Some(at) => chain.push(at),
            None => break,
        }
    }
    let mut remarks = Vec::new();
    if !chain.is_sorted() {
        remarks.push(Remark::Reordered);
    }
    let unrelated: Vec<_> = (0..links.len())
        .filter(|at| {
            !chain.contains(at) && !chain.iter().any(|used| links[*used].der == links[*at].der)
        })
        .map(|at| links[at].name.clone())
        .collect();
    if !unrelated.is_empty() {
        remarks.push(Remark::Unrelated(unrelated));
    }
    let ordered = chain.iter().map(|at| certificates[*at].clone()).collect();
    Ok((ordered, remarks))
}

/// What ties a certificate to others.
struct Link<'c> {
    der: &'c [u8],
    key: Vec<u8>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    name: String,
}

impl<'c> Link<'c> {
    fn of(der: &'c CertificateDer<'static>) -> Result<Self, String> {
        let parsed = ParsedCertificate::try_from(der).map_err(|error| error.to_string())?;
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        Ok(Self {
            der,
            key: parsed.subject_public_key_info().to_vec(),
            subject: certificate.subject().as_raw().to_vec(),
            issuer: certificate.issuer().as_raw().to_vec(),
            name: certificate.subject().to_string(),
        })
    }
}
