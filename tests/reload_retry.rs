//! What was rejected is tried again when the reason can have passed, without its file being touched;
//! and nothing that hangs or panics over one binding holds up another.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::config_reload::{free_port, local};
use crate::support::{Ca, Daemon, Issued, Origin, get, wait_for};
use rustix::process::Signal;

const REJECTED: &str = "certificate reload failed; keeping the current certificate";
const CONFIG_REJECTED: &str = "configuration reload failed; keeping the current configuration";
const CONFIG_USED: &str = "configuration reloaded";

fn binding(name: &str, listen: &str, origin: &Origin, lines: &str) -> String {
    format!(
        "[bindings.{name}]\nlisten = \"{listen}\"\norigin = \"https://localhost:{}\"\nca = \"ca.crt\"\n{lines}\n",
        origin.port
    )
}

/// Bindings of these names on ports of their own, each with a file of its own.
fn bindings(origin: &Origin, names: &[&str]) -> String {
    let one = |name: &&str| {
        let certificate = format!("certificate = \"{name}.pem\"");
        binding(name, "127.0.0.1:0", origin, &certificate)
    };
    names.iter().map(one).collect()
}

struct Bench {
    ca: Ca,
    origin: Origin,
    daemon: Daemon,
}

/// A daemon with these bindings, whose certificates are those returned.
fn bench(variables: &[(&str, &str)], names: &[&str]) -> (Bench, Vec<Issued>) {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let issued: Vec<_> = names.iter().map(|name| ca.issue(name)).collect();
    let daemon = Daemon::launch(variables, |directory| {
        fs::write(directory.join("mtlsd.toml"), bindings(&origin, names)).unwrap();
        fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
        for (name, issued) in names.iter().zip(&issued) {
            fs::write(directory.join(format!("{name}.pem")), issued.pem()).unwrap();
        }
    });
    daemon.wait_ready();
    // A change before the first reading is a part of that.
    let bench = Bench { ca, origin, daemon };
    bench.hang_up();
    (bench, issued)
}

impl Bench {
    /// Replaces a file, whole at every moment.
    fn put(&self, name: &str, text: &str) {
        put(&self.daemon.path(""), name, text);
    }

    fn serial(&self, name: &str) -> String {
        get(self.daemon.address(name), "/").body
    }

    /// Waits until a binding presents this certificate; returns how long that took.
    fn presents(&self, name: &str, issued: &Issued) -> Duration {
        let start = Instant::now();
        wait_for("a certificate", || match self.serial(name) {
            serial if serial == issued.serial => Ok(()),
            other => Err((other, self.daemon.log())),
        });
        start.elapsed()
    }

