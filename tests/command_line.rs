//! Where a configuration comes from, and what the commands say about one that is wrong: the same
//! for every command.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{Ca, Daemon, Origin, binding, get};
use serde_json::Value;
use tempfile::TempDir;

const COMMANDS: [&[&str]; 4] = [&["run"], &["check"], &["probe"], &["fetch", "/"]];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command in `directory`, with these arguments and variables.
fn mtlsd(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mtlsd"))
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(directory)
        .output()
        .unwrap()
}

/// A directory with a certificate and the CA, and the URL of an origin that it is good for.
fn desk(ca: &Ca, origin: &Origin) -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("client.pem"),
        ca.issue("client").pem(),
    )
    .unwrap();
    let key = directory.path().join("client.pem");
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(directory.path().join("ca.crt"), &ca.pem).unwrap();
    (directory, format!("https://localhost:{}", origin.port))
}

#[test]
fn every_command_takes_the_flags_and_the_variables_of_run() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let (directory, to) = desk(&ca, &origin);
    // A file that nobody asked for is not taken.
    fs::write(directory.path().join("mtlsd.toml"), "nonsense = 1\n").unwrap();
    let flags = [
        "--to",
        &to,
        "--cert",
        "client.pem",
        "--ca",
        "ca.crt",
        "--listen",
        "127.0.0.1:0",
    ];
    let variables = [
        ("MTLSD_TO", &*to),
        ("MTLSD_CERT", "client.pem"),
        ("MTLSD_CA", "ca.crt"),
        ("MTLSD_LISTEN", "127.0.0.1:0"),
        ("MTLSD_LOG_LEVEL", "WARN"),
        ("MTLSD_LOG_FORMAT", "json"),
        // As compose files leave them.
        ("MTLSD_CONFIG", ""),
        ("MTLSD_KEY", ""),
        ("MTLSD_EXPOSE", ""),
    ];
    for command in [
        &["check"][..],
        &["check", "--probe"],
        &["probe"],
        &["probe", "default", "/x"],
        &["fetch", "/x"],
        &["fetch", "default", "/x"],
    ] {
        let by_flags = mtlsd(directory.path(), &[command, &flags[..]].concat(), &[]);
        assert_eq!(by_flags.status.code(), Some(0), "{command:?} {by_flags:?}");
        let by_variables = mtlsd(directory.path(), command, &variables);
        assert_eq!(
            by_variables.status.code(),
            Some(0),
            "{command:?} {by_variables:?}"
        );
    }
}

#[test]
fn the_form_of_containers_needs_nothing_but_variables() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let to = format!("https://localhost:{}", origin.port);
    let variables = |expose: &'static str, format: &'static str| {
        [
            ("MTLSD_TO", to.clone()),
            ("MTLSD_CERT", "client.pem".to_owned()),
            ("MTLSD_CA", "ca.crt".to_owned()),
            ("MTLSD_LISTEN", "0.0.0.0:0".to_owned()),
            ("MTLSD_EXPOSE", expose.to_owned()),
            ("MTLSD_LOG_FORMAT", format.to_owned()),
        ]
    };
    let client = ca.issue("client");
    let launch = |expose, format| {
        let variables = variables(expose, format);
        let variables = variables
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        Daemon::launch(&variables, |directory| {
            fs::write(directory.join("client.pem"), client.pem()).unwrap();
            fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
        })
    };
    for expose in ["true", "1", "YES"] {
        let daemon = launch(expose, "auto");
        daemon.wait_ready();
        let port = daemon.address("default").port();
        assert_eq!(get(([127, 0, 0, 1], port).into(), "/").body, client.serial);
    }
    for expose in ["false", "0", ""] {
        let mut daemon = launch(expose, "auto");
        assert_eq!(daemon.wait().code(), Some(78), "{expose}");
    }
}

/// Arguments, variables, and what is said about them.
type Row = (
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
    &'static str,
);

