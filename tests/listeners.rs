//! Listening sockets while the configuration changes: each keeps its owner, and no client is
//! refused because one takes the place of another.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::config_reload::{Bench, bench, binding, free_port, local};
use crate::support::{Client, OnDrop, Origin, get, wait_for};

/// A binding that presents a certificate of its own, which the origin tells apart.
fn own(bench: &Bench, name: &str, listen: &str) -> (String, String) {
    let issued = bench.ca.issue(name);
    fs::write(bench.daemon.path(&format!("{name}.pem")), issued.pem()).unwrap();
    let text = binding(name, listen, &bench.origin, "");
    let text = text.replace("client.pem", &format!("{name}.pem"));
    (text, issued.serial)
}

#[test]
fn a_port_that_the_system_chose_never_changes_hands() {
    for listen in ["127.0.0.1:0", "localhost:0", "127.0.0.1:0\", \"127.0.0.1:0"] {
        let listen = format!("[\"{listen}\"]");
        let bench = bench(|origin| binding("first", "127.0.0.1:0", origin, ""));
        let made = ["a", "b", "c"].map(|name| own(&bench, name, "LISTEN"));
        let text = |at: usize| made[at].0.replace("\"LISTEN\"", &listen);
        bench.use_config(&format!("{}{}{}", text(0), text(1), text(2)));
        let all = ["a", "b", "c"].map(|name| addresses(&bench, name));
        let serves = |owners: &[usize]| {
            for owner in owners {
                for address in &all[*owner] {
                    assert_eq!(get(*address, "/").body, made[*owner].1, "{listen} {owner}");
                }
            }
        };
        serves(&[0, 1, 2]);
        let mut kept = Client::connect(all[1][0]);
        assert_eq!(kept.get("/").unwrap().body, made[1].1);

        // Another order; then one of them goes, whose port is taken over by nobody.
        bench.use_config(&format!("{}{}{}", text(2), text(0), text(1)));
        serves(&[0, 1, 2]);
        bench.use_config(&format!("{}{}", text(1), text(2)));
        serves(&[1, 2]);
        for address in &all[0] {
            assert!(TcpStream::connect(address).is_err(), "{listen}");
        }
        // A new one in its place gets another port.
        let (new, serial) = own(&bench, "d", "LISTEN");
        bench.use_config(&format!(
            "{}{}",
            new.replace("\"LISTEN\"", &listen),
            text(1)
        ));
        serves(&[1]);
        for address in addresses(&bench, "d") {
            assert!(all.iter().flatten().all(|other| *other != address));
            assert_eq!(get(address, "/").body, serial);
        }
        assert_eq!(kept.get("/").unwrap().body, made[1].1);
    }
}

/// The addresses of a binding, as it says when it starts.
fn addresses(bench: &Bench, name: &str) -> Vec<SocketAddr> {
    bench.daemon.address(name);
    let lines = bench.daemon.lines("serving");
    let line = lines.iter().find(|line| line["binding"] == name).unwrap();
    let listen = line["listen"].as_str().unwrap().split(' ');
    listen.map(|address| address.parse().unwrap()).collect()
}

