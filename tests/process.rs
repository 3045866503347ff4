//! The life of the process: how it starts, ends, reports itself, and what it survives.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::support::{Ca, Client, Daemon, Origin, Then, binding, get, wait_for};
use rustix::process::Signal;

fn mtlsd(arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_mtlsd"))
        .args(arguments)
        .current_dir(directory.path())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A daemon in front of an origin that takes half a second over `/slow`.
fn slow(lines: &str) -> (Ca, Origin, Daemon) {
    lasting(lines, Duration::from_millis(500))
}

/// A daemon in front of an origin that takes so long over `/slow`.
fn lasting(lines: &str, time: Duration) -> (Ca, Origin, Daemon) {
    let ca = Ca::new();
    let origin = Origin::with(&ca, move |request, tls| {
        if request.target() == "/slow" {
            std::thread::sleep(time);
        }
        crate::support::answer(tls, "done")?;
        Ok(Then::Keep)
    });
    let daemon = Daemon::start(
        &ca,
        &ca.issue("client"),
        &format!("{lines}{}", binding(&origin, "")),
    );
    (ca, origin, daemon)
}

#[test]
fn a_drain_finishes_what_has_begun_and_resets_nobody() {
    let (_ca, origin, mut daemon) = slow("workers = 2\n");
    let address = daemon.address("b");
    // Idle with and without a request behind it, and one that has only connected.
    let mut idle = Client::connect(address);
    assert_eq!(idle.get("/").unwrap().status, 200);
    let mut fresh = Client::connect(address);
    std::thread::scope(|scope| {
        let busy = scope.spawn(move || get(address, "/slow"));
        wait_for("the slow request", || match origin.requests().len() {
            2 => Ok(()),
            count => Err(count),
        });
        let (began, begun) = std::sync::mpsc::channel();
        let connecting = scope.spawn(move || {
            let mut served = 0;
            while let Ok(mut stream) =
                TcpStream::connect_timeout(&address, Duration::from_millis(300))
            {
                stream
                    .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    .unwrap();
                let mut answer = String::new();
                stream
                    .read_to_string(&mut answer)
                    .unwrap_or_else(|error| panic!("after {served}: {error}"));
                assert!(
                    answer.starts_with("HTTP/1.1 200 "),
                    "after {served}: {answer:?}"
                );
                served += 1;
                if served == 6 {
                    began.send(()).unwrap();
                }
            }
            served
        });
        begun.recv().unwrap();
        daemon.signal(Signal::TERM);
        daemon.wait_for_line("draining; a second signal ends at once");
        assert_eq!(fresh.get("/").unwrap().status, 200);
        let answer = busy.join().unwrap();
        assert_eq!(answer.body, "done");
        assert!(connecting.join().unwrap() > 5);
    });
    assert_eq!(idle.rest().unwrap(), b"");
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let (_ca, origin, mut daemon) = lasting("", Duration::from_secs(60));
    let mut client = Client::connect(daemon.address("b"));
    client.write(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wait_for("the request", || origin.requests().pop().ok_or(0));
    daemon.signal(Signal::INT);
    daemon.wait_for_line("draining; a second signal ends at once");
    // What comes within a second is the same signal, sent to a process and to its group.
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        daemon.signal(signal);
    }
    // The daemon's second began before its line came.
    std::thread::sleep(Duration::from_secs(1));
    assert!(daemon.is_running());
    let began = Instant::now();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(1));
    // A drain would last for half a minute, or for as long as the request.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_taken_port_is_an_error_with_any_number_of_workers() {
    let (ca, origin, daemon) = slow("");
    let taken = daemon.address("b");
    for workers in [1, 4] {
        let config = binding(&origin, "").replace("127.0.0.1:0", &taken.to_string());
        let mut second = Daemon::launch(&[], |directory| {
            fs::write(
                directory.join("mtlsd.toml"),
                format!("workers = {workers}\n{config}"),
            )
            .unwrap();
            fs::write(directory.join("client.pem"), ca.issue("client").pem()).unwrap();
            fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
        });
        assert_eq!(second.wait().code(), Some(1));
        let said =
            second.wait_for_line(&format!("{taken} is taken: another program listens there"));
        assert_eq!(said["level"], "ERROR");
        let help = said["help"].as_str().unwrap();
        assert!(help.starts_with("mtlsd (pid "), "{said}");
    }
}

