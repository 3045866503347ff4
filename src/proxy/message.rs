//! What a request says about where it goes and how it is framed. Whatever two parsers could read
//! differently is refused here.

use std::fmt;

use http::header::{HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Method, Version};

use crate::config::{AuthorityRef, HTTPS};
use crate::error::ForwardError;
use crate::head::Fields;
use crate::route::Asked;

/// The authority of a CONNECT request, which every request inside its tunnel must name.
#[derive(Debug)]
pub struct Tunnel {
    host: Box<str>,
    port: u16,
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Tunnel {
    /// Whether a request inside the tunnel may name `authority`.
    fn covers(&self, authority: &AuthorityRef<'_>) -> bool {
        authority.host().eq_ignore_ascii_case(&self.host)
            && authority.port().unwrap_or(HTTP) == self.port
    }
}

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
    /// Returns what the message names, given the CONNECT tunnel it came through, if any. Inside a
    /// tunnel it must name the tunnel's host and port: a client admitted to one origin does not
    /// reach another.
    ///
    /// # Errors
    ///
    /// Returns [`ForwardError::Misdirected`] if it names another host or port.
    pub fn inside(&self, tunnel: Option<&Tunnel>) -> Result<Asked<'a>, ForwardError> {
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
            Some(authority) if tunnel.covers(&authority) => Ok(Asked::Url {
                https: false,
                authority,
            }),
            _ => Err(ForwardError::Misdirected(format!(
                "a request inside a CONNECT tunnel to {tunnel} must be for http://{tunnel}/"
            ))),
        }
    }

    /// Returns the authority that is named, if one is.
    pub fn named(&self) -> Option<AuthorityRef<'a>> {
        match self.asked {
            Asked::Url { authority, .. } => Some(authority),
            Asked::Host(host) => host,
        }
    }

    /// Returns the tunnel that a CONNECT request opens; `None` for a port at which clients speak
    /// TLS, and for a target without a port.
    pub fn tunnel(&self) -> Option<Tunnel> {
        match self.asked {
            Asked::Url { authority, .. } => Some(Tunnel {
                host: authority.host().into(),
                port: authority.port().filter(|port| *port != HTTPS)?,
            }),
            Asked::Host(_) => None,
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
            (scheme, authority) if head.version == Version::HTTP_2 && !connect => {
                if !matches!(scheme, None | Some("http" | "https")) {
                    return Err(ForwardError::BadRequest(
                        "the URL's scheme is neither http nor https",
                    ));
                }
                if !is_path(head) {
                    return Err(ForwardError::BadRequest("the :path is not a path"));
                }
                let named = authority.map(|authority| {
                    let text = without_empty_port(authority.as_str());
                    AuthorityRef::parse(text).map(|authority| (text, authority))
                });
                match (named, host) {
                    (Some(None), _) => {
                        let text = authority.map_or("", http::uri::Authority::as_str);
                        return Err(unreadable(text, "the :authority is not host[:port]"));
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
                let text = without_empty_port(authority.as_str());
                let authority = AuthorityRef::parse(text)
                    .ok_or_else(|| unreadable(text, "the URL's authority is not host[:port]"))?;
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
                if !is_path(head) {
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

/// Whether the target is an absolute path, or the asterisk of OPTIONS (RFC 9112 section 3.2).
fn is_path(head: &Parts) -> bool {
    let path = head.uri.path();
    path.starts_with('/') || (path == "*" && head.method == Method::OPTIONS)
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
    let text = without_empty_port(value.to_str().unwrap_or_default());
    match AuthorityRef::parse(text) {
        Some(authority) => Ok(Some((text, authority))),
        None => Err(unreadable(text, "the Host field is not host[:port]")),
    }
}

/// The authority without the colon of a port that is empty, which means the scheme's (RFC 3986
/// section 3.2.3).
fn without_empty_port(text: &str) -> &str {
    match text.strip_suffix(':') {
        Some(host) if AuthorityRef::parse(host).is_some_and(|host| host.port().is_none()) => host,
        _ => text,
    }
}

/// Why an authority is refused. RFC 9110 section 4.2.4 warns of user information in URLs.
fn unreadable(text: &str, otherwise: &'static str) -> ForwardError {
    ForwardError::BadRequest(match text.contains('@') {
        true => {
            "the authority contains user information (`user:password@`); remove it and send the \
             credentials in an Authorization field"
        }
        false => otherwise,
    })
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

/// Port of an http URL that names none.
const HTTP: u16 = 80;
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
                "the authority contains user information (`user:password@`); remove it and send the \
                 credentials in an Authorization field",
            ),
            ("GET", "/", &[("host", "a:")], "accepted"),
            ("GET", "/", &[("host", "[::1]:")], "accepted"),
            ("GET", "http://a:/", &[], "accepted"),
            (
                "GET",
                "/",
                &[("host", "a:80:")],
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
                "the authority contains user information (`user:password@`); remove it and send the \
                 credentials in an Authorization field",
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
