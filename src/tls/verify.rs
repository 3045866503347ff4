//! Whether an origin is who it must be: webpki's judgement of its chain, and what a binding demands
//! besides.

use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{
    CertRevocationListError, CertificateError, DigitallySignedStruct, DistinguishedName, Error,
    OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::{Pin, SubjectName, TlsPolicy};
use crate::error::Distrust;

use super::slot;

/// Judges the certificates of origins, for all connections of a Generation.
#[derive(Debug)]
pub struct Verifier {
    chain: Arc<WebPkiServerVerifier>,
    pins: Vec<Pin>,
    names: Vec<SubjectName>,
}

impl Verifier {
    /// A verifier that trusts `roots`, and wants every certificate of a chain covered by one of
    /// `lists` that is not out of date, if there are any.
    ///
    /// # Errors
    ///
    /// What rustls says of the revocation lists.
    pub fn new(
        roots: Arc<RootCertStore>,
        lists: Vec<CertificateRevocationListDer<'static>>,
        policy: &TlsPolicy,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let chain = WebPkiServerVerifier::builder_with_provider(roots, provider)
            .with_crls(lists)
            .enforce_revocation_expiration()
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            chain,
            pins: policy.pins.clone(),
            names: policy.verify_names.clone(),
        })
    }

    /// Whether the certificate is for one of the names that were demanded.
    fn check_names(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let uris = uris(leaf);
        let is_for = |name: &SubjectName| match name {
            SubjectName::Dns(host) => ServerName::try_from(&**host)
                .is_ok_and(|host| verify_server_name(&parsed, &host).is_ok()),
            SubjectName::Ip(address) => {
                verify_server_name(&parsed, &ServerName::from(*address)).is_ok()
            }
            SubjectName::Uri(uri) => uris.iter().any(|other| **other == **uri),
        };
        match self.names.iter().any(is_for) {
            true => Ok(()),
            false => Err(distrust(Distrust::Names {
                expected: self.names.iter().map(ToString::to_string).collect(),
                presented: names(leaf),
            })),
        }
    }

    fn check_pins(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        let key = ParsedCertificate::try_from(leaf)?.subject_public_key_info();
        let hash = digest::digest(&digest::SHA256, &key);
        let presented = Pin(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"));
        match self.pins.contains(&presented) {
            true => Ok(()),
            false => Err(distrust(Distrust::Pin(presented.to_string()))),
        }
    }

    /// What is made of webpki's judgement.
    fn judge(
        &self,
        judged: Result<ServerCertVerified, Error>,
        server_name: &ServerName<'_>,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<ServerCertVerified, Error> {
        match judged {
            // webpki looks at the name last: the chain is good. Which name is not its to say then.
            Ok(_)
            | Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.names.is_empty() => self.check_names(end_entity)?,
            Ok(_) => {}
            // rustls writes these names as its own types; people read them as they are.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => {
                return Err(distrust(Distrust::Names {
                    expected: vec![server_name.to_str().into_owned()],
                    presented: names(end_entity),
                }));
            }
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                return Err(distrust(unknown(end_entity, intermediates)));
            }
            Err(error) => return Err(error),
        }
        if !self.pins.is_empty() {
            self.check_pins(end_entity)?;
        }
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = self.chain.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        let judged = self.judge(judged, server_name, end_entity, intermediates);
        if judged.is_err() {
            slot::refused(end_entity, intermediates);
        }
        judged
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.chain.root_hint_subjects()
    }
}

/// What rustls says of a certificate, in words of ours.
pub fn explain(error: &CertificateError) -> Distrust {
    match error {
        CertificateError::Expired => Distrust::Expired(None),
        CertificateError::ExpiredContext { not_after, .. } => {
            Distrust::Expired(Some(not_after.as_secs()))
        }
        CertificateError::NotValidYet => Distrust::NotYetValid(None),
        CertificateError::NotValidYetContext { not_before, .. } => {
            Distrust::NotYetValid(Some(not_before.as_secs()))
        }
        CertificateError::Revoked => Distrust::Revoked,
        CertificateError::UnknownRevocationStatus => Distrust::RevocationUnknown,
        CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => Distrust::RevocationListExpired,
        CertificateError::BadSignature => Distrust::BadSignature,
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            Distrust::Algorithm
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            Distrust::Usage
        }
        CertificateError::Other(OtherError(other)) => match other.downcast_ref::<Distrust>() {
            Some(distrust) => distrust.clone(),
            None => Distrust::Other(other.to_string()),
        },
        other => Distrust::Other(other.to_string()),
    }
}

/// What rustls says of a revocation list while it judges a certificate by it.
pub fn explain_list(error: &CertRevocationListError) -> Distrust {
    match error {
        // One of that name, by another key.
        CertRevocationListError::BadSignature => Distrust::RevocationUnknown,
        other => Distrust::Other(format!("`crl`: {other:?}")),
    }
}

fn distrust(reason: Distrust) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}

/// Why a chain leads to nobody who is trusted.
fn unknown(leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Distrust {
    // Some servers send their own certificate twice.
    let others: Vec<_> = intermediates.iter().filter(|one| *one != leaf).collect();
    let last = others.last().copied().unwrap_or(leaf);
    let Ok((_, last)) = X509Certificate::from_der(last) else {
        return Distrust::Other("a certificate in its chain cannot be read".to_owned());
    };
    let is_own = last.subject().as_raw() == last.issuer().as_raw();
    let issuer = last.issuer().to_string();
    match others.as_slice() {
        [] if is_own => Distrust::SelfSigned,
        [] => Distrust::Incomplete(issuer),
        _ => Distrust::UnknownIssuer(issuer),
    }
}

fn uris(leaf: &CertificateDer<'_>) -> Vec<String> {
    collect(leaf, |name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    })
}

/// The names of a certificate, as people write them.
fn names(leaf: &CertificateDer<'_>) -> Vec<String> {
    collect(leaf, |name| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(std::net::Ipv4Addr::from(v4).to_string()),
            Err(_) => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|v6| std::net::Ipv6Addr::from(v6).to_string()),
        },
        _ => None,
    })
}

fn collect(
    leaf: &CertificateDer<'_>,
    wanted: impl Fn(&GeneralName<'_>) -> Option<String>,
) -> Vec<String> {
    let Ok((_, leaf)) = X509Certificate::from_der(leaf) else {
        return Vec::new();
    };
    let Ok(Some(names)) = leaf.subject_alternative_name() else {
        return Vec::new();
    };
    names
        .value
        .general_names
        .iter()
        .filter_map(wanted)
        .collect()
}
