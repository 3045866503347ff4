//! No error, log line, report or panic message contains any part of a key, password or token file,
//! whatever the file is mistaken for, and in whatever shape it is.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use data_encoding::{BASE64, HEXLOWER, HEXUPPER};
use rustix::process::Signal;

use crate::support::{Ca, Daemon, Origin, wait_for};

/// A key that nothing else uses, and a password.
const KEY: &str = include_str!("key_formats/p-384.key");
const PASSWORD: &str = "Zg7Correct8Horse4Battery2Staple6Qx";
/// As many consecutive characters as must never be found.
const WINDOW: usize = 12;
const ID: &str = "17070707-0707-4707-8707-070707070707";

/// The shapes that are tried as values. A password is like a path, and a path is printed.
const VALUES: &[&str] = &[
    "pem",
    "blanks",
    "escaped",
    "one line",
    "without BEGIN",
    "indented",
    "base64",
    "bare",
    "hexadecimal",
    "secret label",
    "PEM in PEM",
];

fn base64() -> String {
    KEY.lines().filter(|line| !line.starts_with('-')).collect()
}

fn der() -> Vec<u8> {
    BASE64.decode(base64().as_bytes()).unwrap()
}

/// What would be a leak: the key as base64, as hexadecimal, as bytes and as a list of numbers, and
/// the password.
struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    fn new() -> Self {
        let der = der();
        let numbers: Vec<_> = der.iter().map(u8::to_string).collect();
        let texts = [
            base64().into_bytes(),
            KEY.lines().rev().collect::<String>().into_bytes(),
            BASE64.encode(KEY.as_bytes()).into_bytes(),
            HEXLOWER.encode(&der).into_bytes(),
            HEXUPPER.encode(&der).into_bytes(),
            numbers.join(", ").into_bytes(),
            der,
            PASSWORD.as_bytes().to_vec(),
        ];
        let windows = texts.iter().flat_map(|text| text.windows(WINDOW));
        // The dashes and labels of PEM are no secret.
        let is_secret = |window: &&[u8]| !window.contains(&b'-') && !window.contains(&b' ');
        let numbers = numbers
            .windows(WINDOW)
            .map(|some| some.join(", ").into_bytes());
        Self(
            windows
                .filter(is_secret)
                .map(<[u8]>::to_vec)
                .chain(numbers)
                .collect(),
        )
    }

    /// The first secret in what was said.
    fn found_in(&self, said: &[u8]) -> Option<String> {
        let found = self
            .0
            .iter()
            .find(|secret| memchr::memmem::find(said, secret).is_some());
        found.map(|secret| String::from_utf8_lossy(secret).into_owned())
    }
}

