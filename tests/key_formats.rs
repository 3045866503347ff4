//! Certificates and keys in every form that people are handed. The files come from `tests/key_formats/make`,
//! which has the command for each; what two of them make together is put together here.

use std::fs;
use std::path::Path;
use std::process::Command;

use data_encoding::BASE64;

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
    let ca = match lines.contains("\nca = ") {
        true => "",
        false => "ca = \"origin-ca.crt\"\n",
    };
    format!(
        "[bindings.{name}]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{}\"\n{ca}{lines}\n",
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
        // Other tools, other times.
        ("no-mac", "certificate = \"no-mac.p12\"\n"),
        ("sha512", "certificate = \"sha512.p12\"\n"),
        ("plain-bags", "certificate = \"plain-bags.p12\"\n"),
        ("ber", "certificate = \"ber.p12\"\n"),
        ("ber-legacy", "certificate = \"ber-legacy.p12\"\n"),
        ("pbmac1", "certificate = \"pbmac1.p12\"\n"),
        ("two-keys", "certificate = \"two-keys.p12\"\n"),
    ] {
        rows.push((name.to_owned(), format!("{lines}{password}")));
    }
    for name in [
        "camellia",
        "sha224",
        "pbe-3des",
        "pbe-2des",
        "pbe-rc2-40",
        "pbe-rc2-128",
    ] {
        rows.push((
            name.to_owned(),
            format!("certificate = \"p-256.crt\"\nkey = \"{name}.key\"\n{password}"),
        ));
    }
    for name in ["wide", "wide-legacy"] {
        for file in [
            "wide-password",
            "wide-password-marked",
            "wide-password-utf-16",
        ] {
            rows.push((
                format!("{name}-{file}"),
                format!("certificate = \"{name}.p12\"\nkey_password_file = \"{file}\""),
            ));
        }
    }
    for (name, lines) in [
        ("no-password", "certificate = \"no-password.p12\""),
        ("key-first", "certificate = \"key-first.pem\""),
        (
            "certificate-first",
            "certificate = \"certificate-first.pem\"",
        ),
        ("junk", "certificate = \"junk.pem\""),
        ("joined", "certificate = \"joined.pem\""),
        (
            "joined-chain",
            "certificate = \"joined-chain.pem\"\nkey = \"below.key\"",
        ),
        ("two-keys-pem", "certificate = \"two-keys.pem\""),
        (
            "explicit-key",
            "certificate = \"p-256.crt\"\nkey = \"explicit.key\"",
        ),
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
        (
            "credential",
            "certificate = \"credential:pair\"\nca = \"credential:origin-ca\"",
        ),
        ("acme-sh", "certificate_dir = \"acme-sh\""),
        ("lego", "certificate_dir = \"lego\""),
        ("autocert", "certificate_dir = \"autocert\""),
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
    // `cat` of files without a line end at their end.
    write(
        "joined.pem",
        format!("{}{}", key.trim_end(), certificate.trim_end()),
    );
    write(
        "two-keys.pem",
        format!("{}{pair}{}", text("p-384.key"), text("server.crt")),
    );
    write("crlf.pem", pair.replace('\n', "\r\n"));
    write("mark.pem", format!("\u{feff}{pair}"));
    let (below, above, root) = (text("below.crt"), text("intermediate.crt"), text("ca.crt"));
    write("chain.pem", format!("{below}{above}{root}"));
    write("backwards.pem", format!("{root}{above}{below}"));
    write(
        "joined-chain.pem",
        format!(
            "{}{}{}",
            below.trim_end(),
            above.trim_end(),
            root.trim_end()
        ),
    );
    write("empty", String::new());
    write("half.crt", certificate[..certificate.len() / 2].to_owned());
    forms(directory);
    for (layout, names) in [
        ("kubernetes", ["tls.crt", "tls.key", "ca.crt"]),
        ("spiffe", ["svid.pem", "svid_key.pem", "svid_bundle.pem"]),
        ("certbot", ["fullchain.pem", "privkey.pem", "chain.pem"]),
        ("acme-sh", ["fullchain.cer", "a.example.key", "ca.cer"]),
        (
            "lego",
            ["a.example.crt", "a.example.key", "a.example.issuer.crt"],
        ),
        ("autocert", ["site.crt", "site.key", "root.crt"]),
    ] {
        write(&format!("{layout}/{}", names[0]), certificate.clone());
        write(&format!("{layout}/{}", names[1]), key.clone());
        write(&format!("{layout}/{}", names[2]), origin_ca.pem.clone());
    }
    write("credentials/pair", pair);
    write("credentials/origin-ca", origin_ca.pem.clone());
}

