//! URLs in header fields: an origin's own lead back to mtlsd, and mtlsd's lead to the origin.
//!
//! Everything here works on bytes: origins send raw UTF-8 and Latin-1 in URLs, and what is not
//! rewritten is passed on as it came. A URL that cannot be rewritten without a doubt stays as it is.

use std::ops::Range;

use http::header::{CONTENT_LOCATION, Entry, LINK, LOCATION, REFRESH};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::{Authority, AuthorityRef, HTTPS};

/// An origin as the client reaches it through mtlsd.
#[derive(Clone, Copy)]
pub struct Reach<'a> {
    /// The origin's authority.
    pub target: &'a Authority,
    /// What the origin read in `Host`, where that was not its authority.
    pub host: Option<&'a HeaderValue>,
    /// What was put in front of the request's path.
    pub base_path: &'a str,
}

/// Makes the origin's own URLs in a response's `headers` paths, which lead the client to mtlsd.
pub fn localize(headers: &mut HeaderMap, reach: Reach<'_>) {
    for name in [LOCATION, CONTENT_LOCATION] {
        rewrite(headers, name, |value| reach.path_of(value));
    }
    rewrite(headers, REFRESH, |value| {
        replace(value, [refresh_target(value)?], |url| reach.path_of(url))
    });
    rewrite(headers, LINK, |value| {
        replace(value, link_targets(value), |url| reach.path_of(url))
    });
}

/// Makes mtlsd's URLs in the fields of a WebDAV request those of its origin (RFC 4918 sections 10.3
/// and 10.4). `host` is what the origin reads in `Host`, and `base_path` what is put in front of the
/// request's path; `base_path_of` returns the same for a URL of this scheme (`true` for https) and
/// authority if it leads to the same origin.
pub fn resolve<'a>(
    headers: &mut HeaderMap,
    host: &HeaderValue,
    base_path: &'a str,
    base_path_of: impl Fn(bool, AuthorityRef<'_>) -> Option<&'a str>,
) {
    let resolved = |url: &[u8]| {
        let (base_path, path) = match split(url) {
            Some(Split {
                https: Some(https),
                authority,
                path,
            }) => (base_path_of(https, parse(authority)?)?, path),
            // A path, which is one on this listener.
            Some(_) => return None,
            None if url.starts_with(b"/") => (base_path, url),
            None => return None,
        };
        let slash: &[u8] = if path.starts_with(b"/") { b"" } else { b"/" };
        let parts = [
            b"https://",
            host.as_bytes(),
            base_path.as_bytes(),
            slash,
            path,
        ];
        Some(parts.concat())
    };
    rewrite(headers, HeaderName::from_static("destination"), resolved);
    rewrite(headers, HeaderName::from_static("if"), |value| {
        replace(value, tagged(value), |url| match split(url) {
            Some(_) => resolved(url),
            None => None,
        })
    });
}

impl Reach<'_> {
    /// Returns a URL of the origin as a path that means the same to the client.
    fn path_of(&self, url: &[u8]) -> Option<Vec<u8>> {
        // Clients ignore white space around a URL.
        let url = url.trim_ascii();
        let path = match split(url) {
            Some(Split {
                https,
                authority,
                path,
            }) if self.is_called(https.unwrap_or(true), parse(authority)?) => path,
            Some(_) => return None,
            // Only behind a base path does a path on the origin differ from the same path here.
            None if !self.base_path.is_empty() && url.starts_with(b"/") => url,
            None => return None,
        };
        let rest = path.strip_prefix(self.base_path.as_bytes())?;
        let path = match rest.first() {
            Some(b'/') => rest.to_vec(),
            None | Some(b'?' | b'#') => [b"/", rest].concat(),
            // `/v10` is not below `/v1`.
            Some(_) => return None,
        };
        let escapes = leaves_host(&path) || (!self.base_path.is_empty() && has_parent(&path));
        (!escapes).then_some(path)
    }

    /// Whether a URL of the origin may have this authority.
    fn is_called(&self, https: bool, authority: AuthorityRef<'_>) -> bool {
        // An origin that does not know of the TLS in front of it writes http:// with the same port.
        let port = |https, authority: &AuthorityRef<'_>| match (https, authority.port()) {
            (_, None) | (false, Some(80)) => HTTPS,
            (_, Some(port)) => port,
        };
        if self.target.matches(&authority, port(https, &authority)) {
            return true;
        }
        let host = self.host.and_then(|host| parse(host.as_bytes()));
        host.is_some_and(|host| {
            host.host().eq_ignore_ascii_case(authority.host())
                && port(false, &host) == port(https, &authority)
        })
    }
}