/// The key and the password in every wrong shape.
fn forms() -> Vec<(&'static str, Vec<u8>)> {
    let bare = base64();
    let quoted = serde_json::to_string(KEY).unwrap();
    let utf16 = |text: &str| -> Vec<u8> {
        let marked = format!("\u{feff}{text}");
        marked.encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    let indented: String = KEY.lines().map(|line| format!("    {line}\n")).collect();
    let labeled = |label: &str| KEY.replace("PRIVATE KEY", label);
    let block = |content: String| {
        format!("-----BEGIN PRIVATE KEY-----\n{content}\n-----END PRIVATE KEY-----\n")
    };
    let lines: Vec<&str> = KEY.lines().collect();
    let texts = [
        ("pem", KEY.to_owned()),
        ("blanks", KEY.replace('\n', " ")),
        ("tabs", KEY.replace('\n', "\t")),
        ("escaped", KEY.replace('\n', "\\n")),
        ("escaped twice", KEY.replace('\n', "\\r\\n")),
        ("one line", KEY.replace('\n', "")),
        ("without END", lines[..lines.len() - 1].join("\n")),
        ("without BEGIN", lines[1..].join("\n")),
        ("cut short", KEY[..KEY.len() / 2].to_owned()),
        (
            "END on the last line",
            KEY.replace("\n-----END", "-----END"),
        ),
        (
            "BEGIN on the first line",
            KEY.replace("KEY-----\n", "KEY-----"),
        ),
        ("indented", indented),
        ("carriage returns", KEY.replace('\n', "\r")),
        ("line ends of Windows", KEY.replace('\n', "\r\n")),
        ("marked", format!("\u{feff}{KEY}")),
        ("four dashes", KEY.replace("-----", "----")),
        ("open BEGIN", KEY.replace("KEY-----\n", "KEY\n")),
        ("as a certificate", labeled("CERTIFICATE")),
        ("as a CRL", labeled("X509 CRL")),
        ("as a trusted certificate", labeled("TRUSTED CERTIFICATE")),
        ("as an encrypted key", labeled("ENCRYPTED PRIVATE KEY")),
        ("as an RSA key", labeled("RSA PRIVATE KEY")),
        ("as an EC key", labeled("EC PRIVATE KEY")),
        ("secret label", labeled(&bare)),
        ("password label", labeled(PASSWORD)),
        ("not base64", KEY.replace("KEY-----\nM", "KEY-----\nM*")),
        ("base64", BASE64.encode(KEY.as_bytes())),
        ("bare", bare.clone()),
        ("twice", block(BASE64.encode(bare.as_bytes()))),
        ("PEM in PEM", block(BASE64.encode(KEY.as_bytes()))),
        ("hexadecimal", HEXLOWER.encode(&der())),
        ("JSON", format!("{{\"data\": {{\"tls.key\": {quoted}}}}}")),
        ("JSON string", quoted.clone()),
        ("TOML", format!("[bindings.x]\nkey = {quoted}\n")),
        (
            "TOML lines",
            format!("[bindings.x]\nkey = \"\"\"\n{KEY}\"\"\"\n"),
        ),
        (
            "TOML list",
            format!("[bindings.x]\nlisten = [\"{}\"]\n", lines.join("\", \"")),
        ),
        (
            "TOML without quotes",
            format!("listen = \"localhost:0\"\nkey = {KEY}"),
        ),
        (
            "TOML as a key",
            format!("[bindings.x]\n\"{bare}\" = 1\n{bare} = 2\n"),
        ),
        (
            "TOML password",
            format!("[bindings.x]\nkey_password = \"{PASSWORD}\"\n"),
        ),
        ("YAML", format!("tls.key: |\n{}", KEY.replace('\n', "\n  "))),
        ("shell", format!("export KEY='{KEY}'")),
        ("password", PASSWORD.to_owned()),
        ("password with a line end", format!("{PASSWORD}\n")),
        ("long password", PASSWORD.repeat(200)),
        ("password in two words", format!("{PASSWORD} {PASSWORD}")),
        (
            "password = password",
            format!("{PASSWORD} = \"{PASSWORD}\""),
        ),
        ("table of the password", format!("[{PASSWORD}]")),
        ("string of the password", format!("\"{PASSWORD}\"")),
        ("number", PASSWORD.replace(char::is_alphabetic, "9")),
    ];
    let mut forms: Vec<_> = texts
        .into_iter()
        .map(|(name, text)| (name, text.into_bytes()))
        .collect();
    forms.push(("DER", der()));
    forms.push(("UTF-16", utf16(KEY)));
    forms.push(("password in UTF-16", utf16(PASSWORD)));
    forms
}

/// A directory with everything that is right.
fn prepare(directory: &Path, ca: &Ca) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/key_formats");
    for name in [
        "p-256.crt",
        "p-256.key",
        "p-256.encrypted.key",
        "p-256.p12",
        "password",
    ] {
        fs::copy(fixtures.join(name), directory.join(name)).unwrap();
    }
    fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
    fs::create_dir_all(directory.join("store")).unwrap();
}

/// The bindings in which the file `secret` is taken for each input.
fn readers(file: impl Fn(&str) -> String, port: u16) -> String {
    let pair = "certificate = \"p-256.crt\"\nkey = \"p-256.key\"\n";
    let sealed = "certificate = \"p-256.crt\"\nkey = \"p-256.encrypted.key\"\n";
    [
        ("certificate", format!("certificate = \"{}\"\nkey = \"p-256.key\"\n", file("certificate"))),
        ("key", format!("certificate = \"p-256.crt\"\nkey = \"{}\"\n", file("key"))),
        ("both", format!("certificate = \"{}\"\n", file("both"))),
        ("ca", format!("{pair}ca = \"{}\"\n", file("ca"))),
        ("crl", format!("{pair}crl = \"{}\"\n", file("crl"))),
        ("password", format!("{sealed}key_password_file = \"{}\"\n", file("password"))),
        ("pkcs12", format!("certificate = \"p-256.p12\"\nkey_password_file = \"{}\"\n", file("pkcs12"))),
    ]
    .map(|(name, lines)| {
        format!("[bindings.{name}]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{port}\"\n{lines}\n")
    })
    .concat()
}

/// Runs the program; what it said, and whether it succeeded.
fn run(directory: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_mtlsd"))
        .args(arguments)
        .current_dir(directory)
        .env("MTLSD_STORE", directory.join("store"))
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert_ne!(output.status.code(), Some(101), "a panic");
    said
}

