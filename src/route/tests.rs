//! Every row of the routing table, and what lies just outside each.

use std::net::Ipv4Addr;
use std::path::Path;

use super::*;
use crate::config::Draft;

const CONFIG: &str = r#"
    listen = "127.0.0.1:8080"

    [bindings.payments]
    listen = "127.0.0.1:8001"
    origin = "https://api.payments.example/v1"
    allow = ["files.example:8443", "*.payments.example", "localhost:9443"]
    certificate = "c"

    [bindings.MY_CERT]
    host = ["my-cert", "my-cert.default.svc.cluster.local"]
    origin = "https://other.example:444"
    certificate = "c"

    [bindings.anywhere]
    listen = "127.0.0.1:8003"
    allow = ["*.anywhere.example"]
    certificate = "c"
"#;

fn routes() -> Routes {
    let config = Draft::parse(Path::new("mtlsd.toml"), CONFIG.to_owned())
        .finish()
        .unwrap();
    Routes::new(&config.bindings)
}

fn tcp(entrance: Entrance, port: u16) -> Arrival {
    Arrival {
        entrance,
        local: Some((Ipv4Addr::new(10, 1, 2, 3).into(), port)),
    }
}

fn show(result: Result<Route, ForwardError>) -> String {
    match result {
        Ok(Route {
            binding,
            target,
            by,
        }) => format!("{binding} {target} {by:?}"),
        Err(ForwardError::Misdirected(_)) => "421".to_owned(),
        Err(other) => panic!("{other}"),
    }
}

fn host(at: Arrival, host: &str) -> String {
    let host = AuthorityRef::parse(host).unwrap();
    show(routes().find(at, Asked::Host(Some(host))))
}

fn url(at: Arrival, url: &str) -> String {
    let (scheme, authority) = url.split_once("://").unwrap();
    let authority = AuthorityRef::parse(authority).unwrap();
    let asked = Asked::Url {
        https: scheme == "https",
        authority,
    };
    show(routes().find(at, asked))
}

#[test]
fn origin_form_on_an_own_listener() {
    let own = tcp(Entrance::Own(0), 8001);
    let cases = [
        ("localhost:8001", "0 api.payments.example Origin"),
        ("localhost:5", "0 api.payments.example Origin"),
        ("127.0.0.1:8001", "0 api.payments.example Origin"),
        ("[::1]", "0 api.payments.example Origin"),
        ("anything.localhost", "0 api.payments.example Origin"),
        ("10.1.2.3:8001", "0 api.payments.example Origin"),
        ("10.1.2.4:8001", "421"),
        ("payments", "0 api.payments.example Origin"),
        ("PAYMENTS:8001", "0 api.payments.example Origin"),
        ("payments.localhost:8001", "0 api.payments.example Origin"),
        ("api.payments.example", "0 api.payments.example Origin"),
        ("api.payments.example:80", "0 api.payments.example Origin"),
        ("api.payments.example:8001", "0 api.payments.example Origin"),
        ("api.payments.example:444", "421"),
        ("files.example:8443", "0 files.example:8443 Name"),
        ("files.example", "421"),
        ("localhost:9443", "0 localhost:9443 Name"),
        // A wildcard never admits an origin-form Host.
        ("www.payments.example", "421"),
        ("evil.example", "421"),
        ("my-cert", "421"),
    ];
    for (asked, expected) in cases {
        assert_eq!(host(own, asked), expected, "{asked}");
    }
    assert_eq!(
        show(routes().find(own, Asked::Host(None))),
        "0 api.payments.example Origin"
    );
}

#[test]
fn origin_form_on_a_unix_socket() {
    let unix = Arrival {
        entrance: Entrance::Own(0),
        local: None,
    };
    assert_eq!(host(unix, "whatever"), "0 api.payments.example Origin");
    assert_eq!(host(unix, "localhost"), "0 api.payments.example Origin");
    assert_eq!(
        host(unix, "files.example:8443"),
        "0 files.example:8443 Name"
    );
    assert_eq!(host(unix, "evil.example"), "421");
}

#[test]
fn absolute_form_on_a_unix_socket() {
    let unix = Arrival {
        entrance: Entrance::Own(0),
        local: None,
    };
    let itself = "0 api.payments.example Origin";
    assert_eq!(url(unix, "http://localhost"), itself);
    assert_eq!(url(unix, "http://localhost:8001"), itself);
    // mtlsd speaks no TLS, so this is an origin that happens to be on this machine.
    assert_eq!(url(unix, "https://localhost:9443"), "0 localhost:9443 Name");
    assert_eq!(url(unix, "https://localhost:9444"), "421");
}