#[test]
fn the_exit_code_says_whether_to_try_again() {
    let config = "[bindings.b]\nlisten = \"127.0.0.1:0\"\norigin = \"https://o\"\ncertificate = \"client.pem\"\n";
    let (one, two) = (Ca::new().issue("one"), Ca::new().issue("two"));
    let mixed = format!("{}{}", one.chain, two.key);
    let cases = [
        (config.to_owned(), None, 1, "cannot read"),
        (config.to_owned(), Some(mixed), 78, "does not belong to"),
        (
            config.to_owned(),
            Some("nothing".to_owned()),
            78,
            "is not PEM",
        ),
        (
            config.to_owned(),
            Some(one.key.clone()),
            78,
            "it contains only: PRIVATE KEY",
        ),
        (
            config.to_owned(),
            Some(one.chain.clone()),
            78,
            "contains only: CERTIFICATE",
        ),
        (
            config.replace("https", "http"),
            Some(one.pem()),
            78,
            "an origin is an https:// URL",
        ),
    ];
    for (config, file, code, message) in cases {
        let mut daemon = Daemon::launch(&[], |directory| {
            fs::write(directory.join("mtlsd.toml"), &config).unwrap();
            if let Some(file) = &file {
                fs::write(directory.join("client.pem"), file).unwrap();
            }
        });
        assert_eq!(
            daemon.wait().code(),
            Some(code),
            "{message}: {:?}",
            daemon.log()
        );
        // A log in JSON is JSON to its last line.
        let said = wait_for("the report", || {
            let log = daemon.log();
            let last = log.iter().find(|line| line.contains("\"ERROR\""));
            last.cloned().ok_or(log)
        });
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert!(
            said["message"].as_str().unwrap().contains(message),
            "{said}"
        );
        assert_eq!(said["file"], "./mtlsd.toml");
        assert!(said["line"].is_u64() && said["column"].is_u64(), "{said}");
        let key = said["key"].as_str().unwrap();
        assert!(key.starts_with("bindings.b."), "{said}");
    }
}