/// Every way in which the program may come across the file `secret` and the text in it.
fn everything_said(name: &str, directory: &Path, form: &[u8]) -> Vec<(String, Vec<u8>)> {
    let write = |name: &str, content: &[u8]| fs::write(directory.join(name), content).unwrap();
    let log = "[log]\nlevel = \"trace\"\n";
    write("secret", form);
    write(
        "mtlsd.toml",
        format!("{log}{}", readers(|_| "secret".to_owned(), 1)).as_bytes(),
    );
    let mut lines: Vec<Vec<&str>> = vec![
        vec!["check"],
        vec!["check", "--json"],
        vec!["run"],
        vec!["fetch", "ca", "/"],
        vec!["probe", "ca"],
        vec![
            "mtls-certificate",
            "upload",
            "--cert",
            "secret",
            "--key",
            "p-256.key",
        ],
        vec![
            "mtls-certificate",
            "upload",
            "--cert",
            "p-256.crt",
            "--key",
            "secret",
        ],
        vec![
            "mtls-certificate",
            "upload",
            "--cert",
            "p-256.crt",
            "--key",
            "p-256.encrypted.key",
            "--key-password-file",
            "secret",
        ],
        vec![
            "cert",
            "upload",
            "certificate-authority",
            "--ca-cert",
            "secret",
        ],
        vec![
            "run",
            "--to",
            "https://localhost:1",
            "--cert",
            "p-256.crt",
            "--key",
            "secret",
        ],
        // As the configuration.
        vec!["check", "--config", "secret"],
        vec!["run", "--config", "secret"],
        vec!["fetch", "--config", "secret", "a", "/"],
    ];
    for name in ["wrangler.toml", "wrangler.jsonc"] {
        write(name, form);
        lines.push(vec!["check", "--wrangler", name]);
    }
    let mut said: Vec<_> = lines
        .iter()
        .map(|line| (line.join(" "), run(directory, line)))
        .collect();
    // As a file of the store.
    let header = format!(
        "mtlsd certificate store, version 1\nID: {ID}\nKind: client\nCreated on: 2026-11-24T01:02:03Z\n"
    );
    for head in ["", header.as_str()] {
        write(
            &format!("store/{ID}.pem"),
            &[head.as_bytes(), form].concat(),
        );
        let config = format!(
            "{log}[bindings.a]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:1\"\ncertificate_id = \"{ID}\"\n"
        );
        write("mtlsd.toml", config.as_bytes());
        for line in [
            &["mtls-certificate", "list"][..],
            &["cert", "list", "--json"],
            &["mtls-certificate", "show", "--id", ID],
        ] {
            said.push((format!("store: {}", line.join(" ")), run(directory, line)));
        }
    }
    fs::remove_file(directory.join(format!("store/{ID}.pem"))).unwrap();
    // As a value.
    if let Ok(text) = str::from_utf8(form)
        && VALUES.contains(&name)
    {
        said.extend(values_said(directory, text));
    }
    said
}

/// What is said when the text itself stands where a path, or anything else, was meant.
fn values_said(directory: &Path, text: &str) -> Vec<(String, Vec<u8>)> {
    let value = serde_json::to_string(text).unwrap();
    let keys = [
        "certificate",
        "key",
        "key_password_file",
        "certificate_dir",
        "ca",
        "crl",
        "origin",
        "host",
        "listen",
        "server_name",
        "certificate_id",
        "connect_to",
        "pins",
        "verify_names",
        "tls_min",
        "allow",
        "host_header",
        "retry",
        "idle_timeout",
        "max_connections",
        "via",
        "upgrades",
        "allow_web_origins",
    ];
    let mut config = format!("workers = {value}\n[log]\nlevel = {value}\n");
    for key in keys {
        config.push_str(&format!("[bindings.{key}]\n{key} = {value}\n"));
    }
    fs::write(directory.join("mtlsd.toml"), config).unwrap();
    let name = format!("[bindings.{value}]\nlisten = \"localhost:0\"\n{value} = 1\n");
    fs::write(directory.join("name.toml"), name).unwrap();
    let cert = format!("--cert={text}");
    let key = format!("--key={text}");
    let to = format!("--to={text}");
    let ca = format!("--ca={text}");
    let listen = format!("--listen={text}");
    let config = format!("--config={text}");
    let id = format!("--id={text}");
    let named = format!("--name={text}");
    let store = format!("--store={text}");
    let lines: Vec<Vec<&str>> = vec![
        vec!["check"],
        vec!["check", "--json"],
        vec!["run"],
        vec!["check", "--config", "name.toml"],
        vec!["check", "--json", "--config", "name.toml"],
        vec!["check", &config],
        vec!["run", "--to=https://localhost:1", &cert, &key],
        vec!["run", "--to=https://localhost:1", "--cert=p-256.crt", &key],
        vec![
            "run",
            "--to=https://localhost:1",
            "--cert=p-256.crt",
            "--key",
            text,
        ],
        vec!["run", &to, "--cert=p-256.crt", "--key=p-256.key"],
        vec![
            "run",
            "--to=https://localhost:1",
            "--cert=p-256.crt",
            "--key=p-256.key",
            &ca,
        ],
        vec![
            "run",
            "--to=https://localhost:1",
            "--cert=p-256.crt",
            "--key=p-256.key",
            &listen,
        ],
        vec!["mtls-certificate", "upload", &cert, &key],
        vec![
            "mtls-certificate",
            "upload",
            "--cert",
            "p-256.crt",
            "--key",
            text,
        ],
        vec![
            "mtls-certificate",
            "upload",
            "--cert=p-256.crt",
            "--key=p-256.key",
            &named,
        ],
        vec!["mtls-certificate", "show", &id],
        vec!["mtls-certificate", "show", &named],
        vec!["mtls-certificate", "list", &store],
        vec![text],
    ];
    let said = lines.iter().map(|line| {
        let shown = line.join(" ").replace(text, "VALUE");
        (format!("value: {shown}"), run(directory, line))
    });
    said.collect()
}

