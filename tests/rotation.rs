//! Certificates are replaced while traffic flows, in every way that tools replace files, and
//! nobody notices but the origin.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{Ca, Client, Daemon, Issued, Origin, binding, get, scale, wait_for};

/// How many times each way is tried; CI tries a hundred.
fn swaps() -> usize {
    scale("MTLSD_TEST_SWAPS", 3)
}

/// Where the certificate and the key are, in the configuration.
fn config(origin: &Origin, certificate: &str, key: &str) -> String {
    format!(
        "workers = 4\n[bindings.b]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{}\"\n\
         certificate = \"{certificate}\"\nkey = \"{key}\"\nca = \"ca.crt\"\n",
        origin.port
    )
}

/// Swaps certificates by `write` under the load of 32 clients, and holds the promises.
fn rotate(certificate: &str, key: &str, write: impl Fn(&Path, &Issued, usize)) {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let first = ca.issue("client-0");
    let daemon = Daemon::launch(&[], |directory| {
        fs::write(
            directory.join("mtlsd.toml"),
            config(&origin, certificate, key),
        )
        .unwrap();
        fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
        write(directory, &first, 0);
    });
    daemon.wait_ready();
    let address = daemon.address("b");
    let over = AtomicBool::new(false);
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let load = || {
            while !over.load(Relaxed) {
                let mut client = Client::connect(address);
                for _ in 0..20 {
                    let answer = client.get("/").expect("a request failed");
                    assert_eq!(answer.status, 200, "{answer:?}");
                    done.fetch_add(1, Relaxed);
                    // So that pooled connections are idle now and then.
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        };
        for _ in 0..32 {
            scope.spawn(load);
        }
        let mut old = first;
        for swap in 1..=swaps() {
            let before = done.load(Relaxed);
            let new = ca.issue(&format!("client-{swap}"));
            write(daemon.directory.path(), &new, swap);
            let written = Instant::now();
            let published = daemon.wait_for_lines("published", swap);
            assert_eq!(published[swap - 1]["serial"], new.serial.as_str());
            assert!(
                written.elapsed() < Duration::from_secs(2),
                "{:?}",
                written.elapsed()
            );
            // Whoever begins now must be seen with the new certificate, also where a connection
            // resumes a session.
            for _ in 0..8 {
                assert_eq!(get(address, "/").body, new.serial, "after swap {swap}");
            }
            let promised = Instant::now() + Duration::from_secs(2);
            wait_for("the old connections to close", || {
                match origin.idle(&old.serial) {
                    0 => Ok(()),
                    left => Err(left),
                }
            });
            assert!(
                Instant::now() < promised,
                "idle connections of the old certificate stayed"
            );
            wait_for("a hundred requests", || match done.load(Relaxed) - before {
                count if count >= 100 => Ok(()),
                count => Err(count),
            });
            old = new;
        }
        over.store(true, Relaxed);
    });
    assert!(
        daemon.lines("request failed").is_empty(),
        "{:?}",
        daemon.log()
    );
    assert!(
        origin.resumed() > 0,
        "no session was ever resumed, so nothing is known of those"
    );
}

#[test]
fn written_in_place() {
    rotate("client.pem", "client.pem", |directory, new, _| {
        fs::write(directory.join("client.pem"), new.pem()).unwrap();
    });
}

#[test]
fn renamed_over() {
    rotate("client.pem", "client.pem", |directory, new, _| {
        fs::write(directory.join("new"), new.pem()).unwrap();
        fs::rename(directory.join("new"), directory.join("client.pem")).unwrap();
    });
}

#[test]
fn deleted_and_recreated() {
    rotate("client.pem", "client.pem", |directory, new, _| {
        let _ = fs::remove_file(directory.join("client.pem"));
        std::thread::sleep(Duration::from_millis(20));
        fs::write(directory.join("client.pem"), new.pem()).unwrap();
    });
}

#[test]
fn the_kubernetes_data_link_swapped() {
    rotate("certs/tls.crt", "certs/tls.key", |directory, new, swap| {
        let certs = directory.join("certs");
        let version = format!("..2026_{swap}");
        fs::create_dir_all(certs.join(&version)).unwrap();
        fs::write(certs.join(&version).join("tls.crt"), &new.chain).unwrap();
        fs::write(certs.join(&version).join("tls.key"), &new.key).unwrap();
        symlink(&version, certs.join("..data_tmp")).unwrap();
        fs::rename(certs.join("..data_tmp"), certs.join("..data")).unwrap();
        if swap == 0 {
            symlink("..data/tls.crt", certs.join("tls.crt")).unwrap();
            symlink("..data/tls.key", certs.join("tls.key")).unwrap();
        } else {
            fs::remove_dir_all(certs.join(format!("..2026_{}", swap - 1))).unwrap();
        }
    });
}

#[test]
fn the_key_before_the_certificate() {
    rotate("tls.crt", "tls.key", |directory, new, _| {
        fs::write(directory.join("tls.key"), &new.key).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        fs::write(directory.join("tls.crt"), &new.chain).unwrap();
    });
}

