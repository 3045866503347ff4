//! Text from outside is escaped wherever it is printed.

use std::fs;
use std::io::Read;
use std::process::Command;

use rcgen::{DnType, DnValue, SanType};

use crate::support::{Ca, Client, Daemon, Origin, Terminal, binding, typed};

/// What no peer may have on a screen or in a log: an escape sequence, a line that is not ours, C1,
/// and text that runs backwards.
const HOSTILE: &str = "evil\u{1b}[2J\r\n  next step: pay\u{202e}\u{9b}31m\u{2028}";

fn hostile(name: &str) -> DnValue {
    DnValue::Utf8String(format!("{name} {HOSTILE}"))
}

fn hostile_ca(name: &str) -> Ca {
    Ca::authority(|parameters| {
        let names = &mut parameters.distinguished_name;
        names.push(DnType::CommonName, hostile(name));
    })
}

fn assert_harmless(what: &str, text: &str) {
    let is_plain = |letter: char| letter == '\n' || !letter.is_control();
    let misleading = ['\u{202e}', '\u{2028}'];
    let bad = text
        .chars()
        .find(|letter| !is_plain(*letter) || misleading.contains(letter));
    assert!(bad.is_none(), "{what}: {bad:?} in {text:?}");
    let forged = text
        .lines()
        .find(|line| line.trim_start().starts_with("next step: pay"));
    assert!(forged.is_none(), "{what}: {text}");
}

/// Origins whose names are hostile: one that is not believed, and one that refuses our certificate
/// after it has named its CAs.
fn origins() -> Vec<(&'static str, Ca, Origin, Ca)> {
    let rows = [("unknown issuer", false), ("refused certificate", true)];
    rows.into_iter()
        .map(|(what, trusted)| {
            let theirs = hostile_ca("their CA");
            let served = theirs.issue_with("localhost", |parameters| {
                let names = &mut parameters.distinguished_name;
                names.push(DnType::CommonName, hostile("origin"));
                let name = "localhost".try_into().unwrap();
                parameters.subject_alt_names = vec![SanType::DnsName(name)];
            });
            let origin = Origin::presenting(&theirs, &served);
            let ours = hostile_ca("our CA");
            let trust = if trusted { theirs } else { Ca::new() };
            (what, trust, origin, ours)
        })
        .collect()
}

#[test]
fn names_in_certificates_forge_no_line_and_reach_no_terminal() {
    for (what, trust, origin, ours) in origins() {
        let client = ours.issue_with("client", |parameters| {
            let names = &mut parameters.distinguished_name;
            names.push(DnType::CommonName, hostile("client"));
        });
        let files = |directory: &std::path::Path| {
            fs::write(directory.join("mtlsd.toml"), binding(&origin, "")).unwrap();
            fs::write(directory.join("client.pem"), client.pem()).unwrap();
            fs::write(directory.join("ca.crt"), &trust.pem).unwrap();
        };
        let directory = tempfile::tempdir().unwrap();
        files(directory.path());
        for arguments in [
            &["probe", "b"][..],
            &["probe", "b", "--json"],
            &["fetch", "b", "/"],
            &["fetch", "b", "/", "-i"],
            &["check", "--probe"],
            &["check", "--json"],
        ] {
            let output = Command::new(env!("CARGO_BIN_EXE_mtlsd"))
                .args(arguments)
                .current_dir(directory.path())
                .output()
                .unwrap();
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains("evil"), "{what}, {arguments:?}: {text}");
            assert_harmless(&format!("{what}, {arguments:?}"), &text);
            let mut command = typed(directory.path(), arguments);
            command.env("NO_COLOR", "1");
            let mut terminal = Terminal::start(command, 200);
            terminal.wait();
            assert_harmless(
                &format!("{what}, {arguments:?} on a terminal"),
                &terminal.screen(),
            );
        }
        for format in ["text", "json"] {
            let daemon = Daemon::launch(&[], |directory| {
                files(directory);
                let config = format!(
                    "[log]\nformat = \"{format}\"\nlevel = \"trace\"\n{}",
                    binding(&origin, "")
                );
                let config = config.replace("127.0.0.1:0", "unix:b.sock");
                fs::write(directory.join("mtlsd.toml"), config).unwrap();
            });
            crate::support::wait_for("ready", || {
                daemon
                    .log()
                    .iter()
                    .any(|line| line.contains("ready"))
                    .then_some(())
                    .ok_or_else(|| daemon.log())
            });
            for accept in ["text/plain", "application/json"] {
                let stream =
                    std::os::unix::net::UnixStream::connect(daemon.path("b.sock")).unwrap();
                let mut client = Client::over(stream);
                let request = format!(
                    "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
                );
                client.write(request.as_bytes());
                let mut answer = String::new();
                client.stream().read_to_string(&mut answer).unwrap();
                assert_harmless(&format!("{what}, {accept}"), &answer.replace("\r\n", "\n"));
            }
            let log = crate::support::wait_for("the failure", || match daemon.log().join("\n") {
                log if log.contains("request failed") => Ok(log),
                log => Err(log),
            });
            assert!(log.contains("evil"), "{log}");
            assert_harmless(&format!("{what}, {format} log"), &log);
        }
    }
}

#[test]
fn what_an_origin_sends_is_escaped_on_a_terminal_and_untouched_elsewhere() {
    let ca = Ca::new();
    let origin = Origin::with(&ca, |_, tls| {
        use std::io::Write;
        let body = HOSTILE;
        write!(
            tls,
            "HTTP/1.1 200 OK\r\nX-Name: a\u{9b}31m\u{202e}b\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        Ok(crate::support::Then::Keep)
    });
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("mtlsd.toml"), binding(&origin, "")).unwrap();
    fs::write(
        directory.path().join("client.pem"),
        ca.issue("client").pem(),
    )
    .unwrap();
    fs::write(directory.path().join("ca.crt"), &ca.pem).unwrap();
    let arguments = ["fetch", "b", "/", "-i"];
    let output = Command::new(env!("CARGO_BIN_EXE_mtlsd"))
        .args(arguments)
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().ends_with(HOSTILE));
    let mut terminal = Terminal::start(typed(directory.path(), &arguments), 200);
    assert!(terminal.wait().success());
    let screen = terminal.screen();
    let is_plain = |letter: char| letter == '\n' || !letter.is_control();
    assert!(
        screen.chars().all(is_plain) && !screen.contains('\u{202e}'),
        "{screen:?}"
    );
    assert!(screen.contains("evil\\u{1b}[2J"), "{screen}");
}
