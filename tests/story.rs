//! The log at level `debug` follows each request and each handshake; and no line of any level shows
//! the inside of the program in place of a value.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use serde_json::Value;

use crate::support::{
    Ca, Client, Daemon, Origin, Then, answer, binding, get, get_http2, send, wait_for,
};

const DEBUG: &str = "[log]\nlevel = \"debug\"\n";

/// The messages of one request and its connection, in their order.
const STORY: [&str; 10] = [
    "request accepted",
    "origin name resolved",
    "TCP connection established",
    "TLS handshake completed",
    "upstream connection reused",
    "sending request",
    "response head received",
    "upstream connection returned to the pool",
    "upstream connection closed",
    "response finished",
];

/// The lines of the story so far.
fn story(daemon: &Daemon) -> Vec<Value> {
    let parsed = daemon.log().into_iter();
    let parsed = parsed.map(|line| serde_json::from_str::<Value>(&line).unwrap());
    parsed
        .filter(|line| STORY.iter().any(|message| line["message"] == *message))
        .collect()
}

/// The lines of the story after the first `before`, once there are `count` of them.
fn chapter(daemon: &Daemon, before: usize, messages: &[&str]) -> Vec<Value> {
    let lines = wait_for("the story", || match story(daemon).split_off(before) {
        lines if lines.len() >= messages.len() => Ok(lines),
        lines => Err(lines),
    });
    let told: Vec<_> = lines.iter().map(|line| &line["message"]).collect();
    assert_eq!(told, messages, "{lines:#?}");
    lines
}

#[test]
fn debug_lines_follow_a_request_over_a_new_and_over_a_reused_connection() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let client = ca.issue("client");
    let config = format!("{DEBUG}{}", binding(&origin, ""));
    let daemon = Daemon::start(&ca, &client, &config);
    let serial = daemon.wait_for_line("serving")["serial"].clone();
    let listener = daemon.address("b").to_string();
    let mut http = Client::connect(daemon.address("b"));
    let peer = http.stream().local_addr().unwrap().to_string();
    let target = format!("localhost:{}", origin.port);

    assert_eq!(http.get("/one?secret=1").unwrap().status, 200);
    let lines = chapter(
        &daemon,
        0,
        &[
            "request accepted",
            "origin name resolved",
            "TCP connection established",
            "TLS handshake completed",
            "sending request",
            "response head received",
            "upstream connection returned to the pool",
            "response finished",
        ],
    );
    let [
        accepted,
        resolved,
        dialed,
        handshake,
        sending,
        response,
        returned,
        finished,
    ] = lines.as_slice()
    else {
        panic!("{lines:#?}");
    };
    for line in &lines {
        assert_eq!(line["level"], "DEBUG", "{line}");
        assert_eq!(line["binding"], "b", "{line}");
        assert_eq!(line["origin"], target, "{line}");
        assert!(!line.to_string().contains("secret"), "{line}");
    }
    assert_eq!(accepted["listener"], listener);
    assert_eq!(accepted["peer"], peer);
    assert_eq!(accepted["method"], "GET");
    assert_eq!(accepted["host"], "localhost");
    assert_eq!(accepted["path"], "/one");
    let address = dialed["address"].as_str().unwrap();
    let resolved = resolved["addresses"].as_str().unwrap();
    assert!(resolved.split(' ').any(|one| one == address), "{resolved}");
    assert_eq!(handshake["tls"], "1.3");
    assert_eq!(handshake["resumed"], false);
    assert_eq!(handshake["certificate_requested"], true);
    assert_eq!(handshake["serial"], serial);
    assert_eq!(response["status"], 200);
    assert!(
        response["fields"]
            .as_str()
            .is_some_and(|fields| fields.contains("content-length"))
    );
    for line in [handshake, sending, response, returned, finished] {
        assert_eq!(line["address"], address, "{line}");
        assert_eq!(line["generation"], 1, "{line}");
    }
    assert_eq!(finished["status"], 200);
    assert_eq!(finished["peer"], peer);
    assert!(finished["response_bytes"].as_u64() > Some(0));

    let before = lines.len();
    assert_eq!(http.get("/two").unwrap().status, 200);
    let lines = chapter(
        &daemon,
        before,
        &[
            "request accepted",
            "upstream connection reused",
            "sending request",
            "response head received",
            "upstream connection returned to the pool",
            "response finished",
        ],
    );
    assert_eq!(lines[0]["path"], "/two");
    assert_eq!(lines[1]["address"], address);
    assert_eq!(lines[1]["generation"], 1);
}

