use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls_pki_types::CertificateDer;

use super::{ChainError, order};
use crate::tls::remark::Remark;

type Der = CertificateDer<'static>;

/// A CA: its name, its key, and when its certificates are valid, from and to a year.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    fn new(name: &str) -> Self {
        Self::keyed(name, KeyPair::generate().unwrap())
    }

    fn keyed(name: impl Into<DnValue>, key: KeyPair) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.use_authority_key_identifier_extension = true;
        Self { params, key }
    }

    fn copy_key(&self) -> KeyPair {
        KeyPair::try_from(self.key.serialize_der()).unwrap()
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// Its own certificate, self-signed.
    fn root(&self, years: (i32, i32)) -> Der {
        self.params(years).self_signed(&self.key).unwrap().into()
    }

    /// Its certificate from another CA.
    fn by(&self, issuer: &Self, years: (i32, i32)) -> Der {
        let params = self.params(years);
        params
            .signed_by(&self.key, &issuer.issuer())
            .unwrap()
            .into()
    }

    fn params(&self, (from, to): (i32, i32)) -> CertificateParams {
        let mut params = self.params.clone();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        params
    }
}

const VALID: (i32, i32) = (2020, 2090);
const LONGER: (i32, i32) = (2020, 2095);
const EXPIRED: (i32, i32) = (2010, 2020);
const FUTURE: (i32, i32) = (2080, 2095);

fn now() -> SystemTime {
    // 2026-11-27.
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_737_600)
}

/// What `order` makes of the certificates in every rotation of their order.
fn in_any_order(certificates: &[Der], key: &KeyPair, check: impl Fn(&[Der], usize, &[Remark])) {
    use rcgen::PublicKeyData;
    let spki = key.subject_public_key_info();
    for turn in 0..certificates.len() {
        let mut turned = certificates.to_vec();
        turned.rotate_left(turn);
        for reverse in [false, true] {
            let mut turned = turned.clone();
            if reverse {
                turned.reverse();
            }
            let chain = order(turned, Some(&spki), now()).unwrap();
            check(&chain.certificates, chain.path, &chain.remarks);
        }
    }
}

/// Asserts that exactly `path` and then, in any order, `more` are sent.
fn assert_sent(what: &str, all: &[Der], key: &KeyPair, path: &[&Der], more: &[&Der]) {
    in_any_order(all, key, |sent, length, _| {
        let (main, rest) = sent.split_at(length);
        assert!(main.iter().eq(path.iter().copied()), "{what}: the path");
        assert_eq!(rest.len(), more.len(), "{what}: further certificates");
        for wanted in more {
            assert!(rest.contains(wanted), "{what}: a further certificate");
        }
    });
}

#[test]
fn of_issuers_with_one_name_the_one_that_signed_is_sent() {
    let root = Authority::new("root");
    let (old, current) = (Authority::new("issuing"), Authority::new("issuing"));
    let leaf = Authority::new("leaf");
    let (old_cert, current_cert) = (old.by(&root, VALID), current.by(&root, VALID));
    let certificate = leaf.by(&current, VALID);
    assert_sent(
        "a re-keyed CA",
        &[certificate.clone(), old_cert, current_cert.clone()],
        &leaf.key,
        &[&certificate, &current_cert],
        &[],
    );

    let (other_root, right_root) = (Authority::new("root"), Authority::new("root"));
    let middle = Authority::new("middle");
    let middle_cert = middle.by(&right_root, VALID);
    let certificate = leaf.by(&middle, VALID);
    let (wrong, right) = (other_root.root(VALID), right_root.root(VALID));
    assert_sent(
        "two roots of one name",
        &[
            certificate.clone(),
            middle_cert.clone(),
            wrong,
            right.clone(),
        ],
        &leaf.key,
        &[&certificate, &middle_cert, &right],
        &[],
    );
}

#[test]
fn of_certificates_of_one_ca_the_valid_one_is_sent() {
    let root = Authority::new("root");
    let issuing = Authority::new("issuing");
    let leaf = Authority::new("leaf");
    let certificate = leaf.by(&issuing, VALID);
    let (expired, valid) = (issuing.by(&root, EXPIRED), issuing.by(&root, VALID));
    assert_sent(
        "a renewed CA",
        &[certificate.clone(), expired.clone(), valid.clone()],
        &leaf.key,
        &[&certificate, &valid],
        &[],
    );
    assert_sent(
        "only an expired one",
        &[certificate.clone(), expired.clone()],
        &leaf.key,
        &[&certificate, &expired],
        &[],
    );
    let future = issuing.by(&root, FUTURE);
    assert_sent(
        "one that is valid later",
        &[certificate.clone(), future.clone(), valid.clone()],
        &leaf.key,
        &[&certificate, &valid],
        &[&future],
    );
    // The certificate of the issuer is valid, and that of the issuer's issuer is not.
    let lost = Authority::new("lost");
    let (by_lost, lost_cert) = (issuing.by(&lost, LONGER), lost.root(EXPIRED));
    assert_sent(
        "an expired root further up",
        &[
            certificate.clone(),
            by_lost.clone(),
            lost_cert,
            valid.clone(),
        ],
        &leaf.key,
        &[&certificate, &valid],
        &[&by_lost],
    );
}

