//! Forms of keys, certificates and CRLs that are not read: what each is called, and the command that
//! converts it. `tests/key_formats` runs the commands that OpenSSL and a shell suffice for.

use std::path::Path;

use data_encoding::BASE64;
use zeroize::Zeroizing;

use super::error::Input;
use super::form::Shape;

/// A form that is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unusable {
    /// An empty file.
    Empty,
    /// DER where PEM is required.
    Der(Shape),
    /// The base64 of DER, without BEGIN and END lines.
    Base64(Shape),
    /// PEM that was encoded in base64 once more.
    PemInBase64,
    /// A PEM block whose content is base64 of base64.
    Base64Twice,
    /// A PEM block whose content is a PEM block.
    PemInPem,
    /// Text in UTF-16.
    Utf16,
    /// PEM whose lines are indented.
    Indented,
    /// PEM whose line breaks are missing, or are blanks or the characters `\n`.
    LineBreaks,
    /// PEM, and DER or other binary data.
    BinaryBeside,
    /// PEM, and base64 outside of its blocks.
    Base64Beside,
    /// A block whose label is not that of its content.
    WrongLabel,
    /// OpenSSL's TRUSTED CERTIFICATE.
    TrustedCertificate,
    /// The label X509 CERTIFICATE of old.
    OldCertificate,
    /// A certificate signing request.
    Request,
    /// PKCS#12, where PEM is required or beside a file of another form.
    Pkcs12,
    /// PKCS#12 as `ca`.
    Pkcs12TrustStore,
    /// PKCS#12 that is encrypted with this algorithm.
    Pkcs12Scheme(&'static str),
    /// PKCS#12 with certificates only.
    Pkcs12WithoutKey,
    /// PKCS#7, a bundle of certificates.
    Pkcs7,
    /// A Java key store.
    Jks,
    /// A Java key store of type JCEKS.
    Jceks,
    /// A Java key store as `ca`.
    JavaTrustStore,
    /// A database of NSS.
    Nss,
    /// OpenSSH's own form of private keys.
    OpenSsh,
    /// OpenSSH's own form of public keys.
    OpenSshPublic,
    /// PuTTY's own form of keys.
    Putty,
    /// A public key.
    PublicKey,
    /// A key of OpenPGP.
    OpenPgp,
    /// A key that a TPM has wrapped.
    Tpm,
    /// A DSA key.
    Dsa,
    /// PKCS#1 or SEC1, encrypted inside of the PEM block (RFC 1421).
    EncryptedTraditional,
    /// PKCS#8 that is encrypted with this algorithm.
    EncryptionScheme(&'static str),
    /// A key whose password takes too much work to verify.
    TooMuchWork,
    /// Something compressed.
    Gzip,
    /// A web page.
    Html,
    /// A JSON document.
    Json,
}

impl Unusable {
    /// What bytes without a PEM block are.
    pub fn of(input: Input, bytes: &[u8]) -> Option<Self> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Some(Self::Empty);
        }
        let is_authority = matches!(input, Input::Ca | Input::Crl);
        match bytes {
            [0xfe, 0xed, 0xfe, 0xed, ..] if is_authority => return Some(Self::JavaTrustStore),
            [0xce, 0xce, 0xce, 0xce, ..] if is_authority => return Some(Self::JavaTrustStore),
            [0xfe, 0xed, 0xfe, 0xed, ..] => return Some(Self::Jks),
            [0xce, 0xce, 0xce, 0xce, ..] => return Some(Self::Jceks),
            [0x1f, 0x8b, ..] => return Some(Self::Gzip),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Some(Self::Utf16),
            _ => {}
        }
        if let Some(shape) = Shape::of(bytes) {
            return Some(match shape {
                Shape::Pkcs12 if is_authority => Self::Pkcs12TrustStore,
                Shape::Pkcs12 => Self::Pkcs12,
                shape => Self::Der(shape),
            });
        }
        let text = bytes.trim_ascii_start();
        let starts = |with: &[&[u8]]| with.iter().any(|start| text.starts_with(start));
        if starts(&[b"PuTTY-User-Key-File"]) {
            return Some(Self::Putty);
        }
        if starts(&[b"ssh-", b"ecdsa-sha2-", b"sk-", b"---- BEGIN SSH2"]) {
            return Some(Self::OpenSshPublic);
        }
        if starts(&[b"SQLite format 3"]) {
            return Some(Self::Nss);
        }
        if starts(&[b"<"]) {
            return Some(Self::Html);
        }
        if starts(&[b"{", b"["]) {
            return Some(Self::Json);
        }
        if memchr::memmem::find(bytes, b"B\0E\0G\0I\0N").is_some() {
            return Some(Self::Utf16);
        }
        let inner = decoded(bytes)?;
        match memchr::memmem::find(&inner, b"-----BEGIN ") {
            Some(_) => Some(Self::PemInBase64),
            None => Shape::of(&inner).map(Self::Base64),
        }
    }

    /// What the content of a PEM block is where it was encoded more than once.
    pub fn encoded_twice(der: &[u8]) -> Option<Self> {
        if memchr::memmem::find(der, b"-----BEGIN ").is_some_and(|at| at < 4) {
            return Some(Self::PemInPem);
        }
        let inner = decoded(der)?;
        Shape::of(&inner).map(|_| Self::Base64Twice)
    }

    /// What a file is that contains a block with this label, and none that was looked for.
    pub fn labeled(input: Input, label: &str) -> Option<Self> {
        Some(match (input, label) {
            (_, "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") => Self::Request,
            (_, "PKCS7" | "PKCS #7 SIGNED DATA" | "CMS") => Self::Pkcs7,
            (_, "TRUSTED CERTIFICATE") => Self::TrustedCertificate,
            (_, "X509 CERTIFICATE") => Self::OldCertificate,
            (_, "OPENSSH PRIVATE KEY" | "SSH2 ENCRYPTED PRIVATE KEY") => Self::OpenSsh,
            (_, "PGP PRIVATE KEY BLOCK" | "PGP PUBLIC KEY BLOCK" | "PGP MESSAGE") => Self::OpenPgp,
            (Input::Key, "PUBLIC KEY" | "RSA PUBLIC KEY") => Self::PublicKey,
            (Input::Key, "TSS2 PRIVATE KEY") => Self::Tpm,
            (Input::Key, "DSA PRIVATE KEY") => Self::Dsa,
            _ => return None,
        })
    }

    /// What it is, as the end of "FILE is …".
    pub fn name(self) -> String {
        let name = match self {
            Self::Empty => "empty",
            Self::Der(shape) => return format!("{}, not PEM", in_der(shape)),
            Self::Base64(shape) => {
                return format!(
                    "the base64 of {}, without BEGIN and END lines",
                    shape.name()
                );
            }
            Self::PemInBase64 => "PEM that was encoded in base64 once more",
            Self::Base64Twice => "PEM whose content was encoded in base64 twice",
            Self::PemInPem => "PEM that was encoded as PEM once more",
            Self::Utf16 => "text in UTF-16, not in UTF-8 or ASCII",
            Self::Indented => "PEM whose lines are indented",
            Self::LineBreaks => "PEM whose line breaks are missing",
            Self::BinaryBeside => "a mixture of PEM and binary data, such as DER",
            Self::Base64Beside => "PEM with base64 outside of its blocks",
            Self::WrongLabel => "PEM with an unknown label in a BEGIN line",
            Self::TrustedCertificate => {
                "in OpenSSL's own form of certificates (TRUSTED CERTIFICATE)"
            }
            Self::OldCertificate => "a certificate with the old label X509 CERTIFICATE",
            Self::Request => "a certificate signing request, not a certificate",
            Self::Pkcs12 => "a PKCS#12 file, not PEM",
            Self::Pkcs12TrustStore => "a PKCS#12 trust store, not PEM",
            Self::Pkcs12Scheme(scheme) => {
                return format!(
                    "a PKCS#12 file that is protected with {scheme}, which is not supported"
                );
            }
            Self::Pkcs12WithoutKey => "a PKCS#12 file that holds no key with its certificate",
            Self::Pkcs7 => "a PKCS#7 bundle",
            Self::Jks => "a Java key store",
            Self::Jceks => "a Java key store (JCEKS)",
            Self::JavaTrustStore => "a Java trust store, not PEM",
            Self::Nss => "a database of NSS, not PEM",
            Self::OpenSsh => "a key in OpenSSH's own form",
            Self::OpenSshPublic => "a public key in OpenSSH's own form",
            Self::Putty => "a key in PuTTY's own form",
            Self::PublicKey => "a public key, not a private one",
            Self::OpenPgp => "an OpenPGP file, not an X.509 one",
            Self::Tpm => "a key that only a TPM can use",
            Self::Dsa => "a DSA key, which TLS 1.3 does not support",
            Self::EncryptedTraditional => "a key that is encrypted in the old way of OpenSSL",
            Self::EncryptionScheme(scheme) => {
                return format!("a key that is encrypted with {scheme}, which is not supported");
            }
            Self::TooMuchWork => {
                "protected with a key derivation that takes too much time or memory"
            }
            Self::Gzip => "a gzip archive, not PEM",
            Self::Html => "an HTML or XML document, not PEM",
            Self::Json => "a JSON document, not PEM",
        };
        name.to_owned()
    }

    /// What to do about it; the commands are for the file at `path`.
    pub fn help(self, path: &Path) -> String {
        let path = &quoted(path);
        match self {
            Self::Empty => "check that the file was copied completely".to_owned(),
            Self::Der(shape) => der_help(shape, path),
            Self::Base64(shape) => base64_help(shape, path),
            Self::PemInBase64 => format!("decode it: umask 077; base64 -d {path} >{path}.pem"),
            Self::Base64Twice => format!(
                "decode it once: umask 077; {{ grep BEGIN {path}; sed '/^-----/d' {path} | base64 -d | tr -d '\\n' | fold -w 64; echo; grep END {path}; }} >{path}.pem"
            ),
            Self::PemInPem => format!(
                "decode it once: umask 077; sed '/^-----/d' {path} | base64 -d >{path}.pem"
            ),
            Self::Utf16 => {
                format!("convert it: umask 077; iconv -f UTF-16 -t UTF-8 {path} >{path}.pem")
            }
            Self::Indented => {
                format!("remove the indentation: umask 077; sed 's/^[[:blank:]]*//' {path} >{path}.pem")
            }
            Self::LineBreaks => format!(
                "put them back: umask 077; sed -E 's/(\\\\r)?\\\\n/ /g; s/ *(-----(BEGIN|END) [A-Z0-9 ]+-----) */\\n\\1\\n/g' {path} | sed '/^-----/!s/ /\\n/g' | grep . | fold -w 64 >{path}.pem"
            ),
            Self::BinaryBeside => {
                "convert each part to PEM before joining them: openssl crl -inform DER -in PART -out PART.pem, or openssl x509 for a certificate".to_owned()
            }
            Self::Base64Beside => {
                "a BEGIN or END line is missing or misspelt; they begin and end with five dashes".to_owned()
            }
            Self::WrongLabel => {
                "use the label of its content: CERTIFICATE, or X509 CRL for a CRL".to_owned()
            }
            Self::TrustedCertificate | Self::OldCertificate => {
                format!("convert it, one certificate at a time: openssl x509 -in {path} -out {path}.pem")
            }
            Self::Request => "use the certificate that the CA issued for this request".to_owned(),
            Self::Pkcs12 => format!(
                "set `certificate` to it and leave out `key`, or convert it: openssl pkcs12 -in {path} -nodes -out {path}.pem"
            ),
            Self::Pkcs12TrustStore => format!(
                "convert it: openssl pkcs12 -nokeys -in {path} -out {path}.pem"
            ),
            Self::Pkcs12Scheme(_) => format!(
                "convert it: openssl pkcs12 -legacy -in {path} -nodes -out {path}.pem"
            ),
            Self::Pkcs12WithoutKey => {
                format!("list its content: openssl pkcs12 -in {path} -info -noout")
            }
            Self::Pkcs7 => {
                format!("convert it: openssl pkcs7 -print_certs -in {path} -out {path}.pem")
            }
            Self::Jks => format!(
                "convert it: keytool -importkeystore -srckeystore {path} -destkeystore {path}.p12 -deststoretype pkcs12"
            ),
            Self::Jceks => format!(
                "convert it: keytool -importkeystore -srckeystore {path} -srcstoretype jceks -destkeystore {path}.p12 -deststoretype pkcs12"
            ),
            Self::JavaTrustStore => {
                format!("convert it: keytool -list -rfc -keystore {path} >{path}.pem")
            }
            Self::Nss => {
                "export from it: pk12util -d DIRECTORY -n NICKNAME -o FILE.p12, or certutil -L -d DIRECTORY -n NICKNAME -a".to_owned()
            }
            Self::OpenSsh => format!("convert a copy of it: ssh-keygen -p -m PEM -f {path}.copy"),
            Self::Putty => format!(
                "convert it: puttygen {path} -O private-openssh-new -o {path}.ssh, and then ssh-keygen -p -m PEM -f {path}.ssh"
            ),
            Self::PublicKey | Self::OpenSshPublic => {
                "set `key` to the file with the private key".to_owned()
            }
            Self::OpenPgp | Self::Dsa => {
                "create an RSA or EC key, and have a CA issue a certificate for it".to_owned()
            }
            Self::Tpm => "use a key that is stored in a file; keys in a TPM are not supported".to_owned(),
            Self::EncryptedTraditional => format!(
                "convert it, and set `key_password_file`: openssl pkcs8 -topk8 -in {path} -out {path}.p8"
            ),
            Self::EncryptionScheme(scheme) => {
                // OpenSSL keeps everything else in a provider of its own.
                let provider = match ["ARIA", "SM4"].contains(&scheme) {
                    true => "",
                    false => " -provider legacy -provider default",
                };
                format!(
                    "convert it, with the same password: openssl pkcs8 -topk8 -v2 aes-256-cbc{provider} -in {path} -out {path}.p8"
                )
            }
            Self::TooMuchWork => {
                "the limits are 5000000 iterations, and 256 MiB for scrypt; protect the key anew: openssl pkcs8 -topk8, or openssl pkcs12 -export".to_owned()
            }
            Self::Gzip => format!("extract it: gzip -dc {path}"),
            Self::Html | Self::Json => "check where the file was downloaded from".to_owned(),
        }
    }
}

