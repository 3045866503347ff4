//! Certificates and keys in every form that people are handed. The files come from `tests/key_formats/make`,
//! which has the command for each; what two of them make together is put together here.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Ca, Daemon, Origin, get};

const KINDS: &[&str] = &[
    "rsa-2048", "rsa-3072", "rsa-4096", "rsa-8192", "p-256", "p-384", "p-521", "ed25519",
];

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/key_formats")
        .join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text(name: &str) -> String {
    String::from_utf8(fixture(name)).unwrap()
}

/// A binding with these lines about its certificate.
fn binding(name: &str, lines: &str, origin: &Origin) -> String {
    format!(
        "[bindings.{name}]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{}\"\nca = \"origin-ca.crt\"\n{lines}\n",
        origin.port
    )
}

/// Every form that is read, as the lines of a binding, and the files that the lines need beside
/// those of the fixtures.
fn readable() -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let password = "key_password_file = \"password\"";
    for kind in KINDS {
        rows.push((
            format!("{kind}-pkcs8"),
            format!("certificate = \"{kind}.crt\"\nkey = \"{kind}.key\""),
        ));
        rows.push((
            format!("{kind}-encrypted"),
            format!("certificate = \"{kind}.crt\"\nkey = \"{kind}.encrypted.key\"\n{password}"),
        ));
        rows.push((
            format!("{kind}-pkcs12"),
            format!("certificate = \"{kind}.p12\"\n{password}"),
        ));
        if *kind != "ed25519" {
            // PKCS#1 and SEC1.
            rows.push((
                format!("{kind}-traditional"),
                format!("certificate = \"{kind}.crt\"\nkey = \"{kind}.traditional.key\""),
            ));
        }
    }
    for (name, lines) in [
        (
            "scrypt",
            "certificate = \"p-256.crt\"\nkey = \"scrypt.key\"\n",
        ),
        ("des3", "certificate = \"p-256.crt\"\nkey = \"des3.key\"\n"),
        ("sha1", "certificate = \"p-256.crt\"\nkey = \"sha1.key\"\n"),
        ("legacy", "certificate = \"legacy.p12\"\n"),
    ] {
        rows.push((name.to_owned(), format!("{lines}{password}")));
    }
    for (name, lines) in [
        ("no-password", "certificate = \"no-password.p12\""),
        ("key-first", "certificate = \"key-first.pem\""),
        (
            "certificate-first",
            "certificate = \"certificate-first.pem\"",
        ),
        ("junk", "certificate = \"junk.pem\""),
        ("crlf", "certificate = \"crlf.pem\""),
        ("mark", "certificate = \"mark.pem\""),
        ("chain", "certificate = \"chain.pem\"\nkey = \"below.key\""),
        (
            "backwards",
            "certificate = \"backwards.pem\"\nkey = \"below.key\"",
        ),
        ("kubernetes", "certificate_dir = \"kubernetes\""),
        ("spiffe", "certificate_dir = \"spiffe\""),
        ("certbot", "certificate_dir = \"certbot\""),
        ("credential", "certificate = \"credential:pair\""),
    ] {
        rows.push((name.to_owned(), lines.to_owned()));
    }
    rows
}

