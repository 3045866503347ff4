use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::CertificateRevocationListDer;

use super::{CrlError, Crls, Subject};
use crate::error::{Distrust, Uncovered};
use crate::tls::chain;

#[allow(dead_code)]
#[path = "../../../tests/support/der.rs"]
mod der;

use der::{CN, Fields, UTF8, extension, name, sequence, time, tlv};

const SERIAL: &[u8] = &[0x12, 0x34];
const OTHER: &[u8] = &[0x56];
/// 2026-11-27.
const NOW: i64 = 1_795_737_600;

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// A CRL of "issuer", by `key`.
fn crl(key: &KeyPair, from: &str, to: &str, revoked: &[&[u8]]) -> Vec<u8> {
    crl_with(key, from, to, revoked, Vec::new(), &[])
}

fn crl_with(
    key: &KeyPair,
    from: &str,
    to: &str,
    revoked: &[&[u8]],
    extensions: Vec<Vec<u8>>,
    entry: &[Vec<u8>],
) -> Vec<u8> {
    let mut fields = Fields::new("issuer", "issuer");
    fields.from = time(&format!("{from}0101000000Z"));
    fields.to = match to {
        "" => Vec::new(),
        to => time(&format!("{to}0101000000Z")),
    };
    fields.extensions = extensions;
    fields.version = u8::from(!fields.extensions.is_empty() || !entry.is_empty());
    fields.crl(key, revoked, entry)
}

fn parse(ders: &[Vec<u8>]) -> Result<Crls, (usize, CrlError)> {
    let ders = ders.iter().cloned();
    Crls::new(ders.map(CertificateRevocationListDer::from).collect())
}

/// What CRLs say about a certificate of "issuer", in every rotation and both directions, where
/// they have to say the same.
fn status(issuer: &KeyPair, is_ca: bool, leaf: &Fields, crls: &[Vec<u8>]) -> Result<(), Distrust> {
    let der = leaf.certificate(&key(), issuer);
    let certificate = chain::parse(&der).unwrap();
    let spki = issuer.subject_public_key_info();
    let subject = Subject {
        certificate: &certificate,
        is_ca,
        issuer_key: &spki,
        issuer_signs_crls: true,
    };
    let mut results = Vec::new();
    for turn in 0..crls.len().max(1) {
        let mut turned = crls.to_vec();
        turned.rotate_left(turn.min(crls.len()));
        for _ in 0..2 {
            let read = parse(&turned).unwrap();
            // Twice: the second time with the signatures known.
            results.push(read.check(&subject, NOW));
            results.push(read.check(&subject, NOW));
            turned.reverse();
        }
    }
    results.dedup();
    assert_eq!(results.len(), 1, "the order counts: {results:?}");
    results.remove(0)
}

