//! Whom an origin may be: each way in which it is not the right one is refused, and called by its
//! name.

use std::fs;

use crate::support::{Answer, Ca, Daemon, Issued, Origin, der, get};
use rcgen::{
    CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, KeyIdMethod, KeyPair, NameConstraints, RevokedCertParams, SanType,
    SerialNumber, date_time_ymd,
};

/// What is sent by an origin with this certificate, and a binding with these lines.
fn ask(ca: &Ca, served: &Issued, lines: &str, files: &[(&str, &str)]) -> Answer {
    let origin = Origin::presenting(ca, served);
    let daemon = Daemon::launch(&[], |directory| {
        fs::write(directory.join("client.pem"), ca.issue("client").pem()).unwrap();
        fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
        for (name, content) in files {
            fs::write(directory.join(name), content).unwrap();
        }
        fs::write(
            directory.join("mtlsd.toml"),
            crate::support::binding(&origin, lines),
        )
        .unwrap();
    });
    daemon.wait_ready();
    get(daemon.address("b"), "/")
}

fn names(params: &mut CertificateParams, names: &[&str]) {
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) if name.contains("://") => SanType::URI((*name).try_into().unwrap()),
            Err(_) => SanType::DnsName((*name).try_into().unwrap()),
        })
        .collect();
}

struct Row {
    what: &'static str,
    served: Issued,
    lines: String,
    /// What the answer says; nothing where it is 200.
    says: &'static str,
}

fn row(what: &'static str, served: Issued, lines: impl Into<String>, says: &'static str) -> Row {
    Row {
        what,
        served,
        lines: lines.into(),
        says,
    }
}

