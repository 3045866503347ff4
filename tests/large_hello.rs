//! Origins, or what is before them, that do not take a ClientHello larger than one packet: the
//! post-quantum key exchange is named, and `probe` finds out.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::{Ca, Daemon, get};

/// What happens to a large ClientHello.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Reset,
    Close,
    Silence,
    DecodeError,
}

/// An origin that serves small ClientHellos, and large ones as `fault` says.
fn origin(ca: &Ca, fault: Fault) -> u16 {
    let issued = ca.issue("origin");
    let chain = CertificateDer::pem_slice_iter(issued.chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for tcp in listener.incoming() {
            let mut tcp = tcp.unwrap();
            let mut header = [0; 5];
            while tcp.peek(&mut header).is_ok_and(|seen| seen > 0 && seen < 5) {}
            if u16::from_be_bytes([header[3], header[4]]) < 1000 {
                serve(tcp, Arc::clone(&config));
                continue;
            }
            match fault {
                // What was not read makes the system answer the close with a reset.
                Fault::Reset => {}
                Fault::Close => {
                    let _ = tcp.read(&mut [0; 4096]);
                    let _ = tcp.shutdown(Shutdown::Both);
                }
                Fault::Silence => held.push(tcp),
                Fault::DecodeError => {
                    let _ = tcp.read(&mut [0; 4096]);
                    let _ = tcp.write_all(&[21, 3, 3, 0, 2, 2, 50]);
                }
            }
        }
    });
    port
}

fn serve(tcp: TcpStream, config: Arc<ServerConfig>) {
    let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
    if tls.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
        let _ =
            tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        tls.conn.send_close_notify();
        let _ = tls.flush();
    }
}

#[test]
fn a_large_client_hello_that_is_not_taken_is_named() {
    let ca = Ca::new();
    for fault in [
        Fault::Reset,
        Fault::Close,
        Fault::Silence,
        Fault::DecodeError,
    ] {
        let port = origin(&ca, fault);
        let config = |lines: &str| {
            format!(
                "[bindings.b]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{port}\"\ncertificate = \"client.pem\"\nca = \"ca.crt\"\nconnect_timeout = \"2s\"\n{lines}\n"
            )
        };
        let daemon = Daemon::start(&ca, &ca.issue("client"), &config(""));
        let answer = get(daemon.address("b"), "/");
        assert!(matches!(answer.status, 502 | 504), "{fault:?}: {answer:?}");
        assert!(
            answer.body.contains("`post_quantum = false`"),
            "{fault:?}: {answer:?}"
        );
        let probed = Command::new(env!("CARGO_BIN_EXE_mtlsd"))
            .args(["probe", "b", "--json"])
            .current_dir(daemon.directory.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&probed.stdout);
        assert_eq!(probed.status.code(), Some(1), "{fault:?}: {said}");
        assert!(
            said.contains("\"cause\": \"post_quantum\""),
            "{fault:?}: {said}"
        );
        assert!(said.contains("post_quantum = false"), "{fault:?}: {said}");

        let cured = Daemon::start(&ca, &ca.issue("client"), &config("post_quantum = false"));
        let answer = get(cured.address("b"), "/");
        assert_eq!(answer.status, 200, "{fault:?}: {answer:?}");
    }
}

#[test]
fn post_quantum_is_not_blamed_for_what_it_does_not_do() {
    let ca = Ca::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            drop(tcp);
        }
    });
    let config = format!(
        "[bindings.b]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{port}\"\ncertificate = \"client.pem\"\nca = \"ca.crt\"\n"
    );
    let daemon = Daemon::start(&ca, &ca.issue("client"), &config);
    let probed = Command::new(env!("CARGO_BIN_EXE_mtlsd"))
        .args(["probe", "b", "--json"])
        .current_dir(daemon.directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&probed.stdout);
    assert!(said.contains("\"cause\": \"handshake_cut\""), "{said}");
}