#[test]
fn usage_is_one_thing_and_configuration_another() {
    let both = mtlsd(&["run", "--config", "x", "--to", "https://o", "--cert", "c"]);
    assert_eq!(both.status.code(), Some(2));
    assert_eq!(mtlsd(&["run", "--cert", "c"]).status.code(), Some(2));
    assert_eq!(mtlsd(&["wat"]).status.code(), Some(2));
    let nowhere = mtlsd(&["run"]);
    // Where /etc has a file, this machine runs mtlsd; nobody's test machine does.
    assert_eq!(nowhere.status.code(), Some(78));
    let said: serde_json::Value = serde_json::from_slice(&nowhere.stderr).unwrap();
    assert_eq!(
        said["message"],
        "there is no configuration: looked for ./mtlsd.toml and /etc/mtlsd/mtlsd.toml; name one with --config or \
         MTLSD_CONFIG, write one with `mtlsd init`, or try `mtlsd demo`"
    );
    let missing = mtlsd(&["check", "--config", "x.toml"]);
    assert_eq!(missing.status.code(), Some(78));
    assert!(
        text(&missing.stderr).contains("`mtlsd init x.toml` writes one"),
        "{missing:?}"
    );
    let welcome = mtlsd(&[]);
    assert_eq!(welcome.status.code(), Some(0));
    assert!(text(&welcome.stdout).contains("mtlsd demo"), "{welcome:?}");
    assert_eq!(
        text(&mtlsd(&["version"]).stdout),
        format!("mtlsd {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn one_binding_needs_no_file() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let client = ca.issue("client");
    let to = format!("https://localhost:{}", origin.port);
    let variables = [
        ("MTLSD_TO", to.as_str()),
        ("MTLSD_CERT", "client.pem"),
        ("MTLSD_CA", "ca.crt"),
        ("MTLSD_LISTEN", "127.0.0.1:0"),
    ];
    let daemon = Daemon::launch(&variables, |directory| {
        fs::write(directory.join("client.pem"), client.pem()).unwrap();
        fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
    });
    daemon.wait_ready();
    assert_eq!(get(daemon.address("default"), "/").body, client.serial);
}

#[test]
fn check_opens_everything() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let directory = tempfile::tempdir().unwrap();
    let file =
        |name: &str, content: String| fs::write(directory.path().join(name), content).unwrap();
    file("mtlsd.toml", binding(&origin, ""));
    file("ca.crt", ca.pem.clone());
    file("client.pem", ca.issue("client").pem());
    let check = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mtlsd"));
        command
            .arg("check")
            .args(arguments)
            .current_dir(directory.path())
            .output()
            .unwrap()
    };
    let fine = check(&[]);
    assert_eq!(fine.status.code(), Some(0), "{fine:?}");
    assert!(
        text(&fine.stdout)
            .starts_with("./mtlsd.toml: all is well\n  b: 127.0.0.1:0 -> https://localhost:"),
        "{fine:?}"
    );
    assert_eq!(text(&check(&["--quiet"]).stdout), "");
    let report: serde_json::Value = serde_json::from_slice(&check(&["--json"]).stdout).unwrap();
    assert_eq!(
        (&report["ok"], &report["bindings"][0]["name"]),
        (&true.into(), &"b".into())
    );
    // What a daemon would serve with a warning is an error to who asks.
    let expired = ca.issue_with("expired", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    file("client.pem", expired.pem());
    let wrong = check(&["--json"]);
    assert_eq!(wrong.status.code(), Some(78));
    let report: serde_json::Value = serde_json::from_slice(&wrong.stdout).unwrap();
    assert!(
        report["findings"][0]["message"]
            .as_str()
            .unwrap()
            .contains("expired at 2021-01-01T00:00:00Z"),
        "{report}"
    );
    fs::remove_file(directory.path().join("client.pem")).unwrap();
    assert_eq!(check(&[]).status.code(), Some(78));
}

#[test]
fn an_expired_certificate_is_served_loudly() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let expired = ca.issue_with("expired", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let daemon = Daemon::start(&ca, &expired, &binding(&origin, ""));
    let line = daemon.wait_for_line("presenting a certificate that origins will refuse");
    assert_eq!(line["level"], "ERROR");
    let refused = get(daemon.address("b"), "/");
    assert_eq!(refused.status, 502);
    assert!(
        refused.head.contains("error=tls_alert_received"),
        "{refused:?}"
    );
}

#[test]
fn init_writes_a_file_that_can_be_started_from() {
    let directory = tempfile::tempdir().unwrap();
    let init = || {
        Command::new(env!("CARGO_BIN_EXE_mtlsd"))
            .arg("init")
            .current_dir(directory.path())
            .output()
            .unwrap()
    };
    assert_eq!(init().status.code(), Some(0));
    let written = fs::read_to_string(directory.path().join("mtlsd.toml")).unwrap();
    assert_eq!(text(&mtlsd(&["init", "-"]).stdout), written);
    let again = init();
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(
        text(&again.stderr),
        "mtlsd: mtlsd.toml exists already, and is left as it is\n"
    );
}

#[test]
fn the_demonstration_works() {
    let demo = mtlsd(&["demo", "--once"]);
    assert_eq!(demo.status.code(), Some(0), "{demo:?}");
    let told = text(&demo.stdout);
    assert!(
        told.contains("refused in the TLS handshake: alert 116, certificate_required"),
        "{told}"
    );
    let directory = told
        .split("(")
        .nth(1)
        .and_then(|rest| rest.split("/mtlsd.toml").next())
        .unwrap();
    assert!(
        !std::path::Path::new(directory).exists(),
        "{directory} was left behind"
    );
}

#[test]
fn the_service_manager_is_told() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let next = || {
        let mut message = [0; 1024];
        let length = socket.recv(&mut message).unwrap();
        text(&message[..length])
    };
    let mut daemon = Daemon::launch(&[("NOTIFY_SOCKET", path.to_str().unwrap())], |directory| {
        fs::write(directory.join("mtlsd.toml"), binding(&origin, "")).unwrap();
        fs::write(directory.join("client.pem"), ca.issue("client").pem()).unwrap();
        fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
    });
    assert_eq!(next(), "READY=1\nSTATUS=serving 1 binding\n");
    // Ready means ready.
    assert_eq!(get(daemon.address("b"), "/").status, 200);
    daemon.signal(Signal::HUP);
    let reloading = next();
    assert!(
        reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="),
        "{reloading}"
    );
    assert_eq!(next(), "READY=1\n");
    daemon.signal(Signal::TERM);
    assert_eq!(next(), "STOPPING=1\n");
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn the_end_of_anything_long_lived_is_the_end_of_the_process() {
    for (place, task) in [
        ("acceptor", "acceptor"),
        ("worker", "worker-"),
        ("reloader", "reloader"),
        ("watcher", "watcher"),
        ("signals", "supervisor"),
    ] {
        let ca = Ca::new();
        let origin = Origin::start(&ca);
        let mut daemon = Daemon::launch(&[("MTLSD_FAULT", place)], |directory| {
            fs::write(directory.join("mtlsd.toml"), binding(&origin, "")).unwrap();
            fs::write(directory.join("client.pem"), ca.issue("client").pem()).unwrap();
            fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
        });
        daemon.wait_ready();
        // Gives each of them something to do.
        let _ = TcpStream::connect(daemon.address("b"));
        let _ = fs::write(daemon.path("client.pem"), ca.issue("other").pem());
        daemon.signal(Signal::HUP);
        assert_eq!(daemon.wait().code(), Some(1), "{place}: {:?}", daemon.log());
        let log = wait_for("the last words", || match daemon.log() {
            log if log
                .iter()
                .any(|line| line.contains("has ended, and nothing works without it")) =>
            {
                Ok(log.join("\n"))
            }
            log => Err(log),
        });
        assert!(
            log.contains(&format!("\"message\":\"{task}")),
            "{place}: {log}"
        );
        assert!(log.contains("\"panicked\""), "{place}: {log}");
    }
}

#[test]
fn a_panic_over_a_request_costs_its_connection_only() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let mut daemon = Daemon::launch(&[("MTLSD_FAULT", "request")], |directory| {
        fs::write(directory.join("mtlsd.toml"), binding(&origin, "")).unwrap();
        fs::write(directory.join("client.pem"), ca.issue("client").pem()).unwrap();
        fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
    });
    daemon.wait_ready();
    for _ in 0..3 {
        let mut client = Client::connect(daemon.address("b"));
        assert!(client.get("/broken?secret").is_err());
    }
    let line = daemon.wait_for_line("panic while serving a request; its connection is closed");
    assert_eq!(line["binding"], "b");
    assert_eq!(
        (&line["method"], &line["path"]),
        (&"GET".into(), &"/broken".into())
    );
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(0), "{:?}", daemon.log());
}