/// Fills a directory with the fixtures, and with what is put together of them.
fn prepare(directory: &Path, origin_ca: &Ca) {
    for entry in
        fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/key_formats")).unwrap()
    {
        let entry = entry.unwrap();
        fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
    }
    let write = |name: &str, content: String| {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    let (certificate, key) = (text("p-256.crt"), text("p-256.key"));
    let pair = format!("{certificate}{key}");
    write("origin-ca.crt", origin_ca.pem.clone());
    write("key-first.pem", format!("{key}{certificate}"));
    write("certificate-first.pem", pair.clone());
    write(
        "junk.pem",
        format!("Bag Attributes\n  friendlyName: x\n{certificate}subject=CN = x\n\n{key}\nthe end"),
    );
    write("crlf.pem", pair.replace('\n', "\r\n"));
    write("mark.pem", format!("\u{feff}{pair}"));
    let (below, above, root) = (text("below.crt"), text("intermediate.crt"), text("ca.crt"));
    write("chain.pem", format!("{below}{above}{root}"));
    write("backwards.pem", format!("{root}{above}{below}"));
    for (layout, names) in [
        ("kubernetes", ["tls.crt", "tls.key", "ca.crt"]),
        ("spiffe", ["svid.pem", "svid_key.pem", "svid_bundle.pem"]),
        ("certbot", ["fullchain.pem", "privkey.pem", "chain.pem"]),
    ] {
        write(&format!("{layout}/{}", names[0]), certificate.clone());
        write(&format!("{layout}/{}", names[1]), key.clone());
        write(&format!("{layout}/{}", names[2]), origin_ca.pem.clone());
    }
    write("credentials/pair", pair);
}

#[test]
fn every_form_completes_a_handshake() {
    let ca = Ca::of(&text("ca.key"));
    let origin = Origin::start(&ca);
    let rows = readable();
    let daemon = Daemon::launch_as(
        &format!(
            "CREDENTIALS_DIRECTORY=$PWD/credentials exec {} run",
            env!("CARGO_BIN_EXE_mtlsd")
        ),
        &[],
        |directory| {
            prepare(directory, &ca);
            let config: String = rows
                .iter()
                .map(|(name, lines)| binding(name, lines, &origin))
                .collect();
            fs::write(directory.join("mtlsd.toml"), config).unwrap();
        },
    );
    daemon.wait_ready();
    let wrong: Vec<_> = rows
        .iter()
        .map(|(name, _)| (name, get(daemon.address(name), "/")))
        .filter(|(_, answer)| answer.status != 200)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let mended = daemon.lines("about the certificate");
    assert!(
        mended.iter().any(|line| line["binding"] == "backwards"
            && line["remark"]
                .as_str()
                .unwrap()
                .contains("not in the order")),
        "{mended:#?}"
    );
}

/// What cannot be read, and the whole of what is said about it: the lines of the binding, what it
/// is, and what to do.
#[rustfmt::skip]
const REFUSED: &[(&str, &str, &str)] = &[
    ("certificate = \"certificate.der\"\nkey = \"p-256.key\"", "certificate.der is a certificate in DER, not PEM", "openssl x509 -inform DER -in "),
    ("certificate = \"p-256.crt\"\nkey = \"key.der\"", "key.der is a key in DER, not PEM", "openssl pkey -inform DER -in "),
    ("certificate = \"request.csr\"\nkey = \"p-256.key\"", "request.csr is a certificate signing request, not a certificate", "name the certificate that the authority made"),
    ("certificate = \"bundle.p7b\"\nkey = \"p-256.key\"", "bundle.p7b is a PKCS#7 bundle", "openssl pkcs7 -print_certs -in "),
    ("certificate = \"p-256.crt\"\nkey = \"traditional-encrypted.key\"", "traditional-encrypted.key is a key that is encrypted in the old way of OpenSSL", "openssl pkcs8 -topk8 -in "),
    ("certificate = \"p-256.crt\"\nkey = \"md5-des.key\"\nkey_password_file = \"password\"", "md5-des.key is a key that is encrypted with an algorithm no longer in use", "openssl pkcs8 -topk8 -v2 aes-256-cbc -in "),
    ("certificate = \"p-256.crt\"\nkey = \"public.key\"", "public.key is a public key, not a private one", "name the file that holds the private key"),
    ("certificate = \"p-256.crt\"\nkey = \"openssh.key\"", "openssh.key is a key in OpenSSH's own form", "ssh-keygen -p -m PEM -f "),
    ("certificate = \"p-256.crt\"\nkey = \"putty.ppk\"", "putty.ppk is a key in PuTTY's own form", "puttygen "),
    ("certificate = \"java.jks\"", "java.jks is a Java key store", "keytool -importkeystore -srckeystore "),
    ("certificate = \"no-key.p12\"\nkey_password_file = \"password\"", "no-key.p12 is a PKCS#12 file that holds no key with its certificate", "openssl pkcs12 -in "),
    ("certificate = \"p-256.p12\"\nkey = \"p-256.key\"", "p-256.p12 is a PKCS#12 file, not PEM", "name it as `certificate`, without a `key`"),
    ("certificate = \"p-256.p12\"", "p-256.p12 is encrypted", "`key_password_file`"),
    ("certificate = \"p-256.p12\"\nkey_password_file = \"ca.crt\"", "the password for DIR/p-256.p12 is wrong", "`key_password_file`"),
    ("certificate = \"p-256.crt\"\nkey = \"p-256.encrypted.key\"", "p-256.encrypted.key is encrypted", "`key_password_file`"),
    ("certificate = \"p-256.crt\"\nkey = \"p-256.encrypted.key\"\nkey_password_file = \"ca.crt\"", "the password for DIR/p-256.encrypted.key is wrong", "`key_password_file`"),
    ("certificate = \"rsa-1024.crt\"\nkey = \"rsa-1024.key\"", "the key in DIR/rsa-1024.key cannot be used", "at least 2048 bits"),
    ("certificate = \"secp256k1.crt\"\nkey = \"secp256k1.key\"", "the key in DIR/secp256k1.key cannot be used", "P-256, P-384 or P-521"),
    ("certificate = \"p-256.crt\"\nkey = \"p-384.key\"", "DIR/p-384.key does not belong to DIR/p-256.crt", "openssl x509 -pubkey -noout"),
    ("certificate = \"p-256.key\"", "DIR/p-256.key holds no certificate, only: PRIVATE KEY", "CERTIFICATE blocks"),
    ("certificate = \"p-256.crt\"", "DIR/p-256.crt holds no private key, only: CERTIFICATE", "with `key`"),
    ("certificate = \"empty\"\nkey = \"p-256.key\"", "DIR/empty is empty", "cut short"),
    ("certificate = \"half.crt\"\nkey = \"p-256.key\"", "DIR/half.crt is damaged", "cut short"),
    ("certificate = \"password\"\nkey = \"p-256.key\"", "DIR/password is not PEM", "BEGIN"),
    ("certificate = \"p-256.crt\"\nkey = \"p-256.key\"\ncrl = \"version-1.crl\"", "version-1.crl is a revocation list of version 1", "openssl ca -gencrl -crlexts"),
    ("certificate = \"p-256.crt\"\nkey = \"p-256.key\"\ncrl = \"p-256.crt\"", "DIR/p-256.crt holds no revocation list, only: CERTIFICATE", "openssl crl -inform DER"),
    ("certificate = \"gone.crt\"\nkey = \"gone.key\"", "cannot read DIR/gone.crt", "is the path right?"),
];

#[test]
fn what_cannot_be_read_says_what_it_is() {
    let ca = Ca::of(&text("ca.key"));
    let origin = Origin::start(&ca);
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path(), &ca);
    fs::write(directory.path().join("empty"), "").unwrap();
    let certificate = text("p-256.crt");
    fs::write(
        directory.path().join("half.crt"),
        &certificate[..certificate.len() / 2],
    )
    .unwrap();
    let mut wrong = Vec::new();
    for (lines, what, help) in REFUSED {
        fs::write(
            directory.path().join("mtlsd.toml"),
            binding("b", lines, &origin),
        )
        .unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_mtlsd"))
            .arg("check")
            .current_dir(directory.path())
            .output()
            .unwrap();
        // The report is wrapped, and names files as the configuration leads to them.
        let said = String::from_utf8_lossy(&output.stderr).replace("./", "");
        let what = what.replace("DIR/", "");
        // The line that is shown is the one that names the file, or the key that help is about.
        let shown = said.lines().find(|line| line.contains(" | ")).unwrap_or("");
        let names_it = what
            .split_whitespace()
            .any(|word| shown.contains(&format!("\"{word}\"")))
            || shown.contains(help.trim_matches('`'));
        let explained = said.contains(&what) && said.contains(help) && names_it;
        if output.status.code() != Some(78) || !explained {
            wrong.push(format!("{lines}\n{what} | {help}\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n---\n"));
}

#[test]
fn all_files_that_are_missing_are_named_at_once() {
    let ca = Ca::of(&text("ca.key"));
    let origin = Origin::start(&ca);
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path(), &ca);
    let lines = "certificate = \"one.crt\"\nkey = \"two.key\"\ncrl = \"three.crl\"\nkey_password_file = \"four\"";
    fs::write(
        directory.path().join("mtlsd.toml"),
        binding("b", lines, &origin),
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_mtlsd"))
        .arg("check")
        .current_dir(directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    for file in ["one.crt", "two.key", "three.crl", "four"] {
        assert!(
            said.contains(&format!("cannot read {file}")) || said.contains(&format!("/{file}")),
            "{file}: {said}"
        );
    }
}
