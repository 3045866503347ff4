//! Bindings whose certificate is in the store: what they may reach, and what they present when it
//! is replaced.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{Ca, Daemon, Issued, Origin, send, wait_for};
use serde_json::Value;
use tempfile::TempDir;

/// A store, and what is uploaded into it.
struct Store {
    directory: TempDir,
}

impl Store {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }

    fn run(&self, line: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_mtlsd"))
            .args(line.split(' '))
            .env("MTLSD_STORE", self.path())
            .current_dir(self.directory.path())
            .output()
            .unwrap()
    }

    /// Writes the pair to files, and runs `line` behind them. The id it prints.
    fn put(&self, line: &str, issued: &Issued) -> String {
        fs::write(self.directory.path().join("c.crt"), &issued.chain).unwrap();
        fs::write(self.directory.path().join("c.key"), &issued.key).unwrap();
        let output = self.run(&format!("{line} --cert c.crt --key c.key --json"));
        assert!(output.status.success(), "{output:?}");
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        printed["id"].as_str().unwrap().to_owned()
    }

    fn launch(&self, prepare: impl FnOnce(&Path)) -> Daemon {
        Daemon::launch(&[("MTLSD_STORE", self.path())], prepare)
    }
}

/// A fetch as workerd makes it: a whole https URL, and no `Host`.
fn fetch(daemon: &Daemon, binding: &str, host: &str) -> crate::support::Answer {
    send(
        daemon.address(binding),
        &format!("GET https://{host}/ HTTP/1.1\r\nConnection: close\r\n\r\n"),
    )
}

#[test]
fn a_replaced_certificate_is_presented_without_a_restart() {
    let (ca, store) = (Ca::new(), Store::new());
    let origin = Origin::start(&ca);
    let (first, second) = (ca.issue("first"), ca.issue("second"));
    let id = store.put("mtls-certificate upload --name n", &first);
    let daemon = store.launch(|directory| {
        let config = format!(
            "mtls_certificates = [ {{ binding = \"MY_CERT\", certificate_id = \"{id}\" }} ]\n\
             [bindings.MY_CERT]\nca = \"ca.crt\"\nconnect_to = \"127.0.0.1:{0}\"\n\
             [bindings.named]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{0}\"\nca = \"ca.crt\"\ncertificate_id = \"{id}\"\n",
            origin.port
        );
        fs::write(directory.join("mtlsd.toml"), config).unwrap();
        fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
    });
    daemon.wait_ready();
    // The test's certificates are for localhost; the name that is asked for decides.
    let granted = || fetch(&daemon, "MY_CERT", "localhost").body;
    let named = || crate::support::get(daemon.address("named"), "/").body;
    assert_eq!((granted(), named()), (first.serial.clone(), first.serial));

    let again = store.put("mtls-certificate replace --name n", &second);
    daemon.wait_for_lines("published", 2);
    assert_eq!((granted(), named()), (second.serial.clone(), second.serial));
    assert_eq!(again, id);
    let free = daemon
        .log()
        .iter()
        .filter(|line| line.contains("may fetch any public origin"))
        .count();
    assert_eq!(free, 1);
}

#[test]
fn a_granted_binding_reaches_no_private_address_unless_it_is_allowed() {
    let (ca, store) = (Ca::new(), Store::new());
    let origin = Origin::start(&ca);
    let id = store.put("mtls-certificate upload", &ca.issue("client"));
    let daemon = store.launch(|directory| {
        let grant = |name: &str| format!("{{ binding = \"{name}\", certificate_id = \"{id}\" }}, ");
        let config = format!(
            "mtls_certificates = [ {}{} ]\n[defaults]\nca = \"ca.crt\"\n\
             [bindings.PRIVATE]\nallow_private = true\n",
            grant("PUBLIC"),
            grant("PRIVATE"),
        );
        fs::write(directory.join("mtlsd.toml"), config).unwrap();
        fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
    });
    daemon.wait_ready();
    let host = format!("localhost:{}", origin.port);
    let refused = fetch(&daemon, "PUBLIC", &host);
    assert!(
        refused.head.contains("error=destination_ip_prohibited"),
        "{refused:?}"
    );
    assert_eq!(fetch(&daemon, "PRIVATE", &host).status, 200);
}