#[test]
fn every_wrong_origin_is_refused_by_its_name() {
    let ca = Ca::new();
    let stranger = Ca::authority(|params| {
        params
            .distinguished_name
            .push(DnType::CommonName, "stranger");
    });
    let namesake = Ca::new();
    let good = ca.issue("origin");
    let named = |list: &[&str]| ca.issue_with("origin", |params| names(params, list));
    let pin = good.pin();
    let other_pin = ca.issue("another").pin();
    let spiffe = named(&["spiffe://example/api"]);
    let middle = ca.intermediate("middle", |_| {});
    let below = middle.issue("origin");
    let constrained = ca.intermediate("constrained", |params| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("inside.example".to_owned())],
            excluded_subtrees: Vec::new(),
        });
    });
    let self_signed = self_signed();
    let rows = [
        row("good", good.clone(), "", ""),
        row(
            "expired",
            ca.issue_with("origin", |params| {
                params.not_after = date_time_ymd(2021, 1, 1)
            }),
            "",
            "it expired at 2021-01-01T00:00:00Z",
        ),
        row(
            "not yet valid",
            ca.issue_with("origin", |params| {
                params.not_before = date_time_ymd(2090, 1, 1)
            }),
            "",
            "it is not valid before 2090-01-01T00:00:00Z",
        ),
        row("wrong name", named(&["other.example"]), "", "other.example"),
        row(
            "wrong name",
            named(&["other.example"]),
            "",
            "it is valid for other.example, not for localhost",
        ),
        row(
            "server_name",
            named(&["other.example"]),
            "server_name = \"other.example\"",
            "",
        ),
        row(
            "wildcard",
            named(&["*.other.example"]),
            "server_name = \"a.other.example\"",
            "",
        ),
        row(
            "wildcard, two labels",
            named(&["*.other.example"]),
            "server_name = \"a.b.other.example\"",
            "not for a.b.other.example",
        ),
        row(
            "wildcard, no label",
            named(&["*.other.example"]),
            "server_name = \"other.example\"",
            "not for other.example",
        ),
        row(
            "address",
            named(&["10.1.2.3"]),
            "server_name = \"10.1.2.3\"",
            "",
        ),
        row(
            "another address",
            named(&["10.1.2.3"]),
            "server_name = \"10.1.2.4\"",
            "it is valid for 10.1.2.3, not for 10.1.2.4",
        ),
        row(
            "unknown root",
            stranger.issue("origin"),
            "",
            "issued by \"CN=stranger\", which is not a trust anchor in `ca`",
        ),
        row(
            "a root of the same name",
            namesake.issue("origin"),
            "",
            "a signature in its chain is wrong",
        ),
        row("self-signed", self_signed, "", "self-signed"),
        row("intermediate", below.clone().with(&middle), "", ""),
        row(
            "missing intermediate",
            below,
            "",
            "the origin sends no intermediate certificates",
        ),
        row(
            "name constraints",
            constrained.issue("origin").with(&constrained),
            "",
            "the origin's certificate failed verification",
        ),
        row(
            "not for servers",
            ca.issue_with("origin", |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }),
            "",
            "lacks serverAuth",
        ),
        row("pin", good.clone(), format!("pins = [\"{pin}\"]"), ""),
        row(
            "pins, for a rollover",
            good.clone(),
            format!("pins = [\"{other_pin}\", \"{pin}\"]"),
            "",
        ),
        row(
            "another pin",
            good.clone(),
            format!("pins = [\"{other_pin}\"]"),
            "is not listed in `pins`",
        ),
        row(
            "URI",
            spiffe.clone(),
            "verify_names = [\"spiffe://example/api\"]",
            "",
        ),
        row(
            "another URI",
            spiffe.clone(),
            "verify_names = [\"spiffe://example/web\"]",
            "it is valid for spiffe://example/api, not for spiffe://example/web",
        ),
        row(
            "the host is not enough",
            good.clone(),
            "verify_names = [\"spiffe://example/api\"]",
            "not for spiffe://example/api",
        ),
        row(
            "one of several names",
            named(&["10.1.2.3"]),
            "verify_names = [\"a.example\", \"10.1.2.3\"]",
            "",
        ),
        row(
            "a pin does not replace the chain",
            stranger.issue("origin"),
            format!("pins = [\"{pin}\"]"),
            "issued by \"CN=stranger\"",
        ),
        row(
            "a name does not replace the chain",
            stranger.issue("origin"),
            "verify_names = [\"localhost\"]",
            "issued by \"CN=stranger\"",
        ),
        row("TLS 1.2 only", good.clone(), "tls_max = \"1.2\"", ""),
        row("TLS 1.3 only", good.clone(), "tls_min = \"1.3\"", ""),
        row(
            "without post-quantum",
            good.clone(),
            "post_quantum = false",
            "",
        ),
        row("asked", good, "require_request = true", ""),
    ];
    let mut wrong = Vec::new();
    for row in &rows {
        let answer = ask(&ca, &row.served, &row.lines, &[]);
        let fine = match row.says {
            "" => answer.status == 200,
            says => {
                answer.status == 502
                    && answer.head.contains("error=tls_certificate_error")
                    && answer.body.contains(says)
                    && answer.body.contains("next step:")
            }
        };
        if !fine {
            wrong.push((row.what, answer));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// An origin that vouches for itself.
fn self_signed() -> Issued {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "itself");
    Issued {
        chain: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
        serial: String::new(),
    }
}

/// A list of the authority's, with one serial number in it, that is good until this year.
fn revocation_list(ca: &Ca, serial: &str, year: i32) -> String {
    let revoked = RevokedCertParams {
        serial_number: SerialNumber::from(u64::from_str_radix(serial, 16).unwrap()),
        revocation_time: date_time_ymd(2024, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(year, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: KeyIdMethod::Sha256,
    }
    .signed_by(ca.issuer())
    .unwrap()
    .pem()
    .unwrap()
}

#[test]
fn revoked_origins_are_refused_and_so_are_those_that_no_list_covers() {
    let ca = Ca::authority(|params| {
        params.key_usages = vec![
            rcgen::KeyUsagePurpose::KeyCertSign,
            rcgen::KeyUsagePurpose::CrlSign,
        ];
    });
    let (good, revoked) = (ca.issue("origin"), ca.issue("origin"));
    let list = revocation_list(&ca, &revoked.serial, 2090);
    let stale = revocation_list(&ca, &revoked.serial, 2025);
    let foreign = revocation_list(&Ca::new(), &revoked.serial, 2090);
    let crl = "crl = \"list.pem\"";
    for (served, list, says) in [
        (&good, &list, ""),
        (&revoked, &list, "it has been revoked"),
        (&good, &stale, "in `crl` expired at 2025-01-01T00:00:00Z"),
        (&good, &foreign, "are not signed with its key"),
    ] {
        let answer = ask(&ca, served, crl, &[("list.pem", list)]);
        match says {
            "" => assert_eq!(answer.status, 200, "{answer:?}"),
            says => assert!(answer.body.contains(says), "{says}: {answer:?}"),
        }
    }
}

#[test]
fn a_revocation_list_is_read_again_when_it_changes() {
    let ca = Ca::authority(|params| {
        params.key_usages = vec![
            rcgen::KeyUsagePurpose::KeyCertSign,
            rcgen::KeyUsagePurpose::CrlSign,
        ];
    });
    let served = ca.issue("origin");
    let origin = Origin::presenting(&ca, &served);
    let daemon = Daemon::launch(&[], |directory| {
        fs::write(directory.join("client.pem"), ca.issue("client").pem()).unwrap();
        fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
        fs::write(directory.join("list.pem"), revocation_list(&ca, "1", 2090)).unwrap();
        fs::write(
            directory.join("mtlsd.toml"),
            crate::support::binding(&origin, "crl = \"list.pem\""),
        )
        .unwrap();
    });
    daemon.wait_ready();
    assert_eq!(get(daemon.address("b"), "/").status, 200);
    fs::write(
        daemon.path("list.pem"),
        revocation_list(&ca, &served.serial, 2090),
    )
    .unwrap();
    daemon.wait_for_line("published");
    let answer = get(daemon.address("b"), "/");
    assert!(answer.body.contains("it has been revoked"), "{answer:?}");
}

#[test]
fn an_origin_that_does_not_ask_is_refused_where_that_is_wanted() {
    let ca = Ca::new();
    for (version, line) in [("1.3", "tls_min = \"1.3\""), ("1.2", "tls_max = \"1.2\"")] {
        let origin = Origin::indifferent(&ca);
        let lines = format!("require_request = true\n{line}\nmax_connection_age = \"1ms\"");
        let daemon = Daemon::start(
            &ca,
            &ca.issue("client"),
            &crate::support::binding(&origin, &lines),
        );
        // Also when it resumes a session of a handshake in which it did not ask.
        for _ in 0..3 {
            let answer = get(daemon.address("b"), "/");
            assert_eq!(answer.status, 502, "TLS {version}: {answer:?}");
            assert!(
                answer.body.contains("did not ask for a certificate"),
                "{answer:?}"
            );
        }
        // One that asks goes on being good when its sessions are resumed.
        let origin = Origin::start(&ca);
        let daemon = Daemon::start(
            &ca,
            &ca.issue("client"),
            &crate::support::binding(&origin, &lines),
        );
        for _ in 0..5 {
            assert_eq!(get(daemon.address("b"), "/").status, 200);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(origin.resumed() > 0, "TLS {version}");
    }
}

#[test]
fn a_version_that_the_origin_does_not_speak_is_no_connection() {
    let ca = Ca::new();
    let origin = Origin::speaking(&ca, &[&rustls::version::TLS12]);
    let daemon = Daemon::start(
        &ca,
        &ca.issue("client"),
        &crate::support::binding(&origin, "tls_min = \"1.3\""),
    );
    let answer = get(daemon.address("b"), "/");
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.head.contains("error=tls_"), "{answer:?}");
}

/// A certificate that is not what a CA of these tests would issue.
fn odd(fields: &der::Fields, issuer: &KeyPair) -> Issued {
    let key = KeyPair::generate().unwrap();
    Issued {
        chain: der::pem("CERTIFICATE", &fields.certificate(&key, issuer)),
        key: key.serialize_pem(),
        serial: String::new(),
    }
}

#[test]
fn a_certificate_listed_in_ca_is_trusted_for_itself() {
    let ca = Ca::new();
    let plain = |name: &str, ca_bit: bool, change: &dyn Fn(&mut CertificateParams)| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        if ca_bit {
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        }
        change(&mut params);
        Issued {
            chain: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
            serial: String::new(),
        }
    };
    let nothing = |_: &mut CertificateParams| {};
    // As openssl req -x509 makes them, with CA:TRUE, and as others do, without.
    let with_ca = plain("localhost", true, &nothing);
    let without = plain("localhost", false, &nothing);
    let leaf = ca.issue("origin");
    let expired = plain("localhost", true, &|params| {
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let client_only = plain("localhost", false, &|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let signs_only = plain("localhost", true, &|params| {
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    });
    let other_name = plain("other.example", true, &nothing);
    let twin = plain("localhost", true, &nothing);
    let cases = [
        (&with_ca, &with_ca, ""),
        (&without, &without, ""),
        (&leaf, &leaf, ""),
        (&with_ca, &twin, "it is self-signed and not a trust anchor"),
        (&without, &twin, "it is self-signed and not a trust anchor"),
        (&expired, &expired, "it expired at 2021"),
        (&client_only, &client_only, "lacks serverAuth"),
        (&signs_only, &signs_only, "lacks digitalSignature"),
        (
            &other_name,
            &other_name,
            "it is valid for other.example, not for localhost",
        ),
    ];
    for (at, (served, listed, says)) in cases.into_iter().enumerate() {
        let answer = ask(&ca, served, "", &[("ca.crt", &listed.chain)]);
        match says {
            "" => assert_eq!(answer.status, 200, "case {at}: {answer:?}"),
            says => assert!(answer.body.contains(says), "case {at}: {says}: {answer:?}"),
        }
    }
    // The cure is a command that can be copied.
    let answer = ask(&ca, &with_ca, "", &[]);
    assert!(
        answer.body.contains("openssl s_client -connect 127.0.0.1:"),
        "{answer:?}"
    );
    // A leaf in `ca` is not a CA: it vouches for nobody else, whatever it signs.
    let below = KeyPair::from_pem(&leaf.key).unwrap();
    let mut fields = der::Fields::new("below", "origin");
    fields.extensions = vec![der::dns_name("localhost")];
    let answer = ask(&ca, &odd(&fields, &below), "", &[("ca.crt", &leaf.chain)]);
    assert_eq!(answer.status, 502, "{answer:?}");
}

#[test]
fn names_that_look_right_are_explained() {
    let ca = Ca::new();
    let named = |list: &[&str]| ca.issue_with("origin", |params| names(params, list));
    let address = ca.issue_with("origin", |params| {
        params.subject_alt_names = vec![SanType::DnsName("127.0.0.1".try_into().unwrap())];
    });
    let none = ca.issue_with("localhost", |params| params.subject_alt_names.clear());
    let cases = [
        (
            address,
            "server_name = \"127.0.0.1\"",
            "it has 127.0.0.1 as a DNS name, not as an IP address",
            "subjectAltName=IP:127.0.0.1",
        ),
        (
            none,
            "",
            "no subject alternative name: its common name \"localhost\" does not count",
            "subjectAltName=DNS:localhost",
        ),
        (
            named(&["*.example"]),
            "server_name = \"a.b.example\"",
            "the wildcard in *.example stands for exactly one label",
            "server_name",
        ),
    ];
    for (served, lines, says, cure) in cases {
        let answer = ask(&ca, &served, lines, &[]);
        assert_eq!(answer.status, 502, "{says}: {answer:?}");
        assert!(answer.body.contains(says), "{says}: {answer:?}");
        assert!(answer.body.contains(cure), "{cure}: {answer:?}");
    }
}

#[test]
fn what_is_wrong_with_a_ca_in_the_chain_is_not_said_of_the_leaf() {
    let root = Ca::authority(|params| {
        params.key_usages = vec![
            rcgen::KeyUsagePurpose::KeyCertSign,
            rcgen::KeyUsagePurpose::CrlSign,
        ];
    });
    let expired = root.intermediate("old", |params| params.not_after = date_time_ymd(2021, 1, 1));
    let early = root.intermediate("new", |params| {
        params.not_before = date_time_ymd(2090, 1, 1)
    });
    let middle = root.intermediate("middle", |params| {
        params.serial_number = Some(SerialNumber::from(0x77));
        params.key_usages = vec![
            rcgen::KeyUsagePurpose::KeyCertSign,
            rcgen::KeyUsagePurpose::CrlSign,
        ];
    });
    let no_ca = root.intermediate("none", |params| params.is_ca = rcgen::IsCa::ExplicitNoCa);
    let crls = revocation_list(&root, "77", 2090) + &revocation_list(&middle, "1", 2090);
    let crl = "crl = \"list.pem\"";
    let cases = [
        (
            expired.issue("origin").with(&expired),
            "",
            "the CA certificate \"CN=old\" in its chain expired at 2021-01-01T00:00:00Z",
        ),
        (
            early.issue("origin").with(&early),
            "",
            "the CA certificate \"CN=new\" in its chain is not valid before 2090",
        ),
        (
            middle.issue("origin").with(&middle),
            crl,
            "the CA certificate \"CN=middle\" in its chain has been revoked",
        ),
        (
            no_ca.issue("origin").with(&no_ca),
            "",
            "an issuer that is not a CA",
        ),
        (root.intermediate_leaf(), "", "it is a CA certificate"),
    ];
    for (served, lines, says) in cases {
        let answer = ask(&root, &served, lines, &[("list.pem", &crls)]);
        assert_eq!(answer.status, 502, "{says}: {answer:?}");
        assert!(answer.body.contains(says), "{says}: {answer:?}");
        assert!(
            !answer.body.contains("clock (") && !answer.body.contains("probably"),
            "{answer:?}"
        );
    }
    // The cure for an expired certificate of a CA: one that is valid, in `ca`.
    let renewed = Ca::of(&expired.key()).renamed("old");
    let both = root.pem.clone() + &renewed.pem;
    let answer = ask(
        &root,
        &expired.issue("origin").with(&expired),
        "",
        &[("ca.crt", &both)],
    );
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn a_ca_in_ca_may_be_spelt_otherwise() {
    let key = KeyPair::generate().unwrap();
    let mut root = der::Fields::new("x", "x");
    root.subject = der::name(&[(der::CN, 19, b"My  Root")]);
    root.issuer = root.subject.clone();
    root.extensions = vec![der::is_ca()];
    let ca = der::pem("CERTIFICATE", &root.certificate(&key, &key));
    let mut leaf = der::Fields::new("origin", "my root");
    leaf.extensions = vec![der::dns_name("localhost")];
    let answer = ask(&Ca::new(), &odd(&leaf, &key), "", &[("ca.crt", &ca)]);
    assert_eq!(answer.status, 200, "{answer:?}");
}