#[test]
fn sources_that_exclude_each_other_are_named_with_their_origin() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("mtlsd.toml"), "").unwrap();
    let rows: [Row; 14] = [
        (
            &["--to", "https://o", "--cert", "c", "--config", "x"],
            &[],
            "cannot combine --to (command line) with --config (command line)\n  help: --to replaces the configuration file: remove one of them",
        ),
        (
            &["--config", "x"],
            &[("MTLSD_TO", "https://o"), ("MTLSD_CERT", "c")],
            "cannot combine MTLSD_TO (environment) with --config (command line)\n  help: MTLSD_TO replaces the configuration file: remove one of them",
        ),
        (
            &["--to", "https://o", "--cert", "c"],
            &[("MTLSD_CONFIG", "x")],
            "cannot combine --to (command line) with MTLSD_CONFIG (environment)\n  help: --to replaces the configuration file: remove one of them",
        ),
        (
            &["--wrangler", "w.toml"],
            &[("MTLSD_TO", "https://o"), ("MTLSD_CERT", "c")],
            "cannot combine MTLSD_TO (environment) with --wrangler (command line)\n  help: MTLSD_TO replaces the configuration file: remove one of them",
        ),
        (
            &["--to", "https://o"],
            &[],
            "--to (command line) requires a client certificate\n  help: set --cert or MTLSD_CERT to its file",
        ),
        (
            &[],
            &[("MTLSD_TO", "https://o"), ("MTLSD_CERT", "")],
            "MTLSD_TO (environment) requires a client certificate\n  help: set --cert or MTLSD_CERT to its file",
        ),
        (
            &["--key", "k"],
            &[],
            "--key (command line) requires an origin\n  help: set --to or MTLSD_TO to the URL of the origin; with a configuration file, remove --key",
        ),
        (
            &[],
            &[("MTLSD_CA", "x")],
            "MTLSD_CA (environment) requires an origin\n  help: set --to or MTLSD_TO to the URL of the origin; with a configuration file, remove MTLSD_CA",
        ),
        (
            &[],
            &[("MTLSD_LISTEN", "0.0.0.0:8080")],
            "MTLSD_LISTEN (environment): `0.0.0.0:8080` names no binding of ./mtlsd.toml\n  help: write NAME=0.0.0.0:8080; without a configuration file, set --to or MTLSD_TO to the URL of the origin",
        ),
        (
            &["--listen", "a=localhost:1"],
            &[("MTLSD_TO", "https://o"), ("MTLSD_CERT", "c")],
            "--listen (command line): `a=localhost:1` names a binding, but MTLSD_TO (environment) replaces the configuration file\n  help: write the address alone",
        ),
        (
            &[],
            &[("MTLSD_EXPOSE", "maybe")],
            "MTLSD_EXPOSE (environment): expected one of true, false, 1, 0, yes, no, found \"maybe\"",
        ),
        (
            &["--log-level", "debg"],
            &[],
            "--log-level (command line): expected one of error, warn, info, debug, trace, found \"debg\"\n  help: did you mean \"debug\"?",
        ),
        (
            &[],
            &[("MTLSD_LOG_FORMAT", "xml")],
            "MTLSD_LOG_FORMAT (environment): expected one of auto, json, text, found \"xml\"",
        ),
        (
            &["--listen", "a=here"],
            &[],
            "--listen (command line): a=here: this is neither an address with a port nor `unix:PATH`",
        ),
    ];
    for (arguments, variables, expected) in rows {
        for command in COMMANDS {
            let output = mtlsd(directory.path(), &[command, arguments].concat(), variables);
            let mut said = text(&output.stderr);
            // The daemon says it in its log.
            if command == ["run"] {
                let line: Value = serde_json::from_str(&said).unwrap();
                let help = line["help"]
                    .as_str()
                    .map(|help| format!("\n  help: {help}"));
                let message = line["message"].as_str().unwrap();
                said = format!("mtlsd: {message}{}", help.unwrap_or_default());
            }
            assert_eq!(
                (output.status.code(), said.trim_end()),
                (Some(2), format!("mtlsd: {expected}").as_str()),
                "{command:?} {arguments:?} {variables:?}"
            );
        }
    }
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn findings_have_a_place_and_a_bad_binding_leaves_the_others_in() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let (directory, _) = desk(&ca, &origin);
    let bad = "[bindings.bad]\nlisten = \"127.0.0.1:0\"\norigin = \"https://o\"\ncertificate = \"none.pem\"\n\
               [bindings.worse]\nlistn = \"127.0.0.1:0\"\norigin = \"https://p\"\ncertificate = \"client.pem\"\n";
    let good = binding(&origin, "");
    let lines = good.lines().count();
    fs::write(directory.path().join("mtlsd.toml"), format!("{good}{bad}")).unwrap();
    let checked = mtlsd(directory.path(), &["check", "--json"], &[]);
    assert_eq!(checked.status.code(), Some(78));
    assert_eq!(text(&checked.stderr), "");
    let report = json(&checked);
    assert_eq!(report["ok"], false);
    assert_eq!(report["bindings"].as_array().unwrap().len(), 1);
    assert_eq!(report["bindings"][0]["name"], "b");
    let findings = report["findings"].as_array().unwrap();
    for (finding, line, column, key, message) in [
        (
            &findings[0],
            lines + 4,
            15,
            "bindings.bad.certificate",
            "cannot read ./none.pem",
        ),
        (
            &findings[1],
            lines + 6,
            1,
            "bindings.worse.listn",
            "unknown key `listn`",
        ),
    ] {
        assert_eq!(finding["severity"], "error", "{finding}");
        assert_eq!(finding["file"], "./mtlsd.toml", "{finding}");
        assert_eq!(finding["line"], line, "{finding}");
        assert_eq!(finding["column"], column, "{finding}");
        assert_eq!(finding["key"], key, "{finding}");
        assert!(
            finding["message"].as_str().unwrap().starts_with(message),
            "{finding}"
        );
        assert!(finding["help"].is_string(), "{finding}");
    }
    assert_eq!(findings.len(), 2, "{report}");
    // The good one is probed all the same.
    let probed = json(&mtlsd(
        directory.path(),
        &["check", "--json", "--probe"],
        &[],
    ));
    assert_eq!(probed["bindings"][0]["probe"]["ok"], true, "{probed}");
    let probe = json(&mtlsd(directory.path(), &["probe", "b", "--json"], &[]));
    assert_eq!(probe["ok"], false);
    assert!(
        probe["findings"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["key"] == "bindings.worse.listn")
    );
}