/// A URL with an authority, taken apart.
pub(super) struct Split<'a> {
    /// Whether the scheme is https; `None` without a scheme.
    pub https: Option<bool>,
    pub authority: &'a [u8],
    pub path: &'a [u8],
}

/// Takes apart `https://…`, `http://…` and `//…`. `None` for everything else.
pub(super) fn split(url: &[u8]) -> Option<Split<'_>> {
    let after = |scheme: &[u8]| {
        let (head, rest) = url.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let (https, rest) = None
        .or_else(|| Some((Some(true), after(b"https://")?)))
        .or_else(|| Some((Some(false), after(b"http://")?)))
        .or_else(|| Some((None, after(b"//")?)))?;
    let end = rest.iter().position(|byte| b"/?#".contains(byte));
    let (authority, path) = rest.split_at(end.unwrap_or(rest.len()));
    Some(Split {
        https,
        authority,
        path,
    })
}

/// Reads the authority of a URL, whose port may be empty (RFC 3986 section 3.2.3).
pub(super) fn parse(authority: &[u8]) -> Option<AuthorityRef<'_>> {
    let text = std::str::from_utf8(authority).ok()?;
    AuthorityRef::parse(text.strip_suffix(':').unwrap_or(text))
}

/// Whether a client may take a path for the URL of another host: `//host`, also behind segments that
/// are dots, and what browsers make the same of (they read `\` as `/`, and skip tabs and line breaks).
fn leaves_host(path: &[u8]) -> bool {
    let mut significant = path.iter().skip(1).filter(|byte| **byte > b' ');
    if matches!(significant.next(), Some(b'/' | b'\\')) {
        return true;
    }
    let mut left: Vec<Vec<u8>> = Vec::new();
    let mut segments = segments(path).skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment.as_slice() {
            b"." | b"%2e" => {}
            b".." | b".%2e" | b"%2e." | b"%2e%2e" => _ = left.pop(),
            // The end of a path is no segment that another follows.
            b"" if segments.peek().is_none() => {}
            _ => left.push(segment),
        }
    }
    left.first().is_some_and(Vec::is_empty)
}

/// Whether a path has a `..` segment, in any spelling: it may lead out of a base path.
fn has_parent(path: &[u8]) -> bool {
    segments(path)
        .any(|segment| matches!(segment.as_slice(), b".." | b"%2e." | b".%2e" | b"%2e%2e"))
}

/// The segments of a path as browsers read them, in lower case.
fn segments(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let end = path.iter().position(|byte| b"?#".contains(byte));
    path[..end.unwrap_or(path.len())]
        .split(|byte| b"/\\".contains(byte))
        .map(|segment| {
            let significant = segment.iter().filter(|byte| **byte > b' ');
            significant.map(u8::to_ascii_lowercase).collect()
        })
}

/// Rewrites each line of a field for which `with` has another value.
pub(super) fn rewrite(
    headers: &mut HeaderMap,
    name: HeaderName,
    with: impl Fn(&[u8]) -> Option<Vec<u8>>,
) {
    let Entry::Occupied(mut lines) = headers.entry(name) else {
        return;
    };
    for value in lines.iter_mut() {
        if let Some(Ok(new)) = with(value.as_bytes()).map(|new| HeaderValue::from_bytes(&new)) {
            *value = new;
        }
    }
}