/// What is tried, the CRLs, and what they say.
type Case = (&'static str, Vec<Vec<u8>>, Result<(), Distrust>);

fn leaf() -> Fields {
    Fields::new("leaf", "issuer")
}

fn uncovered(why: Uncovered) -> Result<(), Distrust> {
    Err(Distrust::Uncovered {
        subject: "CN=leaf".to_owned(),
        issuer: "CN=issuer".to_owned(),
        why,
    })
}

#[test]
fn the_newest_valid_crl_of_the_issuers_key_decides() {
    let (issuer, former) = (key(), key());
    let clean_old = || crl(&issuer, "2024", "2090", &[]);
    let clean_new = || crl(&issuer, "2026", "2090", &[]);
    let revoked_old = || crl(&issuer, "2024", "2090", &[OTHER, SERIAL]);
    let revoked_new = || crl(&issuer, "2026", "2090", &[OTHER, SERIAL]);
    let expired = |revoked: &[&[u8]]| crl(&issuer, "2020", "2025", revoked);
    let early = |revoked: &[&[u8]]| crl(&issuer, "2050", "2090", revoked);
    let formers = |revoked: &[&[u8]]| crl(&former, "2026", "2090", revoked);
    let cases: Vec<Case> = vec![
        ("clean", vec![clean_new()], Ok(())),
        ("revoked", vec![revoked_new()], Err(Distrust::Revoked)),
        (
            "revoked since",
            vec![clean_old(), revoked_new()],
            Err(Distrust::Revoked),
        ),
        ("lifted since", vec![revoked_old(), clean_new()], Ok(())),
        ("expired and fresh", vec![expired(&[]), clean_new()], Ok(())),
        (
            "expired and fresh, revoked",
            vec![expired(&[]), revoked_new()],
            Err(Distrust::Revoked),
        ),
        ("not yet valid", vec![clean_old(), early(&[SERIAL])], Ok(())),
        (
            "another key's",
            vec![formers(&[SERIAL]), clean_new()],
            Ok(()),
        ),
        (
            "another key's, clean",
            vec![formers(&[]), revoked_new()],
            Err(Distrust::Revoked),
        ),
        (
            "all together",
            vec![
                expired(&[SERIAL]),
                formers(&[]),
                early(&[]),
                clean_old(),
                revoked_new(),
            ],
            Err(Distrust::Revoked),
        ),
        ("no end", vec![crl(&issuer, "2024", "", &[])], Ok(())),
        (
            "only expired",
            vec![expired(&[])],
            Err(Distrust::CrlExpired("CN=issuer".to_owned(), 1_735_689_600)),
        ),
        (
            "only early",
            vec![early(&[])],
            Err(Distrust::CrlNotYetValid(
                "CN=issuer".to_owned(),
                2_524_608_000,
            )),
        ),
        (
            "only another key's",
            vec![formers(&[])],
            uncovered(Uncovered::OtherKey),
        ),
    ];
    for (what, crls, expected) in cases {
        assert_eq!(status(&issuer, false, &leaf(), &crls), expected, "{what}");
    }
    assert_eq!(
        status(&issuer, true, &leaf(), &[revoked_new()]),
        Err(Distrust::IssuerRevoked("CN=leaf".to_owned()))
    );
    let mut other = leaf();
    other.issuer = name(&[(CN, UTF8, b"other")]);
    let Err(Distrust::Uncovered { why, .. }) = status(&issuer, false, &other, &[clean_new()])
    else {
        panic!("the CRL of another issuer was used");
    };
    assert_eq!(why, Uncovered::NoCrl);
}

#[test]
fn the_issuers_name_may_be_spelt_otherwise() {
    let issuer = key();
    let list = crl(&issuer, "2026", "2090", &[SERIAL]);
    for (string, value) in [
        (19, &b"ISSUER"[..]),
        (12, b" issuer "),
        (30, b"\0I\0s\0s\0u\0e\0r"),
    ] {
        let mut leaf = leaf();
        leaf.issuer = name(&[(CN, string, value)]);
        let status = status(&issuer, false, &leaf, std::slice::from_ref(&list));
        assert_eq!(status, Err(Distrust::Revoked), "{value:?}");
    }
}

#[test]
fn serial_numbers_are_compared_as_numbers() {
    let issuer = key();
    for serial in [
        &[0x01][..],
        &[0x00, 0x80],
        &[0x7f; 20],
        &[0x00, 0xff, 0x00],
        &[0x80, 0x01],
    ] {
        let mut leaf = leaf();
        leaf.serial = serial.to_vec();
        let listed = crl(&issuer, "2026", "2090", &[OTHER, serial]);
        let not_listed = crl(&issuer, "2026", "2090", &[OTHER]);
        assert_eq!(
            status(&issuer, false, &leaf, &[listed]),
            Err(Distrust::Revoked)
        );
        assert_eq!(status(&issuer, false, &leaf, &[not_listed]), Ok(()));
    }
}

/// An issuing distribution point: its parts.
fn idp(parts: &[Vec<u8>]) -> Vec<u8> {
    extension("2.5.29.28", true, &sequence(parts))
}

fn full_name(uri: &str) -> Vec<u8> {
    tlv(0xa0, &tlv(0xa0, &tlv(0x86, uri.as_bytes())))
}

#[test]
fn a_crl_covers_what_its_distribution_point_says() {
    let issuer = key();
    let scoped = |parts: &[Vec<u8>]| {
        vec![crl_with(
            &issuer,
            "2026",
            "2090",
            &[SERIAL],
            vec![idp(parts)],
            &[],
        )]
    };
    let mut with_point = leaf();
    let point = sequence(&[sequence(&[full_name("http://ca/1.crl")])]);
    with_point.extensions = vec![extension("2.5.29.31", false, &point)];
    let (user_only, ca_only, attributes) =
        (tlv(0x81, &[0xff]), tlv(0x82, &[0xff]), tlv(0x85, &[0xff]));
    let revoked = Err(Distrust::Revoked);
    let other_scope = uncovered(Uncovered::OtherScope);
    let cases = [
        (
            "user",
            false,
            leaf(),
            scoped(std::slice::from_ref(&user_only)),
            revoked.clone(),
        ),
        (
            "user, CA",
            true,
            leaf(),
            scoped(&[user_only]),
            other_scope.clone(),
        ),
        (
            "CA",
            false,
            leaf(),
            scoped(std::slice::from_ref(&ca_only)),
            other_scope.clone(),
        ),
        (
            "CA, CA",
            true,
            leaf(),
            scoped(&[ca_only]),
            Err(Distrust::IssuerRevoked("CN=leaf".to_owned())),
        ),
        (
            "attributes",
            false,
            leaf(),
            scoped(&[attributes]),
            other_scope.clone(),
        ),
        (
            "its point",
            false,
            leaf_with(&with_point),
            scoped(&[full_name("http://ca/1.crl")]),
            revoked,
        ),
        (
            "another point",
            false,
            leaf_with(&with_point),
            scoped(&[full_name("http://ca/2.crl")]),
            other_scope.clone(),
        ),
        (
            "no point",
            false,
            leaf(),
            scoped(&[full_name("http://ca/1.crl")]),
            other_scope,
        ),
    ];
    for (what, is_ca, leaf, crls, expected) in cases {
        assert_eq!(status(&issuer, is_ca, &leaf, &crls), expected, "{what}");
    }
}

fn leaf_with(other: &Fields) -> Fields {
    Fields {
        extensions: other.extensions.clone(),
        ..leaf()
    }
}

#[test]
fn crls_that_cannot_be_used_are_named() {
    let issuer = key();
    let with = |extensions: Vec<Vec<u8>>, entry: &[Vec<u8>]| {
        crl_with(&issuer, "2026", "2090", &[SERIAL], extensions, entry)
    };
    let good = || crl(&issuer, "2026", "2090", &[]);
    let unknown = |critical| extension("1.2.3.4", critical, &[5, 0]);
    let delta = extension("2.5.29.27", true, &tlv(2, &[1]));
    let certificate_issuer = extension("2.5.29.29", true, &sequence(&[]));
    let relative = idp(&[tlv(0xa0, &tlv(0xa1, &[]))]);
    let oid = "1.2.3.4".to_owned();
    let cases = [
        (with(vec![delta], &[]), CrlError::Delta),
        (
            with(vec![idp(&[tlv(0x84, &[0xff])])], &[]),
            CrlError::Indirect,
        ),
        (with(Vec::new(), &[certificate_issuer]), CrlError::Indirect),
        (
            with(vec![idp(&[tlv(0x83, &[1, 0x80])])], &[]),
            CrlError::Reasons,
        ),
        (
            with(vec![unknown(true)], &[]),
            CrlError::CriticalExtension(oid.clone()),
        ),
        (
            with(Vec::new(), &[unknown(true)]),
            CrlError::CriticalExtension(oid),
        ),
    ];
    for (der, expected) in cases {
        let found = parse(&[good(), der]).err();
        assert_eq!(found, Some((2, expected)));
    }
    let found = parse(&[with(vec![relative], &[])]).err();
    assert!(found.is_some(), "a relative name was accepted");
    let fine = parse(&[with(vec![unknown(false)], &[unknown(false)])]);
    assert!(
        fine.is_ok(),
        "extensions that are not critical do not count"
    );
}

#[test]
fn no_crl_panics() {
    let issuer = key();
    let whole = crl(&issuer, "0000", "9999", &[SERIAL]);
    assert!(parse(std::slice::from_ref(&whole)).is_ok());
    for length in 0..whole.len() {
        let _ = parse(&[whole[..length].to_vec()]);
        let mut changed = whole.clone();
        changed[length] ^= 0x55;
        if let Ok(read) = parse(&[changed]) {
            drop(read);
        }
    }
}