#[test]
fn running_out_of_descriptors_is_survived() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let line = format!("ulimit -n 40; exec {} run", env!("CARGO_BIN_EXE_mtlsd"));
    let daemon = Daemon::launch_as(&line, &[], |directory| {
        fs::write(
            directory.join("mtlsd.toml"),
            format!("workers = 1\n{}", binding(&origin, "")),
        )
        .unwrap();
        fs::write(directory.join("client.pem"), ca.issue("client").pem()).unwrap();
        fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
    });
    daemon.wait_ready();
    let address = daemon.address("b");
    let many: Vec<_> = (0..60)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    // Silent clients make room for others.
    let answer = get(address, "/");
    assert_eq!(answer.status, 200, "{answer:?}");
    drop(many);
    assert_eq!(get(address, "/").status, 200);
}

#[test]
fn access_lines_say_what_happened_and_keep_what_is_secret() {
    let (_ca, _origin, daemon) = slow("");
    let address = daemon.address("b");
    let mut client = Client::connect(address);
    assert_eq!(client.get("/a?token=secret").unwrap().status, 200);
    assert_eq!(client.get("/b").unwrap().status, 200);
    assert_eq!(
        crate::support::send(address, "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").status,
        421
    );
    let lines = wait_for("three lines", || match daemon.access() {
        lines if lines.len() == 3 => Ok(lines),
        lines => Err(lines),
    });
    // Workers write when each has time: their lines come in no order.
    let of = |path: &str, status: u16| {
        lines
            .iter()
            .find(|line| line["path"] == path && line["status"] == status)
            .unwrap_or_else(|| panic!("{lines:?}"))
    };
    let line = of("/a", 200);
    assert_eq!(
        (
            &line["binding"],
            &line["method"],
            &line["path"],
            &line["status"]
        ),
        (&"b".into(), &"GET".into(), &"/a".into(), &200.into())
    );
    assert!(
        line["duration_ms"].is_number() && line["peer"].is_string() && line["upstream"].is_string(),
        "{line}"
    );
    assert_eq!(
        (&line["reused"], &of("/b", 200)["reused"]),
        (&false.into(), &true.into())
    );
    assert_eq!(&of("/", 421)["error"], "destination_not_found");
    assert!(!format!("{lines:?}").contains("secret"));
}