#[test]
fn idle_workers_let_go_of_old_connections_too() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let old = ca.issue("old");
    let daemon = Daemon::start(&ca, &old, &format!("workers = 4\n{}", binding(&origin, "")));
    let address = daemon.address("b");
    // A connection for each worker, all of which are idle then.
    let mut clients: Vec<_> = (0..4).map(|_| Client::connect(address)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").unwrap().body, old.serial);
    }
    wait_for("four idle connections", || match origin.idle(&old.serial) {
        4 => Ok(()),
        count => Err(count),
    });
    let new = ca.issue("new");
    fs::write(daemon.path("client.pem"), new.pem()).unwrap();
    daemon.wait_for_line("published");
    wait_for("none", || match origin.idle(&old.serial) {
        0 => Ok(()),
        count => Err(count),
    });
    for client in &mut clients {
        assert_eq!(client.get("/").unwrap().body, new.serial);
    }
}

#[test]
fn a_broken_file_is_refused_once_and_recovery_is_automatic() {
    const REFUSED: &str = "refused new files, the certificate before stays in use";
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let old = ca.issue("old");
    let daemon = Daemon::start(&ca, &old, &binding(&origin, ""));
    let address = daemon.address("b");
    let look_again = |times: usize| {
        for _ in 0..times {
            let seen = daemon.lines("reloading").len();
            daemon.signal(Signal::HUP);
            daemon.wait_for_lines("reloading", seen + 1);
            assert_eq!(get(address, "/").body, old.serial);
        }
    };
    let other = ca.issue("other");
    fs::write(
        daemon.path("client.pem"),
        format!("{}{}", old.chain, other.key),
    )
    .unwrap();
    let refused = daemon.wait_for_lines(REFUSED, 1);
    assert!(
        refused[0]["error"]
            .as_str()
            .unwrap()
            .contains("does not belong to"),
        "{refused:?}"
    );
    look_again(5);
    assert_eq!(daemon.lines(REFUSED).len(), 1);
    fs::write(
        daemon.path("client.pem"),
        "-----BEGIN CERTIFICATE-----\nnonsense",
    )
    .unwrap();
    daemon.wait_for_lines(REFUSED, 2);
    look_again(5);
    assert_eq!(daemon.lines(REFUSED).len(), 2);
    fs::write(daemon.path("client.pem"), other.pem()).unwrap();
    daemon.wait_for_line("published");
    assert_eq!(get(address, "/").body, other.serial);
}

#[test]
fn an_expired_replacement_is_refused() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let old = ca.issue("old");
    let daemon = Daemon::start(&ca, &old, &binding(&origin, ""));
    let expired = ca.issue_with("expired", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    fs::write(daemon.path("client.pem"), expired.pem()).unwrap();
    let refused = daemon.wait_for_line("refused new files, the certificate before stays in use");
    assert!(
        refused["error"]
            .as_str()
            .unwrap()
            .contains("expired at 2021-01-01T00:00:00Z"),
        "{refused}"
    );
    assert_eq!(get(daemon.address("b"), "/").body, old.serial);
}

#[test]
fn authorities_reload_too() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let client = ca.issue("client");
    let daemon = Daemon::start(&ca, &client, &binding(&origin, ""));
    let address = daemon.address("b");
    assert_eq!(get(address, "/").status, 200);
    let stranger = Ca::new();
    fs::write(daemon.path("ca.crt"), &stranger.pem).unwrap();
    daemon.wait_for_line("published");
    let refused = get(address, "/");
    assert_eq!(refused.status, 502);
    assert!(
        refused
            .head
            .contains("proxy-status: mtlsd; error=tls_certificate_error"),
        "{refused:?}"
    );
    fs::write(daemon.path("ca.crt"), &ca.pem).unwrap();
    daemon.wait_for_lines("published", 2);
    assert_eq!(get(address, "/").status, 200);
}

#[test]
fn reading_the_files_is_no_reason_to_look_again() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let client = ca.issue("client");
    let config = format!("[log]\nlevel = \"debug\"\n{}", binding(&origin, ""));
    let daemon = Daemon::start(&ca, &client, &config);
    // The first look comes right after watching has begun.
    let looks = daemon.wait_for_lines("looking at files", 1).len();
    let stop = Arc::new(AtomicBool::new(false));
    let (path, stopped) = (daemon.path("client.pem"), Arc::clone(&stop));
    let reader = std::thread::spawn(move || {
        let mut count = 0;
        while !stopped.load(Relaxed) {
            fs::read(&path).unwrap();
            count += 1;
        }
        count
    });
    // Longer than the longest wait for quiet.
    std::thread::sleep(Duration::from_millis(1500));
    stop.store(true, Relaxed);
    assert!(reader.join().unwrap() > 1000);
    assert_eq!(daemon.lines("looking at files").len(), looks);
}
