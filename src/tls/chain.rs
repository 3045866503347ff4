//! Orders certificates into the chain to present.
//!
//! Whether the chain can be trusted is for the origin to decide. All that is decided here is what
//! helps it: a certificate links to its issuer by name, key and signature, and where several
//! certificates of one issuer fit, those that are valid come first.

use std::collections::VecDeque;
use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::timestamp::from_seconds;

use super::remark::Remark;
use super::x509::{self, Signature, Signed};

/// Why certificates and a key make no chain.
#[derive(Debug, PartialEq, Eq)]
pub enum ChainError {
    /// No certificate was issued for the key.
    NoLeaf,
    /// One of them (counted from 1) cannot be parsed.
    Damaged(usize, String),
}

/// A chain to present.
#[derive(Debug)]
pub struct Chain {
    /// The certificates, in the order they are sent.
    pub certificates: Vec<CertificateDer<'static>>,
    /// How many of them lead from the leaf towards its root, each signed by the next. Those behind
    /// are for other paths.
    pub path: usize,
    /// What should be noted about the file.
    pub remarks: Vec<Remark>,
}

/// Puts certificates in order: that of the key whose SubjectPublicKeyInfo is `key` first, then its
/// issuer, and so on (RFC 8446 section 4.4.2). Without `key`, the first one leads.
///
/// Further certificates that an origin may need to build a path to another root follow the chain;
/// section 4.4.2 allows that. What has expired is sent only where nothing else takes its place.
///
/// # Errors
///
/// Returns [`ChainError`] if a certificate cannot be parsed or none is for the key.
pub fn order(
    certificates: Vec<CertificateDer<'static>>,
    key: Option<&[u8]>,
    now: SystemTime,
) -> Result<Chain, ChainError> {
    let mut links = Vec::new();
    for (at, der) in certificates.iter().enumerate() {
        links.push(Link::new(der, now).map_err(|reason| ChainError::Damaged(at + 1, reason))?);
    }
    let leaf = match key {
        Some(key) => leaf_of(&links, key).ok_or(ChainError::NoLeaf)?,
        None => 0,
    };
    let mut graph = Graph::new(&links);
    let related = graph.related(leaf);
    let mut chain = graph.best_path(leaf);
    let mut remarks = Vec::new();
    if !chain.is_sorted() {
        remarks.push(Remark::Reordered);
    }
    let path = chain.len();
    let (more, expired): (Vec<usize>, Vec<usize>) = related
        .iter()
        .copied()
        .filter(|at| !chain.contains(at))
        .partition(|at| !links[*at].is_expired);
    chain.extend(more);

    let is_sent = |at: &usize| chain.iter().any(|sent| links[*sent].der == links[*at].der);
    let names = |wanted: &dyn Fn(&usize) -> bool| -> Vec<String> {
        (0..links.len())
            .filter(|at| !is_sent(at) && wanted(at))
            .map(|at| links[at].name.clone())
            .collect()
    };
    let unrelated = names(&|at| !expired.contains(at));
    if !unrelated.is_empty() {
        remarks.push(Remark::Unrelated(unrelated));
    }
    let superseded = names(&|at| expired.contains(at));
    if !superseded.is_empty() {
        remarks.push(Remark::Superseded(superseded));
    }
    Ok(Chain {
        certificates: chain.iter().map(|at| certificates[*at].clone()).collect(),
        path,
        remarks,
    })
}

/// Returns the certificate that was issued for `key`. Of several, those that are valid now and for
/// clients take precedence, then the first.
fn leaf_of(links: &[Link<'_>], key: &[u8]) -> Option<usize> {
    (0..links.len())
        .filter(|at| links[*at].is_for_key(key))
        .min_by_key(|at| (!links[*at].is_valid, !links[*at].is_for_clients))
}

/// What ties a certificate to others.
struct Link<'c> {
    der: &'c [u8],
    signed: Option<Signed<'c>>,
    key: Vec<u8>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    key_id: Option<Vec<u8>>,
    issuer_key_id: Option<Vec<u8>>,
    is_valid: bool,
    is_expired: bool,
    is_for_clients: bool,
    not_after: i64,
    name: String,
}

impl<'c> Link<'c> {
    fn new(der: &'c CertificateDer<'static>, now: SystemTime) -> Result<Self, String> {
        let certificate = parse(der)?;
        let (key_id, issuer_key_id) = key_ids(&certificate);
        let validity = certificate.validity();
        let is_expired = now > from_seconds(validity.not_after.timestamp());
        let is_early = now < from_seconds(validity.not_before.timestamp());
        let usage = certificate.extended_key_usage().ok().flatten();
        Ok(Self {
            der,
            signed: Signed::new(der),
            key: certificate.public_key().raw.to_vec(),
            subject: x509::canonical(certificate.subject()),
            issuer: x509::canonical(certificate.issuer()),
            key_id,
            issuer_key_id,
            is_valid: !is_expired && !is_early,
            is_expired,
            is_for_clients: usage.is_none_or(|usage| usage.value.client_auth || usage.value.any),
            not_after: validity.not_after.timestamp(),
            name: x509::display(certificate.subject()),
        })
    }

    fn is_for_key(&self, spki: &[u8]) -> bool {
        self.key == spki
            || x509::key_bits(spki).is_some_and(|key| x509::key_bits(&self.key) == Some(key))
    }

    fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }
}

/// Parses the DER of a certificate.
///
/// # Errors
///
/// Returns what is wrong with it, for people.
pub fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("data follows the certificate".to_owned()),
        Err(_) if is_cut_short(der) => Err("it ends too early".to_owned()),
        Err(error) => Err(error.to_string().to_lowercase()),
    }
}

