//! What a request says about where it goes and how it is framed. Whatever two parsers could read
//! differently is refused here.

use http::header::{HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Method, Version};

use crate::config::AuthorityRef;
use crate::error::ForwardError;
use crate::head::Fields;
use crate::route::Asked;

/// What matters of a request's head, borrowed from it.
pub struct Message<'a> {
    /// What it names.
    pub asked: Asked<'a>,
    /// The same as it was written.
    pub text: Option<&'a str>,
    /// Whether its body is framed in chunks.
    pub chunked: bool,
}

impl<'a> Message<'a> {
    /// What the message names when it came through a tunnel to the host `tunnel`, or through none.
    /// Inside a tunnel it must be that host: a client that was let through to one origin does not
    /// get to another.
    ///
    /// # Errors
    ///
    /// [`ForwardError::Misdirected`].
    pub fn inside(&self, tunnel: Option<&str>) -> Result<Asked<'a>, ForwardError> {
        let Some(tunnel) = tunnel else {
            return Ok(self.asked);
        };
        let named = match self.asked {
            Asked::Url {
                https: false,
                authority,
            }
            | Asked::Host(Some(authority)) => Some(authority),
            Asked::Url { .. } | Asked::Host(None) => None,
        };
        match named {
            Some(authority)
                if authority.host().eq_ignore_ascii_case(tunnel)
                    && matches!(authority.port(), None | Some(80)) =>
            {
                Ok(Asked::Url {
                    https: false,
                    authority,
                })
            }
            _ => Err(ForwardError::Misdirected(format!(
                "a request inside a tunnel to {tunnel}:80 must be for http://{tunnel}"
            ))),
        }
    }

    /// Whether this is a CONNECT to port 80, in which a client speaks plain HTTP.
    pub fn is_plain_tunnel(&self) -> bool {
        matches!(self.asked, Asked::Url { authority, .. } if authority.port() == Some(80))
    }

    /// The host that is named; empty when none is.
    pub fn host(&self) -> &'a str {
        match self.asked {
            Asked::Url { authority, .. } | Asked::Host(Some(authority)) => authority.host(),
            Asked::Host(None) => "",
        }
    }

    /// What `head`, which has `fields`, says.
    ///
    /// # Errors
    ///
    /// [`ForwardError::BadRequest`].
    pub fn of(head: &'a Parts, fields: Fields) -> Result<Self, ForwardError> {
        let chunked = fields.transfer_encoding && is_chunked(&head.headers)?;
        let host = host(&head.headers)?;
        let uri = &head.uri;
        if head.method.as_str().len() > LONGEST_METHOD {
            return Err(ForwardError::BadRequest("the method is too long"));
        }
        let connect = head.method == Method::CONNECT;
        let (asked, text) = match (uri.scheme_str(), uri.authority()) {
            // RFC 9113 section 8.3.1: `:authority` is what Host is in HTTP/1.
            (_, authority) if head.version == Version::HTTP_2 && !connect => {
                let named = authority.map(|authority| {
                    let text = authority.as_str();
                    AuthorityRef::parse(text).map(|authority| (text, authority))
                });
                match (named, host) {
                    (Some(None), _) => {
                        return Err(ForwardError::BadRequest(
                            "the :authority is not host[:port]",
                        ));
                    }
                    (Some(Some((_, named))), Some((_, host))) if named != host => {
                        return Err(ForwardError::BadRequest(
                            "Host and :authority name different hosts",
                        ));
                    }
                    (Some(Some((text, authority))), _) | (None, Some((text, authority))) => {
                        (Asked::Host(Some(authority)), Some(text))
                    }
                    (None, None) => {
                        return Err(ForwardError::BadRequest("the request has no :authority"));
                    }
                }
            }
            (scheme @ Some("http" | "https"), Some(authority)) => {
                let text = authority.as_str();
                let authority = AuthorityRef::parse(text).ok_or(ForwardError::BadRequest(
                    "the URL's authority is not host[:port]",
                ))?;
                let https = scheme == Some("https");
                (Asked::Url { https, authority }, Some(text))
            }
            (Some(_), _) => {
                return Err(ForwardError::BadRequest(
                    "the URL's scheme is neither http nor https",
                ));
            }
            (None, Some(authority)) if connect => {
                let text = authority.as_str();
                let authority = AuthorityRef::parse(text).ok_or(ForwardError::BadRequest(
                    "the target of CONNECT is not host:port",
                ))?;
                // The tunnel's port is that of a URL of the scheme that is used in it.
                let https = authority.port() == Some(443);
                (Asked::Url { https, authority }, Some(text))
            }
            (None, Some(_)) => {
                return Err(ForwardError::BadRequest(
                    "the request target is neither a path nor a URL",
                ));
            }
            (None, None) => {
                let asterisk = uri.path() == "*" && head.method == Method::OPTIONS;
                if !asterisk && !uri.path().starts_with('/') {
                    return Err(ForwardError::BadRequest(
                        "the request target is neither a path nor a URL",
                    ));
                }
                match host {
                    None if head.version >= Version::HTTP_11 => {
                        return Err(ForwardError::BadRequest("the request has no Host field"));
                    }
                    None => (Asked::Host(None), None),
                    Some((text, authority)) => (Asked::Host(Some(authority)), Some(text)),
                }
            }
        };
        Ok(Self {
            asked,
            text,
            chunked,
        })
    }
}

