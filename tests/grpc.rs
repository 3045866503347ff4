//! What a gRPC client is told when there is no answer for it: a status of gRPC's own, never one of
//! HTTP's, and the reason in `grpc-message`.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crate::support::{Ca, Daemon, Http2Origin, Origin};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// The head and the body of the answer to a call of one empty message.
fn call(address: SocketAddr, authority: &str) -> (u16, HeaderMap, Bytes) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let tcp = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
                .await
                .unwrap();
        tokio::spawn(connection);
        let request = Request::post(format!("http://{authority}/bank.Accounts/List"))
            .header("content-type", "application/grpc+proto")
            .header("te", "trailers")
            .body(Full::new(Bytes::from_static(&[0; 5])))
            .unwrap();
        let exchange = async {
            let (head, body) = sender.send_request(request).await.unwrap().into_parts();
            let body = body.collect().await.unwrap();
            (head.status.as_u16(), head.headers, body.to_bytes())
        };
        tokio::time::timeout(Duration::from_secs(20), exchange)
            .await
            .expect("an answer within 20 s")
    })
}

fn config(port: u16, lines: &str) -> String {
    format!(
        "listen = \"127.0.0.1:0\"\n[bindings.b]\nlisten = \"127.0.0.1:0\"\norigin = \"https://localhost:{port}\"\n\
         certificate = \"client.pem\"\nca = \"ca.crt\"\n{lines}\n"
    )
}

/// An authority that no origin here knows.
fn stranger() -> Ca {
    Ca::authority(|params| {
        let name = rcgen::DnType::CommonName;
        params.distinguished_name.push(name, "somebody else");
    })
}

/// Holds what was answered against the status of gRPC and all of `words`. Returns the message.
fn judge(answer: (u16, HeaderMap, Bytes), status: &str, words: &[&str]) -> String {
    let (http, headers, body) = answer;
    let field = |name: &str| {
        headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    };
    assert_eq!(http, 200, "{headers:?}");
    assert_eq!(field("content-type"), "application/grpc", "{headers:?}");
    assert_eq!(field("grpc-status"), status, "{headers:?}");
    assert!(body.is_empty(), "{body:?}");
    let message = field("grpc-message");
    for word in words {
        assert!(message.contains(word), "no {word:?} in {message}");
    }
    message.to_owned()
}

#[test]
fn a_refused_certificate_is_unavailable_and_says_whose_and_why() {
    let (ca, stranger) = (Ca::new(), stranger());
    let origin = Http2Origin::start(&ca, |stream| async move { stream.answer("") });
    let client = stranger.issue("unknown client");
    let daemon = Daemon::start(&ca, &client, &config(origin.port, ""));
    let answer = call(daemon.address("b"), "localhost");
    let known = answer.1["proxy-status"].to_str().unwrap().to_owned();
    assert!(known.contains("tls_alert_received"), "{known}");
    assert!(known.contains("alert-message=\"unknown_ca\""), "{known}");
    let words = ["mtlsd: ", "somebody else", "Next step: "];
    let message = judge(answer, "14", &words);
    assert!(message.is_ascii(), "{message}");
}

#[test]
fn brief_details_keep_the_reason_from_a_grpc_client_too() {
    let (ca, stranger) = (Ca::new(), stranger());
    let origin = Http2Origin::start(&ca, |stream| async move { stream.answer("") });
    let client = stranger.issue("unknown client");
    let daemon = Daemon::start(&ca, &client, &config(origin.port, "details = \"brief\""));
    let message = judge(call(daemon.address("b"), "localhost"), "14", &[]);
    assert_eq!(message, "mtlsd: tls_alert_received");
}

#[test]
fn every_failure_has_the_status_that_a_grpc_client_expects() {
    let ca = Ca::new();
    let client = ca.issue("client");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let daemon = Daemon::start(&ca, &client, &config(port, ""));
    judge(call(daemon.address("b"), "localhost"), "14", &["refused"]);

    let older = Origin::start(&ca);
    let daemon = Daemon::start(&ca, &client, &config(older.port, ""));
    judge(
        call(daemon.address("b"), "localhost"),
        "12",
        &["http/1.1", "Next step: "],
    );

    let line = daemon.wait_for_line("listening for every binding");
    let shared = line["listener"].as_str().unwrap().parse().unwrap();
    judge(call(shared, "nobody.example"), "9", &["nobody.example"]);
}