/// Whether DER is shorter than its own header says.
fn is_cut_short(der: &[u8]) -> bool {
    let length = match der {
        [_, length @ 0..=0x7f, rest @ ..] => return rest.len() < usize::from(*length),
        [_, count @ 0x81..=0x84, rest @ ..] => {
            match rest.split_at_checked(usize::from(count & 7)) {
                Some((length, rest)) => (length.iter(), rest.len()),
                None => return true,
            }
        }
        _ => return der.len() < 2,
    };
    let (bytes, there) = length;
    bytes.fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)) > there as u64
}

/// Returns the key identifiers of the subject and of the issuer (RFC 5280 sections 4.2.1.1 and
/// 4.2.1.2).
fn key_ids(certificate: &X509Certificate<'_>) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let mut ids = (None, None);
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => ids.0 = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                ids.1 = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            _ => {}
        }
    }
    ids
}

/// Who issued whom among the certificates of a file.
struct Graph<'l, 'c> {
    links: &'l [Link<'c>],
    // The issuers of each, the best first; `None` where they were not looked for yet.
    issuers: Vec<Option<Vec<usize>>>,
    checks_left: usize,
}

impl<'l, 'c> Graph<'l, 'c> {
    fn new(links: &'l [Link<'c>]) -> Self {
        Self {
            links,
            issuers: vec![None; links.len()],
            checks_left: MOST_CHECKS,
        }
    }

    /// Returns the certificates that may have issued `at`, the best first: checked signatures,
    /// then valid certificates, then those that lead on to another issuer, then the last to expire.
    fn issuers(&mut self, at: usize) -> Vec<usize> {
        if let Some(known) = &self.issuers[at] {
            return known.clone();
        }
        let mut found = Vec::new();
        let mut seen: Vec<&[u8]> = vec![self.links[at].der];
        for other in 0..self.links.len() {
            let candidate = &self.links[other];
            if seen.contains(&candidate.der) || !self.may_have_issued(other, at) {
                continue;
            }
            if let Some(is_checked) = self.issued(other, at) {
                seen.push(candidate.der);
                found.push((other, is_checked));
            }
        }
        found.sort_by_key(|(other, is_checked)| {
            let link = &self.links[*other];
            (
                !is_checked,
                !link.is_valid,
                link.is_self_issued(),
                std::cmp::Reverse(link.not_after),
            )
        });
        let found: Vec<usize> = found.into_iter().map(|(other, _)| other).collect();
        self.issuers[at] = Some(found.clone());
        found
    }

    fn may_have_issued(&self, issuer: usize, at: usize) -> bool {
        // A self-signed certificate has no other issuer.
        self.links[issuer].subject == self.links[at].issuer && !self.is_self_signed(at)
    }

    fn is_self_signed(&self, at: usize) -> bool {
        let link = &self.links[at];
        let other_key = match (&link.key_id, &link.issuer_key_id) {
            (Some(own), Some(issuer)) => own != issuer,
            _ => false,
        };
        link.is_self_issued() && !other_key
    }

    /// Whether `issuer` issued `at`, and whether the signature proves it; `None` if it did not.
    fn issued(&mut self, issuer: usize, at: usize) -> Option<bool> {
        let (issuer, link) = (&self.links[issuer], &self.links[at]);
        let signature = match (&link.signed, self.checks_left) {
            (Some(signed), 1..) => {
                self.checks_left -= 1;
                signed.check(&issuer.key)
            }
            _ => Signature::Unsupported,
        };
        match signature {
            Signature::Valid => Some(true),
            Signature::Invalid => None,
            // Names and identifiers are all there is to go by.
            Signature::Unsupported => match (&issuer.key_id, &link.issuer_key_id) {
                (Some(own), Some(wanted)) if own != wanted => None,
                _ => Some(false),
            },
        }
    }

    /// Returns every certificate on some way from `leaf` to a root, nearest first.
    fn related(&mut self, leaf: usize) -> Vec<usize> {
        let mut related = vec![leaf];
        let mut todo = VecDeque::from([leaf]);
        while let Some(at) = todo.pop_front() {
            for issuer in self.issuers(at) {
                let der = self.links[issuer].der;
                if !related.iter().any(|known| self.links[*known].der == der) {
                    related.push(issuer);
                    todo.push_back(issuer);
                }
            }
        }
        related
    }

    /// Returns the path from `leaf` with the fewest certificates that are not valid now.
    fn best_path(&mut self, leaf: usize) -> Vec<usize> {
        let mut path = vec![leaf];
        let mut budget = MOST_PATHS;
        self.extend(&mut path, &mut budget)
    }

    fn extend(&mut self, path: &mut Vec<usize>, budget: &mut usize) -> Vec<usize> {
        let last = path[path.len() - 1];
        let is_known = |links: &[Link<'_>], at: usize, path: &[usize]| {
            path.iter().any(|used| {
                links[*used].subject == links[at].subject && links[*used].key == links[at].key
            })
        };
        let mut best: Option<(usize, Vec<usize>)> = None;
        for issuer in self.issuers(last) {
            if is_known(self.links, issuer, path) || *budget == 0 {
                continue;
            }
            *budget -= 1;
            path.push(issuer);
            let found = self.extend(path, budget);
            path.pop();
            let invalid = found.iter().filter(|at| !self.links[**at].is_valid).count();
            if best.as_ref().is_none_or(|(fewest, _)| invalid < *fewest) {
                best = Some((invalid, found));
            }
        }
        best.map_or_else(|| path.clone(), |(_, found)| found)
    }
}

/// A file with thousands of certificates of one name must not keep other bindings from reloading.
const MOST_CHECKS: usize = 1000;
const MOST_PATHS: usize = 1000;

#[cfg(test)]
mod tests;
