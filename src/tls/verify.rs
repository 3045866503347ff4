//! Verifies origins: webpki checks the chain, and what a binding demands besides is checked here.

mod explain;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};
use x509_parser::prelude::X509Certificate;

use crate::config::{Pin, SubjectName, TlsPolicy};
use crate::error::Distrust;

use super::crl::{Crls, Subject};
use super::trust::Anchors;
use super::{chain, slot};

pub use explain::explain;

/// Verifies the certificates of origins, for all connections of a Generation.
#[derive(Debug)]
pub struct Verifier {
    anchors: Arc<Anchors>,
    // Where there are any, every certificate of a chain has to be covered by one.
    crls: Option<Crls>,
    pins: Vec<Pin>,
    names: Vec<SubjectName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// Returns when the first of its CRLs is out of date.
    pub fn crl_next_update(&self) -> Option<SystemTime> {
        self.crls.as_ref().and_then(Crls::next_update)
    }

    /// Makes a verifier that trusts `anchors`, and wants every certificate of a chain covered by a
    /// valid CRL of `crls`, if there are any.
    pub fn new(
        anchors: Arc<Anchors>,
        crls: Option<Crls>,
        policy: &TlsPolicy,
        provider: &CryptoProvider,
    ) -> Self {
        Self {
            anchors,
            crls,
            pins: policy.pins.clone(),
            names: policy.verify_names.clone(),
            algorithms: provider.signature_verification_algorithms,
        }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Distrust> {
        match self.anchors.lists(leaf) {
            true => self.verify_listed(leaf, now)?,
            false => self.verify_chain(leaf, others, server_name, now)?,
        }
        explain::weak_key(leaf)?;
        self.check_names(leaf, server_name)?;
        match self.pins.is_empty() {
            true => Ok(()),
            false => self.check_pins(leaf),
        }
    }

    /// Verifies the chain from `leaf` to a trust anchor.
    fn verify_chain(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Distrust> {
        let reason = RefCell::new(None);
        let check = |path: &VerifiedPath<'_>| {
            self.check_revocation(path, now).map_err(|distrust| {
                *reason.borrow_mut() = Some(distrust);
                webpki::Error::CertRevoked
            })
        };
        let build = |roots: &[TrustAnchor<'static>]| {
            EndEntityCert::try_from(leaf)?
                .verify_for_usage(
                    self.algorithms.all,
                    roots,
                    others,
                    now,
                    KeyUsage::server_auth(),
                    None,
                    self.crls.is_some().then_some(&check),
                )
                .map(|_| ())
        };
        let mut result = build(&self.anchors.roots.roots);
        if result.is_err() {
            let chain: Vec<_> = std::iter::once(leaf).chain(others).collect();
            let mut anchors = self.anchors.respelled(&chain);
            if !anchors.is_empty() {
                anchors.extend(self.anchors.roots.roots.iter().cloned());
                result = build(&anchors);
            }
        }
        result.map_err(|error| match (&error, reason.take()) {
            (webpki::Error::CertRevoked, Some(reason)) => reason,
            _ => explain::chain(&error, leaf, others, server_name, now, &self.anchors),
        })
    }

    /// Checks that no certificate of `path` is revoked.
    fn check_revocation(&self, path: &VerifiedPath<'_>, now: UnixTime) -> Result<(), Distrust> {
        let Some(crls) = &self.crls else {
            return Ok(());
        };
        let leaf = path.end_entity().der();
        let mut ders = vec![leaf];
        ders.extend(path.intermediate_certificates().map(|one| one.der()));
        let unreadable = |_| Distrust::Unreadable("its form is not that of X.509");
        let certificates = ders
            .iter()
            .map(|der| chain::parse(der).map_err(unreadable))
            .collect::<Result<Vec<_>, _>>()?;
        let anchor_key = webpki::spki_for_anchor(path.anchor());
        for (at, certificate) in certificates.iter().enumerate() {
            let issuer = certificates.get(at + 1);
            let issuer_key = issuer.map_or(anchor_key.as_ref(), |one| one.public_key().raw);
            let subject = Subject {
                certificate,
                is_ca: at > 0,
                issuer_key,
                issuer_signs_crls: issuer.is_none_or(signs_crls),
            };
            crls.check(&subject, seconds(now))?;
        }
        Ok(())
    }

    /// Verifies a certificate that is listed in `ca` itself. It needs no issuer then; its dates,
    /// its use and its revocation count all the same.
    fn verify_listed(&self, leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), Distrust> {
        let certificate = chain::parse(leaf)
            .map_err(|_| Distrust::Unreadable("its form is not that of X.509"))?;
        let validity = certificate.validity();
        let (from, to) = (
            validity.not_before.timestamp(),
            validity.not_after.timestamp(),
        );
        let now = seconds(now);
        match (now < from, now > to) {
            (true, _) => return Err(Distrust::NotYetValid(from)),
            (_, true) => return Err(Distrust::Expired(to)),
            (false, false) => {}
        }
        if let Ok(Some(usage)) = certificate.extended_key_usage()
            && !usage.value.server_auth
            && !usage.value.any
        {
            return Err(Distrust::Usage);
        }
        if let Ok(Some(usage)) = certificate.key_usage()
            && !usage.value.digital_signature()
            && !usage.value.key_encipherment()
            && !usage.value.key_agreement()
        {
            return Err(Distrust::KeyUsage);
        }
        if let Some(crls) = &self.crls {
            // Its own key, if it is self-signed: nothing is known of another issuer's.
            let subject = Subject {
                certificate: &certificate,
                is_ca: false,
                issuer_key: certificate.public_key().raw,
                issuer_signs_crls: signs_crls(&certificate),
            };
            crls.check(&subject, now)?;
        }
        // The library's signature check needs a certificate that it can read.
        EndEntityCert::try_from(leaf)
            .map(|_| ())
            .map_err(|error| explain::unreadable(&error, leaf, &[]))
    }

    /// Checks that the certificate is for one of the names that are demanded.
    fn check_names(
        &self,
        leaf: &CertificateDer<'_>,
        server_name: &ServerName<'_>,
    ) -> Result<(), Distrust> {
        let parsed = ParsedCertificate::try_from(leaf)
            .map_err(|_| Distrust::Unreadable("its form is not that of X.509"))?;
        if self.names.is_empty() {
            return verify_server_name(&parsed, server_name)
                .map_err(|_| explain::names(leaf, vec![server_name.to_str().into_owned()]));
        }
        let uris = explain::uris(leaf);
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
            false => {
                let expected = self.names.iter().map(ToString::to_string).collect();
                Err(explain::names(leaf, expected))
            }
        }
    }

    fn check_pins(&self, leaf: &CertificateDer<'_>) -> Result<(), Distrust> {
        let key = ParsedCertificate::try_from(leaf)
            .map_err(|_| Distrust::Unreadable("its form is not that of X.509"))?
            .subject_public_key_info();
        let hash = digest::digest(&digest::SHA256, &key);
        let presented = Pin(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"));
        match self.pins.contains(&presented) {
            true => Ok(()),
            false => Err(Distrust::Pin(presented.to_string())),
        }
    }
}

/// Whether the key usage of a CA lets it sign CRLs (RFC 5280 section 4.2.1.3).
fn signs_crls(certificate: &X509Certificate<'_>) -> bool {
    match certificate.key_usage() {
        Ok(Some(usage)) => usage.value.crl_sign(),
        _ => true,
    }
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.verify(end_entity, intermediates, server_name, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(distrust) => {
                slot::refused(end_entity, intermediates);
                Err(rejection(distrust))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms).map_err(signature_error)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms).map_err(signature_error)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn signature_error(error: Error) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            rejection(Distrust::HandshakeSignature)
        }
        error => error,
    }
}

fn rejection(reason: Distrust) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}