/// Text in forms that are not read.
fn forms(directory: &Path) {
    let write = |name: &str, content: &[u8]| fs::write(directory.join(name), content).unwrap();
    let utf16 = |text: &str| -> Vec<u8> {
        let text = format!("\u{feff}{text}");
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    let wrapped = |bytes: &[u8]| {
        let text = BASE64.encode(bytes);
        let lines = text
            .as_bytes()
            .chunks(64)
            .map(|line| str::from_utf8(line).unwrap());
        lines.collect::<Vec<_>>().join("\n")
    };
    for (name, label) in [("p-256.crt", "CERTIFICATE"), ("p-256.key", "PRIVATE KEY")] {
        let text = text(name);
        let inner: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        let block =
            |content: &str| format!("-----BEGIN {label}-----\n{content}\n-----END {label}-----\n");
        write(&format!("utf-16.{name}"), &utf16(&text));
        write(
            &format!("base64.{name}"),
            wrapped(text.as_bytes()).as_bytes(),
        );
        write(&format!("bare.{name}"), format!("{inner}\n").as_bytes());
        write(
            &format!("twice.{name}"),
            block(&wrapped(inner.as_bytes())).as_bytes(),
        );
        write(
            &format!("nested.{name}"),
            block(&wrapped(text.as_bytes())).as_bytes(),
        );
        write(
            &format!("indented.{name}"),
            text.replace("-----B", "  -----B")
                .replace('\n', "\n  ")
                .as_bytes(),
        );
        write(
            &format!("blanks.{name}"),
            text.replace('\n', " ").as_bytes(),
        );
        write(
            &format!("escaped.{name}"),
            text.replace('\n', "\\n").as_bytes(),
        );
        write(
            &format!("one-line.{name}"),
            text.replace('\n', "").as_bytes(),
        );
    }
    write("page.html", b"<!DOCTYPE html><title>Sign in</title>");
    write("secret.json", br#"{"data": {"tls.crt": "LS0t"}}"#);
    write(
        "ssh.pub",
        b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI me@here\n",
    );
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
    ("certificate = \"certificate.der\"\nkey = \"p-256.key\"", "certificate.der is a certificate in DER, not PEM", "openssl x509 -inform DER -in certificate.der -out "),
    ("certificate = \"p-256.crt\"\nkey = \"key.der\"", "key.der is a key in DER, not PEM", "openssl pkey -inform DER -in key.der"),
    ("certificate = \"p-256.crt\"\nkey = \"encrypted.der\"\nkey_password_file = \"password\"", "encrypted.der is an encrypted key in DER, not PEM", "openssl pkcs8 -topk8 -inform DER"),
    ("certificate = \"p-256.crt\"\nkey = \"public.der\"", "public.der is a public key in DER, not PEM", "the file with the private key"),
    ("certificate = \"request.csr\"\nkey = \"p-256.key\"", "request.csr is a certificate signing request, not a certificate", "use the certificate that the CA issued"),
    ("certificate = \"request.der\"\nkey = \"p-256.key\"", "request.der is a certificate signing request in DER", "use the certificate that the CA issued"),
    ("certificate = \"bundle.p7b\"\nkey = \"p-256.key\"", "bundle.p7b is a PKCS#7 bundle", "openssl pkcs7 -print_certs -in "),
    ("certificate = \"bundle.der.p7b\"\nkey = \"p-256.key\"", "bundle.der.p7b is a PKCS#7 bundle in DER, not PEM", "openssl pkcs7 -inform DER -print_certs -in "),
    ("certificate = \"trusted.crt\"\nkey = \"p-256.key\"", "trusted.crt is in OpenSSL's own form", "openssl x509 -in trusted.crt"),
    ("certificate = \"old-label.crt\"\nkey = \"p-256.key\"", "old-label.crt is a certificate with the old label X509 CERTIFICATE", "openssl x509 -in old-label.crt"),
    ("certificate = \"p-256.crt\"\nkey = \"traditional-encrypted.key\"", "traditional-encrypted.key is a key that is encrypted in the old way of OpenSSL", "openssl pkcs8 -topk8 -in "),
    ("certificate = \"p-256.crt\"\nkey = \"md5-des.key\"\nkey_password_file = \"password\"", "md5-des.key is a key that is encrypted with MD5 and DES, which is not supported", "openssl pkcs8 -topk8 -v2 aes-256-cbc -provider legacy"),
    ("certificate = \"p-256.crt\"\nkey = \"aria.key\"\nkey_password_file = \"password\"", "aria.key is a key that is encrypted with ARIA, which is not supported", "openssl pkcs8 -topk8 -v2 aes-256-cbc -in "),
    ("certificate = \"p-256.crt\"\nkey = \"public.key\"", "public.key is a public key, not a private one", "the file with the private key"),
    ("certificate = \"p-256.crt\"\nkey = \"ssh.pub\"", "ssh.pub is a public key in OpenSSH's own form", "the file with the private key"),
    ("certificate = \"p-256.crt\"\nkey = \"openssh.key\"", "openssh.key is a key in OpenSSH's own form", "ssh-keygen -p -m PEM -f "),
    ("certificate = \"p-256.crt\"\nkey = \"putty.ppk\"", "putty.ppk is a key in PuTTY's own form", "puttygen "),
    ("certificate = \"java.jks\"", "java.jks is a Java key store", "keytool -importkeystore -srckeystore "),
    ("certificate = \"no-key.p12\"\nkey_password_file = \"password\"", "no-key.p12 is a PKCS#12 file that holds no key with its certificate", "openssl pkcs12 -in "),
    ("certificate = \"iterations.p12\"\nkey_password_file = \"password\"", "iterations.p12 is protected with a key derivation that takes too much time", "the limits are 5000000 iterations"),
    ("certificate = \"p-256.p12\"\nkey = \"p-256.key\"", "p-256.p12 is a PKCS#12 file, not PEM", "set `certificate` to it and leave out `key`"),
    ("certificate = \"p-256.p12\"", "p-256.p12 is encrypted", "`key_password_file`"),
    ("certificate = \"p-256.p12\"\nkey_password_file = \"ca.crt\"", "cannot decrypt DIR/p-256.p12: wrong password", "`key_password_file`"),
    ("certificate = \"pbmac1.p12\"\nkey_password_file = \"ca.crt\"", "cannot decrypt DIR/pbmac1.p12: wrong password", "`key_password_file`"),
    ("certificate = \"no-mac.p12\"\nkey_password_file = \"ca.crt\"", "cannot decrypt DIR/no-mac.p12: wrong password", "`key_password_file`"),
    ("certificate = \"p-256.crt\"\nkey = \"p-256.encrypted.key\"", "p-256.encrypted.key is encrypted", "`key_password_file`"),
    ("certificate = \"p-256.crt\"\nkey = \"p-256.encrypted.key\"\nkey_password_file = \"ca.crt\"", "cannot decrypt DIR/p-256.encrypted.key: wrong password", "`key_password_file`"),
    ("certificate = \"rsa-1024.crt\"\nkey = \"rsa-1024.key\"", "the key in DIR/rsa-1024.key is not supported: it is an RSA key of 1024 bits", "at least 2048 bits"),
    ("certificate = \"secp256k1.crt\"\nkey = \"secp256k1.key\"", "the key in DIR/secp256k1.key is not supported: it is an EC key on secp256k1", "P-256, P-384 or P-521"),
    ("certificate = \"brainpool.crt\"\nkey = \"brainpool.key\"", "the key in DIR/brainpool.key is not supported: it is an EC key on brainpoolP256r1", "P-256, P-384 or P-521"),
    ("certificate = \"rsa-pss.crt\"\nkey = \"rsa-pss.key\"", "the key in DIR/rsa-pss.key is not supported: it is an RSA key that is for RSA-PSS only", "use an RSA key"),
    ("certificate = \"ed448.crt\"\nkey = \"ed448.key\"", "the key in DIR/ed448.key is not supported: it is an Ed448 key", "Ed25519"),
    ("certificate = \"p-256.crt\"\nkey = \"p-384.key\"", "DIR/p-384.key does not belong to DIR/p-256.crt", "openssl x509 -pubkey -noout"),
    ("certificate = \"p-256.key\"", "no certificate in DIR/p-256.key; it contains only: PRIVATE KEY", "CERTIFICATE blocks"),
    ("certificate = \"p-256.crt\"", "no private key in DIR/p-256.crt; it contains only: CERTIFICATE", "`key`"),
    ("certificate = \"empty\"\nkey = \"p-256.key\"", "DIR/empty is empty", "copied completely"),
    ("certificate = \"half.crt\"\nkey = \"p-256.key\"", "DIR/half.crt is damaged: the END line of a CERTIFICATE block is missing", "copied completely"),
    ("certificate = \"password\"\nkey = \"p-256.key\"", "DIR/password is not PEM", "BEGIN"),
    ("certificate = \"page.html\"\nkey = \"p-256.key\"", "DIR/page.html is an HTML or XML document", "downloaded"),
    ("certificate = \"p-256.crt\"\nkey = \"secret.json\"", "DIR/secret.json is a JSON document", "downloaded"),
    ("certificate = \"utf-16.p-256.crt\"\nkey = \"p-256.key\"", "utf-16.p-256.crt is text in UTF-16", "iconv -f UTF-16 -t UTF-8 "),
    ("certificate = \"p-256.crt\"\nkey = \"utf-16.p-256.key\"", "utf-16.p-256.key is text in UTF-16", "iconv -f UTF-16 -t UTF-8 "),
    ("certificate = \"base64.p-256.crt\"\nkey = \"p-256.key\"", "base64.p-256.crt is PEM that was encoded in base64 once more", "base64 -d "),
    ("certificate = \"p-256.crt\"\nkey = \"base64.p-256.key\"", "base64.p-256.key is PEM that was encoded in base64 once more", "base64 -d "),
    ("certificate = \"bare.p-256.crt\"\nkey = \"p-256.key\"", "bare.p-256.crt is the base64 of a certificate, without BEGIN and END lines", "| openssl x509 -inform DER"),
    ("certificate = \"p-256.crt\"\nkey = \"bare.p-256.key\"", "bare.p-256.key is the base64 of a PKCS#8 private key, without BEGIN and END lines", "| openssl pkey -inform DER"),
    ("certificate = \"twice.p-256.crt\"\nkey = \"p-256.key\"", "twice.p-256.crt is PEM whose content was encoded in base64 twice", "base64 -d"),
    ("certificate = \"p-256.crt\"\nkey = \"twice.p-256.key\"", "twice.p-256.key is PEM whose content was encoded in base64 twice", "base64 -d"),
    ("certificate = \"nested.p-256.crt\"\nkey = \"p-256.key\"", "nested.p-256.crt is PEM that was encoded as PEM once more", "base64 -d"),
    ("certificate = \"p-256.crt\"\nkey = \"nested.p-256.key\"", "nested.p-256.key is PEM that was encoded as PEM once more", "base64 -d"),
    ("certificate = \"indented.p-256.crt\"\nkey = \"p-256.key\"", "indented.p-256.crt is PEM whose lines are indented", "sed 's/^[[:blank:]]*//'"),
    ("certificate = \"p-256.crt\"\nkey = \"indented.p-256.key\"", "indented.p-256.key is PEM whose lines are indented", "sed 's/^[[:blank:]]*//'"),
    ("certificate = \"blanks.p-256.crt\"\nkey = \"p-256.key\"", "blanks.p-256.crt is PEM whose line breaks are missing", "put them back: "),
    ("certificate = \"p-256.crt\"\nkey = \"blanks.p-256.key\"", "blanks.p-256.key is PEM whose line breaks are missing", "put them back: "),
    ("certificate = \"p-256.crt\"\nkey = \"escaped.p-256.key\"", "escaped.p-256.key is PEM whose line breaks are missing", "put them back: "),
    ("certificate = \"p-256.crt\"\nkey = \"one-line.p-256.key\"", "one-line.p-256.key is PEM whose line breaks are missing", "put them back: "),
    ("certificate = \"p-256.crt\"\nkey = \"p-256.key\"\nca = \"certificate.der\"", "certificate.der is a certificate in DER, not PEM", "openssl x509 -inform DER -in "),
    ("certificate = \"p-256.crt\"\nkey = \"p-256.key\"\nca = \"trusted.crt\"", "trusted.crt is in OpenSSL's own form", "openssl x509 -in trusted.crt"),
    ("certificate = \"p-256.crt\"\nkey = \"p-256.key\"\nca = \"old-label.crt\"", "old-label.crt is a certificate with the old label X509 CERTIFICATE", "openssl x509 -in old-label.crt"),
    ("certificate = \"p-256.crt\"\nkey = \"p-256.key\"\nca = \"bundle.p7b\"", "bundle.p7b is a PKCS#7 bundle", "openssl pkcs7 -print_certs -in "),
    ("certificate = \"p-256.crt\"\nkey = \"p-256.key\"\nca = \"trust.p12\"", "trust.p12 is a PKCS#12 trust store, not PEM", "openssl pkcs12 -nokeys -in "),
    ("certificate = \"p-256.crt\"\nkey = \"p-256.key\"\nca = \"trust.jks\"", "trust.jks is a Java trust store, not PEM", "keytool -list -rfc -keystore "),
    ("certificate = \"p-256.crt\"\nkey = \"p-256.key\"\nca = \"p-256.key\"", "no certificate in DIR/p-256.key; it contains only: PRIVATE KEY", "CERTIFICATE blocks"),
    ("certificate = \"p-256.crt\"\nkey = \"p-256.key\"\ncrl = \"ca.crt\"", "no CRL in DIR/ca.crt; it contains only: CERTIFICATE", "X509 CRL blocks"),
    ("certificate = \"p-256.crt\"\nkey = \"p-256.key\"\ncrl = \"certificate.der\"", "certificate.der is a certificate in DER, not PEM", "openssl x509 -inform DER"),
    ("certificate = \"gone.crt\"\nkey = \"gone.key\"", "cannot read DIR/gone.crt", "the path"),
];

#[test]
fn what_cannot_be_read_says_what_it_is() {
    let ca = Ca::of(&text("ca.key"));
    let origin = Origin::start(&ca);
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path(), &ca);
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
            .any(|word| shown.contains(&format!("\"{}\"", word.trim_end_matches([';', ':']))))
            || shown.contains(help.trim_matches('`'));
        let explained = said.contains(&what) && said.contains(help) && names_it;
        if output.status.code() != Some(78) || !explained {
            wrong.push(format!("{lines}\n{what} | {help}\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n---\n"));
}

/// It is for the origin to judge, and the key is the right one.
#[test]
fn a_curve_that_is_spelled_out_is_noted() {
    let ca = Ca::of(&text("ca.key"));
    let origin = Origin::start(&ca);
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path(), &ca);
    for key in ["explicit.key", "p-256.key"] {
        let lines = format!("certificate = \"explicit.crt\"\nkey = \"{key}\"");
        fs::write(
            directory.path().join("mtlsd.toml"),
            binding("b", &lines, &origin),
        )
        .unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_mtlsd"))
            .arg("check")
            .current_dir(directory.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("explicit parameters"),
            "{output:?}"
        );
    }
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