#[test]
fn a_report_says_whether_it_is_ok_at_its_top() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let (directory, to) = desk(&ca, &origin);
    let flags = |ca: &'static str| {
        ["--json", "--to", &to, "--cert", "client.pem", "--ca", ca].map(str::to_owned)
    };
    let run = |command: &[&str], flags: &[String]| {
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        mtlsd(directory.path(), &[command, &flags].concat(), &[])
    };
    for command in [&["check"][..], &["check", "--probe"], &["probe"]] {
        let good = run(command, &flags("ca.crt"));
        assert_eq!(
            (good.status.code(), &json(&good)["ok"]),
            (Some(0), &Value::Bool(true)),
            "{command:?} {good:?}"
        );
    }
    let stranger = Ca::new();
    fs::write(directory.path().join("other.crt"), &stranger.pem).unwrap();
    for command in [&["check", "--probe"][..], &["probe"]] {
        let bad = run(command, &flags("other.crt"));
        let report = json(&bad);
        assert_eq!(
            (bad.status.code(), &report["ok"]),
            (Some(1), &Value::Bool(false)),
            "{command:?}"
        );
        let finding = &report["findings"][0];
        assert_eq!(finding["severity"], "error", "{report}");
        assert!(
            finding["message"].is_string() && finding["help"].is_string(),
            "{report}"
        );
    }
}

