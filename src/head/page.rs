//! What a page that mtlsd served says of itself, in the origin's words.

use http::header::{ORIGIN, REFERER};
use http::{HeaderMap, HeaderValue};

use crate::config::AuthorityRef;

use super::reference::{parse, rewrite, split};

/// The page that a request comes from, where it may be one of mtlsd's own.
pub struct OwnPage {
    /// What the client calls mtlsd, `host[:port]`.
    pub authority: String,
    /// What is put in front of the request's path.
    pub base_path: String,
}

/// Makes an `Origin` and a `Referer` of mtlsd's own those of the origin, which reads `host` in
/// `Host`: its check against forged requests compares them with that.
pub fn adopt(headers: &mut HeaderMap, page: &OwnPage, host: &HeaderValue) {
    let Some(own) = AuthorityRef::parse(&page.authority) else {
        return;
    };
    let origin = [b"https://", host.as_bytes()].concat();
    rewrite(headers, ORIGIN, |value| {
        path_on(&own, value)
            .filter(|path| path.is_empty())
            .map(|_| origin.clone())
    });
    rewrite(headers, REFERER, |value| {
        Some([&origin, page.base_path.as_bytes(), path_on(&own, value)?].concat())
    });
}

/// Returns the path of a URL of `own`, with what follows it.
fn path_on<'a>(own: &AuthorityRef<'_>, url: &'a [u8]) -> Option<&'a [u8]> {
    let url = split(url).filter(|url| url.https == Some(false))?;
    let is_own = parse(url.authority)?.is_same(own, HTTP);
    is_own.then_some(url.path)
}

/// Port of an http URL that names none.
const HTTP: u16 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_pages_become_the_origin_s_and_no_others() {
        let page = OwnPage {
            authority: "localhost:8001".to_owned(),
            base_path: "/v1".to_owned(),
        };
        let host = HeaderValue::from_static("api.example");
        let cases = [
            (ORIGIN, "http://localhost:8001", "https://api.example"),
            (ORIGIN, "http://LOCALHOST:8001", "https://api.example"),
            (ORIGIN, "https://localhost:8001", "https://localhost:8001"),
            (ORIGIN, "http://localhost:8002", "http://localhost:8002"),
            (ORIGIN, "http://127.0.0.1:8001", "http://127.0.0.1:8001"),
            (ORIGIN, "null", "null"),
            (
                REFERER,
                "http://localhost:8001/a?b",
                "https://api.example/v1/a?b",
            ),
            (REFERER, "http://localhost:8001/", "https://api.example/v1/"),
            (REFERER, "http://localhost:80/", "http://localhost:80/"),
            (REFERER, "https://evil.example/", "https://evil.example/"),
        ];
        for (name, before, after) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(&name, HeaderValue::from_static(before));
            adopt(&mut headers, &page, &host);
            assert_eq!(headers[&name], after, "{name}: {before}");
        }
    }
}