#[test]
fn no_command_says_what_is_in_a_secret_file() {
    let secrets = Secrets::new();
    let ca = Ca::new();
    let forms = forms();
    let threads = 4;
    let leaks = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let (secrets, forms, ca) = (&secrets, &forms, &ca);
                scope.spawn(move || {
                    let directory = tempfile::tempdir().unwrap();
                    prepare(directory.path(), ca);
                    let mut leaks = Vec::new();
                    for (name, form) in forms.iter().skip(worker).step_by(threads) {
                        for (line, said) in everything_said(name, directory.path(), form) {
                            if let Some(secret) = secrets.found_in(&said) {
                                let said = String::from_utf8_lossy(&said);
                                leaks.push(format!("{name}: {line}: {secret}\n{said}"));
                            }
                        }
                    }
                    leaks
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect::<Vec<_>>()
    });
    assert!(leaks.is_empty(), "{}", leaks.join("\n----\n"));
}

#[test]
fn a_running_daemon_does_not_log_what_is_in_a_secret_file() {
    let secrets = Secrets::new();
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let good = |reader: &str| -> Vec<u8> {
        let fixture = |name: &str| {
            let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/key_formats");
            fs::read(fixtures.join(name)).unwrap()
        };
        match reader {
            "certificate" => fixture("p-256.crt"),
            "key" => fixture("p-256.key"),
            "both" => [fixture("p-256.crt"), fixture("p-256.key")].concat(),
            "ca" => ca.pem.clone().into_bytes(),
            _ => fixture("password"),
        }
    };
    let readers_of = ["certificate", "key", "both", "ca", "password", "pkcs12"];
    let marker = |number: usize| ca.issue(&format!("marker-{number}")).pem();
    let daemon = Daemon::launch(&[("RUST_BACKTRACE", "1")], |directory| {
        prepare(directory, &ca);
        for reader in readers_of {
            fs::write(directory.join(format!("its-{reader}")), good(reader)).unwrap();
        }
        fs::write(directory.join("marker.pem"), marker(0)).unwrap();
        // A CRL must be there from the start, so it is left out.
        let all = readers(|reader| format!("its-{reader}"), origin.port);
        let all = all.replace("crl = \"its-crl\"\n", "");
        let marker = format!(
            "[bindings.zz-marker]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{}\"\ncertificate = \"marker.pem\"\n",
            origin.port
        );
        let config = format!("[log]\nlevel = \"trace\"\nformat = \"json\"\n{all}{marker}");
        fs::write(directory.join("mtlsd.toml"), config).unwrap();
    });
    daemon.wait_ready();
    for (number, (name, form)) in forms().into_iter().enumerate() {
        for reader in readers_of {
            fs::write(daemon.path(&format!("its-{reader}")), &form).unwrap();
        }
        fs::write(daemon.path("marker.pem"), marker(number + 1)).unwrap();
        daemon.signal(Signal::HUP);
        // The binding that comes last has been looked at.
        wait_for(&format!("the files to be read as {name}"), || {
            let log = daemon.log();
            let wanted = format!("CN=marker-{}\"", number + 1);
            match log.iter().any(|line| line.contains(&wanted)) {
                true => Ok(()),
                false => Err(log.len()),
            }
        });
    }
    // And as the configuration.
    for (_, form) in forms() {
        fs::write(daemon.path("mtlsd.toml"), form).unwrap();
        let before = daemon.log().len();
        daemon.signal(Signal::HUP);
        wait_for("the configuration to be rejected", || {
            match daemon.log().len() > before {
                true => Ok(()),
                false => Err(before),
            }
        });
    }
    let log = daemon.log().join("\n");
    assert!(log.contains("\"binding\":\"key\""), "{log}");
    if let Some(secret) = secrets.found_in(log.as_bytes()) {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(&secret)).collect();
        panic!("{secret}: {lines:#?}");
    }
}
