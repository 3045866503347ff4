//! What happens to header fields on their way through. Pure functions.
//!
//! The origin sees what it would have seen had the client spoken mTLS itself. Fields that belong
//! to one connection go first, and only then ours are set, so that a client cannot have one of
//! ours removed by naming it in `Connection`.

mod accept;
mod fields;
mod kept;
mod trailers;
mod upgrade;

use std::net::IpAddr;

use http::header::{
    ALT_SVC, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, FORWARDED, HOST, LOCATION,
    STRICT_TRANSPORT_SECURITY, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};

use crate::config::{self, HeaderPolicy, HostHeader};

pub use accept::prefers_json;
pub use fields::Fields;
pub use kept::Kept;
pub use trailers::{request_trailers, response_trailers};
pub use upgrade::{accepted, offered, switch};

/// What is known about a request besides its head.
pub struct Sender {
    /// The client's address; `None` on a unix socket.
    pub peer: Option<IpAddr>,
    /// What the client called us, or the origin: `Host`, or the URL's authority. Only needed where
    /// the policy repeats it.
    pub asked: Option<String>,
    /// Whether the client frames its body in chunks.
    pub chunked: bool,
    /// What the client offers to switch to, where that is passed on.
    pub upgrade: Option<HeaderValue>,
}

/// Turns the header fields of a client's request, which are `fields`, into those of the request to
/// `target`.
pub fn request(
    headers: &mut HeaderMap,
    fields: Fields,
    policy: &HeaderPolicy,
    target: &config::Authority,
    sender: &Sender,
) {
    let trailers = fields.te && wants_trailers(headers);
    strip_hop_by_hop(headers, fields, Direction::Request);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.append(CONNECTION, HeaderValue::from_static("te"));
    }
    if let Some(protocols) = &sender.upgrade {
        headers.insert(UPGRADE, protocols.clone());
        headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    if sender.chunked && !headers.contains_key(CONTENT_LENGTH) {
        // hyper would send a GET without its body when nothing says that there is one.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let host = match (&policy.host, sender.asked.as_deref()) {
        (HostHeader::Literal(host), _) => host.clone(),
        (HostHeader::Preserve, Some(asked)) => {
            HeaderValue::from_str(asked).unwrap_or_else(|_| target.header().clone())
        }
        (HostHeader::Origin, _) | (HostHeader::Preserve, None) => target.header().clone(),
    };
    headers.insert(HOST, host);
    if policy.via {
        headers.append(VIA, HeaderValue::from_static("1.1 mtlsd"));
    }
    if policy.forwarded {
        add_forwarded(headers, sender);
    }
}

/// Turns the header fields of the origin's response, which are `fields`, into those for the client.
/// `base_path` is what was put in front of the request's path.
pub fn response(
    headers: &mut HeaderMap,
    fields: Fields,
    policy: &HeaderPolicy,
    target: &config::Authority,
    base_path: &str,
) {
    if fields.transfer_encoding {
        // RFC 9112 section 6.3: the length is not what frames this body, and it is not passed on.
        headers.remove(CONTENT_LENGTH);
    }
    strip_hop_by_hop(headers, fields, Direction::Response);
    if fields.host_bound {
        // The client would believe them of localhost.
        headers.remove(STRICT_TRANSPORT_SECURITY);
        headers.remove(ALT_SVC);
    }
    if policy.rewrite_location
        && fields.location
        && let Some(location) = headers.get_mut(LOCATION)
        && let Some(path) = location
            .to_str()
            .ok()
            .and_then(|location| shorten(location, target, base_path))
        && let Ok(path) = HeaderValue::try_from(path)
    {
        *location = path;
    }
}

/// The same request for a connection that speaks HTTP/2 (RFC 9113 section 8.2.2 and 8.3.1): the
/// host moves into the target, and what speaks of one connection goes.
pub fn to_http2<B>(request: Request<B>) -> Request<B> {
    let (mut head, body) = request.into_parts();
    let host = head.headers.remove(HOST);
    head.headers.remove(CONNECTION);
    head.headers.remove(TRANSFER_ENCODING);
    let mut uri = std::mem::take(&mut head.uri).into_parts();
    uri.scheme = Some(Scheme::HTTPS);
    uri.authority = host
        .and_then(|host| Authority::try_from(host.as_bytes()).ok())
        .or(uri.authority);
    uri.path_and_query
        .get_or_insert(PathAndQuery::from_static("/"));
    // A target that cannot be expressed stays `/` without a host, which hyper refuses to send.
    head.uri = Uri::from_parts(uri).unwrap_or_default();
    head.version = http::Version::HTTP_2;
    Request::from_parts(head, body)
}

