use super::*;

const CERTIFICATE: &str = include_str!("../../../tests/key_formats/p-256.crt");
const OTHER: &str = include_str!("../../../tests/key_formats/ca.crt");
const KEY: &str = include_str!("../../../tests/key_formats/p-256.key");

fn count(text: &str) -> Result<usize, String> {
    certificates(Input::Ca, Path::new("ca.pem"), text.as_bytes())
        .map(|found| found.len())
        .map_err(|error| error.to_string())
}

#[test]
fn blocks_are_found_wherever_they_are() {
    let joined = format!("{}{}", CERTIFICATE.trim_end(), OTHER.trim_end());
    let long = {
        let lines: Vec<_> = CERTIFICATE.lines().collect();
        let inner = lines[1..lines.len() - 1].concat();
        format!("{}\n{inner}\n{}\n", lines[0], lines[lines.len() - 1])
    };
    for (text, expected) in [
        (CERTIFICATE.to_owned(), 1),
        (format!("{CERTIFICATE}{OTHER}"), 2),
        // `cat` of files without a line end at their end.
        (joined.clone(), 2),
        (format!("{joined}{}", CERTIFICATE.trim_end()), 3),
        (format!("{} \t{OTHER}", CERTIFICATE.trim_end()), 2),
        (format!("a note{OTHER}"), 1),
        (format!("{KEY}{CERTIFICATE}"), 1),
        (format!("{}{OTHER}", KEY.trim_end()), 1),
        (CERTIFICATE.replace('\n', "\r\n"), 1),
        (CERTIFICATE.replace('\n', "\r"), 1),
        (CERTIFICATE.replace('\n', " \n"), 1),
        (CERTIFICATE.replace('\n', "\n\n"), 1),
        (format!("\u{feff}{CERTIFICATE}"), 1),
        (long, 1),
        (
            format!("Bag Attributes: <none>\nsubject=CN = x\n{CERTIFICATE}end"),
            1,
        ),
        // Commented out, and spoken of.
        (format!("#{}\n{OTHER}", CERTIFICATE.replace('\n', "\n#")), 1),
        (
            format!("paste a -----BEGIN CERTIFICATE----- block here\n{OTHER}"),
            1,
        ),
    ] {
        assert_eq!(count(&text), Ok(expected), "{text}");
    }
}

#[test]
fn what_would_be_skipped_in_silence_is_an_error() {
    let trusted = OTHER.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
    let old = OTHER.replace("CERTIFICATE", "X509 CERTIFICATE");
    let indented = OTHER
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect::<String>();
    let half = &OTHER[..OTHER.len() / 2];
    for (text, expected) in [
        (format!("{CERTIFICATE}{trusted}"), "TRUSTED CERTIFICATE"),
        (format!("{CERTIFICATE}{old}"), "X509 CERTIFICATE"),
        (format!("{CERTIFICATE}{indented}"), "indented"),
        (
            format!("{CERTIFICATE}{}", OTHER.replace('\n', " ")),
            "line breaks",
        ),
        (
            format!("{CERTIFICATE}{}", OTHER.replace('\n', "\\n")),
            "line breaks",
        ),
        (
            format!("{CERTIFICATE}{}", OTHER.replace('\n', "")),
            "line breaks",
        ),
        (
            format!("{CERTIFICATE}{}", OTHER.replace("\n-----END", "-----END")),
            "line breaks",
        ),
        (format!("{CERTIFICATE}{half}"), "END line"),
        (format!("{half}\n{CERTIFICATE}"), "END line"),
        (
            format!("{CERTIFICATE}{}", OTHER.replace("E-----\n", "E---\n")),
            "BEGIN line",
        ),
        (
            format!("{CERTIFICATE}{}", OTHER.replace("MII", "M*I")),
            "not base64",
        ),
        (
            format!("{CERTIFICATE}{}", KEY.replace("PRIVATE KEY", "CERTIFICATE")),
            "contains a PKCS#8 private key",
        ),
    ] {
        let error = count(&text).unwrap_err();
        assert!(error.contains(expected), "{error}\n{text}");
    }
}

