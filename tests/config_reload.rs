//! The configuration changes while mtlsd runs: bindings and listeners come, change and go, and those
//! that stay notice nothing.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::support::{Ca, Client, Daemon, Origin, get, send, wait_for};
use rustix::process::Signal;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// A port for a daemon to listen on. A socket that is bound to it and does not listen keeps the system
/// from choosing it for anybody else while the tests run.
pub fn free_port() -> u16 {
    static RESERVED: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // A socket that has this set too may be bound over it, which mtlsd's listeners have.
    socket.set_reuse_address(true).unwrap();
    socket.bind(&local(0).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    RESERVED.lock().unwrap().push(socket);
    address.port()
}

pub fn binding(name: &str, listen: &str, origin: &Origin, lines: &str) -> String {
    format!(
        "[bindings.{name}]\nlisten = \"{listen}\"\norigin = \"https://localhost:{}\"\n\
         certificate = \"client.pem\"\nca = \"ca.crt\"\n{lines}\n",
        origin.port
    )
}

pub struct Bench {
    pub ca: Ca,
    pub origin: Origin,
    pub daemon: Daemon,
}

pub fn bench(config: impl FnOnce(&Origin) -> String) -> Bench {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let config = config(&origin);
    let daemon = Daemon::start(&ca, &ca.issue("client"), &config);
    Bench { ca, origin, daemon }
}

impl Bench {
    /// Replaces the configuration, and waits until it is used.
    pub fn use_config(&self, config: &str) {
        let before = self.daemon.lines(USED).len();
        self.write(config);
        self.daemon.wait_for_lines(USED, before + 1);
    }

    /// Replaces the configuration, and waits until it is refused.
    pub fn refused(&self, config: &str) -> Value {
        let before = self.daemon.lines(REFUSED).len();
        self.write(config);
        self.daemon
            .wait_for_lines(REFUSED, before + 1)
            .pop()
            .unwrap()
    }

    pub fn write(&self, config: &str) {
        fs::write(self.daemon.path("new.toml"), config).unwrap();
        fs::rename(self.daemon.path("new.toml"), self.daemon.path("mtlsd.toml")).unwrap();
    }
}

const USED: &str = "configuration reloaded";
const REFUSED: &str = "configuration reload failed; keeping the current configuration";

pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn bindings_come_change_and_go() {
    let ports = [free_port(), free_port()];
    let listen = ports.map(|port| format!("127.0.0.1:{port}"));
    let bench = bench(|origin| binding("a", &listen[0], origin, ""));
    let (origin, a) = (&bench.origin, binding("a", &listen[0], &bench.origin, ""));
    let mut kept = Client::connect(local(ports[0]));
    assert_eq!(kept.get("/").unwrap().status, 200);
    assert!(TcpStream::connect(local(ports[1])).is_err());

    // One comes.
    bench.use_config(&format!("{a}{}", binding("b", &listen[1], origin, "")));
    assert_eq!(get(local(ports[1]), "/").status, 200);
    let mut client = Client::connect(local(ports[1]));
    assert_eq!(client.get("/").unwrap().status, 200);

    // It changes: the certificate's pins say that the origin is another.
    let pin = format!("pins = [\"{}\"]", "00".repeat(32));
    bench.use_config(&format!("{a}{}", binding("b", &listen[1], origin, &pin)));
    assert_eq!(get(local(ports[1]), "/").status, 502);
    // Also for connections that were there before.
    assert_eq!(client.get("/").unwrap().status, 502);

    // It goes, and connections that are still open are closed.
    bench.use_config(&a);
    assert!(TcpStream::connect(local(ports[1])).is_err());
    assert_eq!(client.rest().unwrap(), b"");

    // The other one has noticed nothing: its client and its upstream connection are the same.
    assert_eq!(kept.get("/").unwrap().status, 200);
    let of_a = wait_for("the access lines", || {
        let mut lines = bench.daemon.access();
        lines.retain(|line| line["binding"] == "a");
        match lines.len() {
            2 => Ok(lines),
            _ => Err(lines),
        }
    });
    assert_eq!(of_a[1]["reused"], true, "{of_a:?}");
}

#[test]
fn a_file_with_a_mistake_changes_nothing() {
    let port = free_port();
    let bench = bench(|origin| binding("a", &format!("127.0.0.1:{port}"), origin, ""));
    let a = binding("a", &format!("127.0.0.1:{port}"), &bench.origin, "");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    for (config, says) in [
        ("[bindings.a\n".to_owned(), "mtlsd.toml:1:"),
        (format!("{a}orign = \"x\"\n"), "unknown key `orign`"),
        (
            format!(
                "{a}{}",
                binding("b", "127.0.0.1:0", &bench.origin, "").replace("client.pem", "gone.pem")
            ),
            "cannot read",
        ),
        (
            format!(
                "{}{}",
                a.replace("connect", "c"),
                binding("b", &taken.to_string(), &bench.origin, "")
            ),
            "is taken",
        ),
        (String::new(), "no binding"),
    ] {
        let refused = bench.refused(&config);
        let said = refused["error"].as_str().unwrap();
        assert!(said.contains(says), "{says}: {said}");
        assert_eq!(get(local(port), "/").status, 200);
    }
    // Said once for the same file, however often it is looked at.
    let before = bench.daemon.lines(REFUSED).len();
    bench.daemon.signal(Signal::HUP);
    bench.daemon.wait_for_line("reloading");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(bench.daemon.lines(REFUSED).len(), before);
    // And a good one is used again.
    bench.use_config(&format!("{a}via = false\n"));
    assert_eq!(get(local(port), "/").status, 200);
}

#[test]
fn names_on_the_shared_listener_change_under_load_and_nobody_fails() {
    let port = free_port();
    let shared = format!("listen = \"127.0.0.1:{port}\"\n");
    let one = |origin: &Origin, name: &str| {
        format!(
            "[bindings.{name}]\norigin = \"https://{name}.test:{}\"\nserver_name = \"localhost\"\n\
             connect_to = \"127.0.0.1\"\ncertificate = \"client.pem\"\nca = \"ca.crt\"\n",
            origin.port
        )
    };
    let bench = bench(|origin| format!("{shared}{}", one(origin, "a")));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    let mut client = Client::connect(local(port));
                    for _ in 0..20 {
                        client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                        let answer = client.answer().expect("a request failed");
                        assert_eq!(answer.status, 200, "{answer:?}");
                    }
                }
            });
        }
        // Whatever goes wrong, the load must end.
        let _over = crate::support::OnDrop(|| over.store(true, Relaxed));
        for round in 0..10 {
            let name = format!("n{round}");
            bench.use_config(&format!(
                "{shared}{}{}",
                one(&bench.origin, "a"),
                one(&bench.origin, &name)
            ));
            let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
            assert_eq!(send(local(port), &request).status, 200);
        }
    });
    let gone = send(
        local(port),
        "GET / HTTP/1.1\r\nHost: n0\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(gone.status, 421);
}