/// Joins what HTTP/2 allows to split (RFC 9113 section 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// The target of the request to the origin: the path and query of `uri` behind `base_path`. Never
/// empty (RFC 9112 section 3.2.1): a URL without a path means `/`.
pub fn target(uri: &Uri, base_path: &str) -> Uri {
    let Some(path) = uri.path_and_query() else {
        return Uri::from_static("/");
    };
    let text = path.as_str();
    let base_path = if text == "*" { "" } else { base_path };
    // `Uri::path` of what has no scheme is empty where nothing was written before `?` or `#`.
    let is_whole = text.starts_with('/') || text == "*";
    let is_written = !Uri::from(path.clone()).path().is_empty();
    if base_path.is_empty() && is_whole && is_written {
        // Shares the bytes that were received.
        return Uri::from(path.clone());
    }
    let slash = if text.starts_with('/') { "" } else { "/" };
    // Both halves were valid; a head that is too long for a Uri is refused on reading.
    Uri::try_from(format!("{base_path}{slash}{text}")).unwrap_or_else(|_| uri.clone())
}

/// Whether this is the head of a gRPC call.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_TYPE).iter().any(|kind| {
        let rest = kind.as_bytes().strip_prefix(b"application/grpc");
        // `application/grpc-web` is made for HTTP/1.1.
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    })
}