#[test]
fn every_valid_path_is_sent() {
    let (old_root, new_root) = (Authority::new("old root"), Authority::new("new root"));
    let issuing = Authority::new("issuing");
    let leaf = Authority::new("leaf");
    let certificate = leaf.by(&issuing, VALID);
    let (by_old, by_new) = (issuing.by(&old_root, VALID), issuing.by(&new_root, LONGER));
    assert_sent(
        "an issuer below two roots",
        &[certificate.clone(), by_old.clone(), by_new.clone()],
        &leaf.key,
        &[&certificate, &by_new],
        &[&by_old],
    );
    let issuing_cert = issuing.by(&new_root, VALID);
    let (own, cross) = (new_root.root(VALID), new_root.by(&old_root, VALID));
    assert_sent(
        "a cross-signed root",
        &[
            certificate.clone(),
            issuing_cert.clone(),
            own.clone(),
            cross.clone(),
        ],
        &leaf.key,
        &[&certificate, &issuing_cert, &cross],
        &[&own],
    );
    let expired_cross = new_root.by(&old_root, EXPIRED);
    assert_sent(
        "an expired cross-signature",
        &[
            certificate.clone(),
            issuing_cert.clone(),
            expired_cross,
            own.clone(),
        ],
        &leaf.key,
        &[&certificate, &issuing_cert, &own],
        &[],
    );
}

#[test]
fn names_link_as_rfc_5280_compares_them() {
    let root = Authority::new("root");
    let leaf = Authority::new("leaf");
    let spellings: [DnValue; 4] = [
        DnValue::Utf8String("Issuing  CA".into()),
        DnValue::PrintableString("issuing ca".try_into().unwrap()),
        DnValue::BmpString("ISSUING CA".try_into().unwrap()),
        DnValue::TeletexString(" Issuing CA ".try_into().unwrap()),
    ];
    for spelling in spellings {
        let issuing = Authority::keyed("Issuing CA", KeyPair::generate().unwrap());
        let other = Authority::keyed(spelling, issuing.copy_key());
        let certificate = leaf.by(&issuing, VALID);
        let issuer = other.by(&root, VALID);
        assert_sent(
            "another spelling",
            &[certificate.clone(), issuer.clone()],
            &leaf.key,
            &[&certificate, &issuer],
            &[],
        );
    }
}

#[test]
fn of_certificates_for_one_key_the_valid_one_leads() {
    let root = Authority::new("root");
    let leaf = Authority::new("leaf");
    let (expired, valid) = (leaf.by(&root, EXPIRED), leaf.by(&root, VALID));
    assert_sent(
        "a renewed leaf",
        &[expired, valid.clone()],
        &leaf.key,
        &[&valid],
        &[],
    );
}

#[test]
fn what_is_not_sent_is_noted() {
    let (root, stranger) = (Authority::new("root"), Authority::new("stranger"));
    let issuing = Authority::new("issuing");
    let leaf = Authority::new("leaf");
    let all = [
        leaf.by(&issuing, VALID),
        issuing.by(&root, EXPIRED),
        issuing.by(&root, VALID),
        stranger.root(VALID),
    ];
    in_any_order(&all, &leaf.key, |_, _, remarks| {
        assert!(remarks.contains(&Remark::Unrelated(vec!["CN=stranger".to_owned()])));
        assert!(remarks.contains(&Remark::Superseded(vec!["CN=issuing".to_owned()])));
    });
}

#[test]
fn a_file_of_one_name_is_bounded() {
    let leaf = Authority::new("leaf");
    let issuing = Authority::new("issuing");
    let mut all = vec![leaf.by(&issuing, VALID)];
    for _ in 0..40 {
        // Each signs each: every one has the same name, and no identifiers.
        let mut same = Authority::keyed("issuing", issuing.copy_key());
        same.params.use_authority_key_identifier_extension = false;
        all.push(same.by(&issuing, VALID));
    }
    let began = std::time::Instant::now();
    let chain = order(all, None, now()).unwrap();
    assert!(chain.path >= 2);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn what_is_cut_short_says_so_and_nothing_else_does() {
    let leaf = Authority::new("leaf");
    let whole = leaf.root(VALID);
    for length in [0, 1, 2, 3, 4, 40, whole.len() - 1] {
        let cut = CertificateDer::from(whole[..length].to_vec());
        assert_eq!(
            order(vec![cut], None, now()).unwrap_err(),
            ChainError::Damaged(1, "it ends too early".to_owned()),
            "{length} bytes"
        );
    }
    let nonsense = CertificateDer::from(b"\x30\x03\x02\x01\x03".to_vec());
    let Err(ChainError::Damaged(1, reason)) = order(vec![nonsense], None, now()) else {
        panic!("nonsense was taken for a certificate");
    };
    assert!(!reason.contains("early"), "{reason}");
}