#[test]
fn origin_form_on_the_shared_listener() {
    let shared = tcp(Entrance::Shared, 8080);
    let cases = [
        ("payments", "0 api.payments.example Origin"),
        ("payments:8080", "0 api.payments.example Origin"),
        ("payments.localhost:8080", "0 api.payments.example Origin"),
        ("my_cert", "1 other.example:444 Origin"),
        (
            "my-cert.default.svc.cluster.local",
            "1 other.example:444 Origin",
        ),
        ("payments.files.example:8443", "0 files.example:8443 Name"),
        ("payments.files.example", "421"),
        (
            "payments.api.payments.example:8080",
            "0 api.payments.example Name",
        ),
        ("payments.www.payments.example", "421"),
        ("payments.evil.example", "421"),
        ("api.payments.example:8080", "0 api.payments.example Origin"),
        ("files.example:8443", "0 files.example:8443 Name"),
        ("www.payments.example", "421"),
        ("localhost:8080", "421"),
        ("10.1.2.3:8080", "421"),
        ("anywhere", "421"),
        ("nobody", "421"),
    ];
    for (asked, expected) in cases {
        assert_eq!(host(shared, asked), expected, "{asked}");
    }
    assert_eq!(show(routes().find(shared, Asked::Host(None))), "421");
}

#[test]
fn absolute_form_on_an_own_listener() {
    let own = tcp(Entrance::Own(0), 8001);
    let cases = [
        ("http://api.payments.example", "0 api.payments.example Name"),
        (
            "https://api.payments.example",
            "0 api.payments.example Name",
        ),
        (
            "http://api.payments.example:80",
            "0 api.payments.example Name",
        ),
        ("https://api.payments.example:80", "421"),
        (
            "https://api.payments.example:443",
            "0 api.payments.example Name",
        ),
        ("http://files.example:8443", "0 files.example:8443 Name"),
        (
            "http://a.b.payments.example",
            "0 a.b.payments.example Wildcard",
        ),
        ("http://a.payments.example:8443", "421"),
        ("http://evil.example", "421"),
        ("http://localhost:8001", "0 api.payments.example Origin"),
        ("http://10.1.2.3:8001", "0 api.payments.example Origin"),
        ("http://localhost:8002", "421"),
        ("http://localhost:9443", "0 localhost:9443 Name"),
        ("http://payments", "0 api.payments.example Origin"),
    ];
    for (asked, expected) in cases {
        assert_eq!(url(own, asked), expected, "{asked}");
    }
}

#[test]
fn absolute_form_on_the_shared_listener() {
    let shared = tcp(Entrance::Shared, 8080);
    let cases = [
        ("http://api.payments.example", "0 api.payments.example Name"),
        ("http://other.example:444", "1 other.example:444 Name"),
        ("http://x.anywhere.example", "2 x.anywhere.example Wildcard"),
        ("http://anywhere.example", "421"),
        ("http://payments", "0 api.payments.example Origin"),
        ("http://payments:8080", "0 api.payments.example Origin"),
        ("http://localhost:8080", "421"),
        ("http://evil.example", "421"),
    ];
    for (asked, expected) in cases {
        assert_eq!(url(shared, asked), expected, "{asked}");
    }
}

#[test]
fn a_binding_without_an_origin_wants_absolute_urls() {
    let own = tcp(Entrance::Own(2), 8003);
    let localhost = AuthorityRef::parse("localhost:8003").unwrap();
    let error = routes()
        .find(own, Asked::Host(Some(localhost)))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "binding \"anywhere\" has no `origin`: ask it for an absolute URL, as with curl -x, or add \
         the origin to [bindings.anywhere]"
    );
    assert_eq!(
        url(own, "http://x.anywhere.example"),
        "2 x.anywhere.example Wildcard"
    );
}

#[test]
fn a_421_names_what_there_is_and_the_line_to_add() {
    let foreign = AuthorityRef::parse("proxy.corp:8001").unwrap();
    let own = routes()
        .find(tcp(Entrance::Own(0), 8001), Asked::Host(Some(foreign)))
        .unwrap_err();
    assert_eq!(
        own.to_string(),
        "binding \"payments\" does not go by \"proxy.corp\" and may not reach it; it leads to \
         https://api.payments.example/v1. If this is a name that clients call mtlsd by, add \
         host = [\"proxy.corp\"] to [bindings.payments]; if it is an origin for this certificate, add \
         allow = [\"proxy.corp\"]"
    );
    let shared = routes()
        .find(tcp(Entrance::Shared, 8080), Asked::Host(Some(foreign)))
        .unwrap_err();
    assert_eq!(
        shared.to_string(),
        "\"proxy.corp\" names no binding. The bindings here: anywhere, my-cert, \
         my-cert.default.svc.cluster.local, payments. Say which with the Host field, as in \
         \"Host: anywhere\""
    );
}

const GRANTED: &str = r#"
    listen = "127.0.0.1:8080"
    mtls_certificates = [
        { binding = "MY_CERT", certificate_id = "99f5fef1-6cc1-46b8-bd79-44a0d5082b8d" },
        { binding = "NARROW", certificate_id = "99f5fef1-6cc1-46b8-bd79-44a0d5082b8d" },
        MORE
    ]

    [bindings.narrow]
    listen = "127.0.0.1:8004"
    allow = ["a.example"]

    [bindings.payments]
    origin = "https://api.payments.example"
    certificate = "c"