#[test]
fn certificates_of_new_bindings_are_followed_too() {
    let ports = [free_port(), free_port()];
    let listen = ports.map(|port| format!("127.0.0.1:{port}"));
    let bench = bench(|origin| binding("a", &listen[0], origin, ""));
    let other = bench.ca.issue("other");
    fs::create_dir(bench.daemon.path("other")).unwrap();
    fs::write(bench.daemon.path("other/client.pem"), other.pem()).unwrap();
    let b = binding("b", &listen[1], &bench.origin, "").replace("client.pem", "other/client.pem");
    // In front of the one that was there, so that their order changes.
    bench.use_config(&format!(
        "{b}{}",
        binding("a", &listen[0], &bench.origin, "")
    ));
    assert_eq!(get(local(ports[1]), "/").body, other.serial);
    let newer = bench.ca.issue("newer");
    fs::write(bench.daemon.path("other/client.pem"), newer.pem()).unwrap();
    bench.daemon.wait_for_line("published");
    assert_eq!(get(local(ports[1]), "/").body, newer.serial);
    let newest = bench.ca.issue("newest");
    fs::write(bench.daemon.path("client.pem"), newest.pem()).unwrap();
    bench.daemon.wait_for_lines("published", 2);
    assert_eq!(get(local(ports[0]), "/").body, newest.serial);
    assert_eq!(get(local(ports[1]), "/").body, newer.serial);
}

#[test]
fn a_listener_moves_from_one_binding_to_another() {
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let bench = bench(|origin| binding("a", &listen, origin, ""));
    let mut client = Client::connect(local(port));
    assert_eq!(client.get("/").unwrap().status, 200);
    bench.use_config(&binding("b", &listen, &bench.origin, ""));
    // A connection to `a` never becomes one to `b`.
    assert_eq!(client.rest().unwrap(), b"");
    assert_eq!(get(local(port), "/").status, 200);
    wait_for("the access lines", || match bench.daemon.access().last() {
        Some(line) if line["binding"] == "b" => Ok(()),
        other => Err(other.cloned()),
    });
}
