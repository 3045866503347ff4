//! Filters trailer fields: what may only stand in a head does not pass behind a body.

use http::HeaderMap;
use http::HeaderName;
use http::header::CONNECTION;

/// Removes from a request's trailers the fields that RFC 9110 section 6.5.1 forbids there, and those
/// that concern one connection.
pub fn request_trailers(trailers: &mut HeaderMap) {
    filter(trailers, |_| false);
}

/// The same for a response. `Proxy-Status` may pass (RFC 9209 section 2).
pub fn response_trailers(trailers: &mut HeaderMap) {
    filter(trailers, |name| name == "proxy-status");
}

fn filter(trailers: &mut HeaderMap, passes: impl Fn(&str) -> bool) {
    let options = trailers.get_all(CONNECTION).iter();
    let mut named: Vec<HeaderName> = options
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok())
        .collect();
    let forbidden = trailers
        .keys()
        .filter(|name| is_forbidden(name.as_str()) && !passes(name.as_str()));
    named.extend(forbidden.cloned());
    for name in named {
        trailers.remove(name);
    }
    trailers.remove(CONNECTION);
}

/// Fields for framing, routing, modifying a request, authentication, controlling a response and
/// describing content: a recipient that merges trailers into the head would obey them.
fn is_forbidden(name: &str) -> bool {
    name.starts_with("proxy-")
        || name.starts_with("if-")
        || name.starts_with("access-control-")
        || name.starts_with("sec-")
        || matches!(
            name,
            "transfer-encoding"
                | "content-length"
                | "host"
                | "connection"
                | "keep-alive"
                | "te"
                | "trailer"
                | "upgrade"
                | "http2-settings"
                | "cache-control"
                | "expect"
                | "max-forwards"
                | "pragma"
                | "range"
                | "authorization"
                | "www-authenticate"
                | "authentication-info"
                | "cookie"
                | "set-cookie"
                | "forwarded"
                | "x-forwarded-for"
                | "x-forwarded-host"
                | "x-forwarded-proto"
                | "origin"
                | "referer"
                | "via"
                | "age"
                | "date"
                | "expires"
                | "location"
                | "retry-after"
                | "vary"
                | "warning"
                | "content-encoding"
                | "content-type"
                | "content-range"
                | "content-location"
                | "strict-transport-security"
                | "alt-svc"
        )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn kept(filter: fn(&mut HeaderMap), names: &[&'static str]) -> Vec<String> {
        let mut trailers = HeaderMap::new();
        for name in names {
            let value = match *name {
                "connection" => HeaderValue::from_static("close, x-private"),
                _ => HeaderValue::from_static("x"),
            };
            trailers.append(HeaderName::from_static(name), value);
        }
        filter(&mut trailers);
        trailers.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn only_fields_that_may_follow_a_body_pass() {
        const FORBIDDEN: &[&str] = &[
            "authorization",
            "connection",
            "content-length",
            "cookie",
            "host",
            "keep-alive",
            "proxy-authorization",
            "proxy-connection",
            "set-cookie",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "x-private",
        ];
        const ALLOWED: &[&str] = &["grpc-status", "x-checksum", "digest"];
        for filter in [request_trailers, response_trailers] {
            assert!(kept(filter, FORBIDDEN).is_empty());
            assert_eq!(kept(filter, ALLOWED).len(), ALLOWED.len());
        }
        assert!(kept(request_trailers, &["proxy-status"]).is_empty());
        assert_eq!(kept(response_trailers, &["proxy-status"]).len(), 1);
    }
}
