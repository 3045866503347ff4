//! Certificates with any date, name, extension, serial number and version, ours and the origin's:
//! nothing panics, every request gets a response, and every failure has a cause.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};

use rcgen::KeyPair;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::support::der::{
    CN, Fields, UTF8, dns_name, extension, is_ca, name, oid, pem, sequence, time, tlv,
};
use crate::support::{Ca, Client, Daemon, Origin, scale};

/// A generator of numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1);
        (0..length).map(|_| self.below(256) as u8).collect()
    }

    /// A date that DER can write.
    fn date(&mut self) -> Vec<u8> {
        let fixed = [
            "00000101000000Z",
            "00010101000000Z",
            "15821015000000Z",
            "19691231235959Z",
            "19700101000000Z",
            "20380119031408Z",
            "20491231235959Z",
            "99991231235959Z",
            "500101000000Z",
            "491231235959Z",
            "700101000000Z",
        ];
        if self.below(2) == 0 {
            return time(self.one(&fixed));
        }
        let (year, month, day) = (self.below(10_000), 1 + self.below(12), 1 + self.below(28));
        time(&format!("{year:04}{month:02}{day:02}123456Z"))
    }

    fn name(&mut self) -> Vec<u8> {
        let types = [
            CN,
            "2.5.4.10",
            "2.5.4.6",
            "1.2.840.113549.1.9.1",
            "1.3.6.1.4.1.99999.1",
        ];
        let strings = [UTF8, 19, 20, 22, 26, 28, 30, 4, 18];
        let texts: [&[u8]; 8] = [
            b"",
            b"plain",
            b"two\r\nlines: and a field",
            b"\x1b[31mred\x1b[0m \x07",
            "rechts \u{202e}links".as_bytes(),
            b"\xff\xfe\x00",
            b"100% {0} {} \"quoted\" <b>",
            &[b'x'; 3000],
        ];
        let count = self.below(4);
        let attributes: Vec<_> = (0..count)
            .map(|_| (self.one(&types), self.one(&strings), self.one(&texts)))
            .collect();
        name(&attributes)
    }

    fn extension(&mut self) -> Vec<u8> {
        let critical = self.below(3) == 0;
        match self.below(9) {
            0 => extension("1.2.3.4", critical, &self.bytes(20)),
            1 => extension(
                "2.5.29.15",
                critical,
                &tlv(3, &[7, self.one(&[0x80, 0x20, 0])]),
            ),
            2 => extension(
                "2.5.29.37",
                critical,
                &sequence(&[oid(self.one(&[
                    "1.3.6.1.5.5.7.3.1",
                    "1.3.6.1.5.5.7.3.2",
                    "1.2.3",
                ]))]),
            ),
            3 => is_ca(),
            4 => dns_name(self.one(&["localhost", "*.localhost", "a..b", "127.0.0.1", "x\ny"])),
            5 => extension(
                "2.5.29.17",
                critical,
                &sequence(&[tlv(0x87, &self.bytes(17))]),
            ),
            6 => extension(
                self.one(&[
                    "2.5.29.14",
                    "2.5.29.35",
                    "2.5.29.31",
                    "2.5.29.32",
                    "2.5.29.30",
                ]),
                critical,
                &self.bytes(40),
            ),
            7 => extension("2.5.29.17", critical, &sequence(&[])),
            _ => extension("1.3.6.1.5.5.7.1.1", critical, &sequence(&[])),
        }
    }

    /// Fields of a certificate, about half of each as they should be.
    fn fields(&mut self, subject: &str) -> Fields {
        let mut fields = Fields::new(subject, "odd CA");
        if self.below(2) == 0 {
            fields.from = self.date();
        }
        if self.below(2) == 0 {
            fields.to = self.date();
        }
        if self.below(2) == 0 {
            fields.subject = self.name();
        }
        match self.below(6) {
            0 => fields.serial = vec![0],
            1 => fields.serial = vec![0xff],
            2 => fields.serial = [vec![1], self.bytes(60)].concat(),
            _ => {}
        }
        fields.version = self.one(&[0, 1, 2, 2, 2, 2, 2, 2]);
        if fields.version == 2 {
            fields.extensions = vec![dns_name("localhost")];
            for _ in 0..self.below(4) {
                let extension = self.extension();
                fields.extensions.push(extension);
            }
        }
        fields
    }
}