/// Whether the client waits to be told to send its body (RFC 9110 section 10.1.1).
pub fn expects_continue(headers: &HeaderMap, fields: Fields, version: http::Version) -> bool {
    fields.expect
        && version >= http::Version::HTTP_11
        && list(headers, &EXPECT).any(|value| value.eq_ignore_ascii_case(b"100-continue"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Request,
    Response,
}

fn strip_hop_by_hop(headers: &mut HeaderMap, fields: Fields, direction: Direction) {
    if fields.names_others {
        let named: Vec<HeaderName> = connection_options(headers)
            .filter_map(|option| HeaderName::from_bytes(option).ok())
            .filter(|name| !is_end_to_end(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    if fields.connection {
        headers.remove(CONNECTION);
    }
    if !fields.has_hop_by_hop() {
        return;
    }
    let strays: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_hop_by_hop(name, direction))
        .cloned()
        .collect();
    for name in strays {
        headers.remove(name);
    }
}

fn is_hop_by_hop(name: &HeaderName, direction: Direction) -> bool {
    match name.as_str() {
        "keep-alive" | "te" | "transfer-encoding" | "upgrade" | "http2-settings" => true,
        "proxy-status" if direction == Direction::Response => false,
        name => name.starts_with("proxy-"),
    }
}

/// Fields that are meant for the origin whatever `Connection` says (RFC 9110 section 7.6.1 forbids
/// naming them there): without them the message would mean something else.
fn is_end_to_end(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "host"
            | "content-length"
            | "content-type"
            | "content-encoding"
            | "content-range"
            | "authorization"
            | "cookie"
            | "set-cookie"
            | "cache-control"
            | "expect"
            | "range"
            | "trailer"
            | "origin"
            | "location"
            | "date"
            | "vary"
            | "etag"
    )
}

/// The elements of `Connection`.
fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    list(headers, &CONNECTION)
}

/// Whether `Connection` has this option.
fn names_option(headers: &HeaderMap, name: &str) -> bool {
    connection_options(headers).any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
}

/// The elements of a field that is a list (RFC 9110 section 5.6.1), of all of its lines.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

fn wants_trailers(headers: &HeaderMap) -> bool {
    list(headers, &TE).any(|coding| {
        let name = coding.split(|byte| *byte == b';').next();
        name.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    })
}

/// Adds what RFC 7239 and its forerunners say about the client.
fn add_forwarded(headers: &mut HeaderMap, sender: &Sender) {
    let mut add = |name: HeaderName, value: String| {
        let earlier = headers.get_all(&name).iter().map(HeaderValue::as_bytes);
        let lines: Vec<&[u8]> = earlier.chain([value.as_bytes()]).collect();
        if let Ok(value) = HeaderValue::from_bytes(&lines.join(&b", "[..])) {
            headers.insert(name, value);
        }
    };
    let node = match sender.peer {
        Some(IpAddr::V4(ip)) => ip.to_string(),
        Some(IpAddr::V6(ip)) => format!("\"[{ip}]\""),
        None => "unknown".to_owned(),
    };
    let mut element = format!("for={node};proto=http");
    if let Some(asked) = &sender.asked {
        element.push_str(&format!(";host=\"{asked}\""));
    }
    add(FORWARDED, element);
    if let Some(peer) = sender.peer {
        add(HeaderName::from_static("x-forwarded-for"), peer.to_string());
    }
    headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
    if let Some(Ok(asked)) = sender.asked.as_deref().map(HeaderValue::from_str) {
        headers.insert("x-forwarded-host", asked);
    }
}

/// A `Location` within the origin as a path that means the same to the client.
fn shorten(location: &str, target: &config::Authority, base_path: &str) -> Option<String> {
    let path = match location.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            if config::Authority::parse(authority)? != *target {
                return None;
            }
            path
        }
        // Only behind a base path does a path on the origin differ from the same path here.
        None if !base_path.is_empty() && location.starts_with('/') => location,
        _ => return None,
    };
    let path = match path.strip_prefix(base_path)? {
        rest if rest.starts_with('/') => rest.to_owned(),
        rest if rest.is_empty() || rest.starts_with(['?', '#']) => format!("/{rest}"),
        _ => return None,
    };
    // `//host/` would lead the client to another host.
    (!path.starts_with("//")).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn shown(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines
    }

    fn policy() -> HeaderPolicy {
        HeaderPolicy {
            host: HostHeader::Origin,
            forwarded: false,
            via: false,
            rewrite_location: true,
            rewrite_cookies: false,
        }
    }

    fn sender(asked: &str) -> Sender {
        Sender {
            peer: Some([10, 0, 0, 1].into()),
            asked: Some(asked.to_owned()),
            chunked: false,
            upgrade: None,
        }
    }

    fn origin() -> config::Authority {
        config::Authority::parse("api.example:8443").unwrap()
    }

    #[test]
    fn what_belongs_to_one_connection_stays_on_it() {
        let mut headers = map(&[
            ("Host", "localhost:8001"),
            ("Connection", "keep-alive, X-Private, Upgrade"),
            ("Keep-Alive", "timeout=5"),
            ("X-Private", "1"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy-Authorization", "Basic x"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "x"),
            ("TE", "gzip"),
            ("Accept", "*/*"),
        ]);
        let fields = Fields::of(&headers);
        request(
            &mut headers,
            fields,
            &policy(),
            &origin(),
            &sender("localhost:8001"),
        );
        assert_eq!(shown(&headers), ["accept: */*", "host: api.example:8443"]);
    }

    #[test]
    fn connection_cannot_take_away_what_the_message_needs() {
        let mut headers = map(&[
            ("Connection", "host, content-length, authorization, cookie"),
            ("Content-Length", "3"),
            ("Authorization", "Bearer x"),
            ("Cookie", "a=b"),
        ]);
        let fields = Fields::of(&headers);
        request(&mut headers, fields, &policy(), &origin(), &sender("x"));
        assert_eq!(
            shown(&headers),
            [
                "authorization: Bearer x",
                "content-length: 3",
                "cookie: a=b",
                "host: api.example:8443"
            ]
        );
    }

    #[test]
    fn trailers_stay_announced() {
        let mut headers = map(&[
            ("TE", "gzip, trailers;q=0.5"),
            ("Trailer", "x-sum"),
            ("Connection", "TE"),
        ]);
        let fields = Fields::of(&headers);
        request(&mut headers, fields, &policy(), &origin(), &sender("x"));
        assert_eq!(
            shown(&headers),
            [
                "connection: te",
                "host: api.example:8443",
                "te: trailers",
                "trailer: x-sum"
            ]
        );
    }

    #[test]
    fn a_chunked_body_stays_chunked() {
        let chunked = Sender {
            chunked: true,
            ..sender("x")
        };
        let mut headers = map(&[("Transfer-Encoding", "chunked")]);
        let fields = Fields::of(&headers);
        request(&mut headers, fields, &policy(), &origin(), &chunked);
        assert_eq!(
            shown(&headers),
            ["host: api.example:8443", "transfer-encoding: chunked"]
        );
    }

    #[test]
    fn the_host_is_the_one_that_was_chosen() {
        for (host, expected) in [
            (HostHeader::Origin, "api.example:8443"),
            (HostHeader::Preserve, "localhost:8001"),
            (
                HostHeader::Literal(HeaderValue::from_static("vhost")),
                "vhost",
            ),
        ] {
            let mut headers = map(&[("Host", "localhost:8001")]);
            let fields = Fields::of(&headers);
            request(
                &mut headers,
                fields,
                &HeaderPolicy { host, ..policy() },
                &origin(),
                &sender("localhost:8001"),
            );
            assert_eq!(headers[HOST], expected);
        }
    }

    #[test]
    fn via_and_forwarded_are_added_behind_what_is_there() {
        let policy = HeaderPolicy {
            via: true,
            forwarded: true,
            ..policy()
        };
        let mut headers = map(&[
            ("Via", "1.1 other"),
            ("X-Forwarded-For", "192.0.2.1"),
            ("Connection", "via, forwarded"),
        ]);
        let fields = Fields::of(&headers);
        request(
            &mut headers,
            fields,
            &policy,
            &origin(),
            &sender("localhost:8001"),
        );
        assert_eq!(
            shown(&headers),
            [
                "forwarded: for=10.0.0.1;proto=http;host=\"localhost:8001\"",
                "host: api.example:8443",
                "via: 1.1 mtlsd",
                "x-forwarded-for: 192.0.2.1, 10.0.0.1",
                "x-forwarded-host: localhost:8001",
                "x-forwarded-proto: http",
            ]
        );
    }

    #[test]
    fn responses_lose_what_would_poison_localhost_and_nothing_else() {
        let mut headers = map(&[
            ("Strict-Transport-Security", "max-age=1"),
            ("Alt-Svc", "h3=\":443\""),
            ("Connection", "close"),
            ("Proxy-Status", "cdn; error=x"),
            ("Set-Cookie", "a=b; Secure"),
            ("Server", "nginx"),
        ]);
        let fields = Fields::of(&headers);
        response(&mut headers, fields, &policy(), &origin(), "");
        assert_eq!(
            shown(&headers),
            [
                "proxy-status: cdn; error=x",
                "server: nginx",
                "set-cookie: a=b; Secure"
            ]
        );
    }

    #[test]
    fn locations_within_the_origin_become_paths() {
        let cases = [
            ("https://api.example:8443/a?b#c", "", Some("/a?b#c")),
            ("https://API.example:8443", "", Some("/")),
            ("https://api.example:8443?q", "", Some("/?q")),
            ("https://api.example/a", "", None),
            ("http://api.example:8443/a", "", None),
            ("https://other.example:8443/a", "", None),
            ("https://api.example:8443@evil.example/a", "", None),
            ("https://api.example:8443//evil.example/a", "", None),
            ("/a", "", None),
            ("a/b", "", None),
            ("https://api.example:8443/v1/a", "/v1", Some("/a")),
            ("https://api.example:8443/v1", "/v1", Some("/")),
            ("https://api.example:8443/v10/a", "/v1", None),
            ("/v1/a", "/v1", Some("/a")),
            ("/other", "/v1", None),
            ("/v1//evil.example", "/v1", None),
        ];
        for (location, base, expected) in cases {
            assert_eq!(
                shorten(location, &origin(), base).as_deref(),
                expected,
                "{location}"
            );
        }
    }

    #[test]
    fn the_base_path_stands_in_front() {
        let cases = [
            ("/x?y", "", "/x?y"),
            ("/x?y", "/v1", "/v1/x?y"),
            ("http://a.example/x", "", "/x"),
            ("http://a.example", "", "/"),
            ("http://a.example", "/v1", "/v1/"),
            ("*", "/v1", "*"),
            ("*", "", "*"),
            ("http://a.example#x", "", "/"),
            ("http://a.example#x", "/v1", "/v1/"),
            ("http://a.example?x", "", "/?x"),
            ("http://a.example?", "", "/?"),
            ("http://a.example?x#y", "", "/?x"),
            ("http://a.example?x", "/v1", "/v1/?x"),
            ("http://a.example/#x", "", "/"),
            ("http://a.example:80#?", "", "/"),
            ("/#x", "", "/"),
        ];
        for (uri, base, expected) in cases {
            let target = target(&uri.parse().unwrap(), base);
            assert_eq!(target.to_string(), expected, "{uri}");
            assert!(!target.path().is_empty(), "{uri}");
        }
    }
}