#[test]
fn wrong_arguments_are_json_where_json_was_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, code, message) in [
        (
            &["check", "--json", "--wat"][..],
            2,
            "unexpected argument '--wat' found",
        ),
        (
            &["probe", "--json", "a", "b", "c"],
            2,
            "unexpected argument 'c' found",
        ),
        (&["chek", "--json"], 2, "unrecognized subcommand 'chek'"),
        (
            &["check", "--json", "--quiet"],
            2,
            "the argument '--json' cannot be used with '--quiet'",
        ),
        (
            &["cert", "list", "--json", "--x"],
            2,
            "unexpected argument '--x' found",
        ),
        (
            &["check", "--json", "--key", "k"],
            2,
            "--key (command line) requires an origin",
        ),
        (
            &["probe", "--json", "--key", "k"],
            2,
            "--key (command line) requires an origin",
        ),
        (
            &["probe", "--json", "b", "v1/me"],
            2,
            "`v1/me` is neither a path nor an https:// URL",
        ),
        (
            &["check", "--json", "-c", "x"],
            78,
            "there is no configuration at x",
        ),
        (
            &["probe", "--json", "-c", "x", "b"],
            78,
            "there is no configuration at x",
        ),
    ] {
        let output = mtlsd(directory.path(), arguments, &[]);
        assert_eq!(output.status.code(), Some(code), "{arguments:?} {output:?}");
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
        let report = json(&output);
        assert_eq!(report["ok"], false);
        let finding = &report["findings"][0];
        assert_eq!(finding["severity"], "error");
        assert!(
            finding["message"].as_str().unwrap().starts_with(message),
            "{finding}"
        );
        for key in ["file", "line", "column", "key", "help"] {
            assert!(finding.get(key).is_some(), "{key}: {finding}");
        }
    }
    let help = mtlsd(directory.path(), &["check", "--json", "--help"], &[]);
    assert_eq!(help.status.code(), Some(0));
}

#[test]
fn check_probes_side_by_side_and_says_when_each_begins_and_ends() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    // Two origins that never answer cost one time-out, not two.
    let silent = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let (directory, _) = desk(&ca, &origin);
    let mut config = binding(&origin, "");
    for (at, listener) in silent.iter().enumerate() {
        let port = listener.local_addr().unwrap().port();
        config.push_str(&format!(
            "[bindings.s{at}]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{port}\"\nca = \"ca.crt\"\ncertificate = \"client.pem\"\nconnect_timeout = \"1s\"\n"
        ));
    }
    fs::write(directory.path().join("mtlsd.toml"), config).unwrap();
    let checked = mtlsd(directory.path(), &["check", "--probe"], &[]);
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    let lines = text(&checked.stdout);
    let lines: Vec<_> = lines.lines().collect();
    let at = |start: &str| {
        lines
            .iter()
            .position(|line| line.starts_with(start))
            .unwrap_or_else(|| panic!("{start}: {lines:#?}"))
    };
    for name in ["b", "s0", "s1"] {
        assert!(at(&format!("probing {name}: https://")) < at(&format!("probed {name}: ")));
    }
    let first_end = lines.iter().position(|line| line.starts_with("probed s"));
    assert!(at("probing s0") < first_end.unwrap() && at("probing s1") < first_end.unwrap());
    assert!(lines[at("probed b: ")].starts_with("probed b: ok, "));
    assert!(lines[at("probed s0: ")].starts_with("probed s0: failed, "));
}

#[test]
fn check_finds_what_cannot_be_bound() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_by_us = taken.local_addr().unwrap().to_string();
    let daemon = Daemon::start(&ca, &ca.issue("client"), &binding(&origin, ""));
    let taken_by_mtlsd = daemon.address("b").to_string();
    let (directory, _) = desk(&ca, &origin);
    fs::write(directory.path().join("file"), "").unwrap();
    let long = format!("unix:{}", "x".repeat(200));
    for (listen, severity, message) in [
        (
            &*taken_by_us,
            Some("error"),
            format!("{taken_by_us} is taken"),
        ),
        (
            &*taken_by_mtlsd,
            Some("warning"),
            format!("{taken_by_mtlsd} is in use"),
        ),
        (
            "192.0.2.1:1234",
            Some("error"),
            "cannot listen on 192.0.2.1:1234: ".to_owned(),
        ),
        (
            "unix:file",
            Some("error"),
            "./file exists and is not a socket".to_owned(),
        ),
        (
            "unix:none/a.sock",
            Some("error"),
            "cannot listen on unix:./none/a.sock: ".to_owned(),
        ),
        (
            &*long,
            Some("error"),
            "`listen`: the path has 202 bytes".to_owned(),
        ),
        ("unix:a.sock", None, String::new()),
        ("127.0.0.1:0", None, String::new()),
    ] {
        let config = format!(
            "[bindings.b]\nexpose = true\nlisten = \"{listen}\"\norigin = \"https://o\"\nca = \"ca.crt\"\ncertificate = \"client.pem\"\n"
        );
        fs::write(directory.path().join("mtlsd.toml"), config).unwrap();
        let output = mtlsd(directory.path(), &["check", "--json"], &[]);
        let report = json(&output);
        let code = if severity == Some("error") { 78 } else { 0 };
        assert_eq!(output.status.code(), Some(code), "{listen}: {report}");
        assert_eq!(report["ok"], code == 0, "{report}");
        let finding = &report["findings"][0];
        match severity {
            None => assert!(finding.is_null(), "{report}"),
            Some(severity) => {
                assert_eq!(finding["severity"], severity, "{report}");
                assert_eq!(finding["key"], "bindings.b.listen", "{report}");
                assert_eq!(finding["line"], 3, "{report}");
                assert!(
                    finding["message"].as_str().unwrap().starts_with(&message),
                    "{report}"
                );
            }
        }
        // Nothing is left behind.
        assert!(!directory.path().join("a.sock").exists());
    }
}

