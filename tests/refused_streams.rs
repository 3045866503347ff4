//! What an origin of HTTP/2 says that it has not looked at goes out once more, and nothing else
//! does (RFC 9113 section 8.7).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::support::{Answer, Ca, Daemon, Http2Origin, LeavingOrigin};
use h2::Reason;

fn daemon(ca: &Ca, port: u16, lines: &str) -> Daemon {
    let config = format!(
        "workers = 1\n[bindings.b]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{port}\"\n\
         certificate = \"client.pem\"\nca = \"ca.crt\"\nprotocol = \"http2\"\n{lines}\n"
    );
    Daemon::start(ca, &ca.issue("client"), &config)
}

fn ask(daemon: &Daemon, method: &str) -> Answer {
    crate::support::send(
        daemon.address("b"),
        &format!(
            "{method} / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ),
    )
}

#[test]
fn a_refused_stream_is_asked_for_once_more() {
    // How many streams are refused, the key, and what becomes of it after how many tries.
    let rows = [
        ("GET", 1, "", 200, 2),
        ("POST", 1, "", 200, 2),
        ("POST", 2, "", 502, 2),
        ("GET", 1, "retry = \"never\"", 502, 1),
    ];
    let ca = Ca::new();
    for (method, refusals, lines, status, tries) in rows {
        let seen = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&seen);
        let origin = Http2Origin::start(&ca, move |mut stream| {
            let refuse = count.fetch_add(1, Relaxed) < refusals;
            async move {
                match refuse {
                    true => stream.respond.send_reset(Reason::REFUSED_STREAM),
                    false => stream.answer("good"),
                }
            }
        });
        let daemon = daemon(&ca, origin.port, lines);
        let answer = ask(&daemon, method);
        let row = format!("{method}, {refusals} refused, {lines}: {answer:?}");
        assert_eq!(answer.status, status, "{row}");
        assert_eq!(seen.load(Relaxed), tries, "{row}");
        if status == 502 {
            assert!(answer.body.starts_with("mtlsd: "), "{row}");
            assert!(answer.body.contains("refused"), "{row}");
        }
    }
}

#[test]
fn what_came_after_the_last_stream_is_asked_for_on_a_fresh_connection() {
    // The last stream that GOAWAY names; the request's is 1.
    let rows = [
        ("GET", 0, "", 200, 2),
        ("POST", 0, "", 200, 2),
        ("POST", 0, "retry = \"never\"", 502, 1),
        ("POST", 1, "", 502, 1),
        ("POST", 3, "", 502, 1),
    ];
    let ca = Ca::new();
    for (method, last, lines, status, tries) in rows {
        let origin = LeavingOrigin::start(&ca, last);
        let daemon = daemon(&ca, origin.port, lines);
        let answer = ask(&daemon, method);
        let row = format!("{method}, last stream {last}, {lines}: {answer:?}");
        assert_eq!(answer.status, status, "{row}");
        assert_eq!(origin.accepted(), tries, "{row}");
    }
}