#[test]
fn a_port_is_taken_over_only_where_both_name_it_and_connections_are_closed() {
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let bench = bench(|origin| binding("first", "127.0.0.1:0", origin, ""));
    let (a, serial_a) = own(&bench, "a", &listen);
    let (b, serial_b) = own(&bench, "b", &listen);
    bench.use_config(&a);
    let mut idle = Client::connect(local(port));
    assert_eq!(idle.get("/").unwrap().body, serial_a);
    let mut fresh = Client::connect(local(port));
    bench.use_config(&b);
    // Neither a kept connection nor one that had not yet sent anything gets another certificate.
    assert_eq!(idle.rest().unwrap(), b"");
    fresh.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    if let Ok(answer) = fresh.answer() {
        assert_eq!(answer.status, 421, "{answer:?}");
    }
    assert_eq!(get(local(port), "/").body, serial_b);
    // To the shared listener and back.
    let shared = format!(
        "listen = \"{listen}\"\n{}",
        b.replace(&format!("listen = \"{listen}\"\n"), "")
    );
    let mut idle = Client::connect(local(port));
    assert_eq!(idle.get("/").unwrap().body, serial_b);
    bench.use_config(&shared);
    assert_eq!(idle.rest().unwrap(), b"");
    let mut by_name = Client::connect(local(port));
    by_name.write(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n");
    assert_eq!(by_name.answer().unwrap().body, serial_b);
    bench.use_config(&b);
    assert_eq!(by_name.rest().unwrap(), b"");
    assert_eq!(get(local(port), "/").body, serial_b);
}

#[test]
fn a_binding_that_changes_keeps_its_socket_and_its_connections() {
    let bench = bench(|origin| binding("first", "127.0.0.1:0", origin, ""));
    let (a, serial) = own(&bench, "a", "127.0.0.1:0");
    bench.use_config(&a);
    let address = bench.daemon.address("a");
    let mut kept = Client::connect(address);
    assert_eq!(kept.get("/").unwrap().body, serial);
    let other = Origin::start(&bench.ca);
    bench.use_config(&a.replace(
        &format!(":{}\"", bench.origin.port),
        &format!(":{}\"", other.port),
    ));
    let said = bench.daemon.lines("serving").pop().unwrap();
    assert_eq!(said["listen"], address.to_string());
    assert_eq!(said["try"], format!("curl http://{address}/"));
    assert_eq!(kept.get("/").unwrap().status, 200);
    assert_eq!(other.requests().len(), 1);
    assert_eq!(get(address, "/").body, serial);
}

#[test]
fn overlapping_addresses_replace_each_other_and_no_client_is_refused() {
    let has_v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let forms = [
        "localhost:P",
        "127.0.0.1:P",
        "0.0.0.0:P",
        "[::1]:P",
        "[::]:P",
    ];
    let serves_v4 = |form: &str| !form.starts_with('[');
    let serves_v6 = |form: &str| form.starts_with('[') || form.starts_with("localhost");
    let port = free_port();
    let config = |origin: &Origin, form: &str| {
        let listen = form.replace('P', &port.to_string());
        binding(
            "a",
            &listen,
            origin,
            "expose = true\nhost = [\"a\", \"localhost\"]",
        )
    };
    let bench = bench(|origin| config(origin, forms[1]));
    let (mut before, mut tried) = (forms[1], 0);
    for (from, to) in forms.iter().flat_map(|from| forms.map(|to| (*from, to))) {
        let v6_only = from.starts_with('[') || to.starts_with('[');
        if from == to || (v6_only && !has_v6) {
            continue;
        }
        if before != from {
            bench.use_config(&config(&bench.origin, from));
        }
        let mut loads = Vec::new();
        if serves_v4(from) && serves_v4(to) {
            loads.push(local(port));
        }
        if has_v6 && serves_v6(from) && serves_v6(to) {
            loads.push(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
        }
        under_load(&loads, || bench.use_config(&config(&bench.origin, to)));
        for (serves, address) in [
            (serves_v4(to), local(port)),
            (
                serves_v6(to) && has_v6,
                SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
            ),
        ] {
            assert_eq!(
                TcpStream::connect(address).is_ok(),
                serves,
                "{from} to {to}: {address}"
            );
        }
        before = to;
        tried += 1;
    }
    assert!(tried >= 6, "{tried}");
    // Nobody else can bind what was shared for a moment.
    if serves_v4(before) {
        assert!(TcpListener::bind(local(port)).is_err());
    }
}

/// Does something while clients connect to these addresses, none of which may fail.
fn under_load(addresses: &[SocketAddr], change: impl FnOnce()) {
    let over = AtomicBool::new(false);
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (over, done) = (&over, &done);
        for address in addresses {
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    let stream = TcpStream::connect(address);
                    let mut stream = stream.unwrap_or_else(|error| panic!("{address}: {error}"));
                    stream
                        .set_read_timeout(Some(Duration::from_secs(30)))
                        .unwrap();
                    stream
                        .write_all(
                            b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                        )
                        .unwrap();
                    let mut answer = String::new();
                    stream.read_to_string(&mut answer).unwrap();
                    // A connection of the listener before may be told that that is gone.
                    let served =
                        answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.1 421");
                    assert!(served, "{address}: {answer:?}");
                    done.fetch_add(1, Relaxed);
                }
            });
        }
        let _over = OnDrop(|| over.store(true, Relaxed));
        if !addresses.is_empty() {
            wait_for("load", || match done.load(Relaxed) {
                0..5 => Err(()),
                _ => Ok(()),
            });
        }
        change();
    });
}
