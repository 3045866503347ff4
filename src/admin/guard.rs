//! Who may use the admin endpoint. Over a unix socket the file's permissions decide; over TCP, web
//! pages are kept out, and other machines reach three paths at most.

use std::net::IpAddr;

use http::{HeaderMap, Method, StatusCode, header};

/// How a request came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// Over a unix socket, from a process of this user.
    Unix(u32),
    /// Over TCP, to this address of this machine and port.
    Tcp(IpAddr, u16),
}

/// The paths that other machines may GET where `expose` is set.
pub const EXPOSED: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Why a request is refused: a status, and what is said about it.
pub type Refusal = (StatusCode, String);

/// Decides whether a request may be served.
///
/// # Errors
///
/// The status and the text of the refusal.
pub fn admit(
    source: Source,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    authority: Option<&str>,
) -> Result<(), Refusal> {
    let Source::Tcp(local, port) = source else {
        return Ok(());
    };
    let hosts: Vec<&str> = headers
        .get_all(header::HOST)
        .iter()
        .map(|value| value.to_str().unwrap_or_default())
        .chain(authority)
        .collect();
    if !local.to_canonical().is_loopback() {
        if !EXPOSED.contains(&path) || *method != Method::GET {
            let paths = EXPOSED.join(", ");
            return Err((
                StatusCode::FORBIDDEN,
                format!("only GET of {paths} is served to other machines"),
            ));
        }
    } else if hosts.is_empty() || !hosts.iter().all(|host| is_local(host, port)) {
        return Err((
            StatusCode::MISDIRECTED_REQUEST,
            "Host does not name this machine: use localhost or 127.0.0.1".to_owned(),
        ));
    }
    let site = headers.get_all("sec-fetch-site").iter();
    let foreign_site = site
        .map(|site| site.as_bytes())
        .any(|site| site != b"none" && site != b"same-origin");
    let own_origins = |origin: &str| {
        let host = origin.strip_prefix("http://");
        host.is_some_and(|host| is_local(host, port) && hosts.contains(&host))
    };
    let foreign_origin = headers
        .get_all(header::ORIGIN)
        .iter()
        .any(|origin| !origin.to_str().is_ok_and(own_origins));
    if foreign_site || foreign_origin {
        return Err((
            StatusCode::FORBIDDEN,
            "requests of other web sites are refused".to_owned(),
        ));
    }
    if *method != Method::GET && *method != Method::HEAD {
        return Err((
            StatusCode::METHOD_NOT_ALLOWED,
            "this is served on the unix socket only: see `listen` in [admin]".to_owned(),
        ));
    }
    Ok(())
}

/// Whether a `Host` names this machine by a loopback name, with no port or this one.
fn is_local(host: &str, port: u16) -> bool {
    let (name, given) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, "")) => (name, None),
        Some((name, rest)) => (name, Some(rest.strip_prefix(':').unwrap_or("-"))),
        None => match host.split_once(':') {
            Some((name, given)) => (name, Some(given)),
            None => (host, None),
        },
    };
    let name = name.to_ascii_lowercase();
    let named = name == "localhost"
        || name.ends_with(".localhost")
        || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    named && given.is_none_or(|given| given.parse() == Ok(port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn status(source: Source, method: &Method, path: &str, fields: &[(&str, &str)]) -> u16 {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        match admit(source, method, path, &headers, None) {
            Ok(()) => 200,
            Err((status, _)) => status.as_u16(),
        }
    }

    fn local() -> Source {
        Source::Tcp("127.0.0.1".parse().unwrap(), 9442)
    }

    #[test]
    fn host_names_this_machine_or_is_refused() {
        let cases = [
            ("localhost:9442", 200),
            ("localhost", 200),
            ("LOCALHOST:9442", 200),
            ("mtlsd.localhost:9442", 200),
            ("127.0.0.1:9442", 200),
            ("[::1]:9442", 200),
            ("localhost:80", 421),
            ("evil.example:9442", 421),
            ("[::ffff:127.0.0.1]:9442", 421),
            ("localhost.evil.example", 421),
            ("", 421),
        ];
        for (host, expected) in cases {
            let got = status(local(), &Method::GET, "/", &[("host", host)]);
            assert_eq!(got, expected, "{host}");
        }
        assert_eq!(status(local(), &Method::GET, "/", &[]), 421);
        let two = [("host", "localhost:9442"), ("host", "evil.example")];
        assert_eq!(status(local(), &Method::GET, "/", &two), 421);
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let host = ("host", "localhost:9442");
        let cases = [
            (("sec-fetch-site", "none"), 200),
            (("sec-fetch-site", "same-origin"), 200),
            (("sec-fetch-site", "same-site"), 403),
            (("sec-fetch-site", "cross-site"), 403),
            (("origin", "http://localhost:9442"), 200),
            (("origin", "http://localhost:3000"), 403),
            (("origin", "https://localhost:9442"), 403),
            (("origin", "null"), 403),
        ];
        for (field, expected) in cases {
            let got = status(local(), &Method::GET, "/metrics", &[host, field]);
            assert_eq!(got, expected, "{field:?}");
        }
    }

    #[test]
    fn other_machines_reach_three_paths_and_only_by_get() {
        let exposed = Source::Tcp("192.0.2.1".parse().unwrap(), 9442);
        for path in EXPOSED {
            assert_eq!(status(exposed, &Method::GET, path, &[]), 200, "{path}");
            assert_eq!(status(exposed, &Method::POST, path, &[]), 403, "{path}");
        }
        for path in ["/", "/status", "/readyz/payments", "/reload", "/log-level"] {
            assert_eq!(status(exposed, &Method::GET, path, &[]), 403, "{path}");
        }
    }

    #[test]
    fn nothing_is_changed_over_tcp() {
        let host = ("host", "localhost:9442");
        assert_eq!(status(local(), &Method::POST, "/reload", &[host]), 405);
        assert_eq!(status(Source::Unix(0), &Method::POST, "/reload", &[]), 200);
    }
}
