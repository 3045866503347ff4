//! What happens to header fields on their way through. Pure functions.
//!
//! The origin sees what it would have seen had the client spoken mTLS itself. Fields that belong
//! to one connection go first, and only then ours are set, so that a client cannot have one of
//! ours removed by naming it in `Connection`.

mod accept;
mod cookies;
mod fields;
mod kept;
mod page;
mod reference;
mod upgrade;

use std::net::IpAddr;

use http::header::{
    ALT_SVC, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, FORWARDED, HOST,
    STRICT_TRANSPORT_SECURITY, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};

use crate::config::{self, HeaderPolicy, HostHeader};

pub use accept::prefers_json;
pub use fields::Fields;
pub use kept::Kept;
pub use page::OwnPage;
pub use reference::{Reach, resolve};
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
    /// The page the request comes from, if that is mtlsd's own.
    pub page: Option<OwnPage>,
}

/// Returns what the origin `target` reads in `Host`, given what the client `asked` for.
pub fn host(policy: &HeaderPolicy, target: &config::Authority, asked: Option<&str>) -> HeaderValue {
    match (&policy.host, asked) {
        (HostHeader::Literal(host), _) => host.clone(),
        (HostHeader::Preserve, Some(asked)) => {
            HeaderValue::from_str(asked).unwrap_or_else(|_| target.header().clone())
        }
        (HostHeader::Origin, _) | (HostHeader::Preserve, None) => target.header().clone(),
    }
}

/// Turns the header fields of a client's request, which are `fields`, into those of the request to
/// an origin that reads `host` in `Host`.
pub fn request(
    headers: &mut HeaderMap,
    fields: Fields,
    policy: &HeaderPolicy,
    host: HeaderValue,
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
    if let Some(page) = &sender.page {
        page::adopt(headers, page, &host);
    }
    headers.insert(HOST, host);
    if policy.via {
        headers.append(VIA, HeaderValue::from_static("1.1 mtlsd"));
    }
    if policy.forwarded {
        add_forwarded(headers, sender);
    }
}

/// Turns the header fields of a response, which are `fields`, into those for the client, who reaches
/// the origin by `reach`.
pub fn response(headers: &mut HeaderMap, fields: Fields, policy: &HeaderPolicy, reach: Reach<'_>) {
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
    if policy.rewrite_location && fields.references {
        reference::localize(headers, reach);
    }
    if policy.rewrite_cookies && fields.cookies {
        cookies::rewrite_cookies(headers, reach.target.host(), reach.base_path);
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
    // `as_str` turns an empty path into `/`; all others are as they were written.
    let is_written = text != "/" || !Uri::from(path.clone()).path().is_empty();
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
            preserve_case: false,
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
            page: None,
        }
    }

    fn target() -> config::Authority {
        config::Authority::parse("api.example:8443").unwrap()
    }

    fn origin() -> HeaderValue {
        target().header().clone()
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
            origin(),
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
        request(&mut headers, fields, &policy(), origin(), &sender("x"));
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
        request(&mut headers, fields, &policy(), origin(), &sender("x"));
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
        request(&mut headers, fields, &policy(), origin(), &chunked);
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
            let policy = HeaderPolicy { host, ..policy() };
            assert_eq!(
                super::host(&policy, &target(), Some("localhost:8001")),
                expected
            );
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
            origin(),
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
        let target = target();
        let reach = Reach {
            target: &target,
            host: None,
            base_path: "",
        };
        response(&mut headers, fields, &policy(), reach);
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
    fn all_lines_of_a_field_count() {
        let policy = HeaderPolicy {
            forwarded: true,
            ..policy()
        };
        let mut headers = map(&[
            ("Connection", "close"),
            ("Connection", "x-one"),
            ("X-One", "1"),
            ("TE", "gzip"),
            ("TE", "trailers"),
            ("X-Forwarded-For", "192.0.2.1"),
            ("X-Forwarded-For", "192.0.2.2"),
        ]);
        // What is not ASCII hides nothing that stands beside it.
        let odd = HeaderValue::from_bytes(b"\xff, X-Two").unwrap();
        headers.append(CONNECTION, odd);
        headers.insert("x-two", HeaderValue::from_static("2"));
        let fields = Fields::of(&headers);
        request(&mut headers, fields, &policy, origin(), &sender("a"));
        assert_eq!(headers["x-forwarded-for"], "192.0.2.1, 192.0.2.2, 10.0.0.1");
        assert_eq!(headers[TE], "trailers");
        assert!(!headers.contains_key("x-one") && !headers.contains_key("x-two"));
        let expects = map(&[("Expect", "x"), ("Expect", "100-Continue")]);
        let fields = Fields::of(&expects);
        assert!(expects_continue(&expects, fields, http::Version::HTTP_11));
        assert!(is_grpc(&map(&[
            ("Content-Type", "text/plain"),
            ("Content-Type", "application/grpc+proto")
        ])));
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
            let target = super::target(&uri.parse().unwrap(), base);
            assert_eq!(target.to_string(), expected, "{uri}");
            assert!(!target.path().is_empty(), "{uri}");
        }
    }
}