#[test]
fn only_known_labels_are_printed() {
    let text = "-----BEGIN hunter2hunter2-----\nAAAA\n-----END hunter2hunter2-----\n";
    for text in [text, &text[..40], &text.replace("AAAA", "*")] {
        let error = count(text).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn crls_are_read_in_pem_and_der() {
    let ca = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::Issuer::new(params, ca);
    let now = std::time::SystemTime::now();
    let crl = rcgen::CertificateRevocationListParams {
        this_update: now.into(),
        next_update: (now + std::time::Duration::from_secs(3600)).into(),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    }
    .signed_by(&issuer)
    .unwrap();
    let pem = crl.pem().unwrap();
    let count = |bytes: &[u8]| crls(Path::new("x.crl"), bytes).map(|found| found.len());
    assert_eq!(count(crl.der()).unwrap(), 1);
    assert_eq!(count(&[&**crl.der(), &**crl.der()].concat()).unwrap(), 2);
    assert_eq!(count(pem.as_bytes()).unwrap(), 1);
    assert_eq!(count(pem.trim_end().repeat(3).as_bytes()).unwrap(), 3);
    assert!(count(b"").is_err());
}

/// Everything that is no PEM block, beside one that is: read, or refused, but never skipped.
#[test]
fn a_part_that_is_not_pem_is_an_error() {
    let parts = |text: &str, label: &str| -> Vec<(Vec<u8>, &'static str)> {
        let lines: Vec<_> = text.lines().collect();
        let base64 = lines[1..lines.len() - 1].concat();
        let der = data_encoding::BASE64.decode(base64.as_bytes()).unwrap();
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let twice = data_encoding::BASE64.encode(text.as_bytes());
        vec![
            (der.clone(), "binary data"),
            ([der.clone(), der].concat(), "binary data"),
            (utf16, "binary data"),
            (text.replace("-----", "----").into_bytes(), "base64 outside"),
            (
                text.replace("BEGIN", "begin").into_bytes(),
                "base64 outside",
            ),
            (lines[1..].join("\n").into_bytes(), "base64 outside"),
            (format!("#{text}").into_bytes(), "base64 outside"),
            (format!("{base64}\n").into_bytes(), "base64 outside"),
            (twice.into_bytes(), "base64 outside"),
            (
                text.replace(&format!(" {label}-"), &format!("  {label}-"))
                    .into_bytes(),
                "unknown label",
            ),
            (
                text.replace(label, &format!("MY {label}")).into_bytes(),
                "unknown label",
            ),
        ]
    };
    let crl = include_str!("../../../tests/key_formats/version-1.crl");
    for (first, label) in [(OTHER, "CERTIFICATE"), (crl, "X509 CRL")] {
        let read = |bytes: &[u8]| {
            let path = Path::new("file");
            let count = match label {
                "X509 CRL" => crls(path, bytes).map(|found| found.len()),
                _ => certificates(Input::Ca, path, bytes).map(|found| found.len()),
            };
            count.map_err(|error| error.to_string())
        };
        for (part, expected) in parts(first, label) {
            for bytes in [
                [first.as_bytes(), &part].concat(),
                [&part, first.as_bytes()].concat(),
            ] {
                let found = read(&bytes);
                let error = found.as_ref().err().map_or("", String::as_str);
                // A file that begins like another form is named after that.
                let is_error =
                    error.contains(expected) || part.len() > 1 && bytes.starts_with(&part);
                assert!(is_error && found.is_err(), "{label}, {expected}: {found:?}");
            }
        }
        for text in [
            "\0\0\0\n",
            "\u{1a}",
            "====================================================\n",
            "Mozilla's Root\n=====\n",
        ] {
            assert_eq!(
                read(format!("{text}\n{first}\n{text}").as_bytes()),
                Ok(1),
                "{text:?}"
            );
        }
    }
}
