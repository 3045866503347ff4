//! `certificate_dir`: which CAs origins are verified with, at the start and after the directory has
//! changed.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Ca, Daemon, Issued, Origin, get};

/// A directory as a secret of type kubernetes.io/tls has it.
fn write_secret(directory: &Path, client: &Issued, ca: Option<&Ca>) {
    fs::create_dir_all(directory.join("tls")).unwrap();
    fs::write(directory.join("tls/tls.crt"), &client.chain).unwrap();
    fs::write(directory.join("tls/tls.key"), &client.key).unwrap();
    if let Some(ca) = ca {
        fs::write(directory.join("tls/ca.crt"), &ca.pem).unwrap();
    }
}

fn config(origin: &Origin) -> String {
    format!(
        "[bindings.b]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{}\"\ncertificate_dir = \"tls\"\n",
        origin.port
    )
}

fn launch(origin: &Origin, client: &Issued, ca: Option<&Ca>, system: &Ca) -> Daemon {
    let line = format!(
        "SSL_CERT_FILE=$PWD/system.pem exec {} run",
        env!("CARGO_BIN_EXE_mtlsd")
    );
    let daemon = Daemon::launch_as(&line, &[], |directory| {
        fs::write(directory.join("system.pem"), &system.pem).unwrap();
        write_secret(directory, client, ca);
        fs::write(directory.join("mtlsd.toml"), config(origin)).unwrap();
    });
    daemon.wait_ready();
    daemon
}

#[test]
fn without_ca_crt_the_cas_of_this_machine_are_trusted() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let client = ca.issue("client");
    let daemon = launch(&origin, &client, None, &ca);
    assert_eq!(get(daemon.address("b"), "/").status, 200);

    let directory = tempfile::tempdir().unwrap();
    write_secret(directory.path(), &client, None);
    fs::write(directory.path().join("mtlsd.toml"), config(&origin)).unwrap();
    fs::write(directory.path().join("system.pem"), &ca.pem).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_mtlsd"))
        .arg("check")
        .env("SSL_CERT_FILE", directory.path().join("system.pem"))
        .current_dir(directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(
        said.contains("ca.crt, so origins are verified with the CAs of this machine"),
        "{said}"
    );
}

#[test]
fn a_ca_crt_that_is_lost_does_not_widen_the_trust() {
    let (ca, other) = (Ca::new(), Ca::new());
    let origin = Origin::start(&ca);
    let daemon = launch(&origin, &ca.issue("client-1"), Some(&ca), &other);
    assert_eq!(get(daemon.address("b"), "/").status, 200);
    fs::remove_file(daemon.path("tls/ca.crt")).unwrap();
    let renewed = ca.issue("client-2");
    write_secret(&daemon.path(""), &renewed, None);
    let rejected =
        daemon.wait_for_line("certificate reload failed; keeping the current certificate");
    let error = rejected["error"].as_str().unwrap();
    assert!(
        error.contains("ca.crt was removed while it was in use"),
        "{rejected}"
    );
    let help = rejected["help"].as_str().unwrap();
    assert!(help.contains("`ca = \"system\"`"), "{rejected}");
    assert_eq!(get(daemon.address("b"), "/").status, 200);
    // And when it is back, the renewal is used.
    write_secret(&daemon.path(""), &renewed, Some(&ca));
    let published = daemon.wait_for_line("published");
    assert!(
        published["subject"].as_str().unwrap().contains("client-2"),
        "{published}"
    );
    assert_eq!(get(daemon.address("b"), "/").status, 200);
}

#[test]
fn a_ca_crt_of_the_client_is_named_when_it_decides() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let origin = Origin::start(&ca);
    let daemon = launch(&origin, &clients.issue("client"), Some(&clients), &ca);
    let answer = get(daemon.address("b"), "/");
    assert_eq!(answer.status, 502, "{}", answer.body);
    assert!(
        answer
            .body
            .contains("tls/ca.crt, because it is in `certificate_dir`")
            && answer.body.contains("set `ca = \"system\"`"),
        "{}",
        answer.body
    );
}

#[test]
fn the_bundle_of_spiffe_is_never_optional() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let client = ca.issue("client");
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("tls")).unwrap();
    fs::write(directory.path().join("tls/svid.pem"), &client.chain).unwrap();
    fs::write(directory.path().join("tls/svid_key.pem"), &client.key).unwrap();
    fs::write(directory.path().join("mtlsd.toml"), config(&origin)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_mtlsd"))
        .arg("check")
        .current_dir(directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78));
    assert!(said.contains("svid_bundle.pem"), "{said}");
}
