//! Certificates are replaced while traffic flows, in every way that tools replace files, and
//! nobody notices but the origin.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use crate::support::{Ca, Client, Daemon, Issued, Origin, binding, get, scale, wait_for};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;

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

/// Sends requests over connections of HTTP/2, one with a few streams at a time, until it is over.
fn load_with_http2(address: SocketAddr, over: &AtomicBool, done: &AtomicUsize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        while !over.load(Relaxed) {
            let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
                    .await
                    .unwrap();
            tokio::spawn(connection);
            for _ in 0..20 {
                let ask = || {
                    Request::get(format!("http://{address}/"))
                        .body(Empty::<Bytes>::new())
                        .unwrap()
                };
                let (one, other) = tokio::join!(
                    sender.clone().send_request(ask()),
                    sender.send_request(ask())
                );
                for answer in [one, other] {
                    let answer = answer.expect("a request failed");
                    assert_eq!(answer.status(), 200);
                    answer
                        .into_body()
                        .collect()
                        .await
                        .expect("an answer broke off");
                    done.fetch_add(1, Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
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
        for _ in 0..24 {
            scope.spawn(load);
        }
        for _ in 0..8 {
            scope.spawn(|| load_with_http2(address, &over, &done));
        }
        // Whatever goes wrong, the load must end.
        let _over = crate::support::OnDrop(|| over.store(true, Relaxed));
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
fn the_certificate_a_while_before_the_key() {
    rotate("tls.crt", "tls.key", |directory, new, _| {
        fs::write(directory.join("tls.crt"), &new.chain).unwrap();
        // Longer than changes are collected for, so that the pair is refused first.
        std::thread::sleep(Duration::from_millis(700));
        fs::write(directory.join("tls.key"), &new.key).unwrap();
    });
}

#[test]
fn certbots_links_to_its_archive() {
    rotate(
        "live/fullchain.pem",
        "live/privkey.pem",
        |directory, new, swap| {
            let (live, archive) = (directory.join("live"), directory.join("archive"));
            fs::create_dir_all(&live).unwrap();
            fs::create_dir_all(&archive).unwrap();
            for (name, content) in [("fullchain", &new.chain), ("privkey", &new.key)] {
                fs::write(archive.join(format!("{name}{swap}.pem")), content).unwrap();
            }
            for name in ["fullchain", "privkey"] {
                let link = live.join(format!("{name}.pem"));
                let _ = fs::remove_file(&link);
                symlink(format!("../archive/{name}{swap}.pem"), link).unwrap();
            }
        },
    );
}

#[test]
fn an_editors_save() {
    rotate("client.pem", "client.pem", |directory, new, _| {
        // The old one becomes the backup, and a new file takes its name.
        let path = directory.join("client.pem");
        let _ = fs::rename(&path, directory.join("client.pem~"));
        fs::write(&path, new.pem()).unwrap();
    });
}

#[test]
fn a_full_disk_and_then_room() {
    rotate("client.pem", "client.pem", |directory, new, swap| {
        let whole = new.pem();
        if swap > 0 {
            fs::write(directory.join("client.pem"), &whole[..whole.len() / 3]).unwrap();
            std::thread::sleep(Duration::from_millis(300));
        }
        fs::write(directory.join("client.pem"), whole).unwrap();
    });
}

#[test]
fn the_directory_deleted_and_recreated() {
    rotate(
        "certs/client.pem",
        "certs/client.pem",
        |directory, new, _| {
            let certs = directory.join("certs");
            let _ = fs::remove_dir_all(&certs);
            fs::create_dir(&certs).unwrap();
            fs::write(certs.join("client.pem"), new.pem()).unwrap();
        },
    );
}

#[test]
fn a_refusal_leads_to_a_look_at_the_files_before_the_client_hears_of_it() {
    let ca = Ca::new();
    let (first, second) = (ca.issue("first"), ca.issue("second"));
    let wanted = Arc::new(Mutex::new(first.serial.clone()));
    let origin = Origin::choosy(&ca, Arc::clone(&wanted));
    let daemon = Daemon::start(&ca, &first, &binding(&origin, ""));
    let address = daemon.address("b");
    for round in 0..4 {
        let (old, new) = match round % 2 {
            0 => (&first, &second),
            _ => (&second, &first),
        };
        assert_eq!(get(address, "/").body, old.serial);
        // The next request is there before the change has been noticed otherwise.
        fs::write(daemon.path("client.pem"), new.pem()).unwrap();
        wanted.lock().unwrap().clone_from(&new.serial);
        let answer = get(address, "/");
        assert_eq!(
            (answer.status, &answer.body),
            (200, &new.serial),
            "round {round}"
        );
        // At most once a second.
        std::thread::sleep(Duration::from_millis(1100));
    }
    // With nothing newer the refusal is passed on, and the files are not read for each.
    "nobody".clone_into(&mut wanted.lock().unwrap());
    for _ in 0..20 {
        let answer = get(address, "/");
        assert_eq!(answer.status, 502);
        assert!(
            answer.head.contains("error=tls_alert_received"),
            "{answer:?}"
        );
    }
}

#[test]
fn connections_end_before_their_certificate_does() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let brief = ca.issue_with("brief", |params| {
        params.not_before = SystemTime::now().into();
        params.not_after = (SystemTime::now() + Duration::from_secs(8)).into();
    });
    let daemon = Daemon::start(&ca, &brief, &binding(&origin, ""));
    assert_eq!(get(daemon.address("b"), "/").status, 200);
    assert_eq!(origin.idle(&brief.serial), 1);
    // Five seconds before, which is three from now.
    wait_for("the connection to end", || {
        match origin.idle(&brief.serial) {
            0 => Ok(()),
            left => Err(left),
        }
    });
    let leaf_ends = daemon.lines("serving")[0]["not_after"]
        .as_str()
        .unwrap()
        .to_owned();
    let ends = humantime::parse_rfc3339(&leaf_ends).unwrap();
    assert!(SystemTime::now() < ends, "it outlived its certificate");
}

#[test]
fn nothing_is_left_behind_by_many_rotations() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let pair = [ca.issue("one"), ca.issue("other")];
    let daemon = Daemon::start(&ca, &pair[0], &binding(&origin, ""));
    let address = daemon.address("b");
    let rounds = scale("MTLSD_TEST_ROTATIONS", 300);
    let mut early = (0, 0, 0);
    for round in 1..=rounds {
        fs::write(daemon.path("client.pem"), pair[round % 2].pem()).unwrap();
        daemon.signal(Signal::HUP);
        wait_for("the rotation", || match get(address, "/").body {
            body if body == pair[round % 2].serial => Ok(()),
            other => Err(other),
        });
        if round == rounds.min(100) {
            early = daemon.holds();
        }
    }
    wait_for("the old connections to close", || match origin.open() {
        0..=4 => Ok(()),
        open => Err(open),
    });
    let (files, threads, memory) = daemon.holds();
    assert!(files <= early.0 + 8, "{files} files, {} at first", early.0);
    // Names are looked up on threads that end when they were idle for a while: how many there are at
    // a moment is a matter of chance.
    assert!(
        threads <= early.1 + LOOKUP_THREADS,
        "{threads} threads, {} at first",
        early.1
    );
    assert!(
        memory <= early.2 + 8 * 1024,
        "{memory} KiB, {} at first",
        early.2
    );
}

/// The most there are: four for each worker.
const LOOKUP_THREADS: usize = 8;

#[test]
fn a_thousand_bindings_rotate_together() {
    const COUNT: usize = 1000;
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let (first, second) = (ca.issue("first"), ca.issue("second"));
    let daemon = Daemon::launch(&[], |directory| {
        let mut config = String::from("listen = \"127.0.0.1:0\"\n[defaults]\nca = \"ca.crt\"\n");
        for number in 0..COUNT {
            let certs = directory.join(format!("{}", number / 100));
            fs::create_dir_all(&certs).unwrap();
            fs::write(certs.join(format!("{number}.pem")), first.pem()).unwrap();
            config.push_str(&format!(
                "[bindings.b{number}]\norigin = \"https://b{number}.test:{}\"\nconnect_to = \"127.0.0.1\"\n\
                 server_name = \"localhost\"\ncertificate = \"{}/{number}.pem\"\n",
                origin.port,
                number / 100
            ));
        }
        fs::write(directory.join("mtlsd.toml"), config).unwrap();
        fs::write(directory.join("ca.crt"), &ca.pem).unwrap();
    });
    daemon.wait_ready();
    // The files' ten directories, that of the configuration, and what leads there.
    wait_for("the watches", || match daemon.watches() {
        11..40 => Ok(()),
        other => Err(other),
    });
    for number in 0..COUNT {
        let path = format!("{}/{number}.pem", number / 100);
        fs::write(daemon.path(&path), second.pem()).unwrap();
    }
    daemon.wait_for_lines("published", COUNT);
    let shared = daemon.lines("listening for every binding")[0]["listener"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    for number in [0, 7, 500, COUNT - 1] {
        let request = format!("GET / HTTP/1.1\r\nHost: b{number}\r\nConnection: close\r\n\r\n");
        assert_eq!(crate::support::send(shared, &request).body, second.serial);
    }
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
    const REFUSED: &str = "certificate reload failed; keeping the current certificate";
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
    // Whole at every moment: what is half written would be refused as well, as something else.
    let put = |text: &str| {
        fs::write(daemon.path("new"), text).unwrap();
        fs::rename(daemon.path("new"), daemon.path("client.pem")).unwrap();
    };
    let other = ca.issue("other");
    put(&format!("{}{}", old.chain, other.key));
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
    put("-----BEGIN CERTIFICATE-----\nnonsense");
    daemon.wait_for_lines(REFUSED, 2);
    look_again(5);
    assert_eq!(daemon.lines(REFUSED).len(), 2);
    put(&other.pem());
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
    let refused =
        daemon.wait_for_line("certificate reload failed; keeping the current certificate");
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
    let looks = daemon.wait_for_lines("reading files", 1).len();
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
    assert_eq!(daemon.lines("reading files").len(), looks);
}