/// The CA of every odd certificate.
struct OddCa {
    key: KeyPair,
    pem: String,
}

impl OddCa {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut fields = Fields::new("odd CA", "odd CA");
        fields.extensions = vec![is_ca()];
        let pem = pem("CERTIFICATE", &fields.certificate(&key, &key));
        Self { key, pem }
    }
}

/// Presents what it is given, whatever that is.
#[derive(Debug)]
struct Presents(Mutex<Arc<CertifiedKey>>);

impl ResolvesServerCert for Presents {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.lock().unwrap()))
    }
}

fn certified(chain: Vec<Vec<u8>>, key: &KeyPair) -> Arc<CertifiedKey> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    Arc::new(CertifiedKey::new(chain, key))
}

/// An origin that presents `presents` and closes every connection after one response.
fn origin(presents: Arc<Presents>) -> u16 {
    let mut config = ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_cert_resolver(presents);
    // No session is resumed, or the next certificate would not be seen.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = StreamOwned::new(session, tcp.unwrap());
            if tls.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
                let _ = tls.write_all(answer);
                tls.conn.send_close_notify();
                let _ = tls.flush();
            }
        }
    });
    port
}

/// The causes that the origin's certificate can have.
const CAUSES: &[&str] = &[
    "origin_certificate_expired",
    "origin_certificate_not_yet_valid",
    "origin_certificate_name",
    "origin_certificate_usage",
    "origin_certificate_is_ca",
    "origin_certificate_version",
    "origin_certificate_extension",
    "origin_certificate",
];

#[test]
fn no_certificate_of_an_origin_panics_or_loses_a_request() {
    let (ca, client) = (OddCa::new(), Ca::new());
    let key = KeyPair::generate().unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let first = random.fields("origin").certificate(&key, &ca.key);
    let presents = Arc::new(Presents(Mutex::new(certified(vec![first], &key))));
    let port = origin(Arc::clone(&presents));
    let daemon = Daemon::launch(&[], |directory| {
        fs::write(directory.join("client.pem"), client.issue("client").pem()).unwrap();
        fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
        let config = format!(
            "[log]\nformat = \"json\"\n[bindings.b]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{port}\"\ncertificate = \"client.pem\"\nca = \"ca.crt\"\n"
        );
        fs::write(directory.join("mtlsd.toml"), config).unwrap();
    });
    daemon.wait_ready();
    let cases = scale("MTLSD_TEST_CERTIFICATES", 150);
    let mut causes = std::collections::BTreeSet::new();
    for case in 0..cases {
        let der = random.fields("origin").certificate(&key, &ca.key);
        let other = random.fields("odd CA").certificate(&ca.key, &ca.key);
        *presents.0.lock().unwrap() = certified(vec![der.clone(), other], &key);
        let mut client = Client::connect(daemon.address("b"));
        client.write(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: application/problem+json\r\nConnection: close\r\n\r\n",
        );
        let answer = client.answer();
        let shown = || pem("CERTIFICATE", &der);
        let answer = answer.unwrap_or_else(|error| panic!("case {case}: {error}\n{}", shown()));
        if answer.status == 200 {
            causes.insert("none".to_owned());
            continue;
        }
        assert_eq!(answer.status, 502, "case {case}: {answer:?}\n{}", shown());
        let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let cause = problem["cause"].as_str().unwrap().to_owned();
        assert!(
            CAUSES.contains(&cause.as_str()),
            "case {case}: {answer:?}\n{}",
            shown()
        );
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            !detail.contains(char::is_control),
            "case {case}: {detail:?}"
        );
        assert!(
            !detail.contains("damaged") && !has_variant_name(detail),
            "case {case}: {detail}"
        );
        causes.insert(cause);
    }
    assert!(causes.len() > 5, "only {causes:?}");
    assert!(
        !daemon.log().join("\n").contains("panicked"),
        "{:#?}",
        daemon.log()
    );
    for line in daemon.access() {
        assert_ne!(line["status"], 499, "{line}");
    }
}

/// Whether a text has a word such as `CaUsedAsEndEntity`.
fn has_variant_name(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|word| {
        let upper = word
            .chars()
            .skip(1)
            .filter(char::is_ascii_uppercase)
            .count();
        upper > 1 && word.chars().any(|c| c.is_ascii_lowercase())
    })
}

