//! What a request costs before and after it is on its way: finding its binding, and rewriting heads.
//! Pure functions, without a socket.
//!
//!     cargo bench

use std::fmt::Write;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use divan::Bencher;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use mtlsd::config::{Authority, AuthorityRef, Config, Draft};
use mtlsd::head::{self, Fields, Reach, Sender};
use mtlsd::route::{Arrival, Asked, Entrance, Routes};

fn main() {
    divan::main();
}

/// So many bindings, `b0` and on, on a shared listener.
fn config(bindings: usize) -> Config {
    let mut text = String::from("listen = \"127.0.0.1:8080\"\n");
    for number in 0..bindings {
        writeln!(
            text,
            "[bindings.b{number}]\norigin = \"https://o{number}.example\"\ncertificate = \"x.pem\""
        )
        .expect("a String takes every write");
    }
    let draft = Draft::parse(Path::new("bench.toml"), text);
    draft.finish().unwrap_or_else(|error| panic!("{error}"))
}

fn arrival(entrance: Entrance) -> Arrival {
    Arrival {
        entrance,
        local: Some((IpAddr::V4(Ipv4Addr::LOCALHOST), 8080)),
    }
}

mod authority {
    use super::{AuthorityRef, black_box};

    #[divan::bench(args = ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "api.payments.example"])]
    fn parse(text: &str) -> Option<AuthorityRef<'_>> {
        AuthorityRef::parse(black_box(text))
    }
}

/// Bindings by number; the last one is asked for, which is the furthest to look for.
mod route {
    use super::{Asked, AuthorityRef, Bencher, Entrance, Routes, arrival, black_box, config};

    const BINDINGS: [usize; 3] = [1, 100, 1000];

    #[divan::bench(args = BINDINGS)]
    fn own_listener(bencher: Bencher<'_, '_>, bindings: usize) {
        find(
            bencher,
            bindings,
            Entrance::Own(bindings - 1),
            "localhost:8080",
        );
    }

    #[divan::bench(args = BINDINGS)]
    fn shared_by_name(bencher: Bencher<'_, '_>, bindings: usize) {
        let host = format!("b{}.localhost:8080", bindings - 1);
        find(bencher, bindings, Entrance::Shared, &host);
    }

    #[divan::bench(args = BINDINGS)]
    fn shared_by_origin(bencher: Bencher<'_, '_>, bindings: usize) {
        let host = format!("o{}.example", bindings - 1);
        find(bencher, bindings, Entrance::Shared, &host);
    }

    fn find(bencher: Bencher<'_, '_>, bindings: usize, entrance: Entrance, host: &str) {
        let routes = Routes::new(&config(bindings).bindings);
        let host = AuthorityRef::parse(host);
        let at = arrival(entrance);
        assert!(routes.find(at, Asked::Host(host)).is_ok());
        bencher.bench(|| routes.find(at, Asked::Host(black_box(host))));
    }
}

mod heads {
    use super::{
        Authority, Bencher, Fields, HeaderMap, HeaderName, HeaderValue, Reach, Sender, Uri,
        black_box, config, head,
    };

    #[divan::bench]
    fn request(bencher: Bencher<'_, '_>) {
        let headers = fields(&[
            ("host", "localhost:8080"),
            ("user-agent", "example/1.0"),
            ("accept", "application/json"),
            ("accept-encoding", "gzip, br"),
            ("authorization", "Bearer 0123456789"),
            ("connection", "keep-alive"),
        ]);
        let policy = config(1).bindings.remove(0).headers;
        let sender = Sender {
            peer: None,
            asked: None,
            chunked: false,
            upgrade: None,
            page: None,
        };
        let target = target();
        bencher
            .with_inputs(|| headers.clone())
            .bench_refs(|headers| {
                let fields = Fields::of(headers);
                head::request(headers, fields, &policy, target.header().clone(), &sender);
            });
    }

    #[divan::bench]
    fn response(bencher: Bencher<'_, '_>) {
        let headers = fields(&[
            ("server", "example/1.0"),
            ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("content-type", "application/json"),
            ("content-length", "1024"),
            ("location", "https://o0.example/v1/things/17"),
            ("strict-transport-security", "max-age=31536000"),
        ]);
        let policy = config(1).bindings.remove(0).headers;
        let target = target();
        let reach = Reach {
            target: &target,
            host: None,
            base_path: "/v1",
        };
        bencher
            .with_inputs(|| headers.clone())
            .bench_refs(|headers| {
                let fields = Fields::of(headers);
                head::response(headers, fields, &policy, reach);
            });
    }

    #[divan::bench(args = ["", "/v1"])]
    fn target_with_base_path(bencher: Bencher<'_, '_>, base_path: &str) {
        let uri = Uri::from_static("/things/17?since=yesterday");
        bencher.bench(|| head::target(black_box(&uri), base_path));
    }

    fn target() -> Authority {
        Authority::parse("o0.example").expect("a host name")
    }

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                let name = HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            })
            .collect()
    }
}