#[test]
fn session_keys_are_written_only_where_a_flag_says_so() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let (directory, to) = desk(&ca, &origin);
    let flags = ["--to", &to, "--cert", "client.pem", "--ca", "ca.crt"];
    let keys = directory.path().join("keys");
    let by_variable = [("SSLKEYLOGFILE", keys.to_str().unwrap())];
    let ignored = mtlsd(
        directory.path(),
        &[&["fetch", "/"], &flags[..]].concat(),
        &by_variable,
    );
    assert_eq!(ignored.status.code(), Some(0));
    assert_eq!(
        text(&ignored.stderr),
        "mtlsd: warning: SSLKEYLOGFILE in the environment is ignored; --keylog FILE writes session keys\n"
    );
    assert!(!keys.exists());
    for command in [&["fetch", "/"][..], &["probe"]] {
        let written = mtlsd(
            directory.path(),
            &[command, &flags[..], &["--keylog", "keys"]].concat(),
            &[],
        );
        assert_eq!(written.status.code(), Some(0));
        let said = text(&written.stderr);
        assert!(
            said.starts_with("mtlsd: warning: TLS session keys are written to keys: "),
            "{said}"
        );
        let content = fs::read_to_string(&keys).unwrap();
        assert!(
            content.lines().all(|line| line.split(' ').count() == 3),
            "{content}"
        );
        assert!(content.contains("CLIENT_TRAFFIC_SECRET_0 "), "{content}");
        assert_eq!(
            fs::metadata(&keys).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::remove_file(&keys).unwrap();
    }
    let unwritable = mtlsd(
        directory.path(),
        &[&["fetch", "/"], &flags[..], &["--keylog", "no/keys"]].concat(),
        &[],
    );
    assert_eq!(unwritable.status.code(), Some(2), "{unwritable:?}");
}

#[test]
fn what_a_service_cannot_see_has_hints_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let credentials = directory.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    let credentials = credentials.to_str().unwrap();
    let service = [
        ("INVOCATION_ID", "1"),
        ("CREDENTIALS_DIRECTORY", credentials),
    ];
    let shown = fs::canonicalize(directory.path()).unwrap();
    let shown = shown.display();
    for (variables, file, help) in [
        (
            &service[..],
            "credential:client.key",
            "the unit passes no credential client.key: add LoadCredential=client.key:FILE to it".to_owned(),
        ),
        (
            &service[..],
            "/home/nobody-at-all/client.key",
            "ProtectHome= in the unit hides /home: move the file to /etc/mtlsd, or pass it with LoadCredential=".to_owned(),
        ),
        (
            &service[..],
            "/tmp/nothing-of-this-name/client.key",
            "PrivateTmp= in the unit gives mtlsd an empty /tmp of its own: move the file to /etc/mtlsd".to_owned(),
        ),
        (
            &[],
            "none/client.key",
            format!("the directory {shown}/none does not exist"),
        ),
        (
            &[],
            "client.key",
            format!("check the path; relative paths start at the directory of the configuration file, {shown}"),
        ),
    ] {
        let config = format!(
            "[bindings.b]\nlisten = \"127.0.0.1:0\"\norigin = \"https://o\"\ncertificate = \"{file}\"\n"
        );
        fs::write(directory.path().join("mtlsd.toml"), config).unwrap();
        let output = mtlsd(directory.path(), &["check", "--json"], variables);
        let report = json(&output);
        assert_eq!(report["findings"][0]["help"], help, "{report}");
    }
}