#[test]
fn nobody_waits_for_a_reader_of_the_log() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    // The reader of its output never reads; the log goes to a file, to find the port.
    let line = format!(
        "{{ {} run 2>log; }} | sleep 30",
        env!("CARGO_BIN_EXE_mtlsd")
    );
    let daemon = Daemon::launch_as(&line, &[], |directory| {
        fs::write(
            directory.join("mtlsd.toml"),
            format!("workers = 1\n{}", binding(&origin, "")),
        )
        .unwrap();
        fs::write(directory.join("client.pem"), ca.issue("client").pem()).unwrap();
        fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
    });
    let log = daemon.path("log");
    let serving = wait_for("the port", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let line = text
            .lines()
            .find(|line| line.contains("\"ready\""))
            .and(text.lines().find(|line| line.contains("\"serving\"")));
        line.map(str::to_owned).ok_or(text)
    });
    let line: serde_json::Value = serde_json::from_str(&serving).unwrap();
    let address = line["listen"].as_str().unwrap().parse().unwrap();
    let mut client = Client::connect(address);
    let path = format!("/{}", "x".repeat(1000));
    let began = Instant::now();
    // Far more than a pipe holds.
    for _ in 0..500 {
        assert_eq!(client.get(&path).unwrap().status, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(20));
    // It is the shell's child; ended by what ends its group.
    let pid = Command::new("sh")
        .args(["-c", &format!("ps -o pid= --ppid {} || true", daemon.pid())])
        .output()
        .unwrap();
    for child in text(&pid.stdout).split_whitespace() {
        let _ = Command::new("sh")
            .args([
                "-c",
                &format!("kill -TERM $(ps -o pid= --ppid {child}) {child} 2>/dev/null; true"),
            ])
            .status();
    }
}