"#;

/// What becomes of a whole URL, where the last of the bindings is granted with `more`.
fn granted(more: &str, entrance: Entrance, asked: &str) -> String {
    let config = Draft::parse(Path::new("mtlsd.toml"), GRANTED.replace("MORE", more))
        .finish()
        .unwrap();
    let authority = AuthorityRef::parse(asked).unwrap();
    let asked = Asked::Url {
        https: true,
        authority,
    };
    show(Routes::new(&config.bindings).find(tcp(entrance, 8080), asked))
}

#[test]
fn a_granted_binding_reaches_any_origin_unless_an_allow_narrows_it() {
    let (narrow, anywhere) = (Entrance::Own(0), Entrance::Own(2));
    for (entrance, asked, expected) in [
        (
            anywhere,
            "a-secured-origin.com",
            "2 a-secured-origin.com Wildcard",
        ),
        (
            anywhere,
            "a-secured-origin.com:8443",
            "2 a-secured-origin.com:8443 Wildcard",
        ),
        // mtlsd itself, which has no `origin` to offer.
        (anywhere, "localhost:8080", "421"),
        (anywhere, "my-cert", "421"),
        (narrow, "a.example", "0 a.example Name"),
        (narrow, "b.example", "421"),
        (
            Entrance::Shared,
            "a-secured-origin.com",
            "2 a-secured-origin.com Wildcard",
        ),
        (
            Entrance::Shared,
            "api.payments.example",
            "1 api.payments.example Name",
        ),
        (
            Entrance::Shared,
            "payments",
            "1 api.payments.example Origin",
        ),
        (Entrance::Shared, "localhost:8080", "421"),
    ] {
        assert_eq!(
            granted("", entrance, asked),
            expected,
            "{asked} by {entrance:?}"
        );
    }
}

#[test]
fn of_two_bindings_that_reach_anything_neither_has_the_shared_listener() {
    let more = r#"{ binding = "OTHER", certificate_id = "99f5fef1-6cc1-46b8-bd79-44a0d5082b8d" }"#;
    assert_eq!(
        granted(more, Entrance::Shared, "a-secured-origin.com"),
        "421"
    );
    assert_eq!(
        granted(more, Entrance::Own(3), "a-secured-origin.com"),
        "3 a-secured-origin.com Wildcard"
    );
}

#[test]
fn a_page_that_rebinds_its_name_gets_nowhere_even_where_any_origin_may_be_reached() {
    let config = Draft::parse(Path::new("mtlsd.toml"), GRANTED.replace("MORE", ""))
        .finish()
        .unwrap();
    let host = AuthorityRef::parse("evil.example:8080");
    for entrance in [Entrance::Own(2), Entrance::Shared] {
        let found = Routes::new(&config.bindings).find(tcp(entrance, 8080), Asked::Host(host));
        assert_eq!(show(found), "421", "{entrance:?}");
    }
}

/// A binding called like the first label of another binding's origin does not hide that origin.
#[test]
fn an_origin_that_begins_with_the_name_of_another_binding_is_reached() {
    const CONFIG: &str = r#"
        listen = "127.0.0.1:8080"

        [bindings.api]
        origin = "https://cdn.test"
        allow = ["files.test:8443", "*.wild.test"]
        certificate = "c"

        [bindings.payments]
        origin = "https://api.test/v1"
        allow = ["api.example:8443", "api.files.example"]
        certificate = "c"

        [bindings.api_files]
        origin = "https://other.test"
        certificate = "c"
    "#;
    let config = Draft::parse(Path::new("mtlsd.toml"), CONFIG.to_owned());
    let routes = Routes::new(&config.finish().unwrap().bindings);
    let shared = tcp(Entrance::Shared, 8080);
    for (asked, expected) in [
        ("api", "0 cdn.test Origin"),
        ("api.localhost", "0 cdn.test Origin"),
        ("api.cdn.test", "0 cdn.test Name"),
        ("api.files.test:8443", "0 files.test:8443 Name"),
        ("api.test", "1 api.test Origin"),
        ("API.Test", "1 api.test Origin"),
        ("payments.api.test", "1 api.test Name"),
        ("api.example:8443", "1 api.example:8443 Name"),
        ("api.files.example", "1 api.files.example Name"),
        ("api-files", "2 other.test Origin"),
        // Neither a wildcard nor another port is reached by a Host field.
        ("api.a.wild.test", "421"),
        ("api.example", "421"),
        ("api.nowhere.test", "421"),
    ] {
        let host = AuthorityRef::parse(asked).unwrap();
        assert_eq!(
            show(routes.find(shared, Asked::Host(Some(host)))),
            expected,
            "{asked}"
        );
        // A URL with this authority means the same binding.
        let asked = Asked::Url {
            https: false,
            authority: host,
        };
        let by_url = show(routes.find(shared, asked));
        if expected != "421" {
            assert_eq!(by_url[..1], expected[..1], "{host:?}");
        }
    }
}
