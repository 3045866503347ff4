//! The certificate store as its user meets it: Wrangler's commands and texts, exit codes, and what
//! is left after a crash.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::Ca;
use serde_json::Value;
use tempfile::TempDir;

/// A directory with a CA, two certificates that it issued, and a store that is not there yet.
struct Desk {
    directory: TempDir,
    ca: Ca,
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca = Ca::new();
        for (stem, name) in [("", "client-1"), ("new-", "client-2")] {
            let issued = ca.issue(name);
            fs::write(
                directory.path().join(format!("{stem}cert.pem")),
                issued.chain,
            )
            .unwrap();
            fs::write(directory.path().join(format!("{stem}key.pem")), issued.key).unwrap();
        }
        fs::write(directory.path().join("ca.pem"), &ca.pem).unwrap();
        Self { directory, ca }
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.directory.path())
            .env("MTLSD_STORE", self.store())
            .stdin(Stdio::null());
        command
    }

    /// Types a line.
    fn run(&self, line: &str) -> Output {
        self.command(env!("CARGO_BIN_EXE_mtlsd"))
            .args(line.split(' '))
            .output()
            .unwrap()
    }

    /// Types a line that must succeed; what it says on stdout.
    fn told(&self, line: &str) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(0), "{line}: {output:?}");
        text(&output.stdout)
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.told(line)).unwrap()
    }

    fn listed(&self) -> Vec<Value> {
        let listed = self.json("cert list --json");
        listed.as_array().unwrap().clone()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `text` with each id replaced by `ID`, and each date by `DATE`.
fn masked(text: &str) -> String {
    let mask = |word: &str| {
        let bare = word.trim_end_matches('?');
        if bare.len() == 36 && bare.bytes().filter(|b| *b == b'-').count() == 4 {
            return word.replace(bare, "ID");
        }
        match bare.split('/').count() == 3 && bare.bytes().all(|b| b.is_ascii_digit() || b == b'/')
        {
            true => "DATE".to_owned(),
            false => word.to_owned(),
        }
    };
    let line = |line: &str| line.split(' ').map(mask).collect::<Vec<_>>().join(" ");
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_commands_of_wrangler_say_what_wrangler_says() {
    let desk = Desk::new();
    assert_eq!(
        masked(
            &desk.told(
                "mtls-certificate upload --cert cert.pem --key key.pem --name my-client-cert"
            )
        ),
        "Uploading mTLS Certificate my-client-cert...\n\
         Success! Uploaded mTLS Certificate my-client-cert\n\
         ID: ID\nIssuer: CN=test CA\nExpires on DATE\n"
    );
    assert_eq!(
        masked(&desk.told("mtls-certificate upload --cert new-cert.pem --key new-key.pem")),
        "Uploading mTLS Certificate...\n\
         Success! Uploaded mTLS Certificate\n\
         ID: ID\nIssuer: CN=test CA\nExpires on DATE\n"
    );
    assert_eq!(
        masked(&desk.told("cert upload certificate-authority --ca-cert ca.pem --name my-ca")),
        "Uploading CA Certificate my-ca...\n\
         Success! Uploaded CA Certificate my-ca\n\
         ID: ID\nIssuer: CN=test CA\nExpires on DATE\n"
    );
    let clients = "ID: ID\nName: my-client-cert\nIssuer: CN=test CA\nCreated on: DATE\nExpires on: DATE\n\n\n\
                   ID: ID\nIssuer: CN=test CA\nCreated on: DATE\nExpires on: DATE\n\n\n";
    assert_eq!(masked(&desk.told("mtls-certificate list")), clients);
    assert_eq!(
        masked(&desk.told("cert list")),
        format!(
            "{clients}ID: ID\nName: my-ca\nIssuer: CN=test CA\nCreated on: DATE\nExpires on: DATE\nCA: true\n\n\n"
        )
    );
    assert_eq!(
        masked(&desk.told("mtls-certificate delete --name my-client-cert --yes")),
        "Deleted certificate ID (my-client-cert) successfully\n"
    );
    let id = desk.listed()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(
        masked(&desk.told(&format!("mtls-certificate delete --id {id} --yes"))),
        "Deleted certificate ID successfully\n"
    );
}

#[test]
fn every_failure_has_an_exit_code_and_a_cure() {
    let desk = Desk::new();
    let upload = "mtls-certificate upload --cert cert.pem --key key.pem --name";
    desk.told(&format!("{upload} taken"));
    let cases = [
        (
            "mtls-certificate delete",
            2,
            "Error: must provide --id or --name.",
        ),
        (
            "mtls-certificate delete --id a --name b",
            2,
            "Error: can't provide both --id and --name.",
        ),
        (
            "mtls-certificate delete --name X",
            1,
            "mtlsd: certificate not found with name \"X\"",
        ),
        (
            "mtls-certificate show --id X",
            1,
            "mtlsd: certificate not found with id \"X\"",
        ),
        (
            "mtls-certificate upload --cert nowhere.pem --key key.pem",
            1,
            "mtlsd: Could not read file: nowhere.pem: No such file",
        ),
        (
            "mtls-certificate upload --cert cert.pem --key new-key.pem",
            1,
            "mtlsd: new-key.pem does not belong to cert.pem",
        ),
        (
            "mtls-certificate upload --cert key.pem --key key.pem",
            1,
            "mtlsd: no certificate in key.pem; it contains only: PRIVATE KEY",
        ),
        (
            "mtls-certificate upload --cert cert.pem",
            2,
            "error: the following required arguments",
        ),
        (
            "mtls-certificate upload --cert cert.pem --key key.pem --name taken",
            1,
            "mtlsd: the name \"taken\" is taken by certificate",
        ),
        (
            "mtls-certificate upload --cert cert.pem --key key.pem --name -----BEGIN",
            2,
            "mtlsd: an argument contains a key or a certificate, and is not shown",
        ),
        (
            "cert upload certificate-authority --ca-cert key.pem",
            1,
            "mtlsd: no certificate in key.pem; it contains only: PRIVATE KEY",
        ),
        (
            "mtls-certificate upload --cert cert.pem --key key.pem --store cert.pem",
            1,
            "mtlsd: cannot write to the certificate store cert.pem",
        ),
    ];
    for (line, code, start) in cases {
        let output = desk.run(line);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(said.starts_with(start), "{line}: {said}");
    }
    assert_eq!(desk.listed().len(), 1);
}

#[test]
fn nothing_is_deleted_unless_somebody_says_yes() {
    let desk = Desk::new();
    desk.told("mtls-certificate upload --cert cert.pem --key key.pem --name n");
    for (answer, code) in [("", 1), ("n\n", 1), ("maybe\n", 1), ("y\n", 0)] {
        assert_eq!(desk.listed().len(), 1, "before {answer:?}");
        fs::write(desk.directory.path().join("answer"), answer).unwrap();
        let output = desk
            .command(env!("CARGO_BIN_EXE_mtlsd"))
            .args(["mtls-certificate", "delete", "--name", "n"])
            .stdin(fs::File::open(desk.directory.path().join("answer")).unwrap())
            .output()
            .unwrap();
        let said = masked(&text(&output.stdout));
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(
            said.starts_with("Are you sure you want to delete certificate ID (n)? (y/N) "),
            "{said}"
        );
        assert_eq!(said.contains("Not deleting"), code == 1, "{said}");
    }
    assert_eq!(desk.listed().len(), 0);
}

#[test]
fn replacing_keeps_the_id_and_the_name() {
    let desk = Desk::new();
    let before = desk.json("mtls-certificate upload --cert cert.pem --key key.pem --name n --json");
    let after =
        desk.json("mtls-certificate replace --name n --cert new-cert.pem --key new-key.pem --json");
    for field in ["id", "name", "uploaded_on", "file"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    assert_ne!(before["serial_number"], after["serial_number"]);
    assert!(after["replaced_on"].is_string());
    assert_eq!(desk.json("mtls-certificate show --name n --json"), after);
}

#[test]
fn an_expired_certificate_is_not_stored() {
    let desk = Desk::new();
    let expired = desk.ca.issue_with("old", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    fs::write(desk.directory.path().join("old.pem"), expired.pem()).unwrap();
    let output = desk.run("mtls-certificate upload --cert old.pem --key old.pem");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.starts_with("mtlsd: the certificate in old.pem expired at 2021-01-01"),
        "{said}"
    );
}

#[test]
fn several_uploads_at_once_all_arrive() {
    let desk = Desk::new();
    let children: Vec<_> = (0..8)
        .map(|number| {
            desk.command(env!("CARGO_BIN_EXE_mtlsd"))
                .args([
                    "mtls-certificate",
                    "upload",
                    "--cert",
                    "cert.pem",
                    "--key",
                    "key.pem",
                    "--name",
                ])
                .arg(number.to_string())
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(desk.listed().len(), 8);
}

/// Kills an upload and a replacement before each of their system calls that touch the file system
/// in turn, and looks at what is left. Needs strace, and the leave to use it.
#[test]
fn a_crash_between_any_two_system_calls_leaves_a_whole_store() {
    if !strace_works() {
        eprintln!("strace does not work here: not tested");
        return;
    }
    let desk = Desk::new();
    let lines = [
        "mtls-certificate upload --cert cert.pem --key key.pem --name n",
        "mtls-certificate replace --name n --cert new-cert.pem --key new-key.pem",
        "mtls-certificate delete --name n --yes",
    ];
    let mut was = None;
    for line in lines {
        let mut crashes = 0;
        for (at, call) in CALLS.iter().enumerate() {
            let mut nth = 1;
            while !crash(&desk, line, call, nth) {
                crashes += 1;
                nth += 1;
                let now = check_whole(&desk);
                if now != was {
                    // The change had become visible before the crash: so it is done, and whole.
                    undo(&desk, line);
                    was = check_whole(&desk);
                }
            }
            if at + 1 < CALLS.len() {
                undo(&desk, line);
            }
            was = check_whole(&desk);
        }
        assert!(crashes > 10, "{line}: only {crashes} crashes");
    }
    assert_eq!(was, None);
    assert_eq!(left(&desk.store()), ["lock"]);
}

/// Runs `line`, and kills it when it is about to make its `nth` system call of this name: strace counts
/// those of each name apart. Whether it came to its end before.
fn crash(desk: &Desk, line: &str, call: &str, nth: usize) -> bool {
    let output = desk
        .command("strace")
        .args([
            "-f",
            "-o",
            "/dev/null",
            "-e",
            &format!("inject={call}:signal=KILL:when={nth}"),
        ])
        .arg("-e")
        .arg(format!("trace={call}"))
        .arg(env!("CARGO_BIN_EXE_mtlsd"))
        .args(line.split(' '))
        .output()
        .unwrap();
    match output.status.code() {
        Some(0) => true,
        Some(code) => panic!("{line}: {code}: {}", text(&output.stderr)),
        None => false,
    }
}

/// Puts things back as they were before `line`.
fn undo(desk: &Desk, line: &str) {
    desk.told(match line.split(' ').nth(1) {
        Some("upload") => "mtls-certificate delete --name n --yes",
        Some("replace") => "mtls-certificate replace --name n --cert cert.pem --key key.pem",
        _ => "mtls-certificate upload --cert new-cert.pem --key new-key.pem --name n",
    });
}

/// The serial of the one certificate in the store, which can be read whole; nobody else can read
/// anything.
fn check_whole(desk: &Desk) -> Option<String> {
    for name in left(&desk.store()) {
        let mode = fs::metadata(desk.store().join(&name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
    let listed = desk.listed();
    assert!(listed.len() <= 1, "{listed:?}");
    let serial = listed.first()?["serial_number"].as_str()?.to_owned();
    Some(serial)
}

fn left(directory: &Path) -> Vec<String> {
    let Ok(files) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut names: Vec<_> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn strace_works() -> bool {
    Command::new("strace")
        .args(["-f", "-o", "/dev/null", "true"])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// The system calls that files are opened and changed with; a machine may lack those with a `?`.
const CALLS: [&str; 15] = [
    "openat",
    "write",
    "fsync",
    "?fdatasync",
    "flock",
    "?rename",
    "?renameat",
    "?renameat2",
    "?link",
    "?linkat",
    "?unlink",
    "?unlinkat",
    "?mkdir",
    "fchmod",
    "ftruncate",
];