/// The one `Host` field (RFC 9112 section 3.2).
fn host(headers: &HeaderMap) -> Result<Option<(&str, AuthorityRef<'_>)>, ForwardError> {
    let mut values = headers.get_all(HOST).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(ForwardError::BadRequest(
            "the request has several Host fields",
        ));
    }
    let read = value
        .to_str()
        .ok()
        .and_then(|text| Some((text, AuthorityRef::parse(text)?)));
    match read {
        Some(read) => Ok(Some(read)),
        None => Err(ForwardError::BadRequest(
            "the Host field is not host[:port]",
        )),
    }
}

/// Whether the body is chunked. A list of codings is refused: what one parser takes for the last
/// of them, another does not (RFC 9112 section 6.1).
fn is_chunked(headers: &HeaderMap) -> Result<bool, ForwardError> {
    let mut values = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(value) = values.next() else {
        return Ok(false);
    };
    match values.next().is_none() && value.as_bytes().eq_ignore_ascii_case(b"chunked") {
        true => Ok(true),
        false => Err(ForwardError::BadRequest(
            "the Transfer-Encoding is not just `chunked`",
        )),
    }
}

/// Bytes of a method; the longest that is registered has 17.
const LONGEST_METHOD: usize = 64;

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::head;

    type Fields = &'static [(&'static str, &'static str)];

    fn refused(method: &str, uri: &str, fields: Fields) -> String {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        match Message::of(&head, head::Fields::of(&head.headers)) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        const HOST: (&str, &str) = ("host", "a");
        const CASES: &[(&str, &str, Fields, &str)] = &[
            ("GET", "/", &[HOST], "accepted"),
            ("GET", "/", &[], "the request has no Host field"),
            (
                "GET",
                "/",
                &[HOST, HOST],
                "the request has several Host fields",
            ),
            (
                "GET",
                "/",
                &[("host", "a, b")],
                "the Host field is not host[:port]",
            ),
            (
                "GET",
                "/",
                &[("host", "u@a")],
                "the Host field is not host[:port]",
            ),
            (
                "GET",
                "/",
                &[("host", "")],
                "the Host field is not host[:port]",
            ),
            ("GET", "http://a/", &[], "accepted"),
            ("GET", "https://a/", &[], "accepted"),
            (
                "GET",
                "http://a/",
                &[HOST, ("host", "b")],
                "the request has several Host fields",
            ),
            (
                "GET",
                "http://u:p@a/",
                &[],
                "the URL's authority is not host[:port]",
            ),
            (
                "GET",
                "ftp://a/",
                &[],
                "the URL's scheme is neither http nor https",
            ),
            (
                "GET",
                "a:80",
                &[HOST],
                "the request target is neither a path nor a URL",
            ),
            ("OPTIONS", "*", &[HOST], "accepted"),
            (
                "GET",
                "*",
                &[HOST],
                "the request target is neither a path nor a URL",
            ),
            ("CONNECT", "a:80", &[HOST], "accepted"),
            (
                "POST",
                "/",
                &[HOST, ("transfer-encoding", "Chunked")],
                "accepted",
            ),
            (
                "POST",
                "/",
                &[HOST, ("transfer-encoding", "gzip, chunked")],
                "the Transfer-Encoding is not just `chunked`",
            ),
            (
                "POST",
                "/",
                &[HOST, ("transfer-encoding", "chunked, chunked")],
                "the Transfer-Encoding is not just `chunked`",
            ),
            (
                "POST",
                "/",
                &[
                    HOST,
                    ("transfer-encoding", "identity"),
                    ("transfer-encoding", "chunked"),
                ],
                "the Transfer-Encoding is not just `chunked`",
            ),
        ];
        for (method, uri, fields, expected) in CASES {
            assert_eq!(
                refused(method, uri, fields),
                *expected,
                "{method} {uri} {fields:?}"
            );
        }
    }
}
