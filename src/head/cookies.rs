//! An origin's cookies, made acceptable for the plain-HTTP listener that a browser knows it by.

use http::header::{Entry, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

/// Rewrites every `Set-Cookie` of a response: removes a `Domain` that covers the origin's `host`,
/// and `Secure`, and takes `base_path` from the front of `Path`.
pub fn rewrite_cookies(headers: &mut HeaderMap, host: &str, base_path: &str) {
    let Entry::Occupied(mut lines) = headers.entry(SET_COOKIE) else {
        return;
    };
    for line in lines.iter_mut() {
        let cookie = localized(line.as_bytes(), host, base_path);
        if let Ok(cookie) = HeaderValue::from_bytes(&cookie) {
            *line = cookie;
        }
    }
}

/// Returns a cookie (RFC 6265 section 5.2) as the listener may set it.
fn localized(cookie: &[u8], host: &str, base_path: &str) -> Vec<u8> {
    let mut parts = cookie.split(|byte| *byte == b';');
    let pair = parts.next().unwrap_or_default();
    let name = pair.trim_ascii_start().to_ascii_lowercase();
    // Browsers take cookies of these names only with Secure, and take that from localhost.
    let stays_secure = name.starts_with(b"__secure-") || name.starts_with(b"__host-");
    let mut kept = pair.to_vec();
    for part in parts {
        let (name, value) = attribute(part);
        let removed = match name.to_ascii_lowercase().as_slice() {
            b"domain" => covers(value, host),
            b"secure" => !stays_secure,
            // Without Secure, browsers discard a cookie that says None.
            b"samesite" => !stays_secure && value.eq_ignore_ascii_case(b"none"),
            _ => false,
        };
        if removed {
            continue;
        }
        kept.push(b';');
        match below(name, value, base_path) {
            Some(path) => kept.extend([b" Path=", path.as_slice()].concat()),
            None => kept.extend_from_slice(part),
        }
    }
    kept
}

/// The name and the value of an attribute.
fn attribute(part: &[u8]) -> (&[u8], &[u8]) {
    let equals = part.iter().position(|byte| *byte == b'=');
    let (name, value) = part.split_at(equals.unwrap_or(part.len()));
    let value = value.strip_prefix(b"=").unwrap_or(value);
    (name.trim_ascii(), value.trim_ascii())
}

/// Whether a `Domain` is the host, or one above it.
fn covers(domain: &[u8], host: &str) -> bool {
    let domain = domain.strip_prefix(b".").unwrap_or(domain);
    let host = host.as_bytes();
    let Some(at) = host.len().checked_sub(domain.len()) else {
        return false;
    };
    host[at..].eq_ignore_ascii_case(domain)
        && (at == 0 || domain.is_empty() || host[at - 1] == b'.')
}

/// A `Path` within the base path, as the path that the client knows.
fn below(name: &[u8], value: &[u8], base_path: &str) -> Option<Vec<u8>> {
    if base_path.is_empty() || !name.eq_ignore_ascii_case(b"path") {
        return None;
    }
    match value.strip_prefix(base_path.as_bytes())? {
        b"" => Some(b"/".to_vec()),
        rest if rest.starts_with(b"/") => Some(rest.to_vec()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_come_back_to_the_listener() {
        let cases = [
            ("a=b", "a=b"),
            (
                "a=b; Domain=api.example; Path=/; HttpOnly",
                "a=b; Path=/; HttpOnly",
            ),
            ("a=b; domain=.API.Example", "a=b"),
            ("a=b; Domain=example; Secure; HttpOnly", "a=b; HttpOnly"),
            (
                "a=b;secure;DOMAIN = api.example ;Max-Age=1",
                "a=b;Max-Age=1",
            ),
            ("a=b; Domain=", "a=b"),
            ("a=b; Domain=pi.example", "a=b; Domain=pi.example"),
            ("a=b; Domain=x.api.example", "a=b; Domain=x.api.example"),
            (
                "a=b; Domain=other.example; Secure",
                "a=b; Domain=other.example",
            ),
            ("a=Secure; Path=/v1/x", "a=Secure; Path=/x"),
            ("a=b; Path=/v1", "a=b; Path=/"),
            ("a=b; Path=/v10", "a=b; Path=/v10"),
            ("a=b; Secure; SameSite=None", "a=b"),
            ("a=b; Secure; SameSite=Lax", "a=b; SameSite=Lax"),
            ("__Host-a=b; Secure; Path=/", "__Host-a=b; Secure; Path=/"),
            (
                "__Secure-a=b; Secure; Domain=api.example; SameSite=None",
                "__Secure-a=b; Secure; SameSite=None",
            ),
            ("", ""),
        ];
        for (before, after) in cases {
            let cookie = localized(before.as_bytes(), "api.example", "/v1");
            assert_eq!(String::from_utf8_lossy(&cookie), after, "{before}");
        }
    }

    #[test]
    fn every_line_is_rewritten() {
        let mut headers = HeaderMap::new();
        headers.append(SET_COOKIE, HeaderValue::from_static("a=1; Secure"));
        headers.append(
            SET_COOKIE,
            HeaderValue::from_bytes(b"b=\xff; Secure").unwrap(),
        );
        rewrite_cookies(&mut headers, "api.example", "");
        let lines: Vec<_> = headers.get_all(SET_COOKIE).iter().collect();
        assert_eq!(lines, [&b"a=1"[..], b"b=\xff"]);
    }
}
