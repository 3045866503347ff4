//! Forms in which keys and certificates are handed out and that are not read: what each is called,
//! and how to turn it into one that is.

use std::path::Path;

use super::error::Input;
use super::pkcs12;

/// A form that is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unusable {
    /// Nothing at all.
    Empty,
    /// A certificate without PEM around it.
    DerCertificate,
    /// A key without PEM around it.
    DerKey,
    /// A certificate signing request.
    Request,
    /// PKCS#12, where PEM is needed or beside a file of another form.
    Pkcs12,
    /// PKCS#12 with an algorithm of the nineties.
    Pkcs12Scheme,
    /// PKCS#12 with certificates only.
    Pkcs12WithoutKey,
    /// A revocation list of version 1, which says neither its number nor who made it.
    CrlVersion1,
    /// PKCS#7, a heap of certificates.
    Pkcs7,
    /// A Java key store.
    Jks,
    /// OpenSSH's own form of keys.
    OpenSsh,
    /// PuTTY's own form of keys.
    Putty,
    /// A public key.
    PublicKey,
    /// PKCS#1 or SEC1, encrypted inside of the PEM block (RFC 1421).
    EncryptedTraditional,
    /// PKCS#8, encrypted in a way that is not supported.
    EncryptionScheme,
}

impl Unusable {
    /// What bytes without a PEM block are.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        Some(match bytes {
            _ if bytes.iter().all(u8::is_ascii_whitespace) => Self::Empty,
            [0xfe, 0xed, 0xfe, 0xed, ..] | [0xce, 0xce, 0xce, 0xce, ..] => Self::Jks,
            _ if bytes.starts_with(b"PuTTY-User-Key-File") => Self::Putty,
            _ if pkcs12::is_pkcs12(bytes) => Self::Pkcs12,
            _ if pkcs12::is_der_certificate(bytes) => Self::DerCertificate,
            // Every other structure of ASN.1 that is left begins with a version: keys.
            [0x30, 0x80..=0x84, ..] | [0x30, _, 0x02, 0x01, ..] => Self::DerKey,
            _ => return None,
        })
    }

    /// What a file is whose only block has this label, where `input` was expected.
    pub fn labelled(input: Input, label: &str) -> Option<Self> {
        Some(match (input, label) {
            (_, "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") => Self::Request,
            (_, "PKCS7") => Self::Pkcs7,
            (Input::Key, "OPENSSH PRIVATE KEY") => Self::OpenSsh,
            (Input::Key, "PUBLIC KEY" | "RSA PUBLIC KEY") => Self::PublicKey,
            _ => return None,
        })
    }

    /// What it is, as the end of "FILE is …".
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::DerCertificate => "a certificate in DER, not PEM",
            Self::DerKey => "a key in DER, not PEM",
            Self::Request => "a certificate signing request, not a certificate",
            Self::Pkcs12 => "a PKCS#12 file, not PEM",
            Self::Pkcs12Scheme => {
                "a PKCS#12 file that is encrypted with an algorithm no longer in use"
            }
            Self::Pkcs12WithoutKey => "a PKCS#12 file that holds no key with its certificate",
            Self::CrlVersion1 => {
                "a revocation list of version 1, and those in use are of version 2"
            }
            Self::Pkcs7 => "a PKCS#7 bundle",
            Self::Jks => "a Java key store",
            Self::OpenSsh => "a key in OpenSSH's own form",
            Self::Putty => "a key in PuTTY's own form",
            Self::PublicKey => "a public key, not a private one",
            Self::EncryptedTraditional => "a key that is encrypted in the old way of OpenSSL",
            Self::EncryptionScheme => "a key that is encrypted with an algorithm no longer in use",
        }
    }

    /// What to do about it; the commands are for the file at `path`.
    pub fn help(self, path: &Path) -> String {
        let path = path.display();
        match self {
            Self::Empty => "was the file cut short while it was copied?".to_owned(),
            Self::DerCertificate => {
                format!("convert it: openssl x509 -inform DER -in {path} -out {path}.pem")
            }
            Self::DerKey => {
                format!("convert it: openssl pkey -inform DER -in {path} -out {path}.pem")
            }
            Self::Request => {
                "name the certificate that the authority made of the request".to_owned()
            }
            Self::Pkcs12 => format!(
                "name it as `certificate`, without a `key`, or convert it: openssl pkcs12 -in {path} -nodes -out {path}.pem"
            ),
            Self::Pkcs12Scheme => {
                format!("convert it: openssl pkcs12 -legacy -in {path} -nodes -out {path}.pem")
            }
            Self::Pkcs12WithoutKey => {
                format!("look into it: openssl pkcs12 -in {path} -info -noout")
            }
            Self::CrlVersion1 => {
                "have its authority make another: openssl ca -gencrl -crlexts SECTION, with `authorityKeyIdentifier = keyid` in that section of its configuration".to_owned()
            }
            Self::Pkcs7 => {
                format!("convert it: openssl pkcs7 -print_certs -in {path} -out {path}.pem")
            }
            Self::Jks => format!(
                "convert it: keytool -importkeystore -srckeystore {path} -destkeystore {path}.p12 -deststoretype pkcs12"
            ),
            Self::OpenSsh => format!("convert a copy of it: ssh-keygen -p -m PEM -f {path}.copy"),
            Self::Putty => format!(
                "convert it: puttygen {path} -O private-openssh-new -o {path}.ssh, and then ssh-keygen -p -m PEM -f {path}.ssh"
            ),
            Self::PublicKey => "name the file that holds the private key".to_owned(),
            Self::EncryptedTraditional => format!(
                "convert it, and set `key_password_file`: openssl pkcs8 -topk8 -in {path} -out {path}.p8"
            ),
            Self::EncryptionScheme => format!(
                "convert it, with the same password: openssl pkcs8 -topk8 -v2 aes-256-cbc -in {path} -out {path}.p8"
            ),
        }
    }
}