#[test]
fn a_wrangler_project_is_served_as_it_stands() {
    let (ca, store) = (Ca::new(), Store::new());
    let origin = Origin::start(&ca);
    let client = ca.issue("client");
    let id = store.put("mtls-certificate upload", &client);
    let jsonc = format!(
        r#"{{
  // comments stay
  "$schema": "./node_modules/wrangler/config-schema.json",
  "env": {{ "staging": {{ "mtls_certificates": [
    {{ "binding": "MY_CERT", "certificate_id": "{id}", }},
  ], }} }},
}}"#
    );
    let daemon = Daemon::launch_as(
        &format!(
            "exec {} run --wrangler wrangler.jsonc --env staging --listen MY_CERT=[::1]:0",
            env!("CARGO_BIN_EXE_mtlsd")
        ),
        &[("MTLSD_STORE", store.path())],
        |directory| {
            fs::write(directory.join("wrangler.jsonc"), jsonc).unwrap();
            let more = format!(
                "[bindings.MY_CERT]\nca = \"ca.crt\"\nconnect_to = \"127.0.0.1:{}\"\n",
                origin.port
            );
            fs::write(directory.join("mtlsd.toml"), more).unwrap();
            fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
        },
    );
    daemon.wait_ready();
    assert_eq!(fetch(&daemon, "MY_CERT", "localhost").body, client.serial);
    let line = daemon.wait_for_line("for workerd");
    let address = daemon.address("MY_CERT");
    assert!(address.is_ipv6());
    assert_eq!(
        line["service"],
        format!(
            "(name = \"MY_CERT\", external = (address = \"{address}\", http = (style = proxy)))"
        )
    );
    assert_eq!(
        line["variable"],
        "(name = \"MY_CERT\", service = \"MY_CERT\")"
    );
}

/// A project with these bindings.
fn wrangler_json(bindings: &[(&str, &str)]) -> String {
    let entries: String = bindings
        .iter()
        .map(|(binding, id)| {
            format!("    {{ \"binding\": \"{binding}\", \"certificate_id\": \"{id}\" }}, // kept\n")
        })
        .collect();
    format!("{{\n  \"name\": \"worker\",\n  \"mtls_certificates\": [\n{entries}  ],\n}}\n")
}

