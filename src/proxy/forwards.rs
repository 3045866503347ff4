//! `Max-Forwards`, by which OPTIONS and TRACE say how far they go (RFC 9110 section 7.6.2).

use std::fmt::Write;

use http::header::{AUTHORIZATION, COOKIE, MAX_FORWARDS};
use http::request::Parts;
use http::{HeaderValue, Method};

/// A response of mtlsd's own that is no error.
#[derive(Default)]
pub struct Reply {
    /// The methods that mtlsd forwards; for OPTIONS.
    pub allow: Option<&'static str>,
    /// The media type of the text.
    pub content_type: Option<&'static str>,
    /// The body.
    pub text: String,
}

/// Returns the response to a request that ends here. Otherwise counts it down by one.
pub fn spend(head: &mut Parts) -> Option<Reply> {
    if head.method != Method::OPTIONS && head.method != Method::TRACE {
        return None;
    }
    let mut values = head.headers.get_all(MAX_FORWARDS).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let text = value.to_str().ok()?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // More than fits is more than any chain of proxies has.
    let left = text.parse::<u64>().unwrap_or(u64::MAX);
    if let Some(left) = left.checked_sub(1) {
        head.headers.insert(MAX_FORWARDS, HeaderValue::from(left));
        return None;
    }
    Some(match head.method == Method::OPTIONS {
        true => Reply {
            allow: Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE"),
            content_type: None,
            text: String::new(),
        },
        false => Reply {
            allow: None,
            content_type: Some("message/http"),
            text: echo(head),
        },
    })
}

/// The request as it arrived, without credentials (RFC 9110 section 9.3.8).
fn echo(head: &Parts) -> String {
    let mut text = format!("TRACE {} {:?}\r\n", head.uri, head.version);
    for (name, value) in &head.headers {
        let secret = [AUTHORIZATION, COOKIE].contains(name) || name.as_str().starts_with("proxy-");
        if !secret {
            // Writing to a String cannot fail.
            let _ = write!(text, "{name}: {}\r\n", value.as_bytes().escape_ascii());
        }
    }
    text.push_str("\r\n");
    text
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn only_options_and_trace_are_counted_down() {
        const CASES: &[(&str, &str, Option<&str>)] = &[
            ("OPTIONS", "0", None),
            ("TRACE", "0", None),
            ("TRACE", "000", None),
            ("OPTIONS", "1", Some("0")),
            ("TRACE", "10", Some("9")),
            ("OPTIONS", "+1", Some("+1")),
            ("OPTIONS", "", Some("")),
            ("GET", "0", Some("0")),
        ];
        for (method, before, after) in CASES {
            let request = Request::builder()
                .method(*method)
                .header(MAX_FORWARDS, *before)
                .header(AUTHORIZATION, "secret");
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            let reply = spend(&mut head);
            let left = head.headers[MAX_FORWARDS].to_str().unwrap();
            match after {
                Some(after) => {
                    assert!(reply.is_none(), "{method} {before}");
                    assert_eq!(left, *after, "{method} {before}");
                }
                None => {
                    let reply = reply.unwrap_or_else(|| panic!("{method} {before} is forwarded"));
                    assert!(!reply.text.contains("secret"), "{}", reply.text);
                }
            }
        }
    }
}