fn in_der(shape: Shape) -> &'static str {
    match shape {
        Shape::Certificate => "a certificate in DER",
        Shape::Request => "a certificate signing request in DER",
        Shape::Crl => "a CRL in DER",
        Shape::Pkcs8 | Shape::Pkcs1 | Shape::Sec1 => "a key in DER",
        Shape::EncryptedPkcs8 => "an encrypted key in DER",
        Shape::PublicKey => "a public key in DER",
        Shape::Pkcs7 => "a PKCS#7 bundle in DER",
        Shape::Pkcs12 => "a PKCS#12 file",
    }
}

fn der_help(shape: Shape, path: &str) -> String {
    let command = match shape {
        Shape::Certificate => "x509 -inform DER",
        Shape::Crl => "crl -inform DER",
        Shape::Pkcs8 | Shape::Pkcs1 | Shape::Sec1 => "pkey -inform DER",
        Shape::EncryptedPkcs8 => "pkcs8 -topk8 -inform DER -v2 aes-256-cbc",
        Shape::Pkcs7 => "pkcs7 -inform DER -print_certs",
        Shape::Pkcs12 => "pkcs12 -nodes",
        Shape::Request => return Unusable::Request.help(Path::new("")),
        Shape::PublicKey => return Unusable::PublicKey.help(Path::new("")),
    };
    format!("convert it: openssl {command} -in {path} -out {path}.pem")
}

fn base64_help(shape: Shape, path: &str) -> String {
    match shape {
        Shape::Pkcs12 => format!("decode it: umask 077; base64 -d {path} >{path}.p12"),
        _ => {
            // The same command, which reads what was decoded.
            let command = der_help(shape, path);
            let command = command.replace(&format!("-in {path} "), "");
            command.replace("openssl", &format!("base64 -d {path} | openssl"))
        }
    }
}

/// What `bytes` are the base64 of.
fn decoded(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::with_capacity(bytes.len()));
    text.extend(bytes.iter().filter(|byte| !byte.is_ascii_whitespace()));
    let mut inner = Zeroizing::new(vec![0; BASE64.decode_len(text.len()).ok()?]);
    let length = BASE64.decode_mut(&text, &mut inner).ok()?;
    inner.truncate(length);
    (length > 0).then_some(inner)
}

/// The path as a word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@,~%".contains(&byte);
    match text.bytes().all(is_plain) && !text.starts_with('-') {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}