/// Replaces the parts of `value` at `places`, which come in order, for which `with` has something
/// else. `None` where nothing changes.
fn replace(
    value: &[u8],
    places: impl IntoIterator<Item = Range<usize>>,
    with: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let mut replaced = Vec::with_capacity(value.len());
    let mut copied = 0;
    for place in places {
        if let Some(new) = with(&value[place.clone()]) {
            replaced.extend_from_slice(&value[copied..place.start]);
            replaced.extend_from_slice(&new);
            copied = place.end;
        }
    }
    if copied == 0 {
        return None;
    }
    replaced.extend_from_slice(&value[copied..]);
    Some(replaced)
}

/// Where in a `Refresh` field the URL is, as browsers read it (HTML, "shared declarative refresh
/// steps"): a time, `;` or `,` or white space, perhaps `url=`, and the URL, perhaps in quotes.
fn refresh_target(value: &[u8]) -> Option<Range<usize>> {
    let skip = |from: usize, allowed: &dyn Fn(u8) -> bool| {
        let length = value[from..]
            .iter()
            .take_while(|byte| allowed(**byte))
            .count();
        from + length
    };
    let blank = |byte: u8| byte.is_ascii_whitespace();
    let time = skip(0, &|byte| {
        blank(byte) || byte.is_ascii_digit() || byte == b'.'
    });
    let mut start = skip(time, &|byte| blank(byte) || b";,".contains(&byte));
    if start == 0 {
        return None;
    }
    let word = value.get(start..start + 3);
    if word.is_some_and(|word| word.eq_ignore_ascii_case(b"url")) {
        let equals = skip(start + 3, &blank);
        if value.get(equals) == Some(&b'=') {
            start = skip(equals + 1, &blank);
        }
    }
    let mut end = value.len();
    if let Some(quote) = value.get(start).filter(|byte| b"'\"".contains(byte)) {
        start += 1;
        let length = value[start..].iter().position(|byte| byte == quote);
        end = length.map_or(end, |length| start + length);
    }
    (start < end).then_some(start..end)
}

/// Where in a `Link` field the URLs are (RFC 8288 section 3): in angle brackets, and in the
/// parameter `anchor`.
fn link_targets(value: &[u8]) -> Vec<Range<usize>> {
    const ANCHOR: &[u8] = b"anchor=";
    let mut places = Vec::new();
    let mut at = 0;
    while let Some(byte) = value.get(at) {
        let start = at + 1;
        match byte {
            b'<' => {
                let end = find(value, start, b'>');
                places.push(start..end);
                at = end;
            }
            b'"' => {
                let end = end_of_quotes(value, start);
                let before = &value[..at];
                let name = before.len().checked_sub(ANCHOR.len());
                if name.is_some_and(|name| before[name..].eq_ignore_ascii_case(ANCHOR)) {
                    places.push(start..end);
                }
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    places
}

/// Where in an `If` field the resources are (RFC 4918 section 10.4.2): in angle brackets, but for
/// those in parentheses, which are the tokens of locks.
fn tagged(value: &[u8]) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    let mut at = 0;
    while let Some(byte) = value.get(at) {
        match byte {
            b'(' => at = find(value, at, b')'),
            b'<' => {
                let end = find(value, at, b'>');
                places.push(at + 1..end);
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    places
}

/// Where the next `byte` is, or the end.
fn find(value: &[u8], from: usize, byte: u8) -> usize {
    let length = value[from..].iter().position(|other| *other == byte);
    length.map_or(value.len(), |length| from + length)
}

/// Where a quoted string (RFC 9110 section 5.6.4) that begins at `from` ends.
fn end_of_quotes(value: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(byte) = value.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    value.len()
}

#[cfg(test)]
mod tests;
