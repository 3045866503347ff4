//! Certificates for one test.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SerialNumber};

/// A certificate authority.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
    next: AtomicU64,
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Issued {
    pub chain: String,
    pub key: String,
    pub serial: String,
}

impl Issued {
    /// Both in one file.
    pub fn pem(&self) -> String {
        format!("{}{}", self.chain, self.key)
    }
}

impl Ca {
    pub fn new() -> Self {
        Self::with(KeyPair::generate().unwrap())
    }

    /// The authority of this name whose key is in `pem`.
    pub fn of(pem: &str) -> Self {
        Self::with(KeyPair::from_pem(pem).unwrap())
    }

    fn with(key: KeyPair) -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
            next: AtomicU64::new(0x4000),
        }
    }

    /// A certificate that is good for clients, and for servers on this machine.
    pub fn issue(&self, name: &str) -> Issued {
        self.issue_with(name, |_| {})
    }

    pub fn issue_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let serial = self.next.fetch_add(1, Relaxed);
        let mut params =
            CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Issued {
            chain: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
            serial: format!("{serial:04X}"),
        }
    }
}