#[test]
fn debug_lines_say_why_a_request_is_retried_and_why_a_connection_is_closed() {
    let ca = Ca::new();
    let count = AtomicUsize::new(0);
    let origin = Origin::with(&ca, move |request, tls| {
        match count.fetch_add(1, Relaxed) {
            // The second request, on a reused connection: not a byte of a response.
            1 => return Ok(Then::Cut),
            3 => {
                let head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                tls.write_all(head.as_bytes())?;
            }
            _ => answer(tls, &request.serial)?,
        }
        Ok(Then::Keep)
    });
    let lines = "idle_timeout = \"300ms\"";
    let config = format!("{DEBUG}{}", binding(&origin, lines));
    let daemon = Daemon::start(&ca, &ca.issue("client"), &config);
    let mut client = Client::connect(daemon.address("b"));
    for _ in 0..2 {
        let answer = client.get("/").unwrap();
        assert_eq!(answer.status, 200, "{answer:?} {:#?}", story(&daemon));
    }
    let retried = daemon.wait_for_line("retrying request");
    let reason = retried["reason"].as_str().unwrap();
    assert!(reason.contains("closed before"), "{retried}");
    assert_eq!(retried["binding"], "b");
    assert!(daemon.wait_for_line("no response received")["error"].is_string());
    let closed = daemon.wait_for_lines("upstream connection closed", 1);
    assert_eq!(closed[0]["reason"], "the origin closed it, or it failed");

    let answer = client.get("/").unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let closed = daemon.wait_for_lines("upstream connection closed", 2);
    let reason = closed[1]["reason"].as_str().unwrap();
    assert!(
        reason.ends_with("the response was the last on it"),
        "{reason}"
    );

    assert_eq!(client.get("/").unwrap().status, 200);
    let closed = daemon.wait_for_lines("upstream connection closed", 3);
    assert_eq!(closed[2]["reason"], "it was idle for idle_timeout");
}

#[test]
fn no_line_shows_the_inside_of_the_program() {
    let ca = Ca::new();
    let origin = Origin::start(&ca);
    let common = |name: &str, port: u16| {
        format!(
            "origin = \"https://{name}.test\"\nserver_name = \"localhost\"\n\
             connect_to = \"127.0.0.1:{port}\"\ncertificate = \"client.pem\"\nca = \"ca.crt\"\n"
        )
    };
    let config = format!(
        "listen = \"127.0.0.1:0\"\nheader_timeout = \"300ms\"\nmax_client_connections = 16\n{DEBUG}\
         [bindings.own]\nlisten = \"127.0.0.1:0\"\nheader_timeout = \"300ms\"\n{}\
         [bindings.socket]\nlisten = \"unix:socket\"\n{}\
         [bindings.closed]\nlisten = \"127.0.0.1:0\"\n{}\
         [bindings.named]\n{}",
        common("own", origin.port),
        common("socket", origin.port),
        common("closed", 1),
        common("named", origin.port),
    );
    let daemon = Daemon::start(&ca, &ca.issue("client"), &config);
    let own = daemon.address("own");
    let everybody = daemon.wait_for_line("listening for every binding");
    let everybody: SocketAddr = everybody["listener"].as_str().unwrap().parse().unwrap();
    // Requests that get somewhere, by each kind of listener, and such that do not.
    assert_eq!(get(own, "/").status, 200);
    assert_eq!(get_http2(own, "/").unwrap().0, 200);
    assert_eq!(get(daemon.address("closed"), "/").status, 502);
    let by_name = |host: &str| {
        send(
            everybody,
            &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        )
    };
    assert_eq!(by_name("named").status, 200);
    assert_eq!(by_name("unknown").status, 421);
    let connect = "CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere:443\r\n\r\n";
    assert!(send(everybody, connect).status >= 400);
    assert!(send(own, connect).status >= 400);
    let socket = UnixStream::connect(daemon.path("socket")).unwrap();
    let mut socket = Client::over(socket);
    socket.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(socket.answer().unwrap().status, 200);
    // Clients that are cut off: malformed, slow, and TLS.
    for (address, binding) in [(own, Some("own")), (everybody, None)] {
        let before = daemon.lines("cut off a client").len();
        for bytes in ["GET / HTTP/1.1\r\nBad Name: x\r\n\r\n", "GET / HT"] {
            let mut stream = Client::connect(address);
            stream.write(bytes.as_bytes());
            let _ = stream.rest();
        }
        let mut stream = Client::connect(address);
        stream.write(&[22, 3, 1, 0, 5, 1, 0, 0, 1, 0]);
        let _ = stream.rest();
        let lines = daemon.wait_for_lines("cut off a client", before + 3);
        for line in &lines[before..] {
            assert_eq!(line["binding"].as_str(), binding, "{line}");
            assert_eq!(line["listener"], address.to_string(), "{line}");
        }
    }
    // Changes that keep the sockets.
    let changed = config.replace("ca = ", "max_requests_in_flight = 99\nca = ");
    fs::write(daemon.path("mtlsd.toml"), changed).unwrap();
    let serving = daemon.wait_for_lines("serving", 7);
    for line in serving.iter().filter(|line| line["binding"] == "own") {
        assert_eq!(line["listen"], own.to_string(), "{line}");
        assert_eq!(line["try"], format!("curl http://{own}/"), "{line}");
    }
    // The file of a certificate that is replaced, and one that cannot be read.
    fs::write(daemon.path("client.pem"), ca.issue("client").pem()).unwrap();
    daemon.wait_for_lines("published", 4);
    fs::write(daemon.path("client.pem"), "nonsense").unwrap();
    daemon.wait_for_line("certificate reload failed; keeping the current certificate");
    let access = wait_for("access lines", || match daemon.access() {
        lines if lines.len() >= 8 => Ok(lines),
        lines => Err(lines),
    });
    let access = access.iter().map(Value::to_string);
    for line in daemon.log().into_iter().chain(access) {
        let fields: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        for (name, value) in fields.as_object().unwrap() {
            let text = value.as_str().unwrap_or("x");
            if name == "path" && fields["method"] == "CONNECT" {
                continue;
            }
            assert!(!text.is_empty(), "{name} is empty: {line}");
            assert!(
                text != "-" && text != "None" && !text.contains("Some("),
                "{line}"
            );
        }
    }
}
