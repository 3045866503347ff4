//! Certificates for one test.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PublicKeyData, SerialNumber,
};

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

    /// The same with the certificate of its issuer behind it.
    pub fn with(mut self, issuer: &Ca) -> Self {
        self.chain.push_str(&issuer.pem);
        self
    }

    /// The hash of its key, as curl writes it.
    pub fn pin(&self) -> String {
        let key = KeyPair::from_pem(&self.key).unwrap();
        let hash =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &key.subject_public_key_info());
        format!("sha256//{}", data_encoding::BASE64.encode(hash.as_ref()))
    }
}

impl Ca {
    pub fn new() -> Self {
        Self::authority(|_| {})
    }

    /// A root that is a little different.
    pub fn authority(change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::with(KeyPair::generate().unwrap(), change)
    }

    /// The authority of this name whose key is in `pem`.
    pub fn of(pem: &str) -> Self {
        Self::with(KeyPair::from_pem(pem).unwrap(), |_| {})
    }

    fn with(key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = Self::params("test CA");
        change(&mut params);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
            next: AtomicU64::new(0x4000),
        }
    }

    /// An authority below this one.
    pub fn intermediate(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = Self::params(name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
            next: AtomicU64::new(0x8000),
        }
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    /// The certificate of an authority below this one, and its key, as if it were a server's.
    pub fn intermediate_leaf(&self) -> Issued {
        let mut params = Self::params("below");
        params.subject_alt_names = vec![rcgen::SanType::DnsName("localhost".try_into().unwrap())];
        let key = KeyPair::generate().unwrap();
        Issued {
            chain: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
            serial: String::new(),
        }
    }

    /// The key in PEM.
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A root of this name with the same key.
    pub fn renamed(&self, name: &str) -> Self {
        Self::with(KeyPair::from_pem(&self.key()).unwrap(), |params| {
            params.distinguished_name.push(DnType::CommonName, name);
        })
    }

    pub fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
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