#[test]
fn a_changed_wrangler_project_is_followed_without_a_restart() {
    let (ca, store) = (Ca::new(), Store::new());
    let origin = Origin::start(&ca);
    let (first, second) = (ca.issue("first"), ca.issue("second"));
    let ids = [
        store.put("mtls-certificate upload --name first", &first),
        store.put("mtls-certificate upload --name second", &second),
    ];
    let daemon = Daemon::launch_as(
        &format!(
            "exec {} run --wrangler project/wrangler.jsonc",
            env!("CARGO_BIN_EXE_mtlsd")
        ),
        &[("MTLSD_STORE", store.path())],
        |directory| {
            // A directory of its own, which nothing but the project makes worth watching.
            fs::create_dir(directory.join("project")).unwrap();
            let project = wrangler_json(&[("ONE", &ids[0])]);
            fs::write(directory.join("project/wrangler.jsonc"), project).unwrap();
            let more = format!(
                "[defaults]\nca = \"ca.crt\"\nconnect_to = \"127.0.0.1:{}\"\n",
                origin.port
            );
            fs::write(directory.join("mtlsd.toml"), more).unwrap();
            fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
        },
    );
    daemon.wait_ready();
    let one = daemon.address("ONE");
    let fetched = |name: &str| fetch(&daemon, name, "localhost").body;
    assert_eq!(fetched("ONE"), first.serial);
    let project = daemon.path("project/wrangler.jsonc");
    let replace = |text: &str| {
        let new = daemon.path("project/.new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &project).unwrap();
    };

    // A binding comes, and the one there is keeps its port.
    replace(&wrangler_json(&[("ONE", &ids[0]), ("TWO", &ids[1])]));
    daemon.wait_for_lines(USED, 1);
    assert_eq!(
        (fetched("ONE"), fetched("TWO")),
        (first.serial.clone(), second.serial.clone())
    );
    let two = daemon.address("TWO");

    // Half of a file changes nothing, and is said.
    replace("{ \"mtls_certificates\": [");
    daemon.wait_for_lines(REFUSED, 1);
    assert_eq!(
        (fetched("ONE"), fetched("TWO")),
        (first.serial, second.serial.clone())
    );

    // A binding gets another certificate, and one goes; this time the file is written in place.
    fs::write(&project, wrangler_json(&[("ONE", &ids[1])])).unwrap();
    wait_for("the other certificate", || {
        match send(
            one,
            "GET https://localhost/ HTTP/1.1\r\nConnection: close\r\n\r\n",
        )
        .body
        {
            body if body == second.serial => Ok(()),
            body => Err((body, daemon.log())),
        }
    });
    wait_for("a closed port", || match TcpStream::connect(two) {
        Err(_) => Ok(()),
        Ok(_) => Err(daemon.log()),
    });
}

const USED: &str = "configuration reloaded";
const REFUSED: &str = "configuration reload failed; keeping the current configuration";

#[test]
fn check_says_what_a_binding_without_an_origin_may_fetch() {
    let (ca, store) = (Ca::new(), Store::new());
    let id = store.put("mtls-certificate upload", &ca.issue("client"));
    let directory = store.directory.path();
    fs::write(
        directory.join("wrangler.jsonc"),
        wrangler_json(&[("ONE", &id)]),
    )
    .unwrap();
    let said = |line: &str| {
        let output = store.run(line);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let free = said("check --wrangler wrangler.jsonc");
    assert!(
        free.contains("ONE: 127.0.0.1:0 -> any public origin, "),
        "{free}"
    );
    fs::write(
        directory.join("mtlsd.toml"),
        "[bindings.ONE]\nallow = [\"a.example\", \"*.b.example:8443\"]\n",
    )
    .unwrap();
    let narrowed = said("check --wrangler wrangler.jsonc");
    assert!(
        narrowed.contains(" -> a.example, *.b.example:8443, "),
        "{narrowed}"
    );
}

#[test]
fn what_a_configuration_uses_is_not_deleted() {
    let (ca, store) = (Ca::new(), Store::new());
    let id = store.put("mtls-certificate upload --name n", &ca.issue("client"));
    let config = store.directory.path().join("mtlsd.toml");
    let delete = "mtls-certificate delete --name n --yes --config mtlsd.toml";
    for (text, code, said) in [
        (
            format!(
                "mtls_certificates = [ {{ binding = \"MY_CERT\", certificate_id = \"{id}\" }} ]"
            ),
            1,
            "is used by binding \"MY_CERT\" of mtlsd.toml",
        ),
        (
            format!(
                "[bindings.a]\nlisten = \"localhost:1\"\norigin = \"https://o\"\ncertificate = \"c\"\nca = \"store:{id}\""
            ),
            1,
            "is used by binding \"a\" of mtlsd.toml",
        ),
        ("nonsense".to_owned(), 78, "1 mistake in mtlsd.toml"),
        (
            "[bindings.a]\nlisten = \"localhost:1\"\norigin = \"https://o\"\ncertificate = \"c\""
                .to_owned(),
            0,
            "",
        ),
    ] {
        fs::write(&config, text).unwrap();
        let output = store.run(delete);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
    }
}

#[test]
fn what_the_store_lacks_is_named_with_the_store() {
    let store = Store::new();
    let id = "99f5fef1-6cc1-46b8-bd79-44a0d5082b8d";
    let mut daemon = store.launch(|directory| {
        let config = format!(
            "mtls_certificates = [ {{ binding = \"MY_CERT\", certificate_id = \"{id}\" }} ]\n"
        );
        fs::write(directory.join("mtlsd.toml"), config).unwrap();
    });
    // It may be uploaded yet.
    assert_eq!(daemon.wait().code(), Some(1));
    let expected = format!(
        "binding \"MY_CERT\": there is no certificate {id} in the store {}",
        store.path()
    );
    let said = daemon.wait_for_line(&expected);
    assert_eq!(said["key"], "mtls_certificates.certificate_id");
}