    /// Reloads, and waits until that is over. Returns how long it took.
    fn hang_up(&self) -> Duration {
        let over = || {
            let complete = self.daemon.lines("reload complete").len();
            complete + self.daemon.lines("reload did not complete").len()
        };
        let (start, before) = (Instant::now(), over());
        self.daemon.signal(Signal::HUP);
        let until = start + Duration::from_secs(20);
        while over() == before {
            assert!(Instant::now() < until, "{:?}", self.daemon.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        start.elapsed()
    }
}

fn put(directory: &Path, name: &str, text: &str) {
    fs::write(directory.join("new"), text).unwrap();
    fs::rename(directory.join("new"), directory.join(name)).unwrap();
}

fn valid(ca: &Ca, from: SystemTime, to: SystemTime) -> Issued {
    ca.issue_with("later", |params| {
        params.not_before = from.into();
        params.not_after = to.into();
    })
}

/// A date in a certificate has whole seconds.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

const HOUR: Duration = Duration::from_secs(3600);
const TWO_SECONDS: Duration = Duration::from_secs(2);

#[test]
fn a_certificate_is_used_from_its_not_before_on() {
    let (bench, old) = bench(&[], &["b"]);
    let from = whole_seconds(SystemTime::now() + Duration::from_secs(4));
    let later = valid(&bench.ca, from, from + HOUR);
    bench.put("b.pem", &later.pem());
    let rejected = bench.daemon.wait_for_line(REJECTED);
    assert!(
        rejected["error"]
            .as_str()
            .unwrap()
            .contains("valid only from"),
        "{rejected}"
    );
    assert_eq!(bench.serial("b"), old[0].serial);
    bench.presents("b", &later);
    let late = SystemTime::now().duration_since(from).unwrap();
    assert!(late < TWO_SECONDS, "{late:?}");
    assert_eq!(bench.daemon.lines(REJECTED).len(), 1);
}

#[test]
fn renewals_are_used_by_a_clock_that_jumps() {
    let place = tempfile::tempdir().unwrap();
    let clock = place.path().join("clock");
    let set = |seconds: i64| put(place.path(), "clock", &seconds.to_string());
    set(0);
    let (bench, old) = bench(&[("MTLSD_CLOCK", clock.to_str().unwrap())], &["b"]);
    let now = SystemTime::now();
    // The origin's clock does not jump, so the log says what is in use.
    let published = |count: usize, issued: &Issued| {
        let start = Instant::now();
        let lines = bench.daemon.wait_for_lines("published", count);
        assert_eq!(lines[count - 1]["serial"], issued.serial.as_str());
        assert!(start.elapsed() < TWO_SECONDS, "{:?}", start.elapsed());
    };
    let rejected = |count: usize| {
        bench.daemon.wait_for_lines(REJECTED, count);
        bench.hang_up();
    };

    // Forward, past its notBefore.
    let tomorrow = valid(&bench.ca, now + HOUR * 24, now + HOUR * 240);
    bench.put("b.pem", &tomorrow.pem());
    rejected(1);
    assert_eq!(bench.serial("b"), old[0].serial);
    set(3600 * 23);
    bench.hang_up();
    assert_eq!(bench.daemon.lines("published").len(), 0);
    set(3600 * 25);
    published(1, &tomorrow);

    // Back, before the notBefore of what is in use and of what comes; then forward again.
    set(0);
    let soon = valid(&bench.ca, now + HOUR, now + HOUR * 240);
    bench.put("b.pem", &soon.pem());
    rejected(2);
    assert_eq!(bench.daemon.lines("published").len(), 1);
    set(3600 * 2);
    published(2, &soon);

    // Past the notAfter of what comes: expired, until the clock is right again.
    set(3600 * 1000);
    let fine = valid(&bench.ca, now - HOUR, now + HOUR * 100);
    bench.put("b.pem", &fine.pem());
    rejected(3);
    assert_eq!(bench.daemon.lines("published").len(), 2);
    set(0);
    bench.hang_up();
    published(3, &fine);
    assert_eq!(bench.serial("b"), fine.serial);
    assert_eq!(bench.daemon.lines(REJECTED).len(), 3);
}

#[test]
fn what_was_rejected_is_tried_again_on_every_poll() {
    let place = tempfile::tempdir().unwrap();
    put(place.path(), "clock", "0");
    let clock = place.path().join("clock");
    let (bench, _) = bench(&[("MTLSD_CLOCK", clock.to_str().unwrap())], &["b"]);
    // One that is expired by a clock that is wrong, and a port that another program has.
    put(place.path(), "clock", "36000000");
    let fine = bench.ca.issue_with("fine", |params| {
        params.not_after = (SystemTime::now() + HOUR).into();
    });
    bench.put("b.pem", &fine.pem());
    bench.daemon.wait_for_line(REJECTED);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let more = binding(
        "c",
        &format!("127.0.0.1:{port}"),
        &bench.origin,
        "certificate = \"b.pem\"",
    );
    let text = bindings(&bench.origin, &["b"]);
    bench.put("mtlsd.toml", &format!("{text}{more}"));
    bench.daemon.wait_for_line(CONFIG_REJECTED);
    put(place.path(), "clock", "0");
    drop(taken);
    let until = Instant::now() + Duration::from_secs(35);
    while bench.daemon.lines(CONFIG_USED).is_empty() || bench.daemon.lines("published").is_empty() {
        assert!(Instant::now() < until, "{:?}", bench.daemon.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(bench.serial("b"), fine.serial);
    assert_eq!(get(local(port), "/").body, fine.serial);
    // Said once, however often it was tried.
    assert_eq!(bench.daemon.lines(CONFIG_REJECTED).len(), 1);
    assert_eq!(bench.daemon.lines(REJECTED).len(), 1);
}

#[test]
fn a_configuration_is_adopted_at_once_when_its_files_arrive() {
    let (bench, issued) = bench(&[], &["a"]);
    let (b, root) = (bench.ca.issue("b"), bench.ca.pem.clone());
    let other = bench.ca.issue("other");
    let crl = crl(&bench.ca);
    let whole = b.pem();
    // What the binding needs, and the files that arrive later, in this order.
    type Files<'a> = Vec<(&'a str, &'a str)>;
    let rows: [(&str, Files<'_>); 12] = [
        ("certificate = \"late0.pem\"", vec![("late0.pem", &whole)]),
        (
            "certificate = \"late1/deep/er/b.pem\"",
            vec![("late1/deep/er/b.pem", &whole)],
        ),
        (
            "certificate = \"late2.crt\"\nkey = \"late2.key\"",
            vec![("late2.crt", &b.chain), ("late2.key", &b.key)],
        ),
        (
            "certificate = \"late3.crt\"\nkey = \"late3.key\"",
            vec![("late3.key", &b.key), ("late3.crt", &b.chain)],
        ),
        // A pair that is not complete yet.
        (
            "certificate = \"late4.crt\"\nkey = \"late4.key\"",
            vec![
                ("late4.key", &other.key),
                ("late4.crt", &b.chain),
                ("late4.key", &b.key),
            ],
        ),
        // A file that is cut short at first.
        (
            "certificate = \"late5.pem\"",
            vec![
                ("late5.pem", &whole[..whole.len() / 2]),
                ("late5.pem", &whole),
            ],
        ),
        (
            "certificate = \"a.pem\"\nca = \"late6.crt\"",
            vec![("late6.crt", &root)],
        ),
        (
            "certificate = \"a.pem\"\ncrl = \"late7.pem\"",
            vec![("late7.pem", &crl)],
        ),
        (
            "certificate = \"a.pem\"\nkey_password_file = \"late8.txt\"",
            vec![("late8.txt", "secret\n")],
        ),
        (
            "certificate_dir = \"late9\"",
            vec![
                // Without this file, the other two are enough.
                ("late9/ca.crt", &root),
                ("late9/tls.crt", &b.chain),
                ("late9/tls.key", &b.key),
            ],
        ),
        (
            "certificate_dir = \"late10\"",
            vec![
                ("late10/svid_bundle.pem", &root),
                ("late10/svid.pem", &b.chain),
                ("late10/svid_key.pem", &b.key),
            ],
        ),
        (
            "certificate = \"late11.pem\"\nca = \"late11.crt\"\ncrl = \"late11.crl\"",
            vec![
                ("late11.crl", &crl),
                ("late11.crt", &root),
                ("late11.pem", &whole),
            ],
        ),
    ];
    let mut used = bench.daemon.lines(CONFIG_USED).len();
    let mut refused = bench.daemon.lines(CONFIG_REJECTED).len();
    let a = bindings(&bench.origin, &["a"]);
    for (lines, files) in rows {
        let mut text = binding("b", "127.0.0.1:0", &bench.origin, lines);
        if lines.contains("ca =") || lines.contains("_dir") {
            text = text.replace("ca = \"ca.crt\"\n", "");
        }
        bench.put("mtlsd.toml", &format!("{a}{text}"));
        bench.daemon.wait_for_lines(CONFIG_REJECTED, refused + 1);
        for (name, text) in files {
            assert_eq!(bench.daemon.lines(CONFIG_USED).len(), used, "{lines}");
            let path = bench.daemon.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            bench.put(name, text);
            // Long enough to be noticed on its own.
            std::thread::sleep(Duration::from_millis(250));
        }
        used = bench.daemon.wait_for_lines(CONFIG_USED, used + 1).len();
        refused = bench.daemon.lines(CONFIG_REJECTED).len();
        assert_eq!(bench.serial("a"), issued[0].serial);
        // Back to where it was.
        bench.put("mtlsd.toml", &a);
        used = bench.daemon.wait_for_lines(CONFIG_USED, used + 1).len();
    }
}

/// A list of `ca` that revokes nothing.
fn crl(ca: &Ca) -> String {
    use rcgen::{CertificateRevocationListParams, KeyIdMethod, SerialNumber};
    let params = CertificateRevocationListParams {
        this_update: (SystemTime::now() - HOUR).into(),
        next_update: (SystemTime::now() + HOUR).into(),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(ca.issuer()).unwrap().pem().unwrap()
}

#[test]
fn a_configuration_is_tried_again_on_sighup_and_when_its_text_returns() {
    let (bench, _) = bench(&[], &["a"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let a = bindings(&bench.origin, &["a"]);
    let more = binding(
        "c",
        &format!("127.0.0.1:{port}"),
        &bench.origin,
        "certificate = \"a.pem\"",
    );
    bench.put("mtlsd.toml", &format!("{a}{more}"));
    bench.daemon.wait_for_lines(CONFIG_REJECTED, 1);
    bench.hang_up();
    let said = bench.daemon.lines("reload rejected");
    let said = said.last().unwrap();
    assert_eq!(said["name"], "configuration");
    assert!(
        said["error"].as_str().unwrap().contains("is taken"),
        "{said}"
    );
    drop(taken);
    bench.hang_up();
    assert_eq!(bench.daemon.lines(CONFIG_USED).len(), 1);
    assert_eq!(get(local(port), "/").status, 200);
    assert_eq!(bench.daemon.lines("reload rejected").len(), 1);
    // A mistake, and back.
    bench.put("mtlsd.toml", "[bindings\n");
    bench.daemon.wait_for_lines(CONFIG_REJECTED, 2);
    bench.put("mtlsd.toml", &format!("{a}{more}"));
    bench.daemon.wait_for_line("configuration reload recovered");
}

#[test]
fn a_change_to_a_binding_does_not_give_up_a_certificate_that_works() {
    let (bench, old) = bench(&[], &["b"]);
    let tomorrow = valid(
        &bench.ca,
        SystemTime::now() + HOUR * 24,
        SystemTime::now() + HOUR * 48,
    );
    bench.put("b.pem", &tomorrow.pem());
    bench.daemon.wait_for_line(REJECTED);
    // The same file: what is in use stays in use.
    let text = bindings(&bench.origin, &["b"]);
    bench.put("mtlsd.toml", &format!("{text}via = false\n"));
    bench.daemon.wait_for_lines(CONFIG_USED, 1);
    assert_eq!(bench.serial("b"), old[0].serial);
    // Another file: it is used when it is valid.
    let from = whole_seconds(SystemTime::now() + Duration::from_secs(3));
    let soon = valid(&bench.ca, from, from + HOUR);
    bench.put("soon.pem", &soon.pem());
    bench.put("mtlsd.toml", &text.replace("b.pem", "soon.pem"));
    bench.daemon.wait_for_line(CONFIG_REJECTED);
    assert_eq!(bench.serial("b"), old[0].serial);
    bench.presents("b", &soon);
    assert!(SystemTime::now().duration_since(from).unwrap() < TWO_SECONDS);
}

#[test]
fn a_panic_over_one_binding_s_files_costs_that_binding_a_reload() {
    let (bench, old) = bench(&[("MTLSD_FAULT", "files")], &["a", "b"]);
    fs::write(bench.daemon.path("panic.load.b"), "").unwrap();
    let newer = bench.ca.issue("newer");
    bench.put("b.pem", &newer.pem());
    let rejected = bench.daemon.wait_for_line(REJECTED);
    assert_eq!(rejected["binding"], "b");
    assert!(
        rejected["error"]
            .as_str()
            .unwrap()
            .contains("internal error while loading"),
        "{rejected}"
    );
    let fresh = bench.ca.issue("fresh");
    bench.put("a.pem", &fresh.pem());
    bench.presents("a", &fresh);
    assert_eq!(bench.serial("b"), old[1].serial);
    for _ in 0..3 {
        bench.hang_up();
    }
    assert_eq!(bench.daemon.lines(REJECTED).len(), 1);
    fs::remove_file(bench.daemon.path("panic.load.b")).unwrap();
    bench.hang_up();
    assert_eq!(bench.serial("b"), newer.serial);

    // The same in reading the configuration.
    fs::write(bench.daemon.path("panic.load.configuration"), "").unwrap();
    let text = bindings(&bench.origin, &["a", "b"]);
    bench.put("mtlsd.toml", &format!("{text}via = false\n"));
    bench.daemon.wait_for_line(CONFIG_REJECTED);
    fs::remove_file(bench.daemon.path("panic.load.configuration")).unwrap();
    bench.hang_up();
    bench.daemon.wait_for_line(CONFIG_USED);
}

#[test]
fn files_that_do_not_respond_hold_up_nobody_else() {
    let names = ["a", "h1", "h2", "h3", "h4", "h5", "h6"];
    let (mut bench, old) = bench(&[("MTLSD_FAULT", "files")], &names);
    for name in &names[1..] {
        fs::write(bench.daemon.path(&format!("hang.load.{name}")), "").unwrap();
        bench.put(&format!("{name}.pem"), &bench.ca.issue(name).pem());
    }
    std::thread::sleep(Duration::from_millis(300));
    for round in 0..3 {
        let fresh = bench.ca.issue(&format!("a{round}"));
        bench.put("a.pem", &fresh.pem());
        let took = bench.presents("a", &fresh);
        // More hang than are read at once: that costs a second, once.
        assert!(took < TWO_SECONDS * 2, "{took:?}");
    }
    // SIGHUP says what did not respond, and the rest is reloaded.
    let took = bench.hang_up();
    assert!(took < Duration::from_secs(15), "{took:?}");
    let line = bench.daemon.wait_for_line("reload did not complete");
    assert_eq!(line["unfinished"], "h1 h2 h3 h4 h5 h6");
    // Nor does it hold up a new configuration, nor the requests.
    let text = bindings(&bench.origin, &names);
    let more = binding("c", "127.0.0.1:0", &bench.origin, "certificate = \"a.pem\"");
    bench.put("mtlsd.toml", &format!("{text}{more}"));
    bench.daemon.wait_for_line(CONFIG_USED);
    assert_eq!(get(bench.daemon.address("c"), "/").status, 200);
    assert_eq!(bench.serial("h1"), old[1].serial);
    // Those that respond in the end are used.
    fs::remove_file(bench.daemon.path("hang.load.h1")).unwrap();
    wait_for("h1", || match bench.serial("h1") {
        serial if serial != old[1].serial => Ok(()),
        _ => Err(bench.daemon.log()),
    });
    // And the end does not wait.
    let start = Instant::now();
    bench.daemon.signal(Signal::TERM);
    assert_eq!(bench.daemon.wait().code(), Some(0));
    assert!(start.elapsed() < TWO_SECONDS * 2, "{:?}", start.elapsed());
}

#[test]
fn a_configuration_that_does_not_respond_holds_up_no_certificate() {
    let (bench, _) = bench(&[("MTLSD_FAULT", "files")], &["a"]);
    fs::write(bench.daemon.path("hang.load.configuration"), "").unwrap();
    let text = bindings(&bench.origin, &["a"]);
    bench.put("mtlsd.toml", &format!("{text}via = false\n"));
    std::thread::sleep(Duration::from_millis(300));
    let fresh = bench.ca.issue("fresh");
    bench.put("a.pem", &fresh.pem());
    let took = bench.presents("a", &fresh);
    assert!(took < TWO_SECONDS, "{took:?}");
    fs::remove_file(bench.daemon.path("hang.load.configuration")).unwrap();
    bench.daemon.wait_for_line(CONFIG_USED);
}

#[test]
fn a_pipe_in_place_of_a_file_is_rejected_and_holds_up_nobody() {
    let (bench, old) = bench(&[], &["a", "b"]);
    let pipe = |name: &str| {
        let made = std::process::Command::new("mkfifo")
            .arg(bench.daemon.path("fifo"))
            .status();
        assert!(made.unwrap().success());
        fs::rename(bench.daemon.path("fifo"), bench.daemon.path(name)).unwrap();
    };
    pipe("b.pem");
    let rejected = bench.daemon.wait_for_line(REJECTED);
    assert_eq!(rejected["binding"], "b");
    pipe("mtlsd.toml");
    bench.daemon.wait_for_line(CONFIG_REJECTED);
    let fresh = bench.ca.issue("fresh");
    bench.put("a.pem", &fresh.pem());
    bench.presents("a", &fresh);
    assert!(bench.hang_up() < TWO_SECONDS * 2);
    assert_eq!(bench.serial("b"), old[1].serial);
    bench.put("b.pem", &fresh.pem());
    bench.presents("b", &fresh);
    bench.put("mtlsd.toml", &bindings(&bench.origin, &["a", "b"]));
    bench.daemon.wait_for_line("configuration reload recovered");
}

#[test]
fn the_service_manager_is_told_what_is_rejected() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let status = |wanted: &str| {
        let mut seen = Vec::new();
        loop {
            let mut message = [0; 2048];
            let length = socket
                .recv(&mut message)
                .unwrap_or_else(|error| panic!("{error}: {seen:?}"));
            let text = String::from_utf8_lossy(&message[..length]).into_owned();
            let line = text.lines().find_map(|line| line.strip_prefix("STATUS="));
            if line.is_some_and(|line| line.contains(wanted)) {
                return line.unwrap_or_default().to_owned();
            }
            seen.push(text);
        }
    };
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let (bench, _) = bench(&variables, &["a", "b"]);
    status("serving 2 bindings");
    bench.put("b.pem", "nonsense");
    let said = status("reload of b failed: ");
    assert!(
        said.starts_with("serving 2 bindings; ") && said.contains("b.pem"),
        "{said}"
    );
    bench.put("mtlsd.toml", "[bindings\n");
    status("; reload of configuration failed: ");
    bench.put("b.pem", &bench.ca.issue("b").pem());
    let said = status("reload of configuration failed: ");
    assert!(!said.contains("reload of b"), "{said}");
    bench.put("mtlsd.toml", &bindings(&bench.origin, &["a"]));
    assert_eq!(status("serving 1 binding"), "serving 1 binding");
}

#[test]
fn a_parent_directory_that_goes_and_comes_back_is_waited_for() {
    let (bench, _) = bench(&[], &["a"]);
    let first = bench.ca.issue("first");
    fs::create_dir_all(bench.daemon.path("store/deep")).unwrap();
    bench.put("store/deep/b.pem", &first.pem());
    let port = free_port();
    let lines = "certificate = \"store/deep/b.pem\"";
    let b = binding("b", &format!("127.0.0.1:{port}"), &bench.origin, lines);
    bench.put(
        "mtlsd.toml",
        &format!("{}{b}", bindings(&bench.origin, &["a"])),
    );
    bench.daemon.wait_for_line(CONFIG_USED);
    fs::rename(bench.daemon.path("store"), bench.daemon.path("away")).unwrap();
    // A renewal while the rest of what the binding needs is not there.
    bench.hang_up();
    bench.daemon.wait_for_line(REJECTED);
    let second = bench.ca.issue("second");
    bench.put("away/deep/b.pem", &second.pem());
    fs::rename(bench.daemon.path("away"), bench.daemon.path("store")).unwrap();
    let took = bench.presents("b", &second);
    assert!(took < TWO_SECONDS, "{took:?}");
}
