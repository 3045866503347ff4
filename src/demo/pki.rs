//! A certificate authority for ten minutes of fame.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber,
};

/// The authority, and where the client's files are.
pub struct Pki {
    directory: PathBuf,
    authority: Issuer<'static, KeyPair>,
    ca: String,
    issued: AtomicU64,
}

/// A certificate with its key, both as PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
    pub serial: String,
}

impl Pki {
    /// Makes an authority and a first client certificate, and writes `ca.crt`, `client.crt` and
    /// `client.key` into `directory`.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let mut params = named("mtlsd demo CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = params.self_signed(&key).map_err(io::Error::other)?.pem();
        fs::write(directory.join("ca.crt"), &ca)?;
        let pki = Self {
            directory: directory.to_owned(),
            authority: Issuer::new(params, key),
            ca,
            issued: AtomicU64::new(0x1000),
        };
        pki.rotate()?;
        Ok(pki)
    }

    /// The authority's certificate as PEM.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// The file with the authority's certificate.
    pub fn ca_path(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// A certificate for an origin on this machine.
    pub fn server(&self) -> io::Result<Issued> {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "mtlsd demo origin");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params)
    }

    /// Replaces the client's certificate and key by new ones. Each file is written beside the old
    /// one and renamed over it, as careful tools do. Returns the new serial number.
    pub fn rotate(&self) -> io::Result<String> {
        let number = self.issued.load(Relaxed) - 0x1000;
        let mut params = named(&format!("demo-client-{}", number.max(1)));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let issued = self.issue(params)?;
        self.replace("client.key", &issued.key)?;
        self.replace("client.crt", &issued.certificate)?;
        Ok(issued.serial)
    }

    fn issue(&self, mut params: CertificateParams) -> io::Result<Issued> {
        let serial = self.issued.fetch_add(1, Relaxed);
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params
            .signed_by(&key, &self.authority)
            .map_err(io::Error::other)?;
        Ok(Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            serial: format!("{serial:04X}"),
        })
    }

    fn replace(&self, name: &str, content: &str) -> io::Result<()> {
        let new = self.directory.join(format!("{name}.new"));
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        io::Write::write_all(&mut file, content.as_bytes())?;
        fs::rename(new, self.directory.join(name))
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