#[test]
fn no_certificate_of_ours_panics_or_is_called_damaged() {
    let (ca, servers) = (OddCa::new(), Ca::new());
    let origin = Origin::indifferent(&servers);
    let key = KeyPair::generate().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    fs::write(path("client.key"), key.serialize_pem()).unwrap();
    fs::write(path("ca.crt"), &servers.pem).unwrap();
    fs::write(
        path("mtlsd.toml"),
        format!(
            "[bindings.b]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{}\"\ncertificate = \"client.crt\"\nkey = \"client.key\"\nca = \"ca.crt\"\n",
            origin.port
        ),
    )
    .unwrap();
    for case in 0..scale("MTLSD_TEST_CERTIFICATES", 60) {
        let der = random.fields("client").certificate(&key, &ca.key);
        let issuer = random.fields("odd CA").certificate(&ca.key, &ca.key);
        let (leaf, issuer) = (pem("CERTIFICATE", &der), pem("CERTIFICATE", &issuer));
        fs::write(path("client.crt"), format!("{leaf}{issuer}")).unwrap();
        for command in [&["check"][..], &["fetch", "b", "/"]] {
            let output = Command::new(env!("CARGO_BIN_EXE_mtlsd"))
                .args(command)
                .current_dir(directory.path())
                .output()
                .unwrap();
            let said = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            let what = format!("case {case}, {command:?}: {said}\n{leaf}");
            assert!(
                output.status.code().is_some_and(|code| code != 101),
                "{what}"
            );
            assert!(!said.contains("panicked"), "{what}");
            assert!(
                !said.contains("damaged") && !said.contains("too early"),
                "{what}"
            );
            assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{what}");
        }
    }
}

/// What is odd about a certificate that is presented all the same, and what `check` notes.
#[test]
fn what_is_for_the_origin_to_judge_is_presented() {
    let (ca, servers) = (OddCa::new(), Ca::new());
    let origin = Origin::indifferent(&servers);
    let key = KeyPair::generate().unwrap();
    let with = |extensions: Vec<Vec<u8>>| {
        let mut fields = Fields::new("client", "odd CA");
        fields.extensions = extensions;
        fields
    };
    let usage = |bits: u8| extension("2.5.29.15", true, &tlv(3, &[0, bits]));
    let purpose = |kind: &str| extension("2.5.29.37", false, &sequence(&[oid(kind)]));
    let mut version_1 = with(Vec::new());
    version_1.version = 0;
    let cases = [
        (version_1, "X.509 version 1"),
        (
            with(vec![extension("1.2.3.4", true, &[5, 0])]),
            "the critical extension 1.2.3.4",
        ),
        (with(vec![usage(0x20)]), "lacks digitalSignature"),
        (with(vec![usage(0x80)]), ""),
        (with(vec![purpose("1.3.6.1.5.5.7.3.1")]), "lacks clientAuth"),
        (with(vec![purpose("1.3.6.1.5.5.7.3.2")]), ""),
    ];
    for (fields, note) in cases {
        let leaf = pem("CERTIFICATE", &fields.certificate(&key, &ca.key));
        let daemon = Daemon::launch(&[], |directory| {
            fs::write(directory.join("client.pem"), leaf + &key.serialize_pem()).unwrap();
            fs::write(directory.join("ca.crt"), &servers.pem).unwrap();
            let config = crate::support::binding(&origin, "");
            fs::write(directory.join("mtlsd.toml"), config).unwrap();
        });
        daemon.wait_ready();
        let answer = crate::support::get(daemon.address("b"), "/");
        assert_eq!(answer.status, 200, "{note}: {answer:?}");
        let checked = Command::new(env!("CARGO_BIN_EXE_mtlsd"))
            .arg("check")
            .current_dir(daemon.directory.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&checked.stdout).into_owned()
            + &String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{note}: {said}");
        match note {
            "" => assert!(!said.contains("lacks"), "{said}"),
            note => assert!(said.contains(note), "{note}: {said}"),
        }
        // The issuer is a private root: nothing is missing from the chain.
        assert!(!said.contains("the chain ends"), "{said}");
    }
}
