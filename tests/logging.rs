//! The log: requests go on whatever becomes of it, every line is whole or absent, and what was lost
//! is counted and reported.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::support::{Ca, Client, Daemon, Origin, binding, get, wait_for};

/// A daemon that is started by this line of shell, in which `MTLSD` is the program.
fn launch(line: &str, log: &str) -> (Origin, Daemon) {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let client = ca.issue("client");
    let line = line.replace("MTLSD", env!("CARGO_BIN_EXE_mtlsd"));
    let daemon = Daemon::launch_as(&line, &[], |directory| {
        let config = format!("{log}{}", binding(&origin, ""));
        fs::write(directory.join("mtlsd.toml"), config).unwrap();
        fs::write(directory.join("client.pem"), client.pem()).unwrap();
        fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
    });
    (origin, daemon)
}

/// The lines of a file, each of which must be an object of JSON. What is written of a line that
/// does not fit is there for a moment.
fn objects(path: &Path) -> Vec<Value> {
    let text = wait_for("whole lines", || match fs::read_to_string(path).unwrap() {
        text if text.is_empty() || text.ends_with('\n') => Ok(text),
        text => Err(text),
    });
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}")))
        .collect()
}

fn serve(daemon: &Daemon, requests: usize) {
    let mut client = Client::connect(daemon.address("b"));
    for _ in 0..requests {
        assert_eq!(client.get("/a-path-of-some-length").unwrap().status, 200);
    }
}

#[test]
fn a_log_that_cannot_be_written_costs_lines_and_no_request() {
    for line in [
        "exec MTLSD run >/dev/full",
        "exec MTLSD run >&-",
        // A reader that ends at once.
        "exec MTLSD run > >(true)",
        "ulimit -f 0; exec MTLSD run >access.log",
    ] {
        let line = format!("exec bash -c '{line}'");
        let (_origin, mut daemon) = launch(&line, "");
        daemon.wait_ready();
        serve(&daemon, 50);
        let is_lost = !line.contains(">&-");
        if is_lost {
            let said = daemon.wait_for_line("cannot write log lines");
            assert_eq!(said["stream"], "access-log", "{line}");
            assert_eq!(said["level"], "WARN");
        }
        daemon.signal(rustix::process::Signal::TERM);
        assert_eq!(daemon.wait().code(), Some(0), "{line}");
    }
}

#[test]
fn diagnostics_that_cannot_be_written_cost_no_request() {
    for line in ["2>/dev/full", "2>&-", "2> >(true)", ">/dev/full 2>&1"] {
        let line = format!("exec bash -c 'exec MTLSD run {line}'");
        // Nothing says which port it got.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        let ca = Ca::new();
        let origin = Origin::start(&ca);
        drop(port);
        let line = line.replace("MTLSD", env!("CARGO_BIN_EXE_mtlsd"));
        let mut daemon = Daemon::launch_as(&line, &[], |directory| {
            let config = binding(&origin, "").replace("127.0.0.1:0", &address.to_string());
            fs::write(directory.join("mtlsd.toml"), config).unwrap();
            fs::write(directory.join("client.pem"), ca.issue("client").pem()).unwrap();
            fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
        });
        wait_for("the listener", || std::net::TcpStream::connect(address));
        assert_eq!(get(address, "/").status, 200, "{line}");
        daemon.signal(rustix::process::Signal::TERM);
        assert_eq!(daemon.wait().code(), Some(0), "{line}");
    }
}

#[test]
fn at_the_limit_of_file_sizes_every_line_is_whole_and_the_lost_ones_are_counted() {
    // Blocks of 512 bytes in dash, of 1024 in bash. What grows beyond it is a signal by default.
    let line = "exec bash -c 'ulimit -f 8; exec MTLSD run >access.log'";
    let (_origin, mut daemon) = launch(line, "");
    daemon.wait_ready();
    let access = daemon.path("access.log");
    serve(&daemon, 200);
    daemon.wait_for_line("cannot write log lines");
    // Each line was written, or is counted by one that was.
    let accounted = || {
        let lines = objects(&access);
        let (said, written): (Vec<_>, Vec<_>) = lines
            .iter()
            .partition(|line| line["message"] == "log lines dropped");
        let lost = said.iter().filter_map(|line| line["dropped"].as_u64());
        written.len() as u64 + lost.sum::<u64>()
    };
    let before = accounted();
    assert!(before >= 10, "{before}");
    // What rotates it makes room again.
    let file = fs::OpenOptions::new().write(true).open(&access).unwrap();
    file.set_len(0).unwrap();
    for expected in [200, 203] {
        wait_for("every line", || match before + accounted() {
            all if all == expected => Ok(()),
            all => Err(all),
        });
        serve(&daemon, 3);
    }
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn a_blocked_reader_of_the_log_blocks_no_request() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("mtlsd.toml"), binding(&origin, "")).unwrap();
    fs::write(
        directory.path().join("client.pem"),
        ca.issue("client").pem(),
    )
    .unwrap();
    fs::write(directory.path().join("ca.crt"), &ca.pem).unwrap();
    // Both streams are one pipe, which nobody reads after the address is known.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_mtlsd"))
        .arg("run")
        .current_dir(directory.path())
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .spawn()
        .unwrap();
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains("\"ready\"") {
        let mut byte = [0];
        assert_eq!(reader.read(&mut byte).unwrap(), 1);
        text.extend(byte);
    }
    let said = String::from_utf8_lossy(&text).into_owned();
    let listen = said.split("\"listen\":\"").nth(1).unwrap();
    let address = listen.split('"').next().unwrap().parse().unwrap();
    let mut client = Client::connect(address);
    for _ in 0..1000 {
        assert_eq!(client.get("/a-path-of-some-length").unwrap().status, 200);
    }
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&child),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success());
    // The first line may have been begun above.
    for line in rest.lines().skip(1) {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    }
}

#[test]
fn access_lines_come_soon_and_in_order() {
    let (_origin, daemon) = launch("exec MTLSD run", "workers = 4\n");
    daemon.wait_ready();
    let address = daemon.address("b");
    get(address, "/first");
    wait_for("the first line", || match daemon.access().len() {
        0 => Err("no line"),
        _ => Ok(()),
    });
    // Each connection is another worker's. A line comes too late for its place where a worker does not
    // run for longer than lines are held back, as on a machine with load, but not time and again.
    let mut seen = 1;
    let in_order = (0..10).any(|_| {
        for number in 0..100 {
            get(address, &format!("/{number}"));
        }
        let lines = wait_for("the lines", || match daemon.access() {
            lines if lines.len() == seen + 100 => Ok(lines),
            lines => Err(lines.len()),
        });
        let times = lines[seen..]
            .iter()
            .map(|line| line["timestamp"].to_string());
        seen += 100;
        times.is_sorted()
    });
    assert!(in_order, "{:?}", daemon.access());
}
