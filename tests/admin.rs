//! The operator's endpoints: what they say, to whom, and the commands that ask them.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Answer, Ca, Client, Daemon, Origin, Then, binding, get, wait_for};

/// A daemon with an admin listener on a unix socket and one on a port.
struct World {
    ca: Ca,
    daemon: Daemon,
    _origin: Origin,
}

impl World {
    fn new() -> Self {
        let ca = Ca::new();
        let origin = Origin::with(&ca, |request, tls| {
            match request.target() {
                "/fail" => tls.write_all(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")?,
                _ => crate::support::answer(tls, "ok")?,
            }
            Ok(Then::Keep)
        });
        let config = format!(
            "[admin]\nlisten = [\"unix:admin.sock\", \"127.0.0.1:0\"]\n{}",
            binding(&origin, "")
        );
        let daemon = Daemon::start(&ca, &ca.issue("client"), &config);
        Self {
            ca,
            daemon,
            _origin: origin,
        }
    }

    fn admin(&self) -> SocketAddr {
        let lines = self.daemon.lines("serving the admin endpoint");
        let mut listeners = lines.iter().filter_map(|line| line["listener"].as_str());
        listeners.find_map(|text| text.parse().ok()).unwrap()
    }

    fn ask(&self, path: &str) -> Answer {
        get(self.admin(), path)
    }

    fn ask_unix(&self, head: &str) -> Answer {
        let stream = UnixStream::connect(self.daemon.path("admin.sock")).unwrap();
        let mut client = Client::over(stream);
        client.write(format!("{head} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        client.answer().unwrap()
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.ask("/status").body).unwrap()
    }

    fn command(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_mtlsd"))
            .args(words)
            .current_dir(self.daemon.directory.path())
            .output()
            .unwrap()
    }

    /// The value of the sample that starts like this.
    fn metric(&self, start: &str) -> Option<f64> {
        let text = self.ask("/metrics").body;
        let line = text.lines().find(|line| line.starts_with(start))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn requests_are_counted_by_binding_and_code() {
    let world = World::new();
    let address = world.daemon.address("b");
    for path in ["/", "/", "/fail"] {
        get(address, path);
    }
    wait_for("three requests", || {
        let counts = [
            world.metric("mtlsd_requests_total{binding=\"b\",code=\"200\"}"),
            world.metric("mtlsd_requests_total{binding=\"b\",code=\"503\"}"),
            world.metric("mtlsd_request_duration_seconds_count{binding=\"b\"}"),
        ];
        match counts {
            [Some(2.0), Some(1.0), Some(3.0)] => Ok(()),
            counts => Err(counts),
        }
    });
    let full = world.metric("mtlsd_handshakes_total{binding=\"b\",result=\"full\"}");
    assert!(full >= Some(1.0), "{full:?}");
    let asked = world.metric("mtlsd_certificate_requested_total{binding=\"b\",requested=\"true\"}");
    assert!(asked >= Some(1.0), "{asked:?}");
    // What has not happened yet is 0, so that an alert sees the first time.
    assert_eq!(
        world.metric("mtlsd_requests_total{binding=\"b\",code=\"502\"}"),
        Some(0.0)
    );
}

#[test]
fn counters_go_on_when_the_configuration_changes() {
    let world = World::new();
    get(world.daemon.address("b"), "/");
    let config = fs::read_to_string(world.daemon.path("mtlsd.toml")).unwrap();
    fs::write(
        world.daemon.path("mtlsd.toml"),
        format!("{config}\nresponse_timeout = \"7s\"\n"),
    )
    .unwrap();
    world.daemon.wait_for_line("configuration reloaded");
    let count = world.metric("mtlsd_requests_total{binding=\"b\",code=\"200\"}");
    assert_eq!(count, Some(1.0));
}

#[test]
fn metrics_come_in_the_format_that_is_asked_for() {
    let world = World::new();
    let plain = world.ask("/metrics");
    assert!(
        plain.head.contains("text/plain; version=0.0.4"),
        "{}",
        plain.head
    );
    let open = crate::support::send(
        world.admin(),
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text\r\nConnection: close\r\n\r\n",
    );
    assert!(
        open.head.contains("application/openmetrics-text"),
        "{}",
        open.head
    );
    assert!(open.body.ends_with("# EOF\n"));
}

#[test]
fn a_rotation_and_a_rejected_one_are_seen() {
    let world = World::new();
    let before = world.status();
    let second = world.ca.issue("client-2");
    fs::write(world.daemon.path("client.pem"), second.pem()).unwrap();
    let after = wait_for("the second certificate", || {
        let status = world.status();
        let serial = status["bindings"][0]["certificate"]["serial"].clone();
        match serial == second.serial.as_str() {
            true => Ok(status),
            false => Err(serial),
        }
    });
    let certificate = &after["bindings"][0]["certificate"];
    assert_eq!(certificate["generation"], 2);
    assert_eq!(certificate["rotations"].as_array().unwrap().len(), 2);
    assert_eq!(before["bindings"][0]["certificate"]["generation"], 1);

    fs::write(world.daemon.path("client.pem"), "nothing").unwrap();
    let rejected = wait_for("a rejection", || {
        let status = world.status();
        match status["bindings"][0]["certificate"]["rejected"].is_null() {
            true => Err(status),
            false => Ok(status),
        }
    });
    assert_eq!(rejected["bindings"][0]["health"], "error");
    assert_eq!(
        world.metric("mtlsd_certificate_rejected{binding=\"b\"}"),
        Some(1.0)
    );
    assert_eq!(world.ask("/readyz").status, 200);
    assert_eq!(world.ask("/readyz/b").status, 503);
    assert_eq!(world.ask("/readyz/nobody").status, 404);
    let page = world.ask("/").body;
    assert!(page.contains("Newer files have been rejected"), "{page}");
}

#[test]
fn text_of_a_certificate_stays_text_on_the_page() {
    let world = World::new();
    let evil = world.ca.issue("<script>alert(1)</script>");
    fs::write(world.daemon.path("client.pem"), evil.pem()).unwrap();
    let page = wait_for("the subject", || {
        let page = world.ask("/");
        match page.body.contains("alert(1)") {
            true => Ok(page),
            false => Err(page.body),
        }
    });
    assert!(!page.body.contains("<script>alert"), "{}", page.body);
    assert!(
        page.head
            .contains("content-security-policy: default-src 'none'")
    );
}

#[test]
fn only_the_socket_changes_anything() {
    let world = World::new();
    let mode = fs::metadata(world.daemon.path("admin.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    let post = "POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(crate::support::send(world.admin(), post).status, 405);
    assert_eq!(world.ask_unix("GET /reload").status, 405);
    let reloaded = world.ask_unix("POST /reload");
    assert_eq!(reloaded.status, 200, "{}", reloaded.body);
    let level = world.ask_unix("POST /log-level?level=debug&for=1m");
    assert_eq!(level.status, 200, "{}", level.body);
    assert_eq!(world.ask_unix("POST /log-level?level=loud").status, 400);
    assert_eq!(
        world.ask_unix("POST /log-level?level=info&for=soon").status,
        400
    );
}

#[test]
fn pages_of_other_sites_and_foreign_names_are_refused() {
    let world = World::new();
    let ask = |fields: &str| {
        let request = format!("GET /status HTTP/1.1\r\n{fields}Connection: close\r\n\r\n");
        crate::support::send(world.admin(), &request).status
    };
    assert_eq!(ask("Host: localhost\r\n"), 200);
    assert_eq!(ask("Host: evil.example\r\n"), 421);
    assert_eq!(
        ask("Host: localhost\r\nSec-Fetch-Site: cross-site\r\n"),
        403
    );
    assert_eq!(
        ask("Host: localhost\r\nOrigin: http://evil.example\r\n"),
        403
    );
}

#[test]
fn a_slow_client_does_not_keep_others_out() {
    let world = World::new();
    let mut silent: Vec<TcpStream> = (0..16)
        .map(|_| TcpStream::connect(world.admin()).unwrap())
        .collect();
    // Their heads take too long, and they make room.
    wait_for("a response", || {
        let mut stream = TcpStream::connect(world.admin()).map_err(|error| error.to_string())?;
        let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream
            .write_all(request)
            .map_err(|error| error.to_string())?;
        let mut text = String::new();
        stream
            .read_to_string(&mut text)
            .map_err(|error| error.to_string())?;
        match text.starts_with("HTTP/1.1 200") {
            true => Ok(()),
            false => Err(text),
        }
    });
    silent.clear();
}

#[test]
fn commands_find_the_socket_and_say_how_it_is() {
    let world = World::new();
    get(world.daemon.address("b"), "/");
    let status = world.command(&["status"]);
    assert_eq!(status.status.code(), Some(0), "{}", said(&status));
    assert!(said(&status).contains("BINDING"), "{}", said(&status));
    let one = world.command(&["status", "b", "--json"]);
    let one: Value = serde_json::from_slice(&one.stdout).unwrap();
    assert_eq!(one["name"], "b");
    let nobody = world.command(&["status", "nobody"]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(said(&nobody).contains("there are: b"), "{}", said(&nobody));
    for words in [
        &["healthcheck"][..],
        &["healthcheck", "--live"],
        &["healthcheck", "--ready"],
        &["healthcheck", "b"],
    ] {
        let output = world.command(words);
        assert_eq!(output.status.code(), Some(0), "{words:?} {}", said(&output));
        assert_eq!(said(&output), "", "{words:?}");
    }
}

#[test]
fn reload_says_what_came_of_it() {
    let world = World::new();
    let unchanged = world.command(&["reload"]);
    assert_eq!(unchanged.status.code(), Some(0), "{}", said(&unchanged));
    assert!(
        said(&unchanged).contains("b: unchanged"),
        "{}",
        said(&unchanged)
    );

    let config = fs::read_to_string(world.daemon.path("mtlsd.toml")).unwrap();
    fs::write(
        world.daemon.path("mtlsd.toml"),
        format!("{config}\nnonsense = 1\n"),
    )
    .unwrap();
    let rejected = world.command(&["reload"]);
    assert_eq!(rejected.status.code(), Some(78), "{}", said(&rejected));
    assert!(
        said(&rejected).contains("unknown key `nonsense`"),
        "{}",
        said(&rejected)
    );

    fs::write(world.daemon.path("mtlsd.toml"), config).unwrap();
    fs::write(world.daemon.path("client.pem"), "nothing").unwrap();
    let rejected = world.command(&["reload"]);
    assert_eq!(rejected.status.code(), Some(78), "{}", said(&rejected));
    assert!(
        said(&rejected).contains("b: rejected"),
        "{}",
        said(&rejected)
    );
}

#[test]
fn a_healthcheck_waits_and_fails_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let check = |words: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_mtlsd"))
            .args(words)
            .current_dir(directory.path())
            .env("MTLSD_ADMIN", "unix:none.sock")
            .output()
            .unwrap()
    };
    let stopped = check(&["healthcheck"]);
    assert_eq!(stopped.status.code(), Some(1));
    assert!(said(&stopped).contains("none.sock"), "{}", said(&stopped));
    let waited = std::time::Instant::now();
    assert_eq!(
        check(&["healthcheck", "--wait", "300ms"]).status.code(),
        Some(1)
    );
    assert!(waited.elapsed() >= std::time::Duration::from_millis(300));
    assert_eq!(
        check(&["healthcheck", "--wait", "soon"]).status.code(),
        Some(2)
    );
}

#[test]
fn readiness_ends_when_draining_begins_and_the_socket_goes_at_the_end() {
    let mut world = World::new();
    // A request in flight keeps the process from ending.
    let mut busy = Client::connect(world.daemon.address("b"));
    busy.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n1");
    wait_for("a request in flight", || {
        match world.metric("mtlsd_requests_in_flight{binding=\"b\"}") {
            Some(1.0) => Ok(()),
            other => Err(other),
        }
    });
    world.daemon.signal(Signal::TERM);
    wait_for("draining", || match world.ask_unix("GET /readyz").status {
        503 => Ok(()),
        other => Err(other),
    });
    assert_eq!(world.ask_unix("GET /livez").status, 200);
    busy.write(b"2");
    busy.answer().unwrap();
    drop(busy);
    assert!(world.daemon.wait().success());
    assert!(!world.daemon.path("admin.sock").exists());
}
