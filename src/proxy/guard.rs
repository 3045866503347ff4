//! Keeps web pages from borrowing an identity: a browser sends requests to localhost for any page
//! that asks it to.
//!
//! What browsers say of a page depends on whether they trust the URL it sends a request to (W3C
//! Secure Contexts): `Sec-Fetch-Site` comes with every request to localhost and loopback addresses,
//! and with none to other http URLs. There, a GET says nothing, and an `Origin` can be forged with
//! DNS, so whatever comes from a browser is refused.

use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, ORIGIN, USER_AGENT};
use http::{HeaderMap, HeaderValue};

use crate::config::{AuthorityRef, WebOrigins};
use crate::error::ForwardError;
use crate::head::Fields;
use crate::log;

use super::message::Message;

/// The page that a request comes from, as far as the guard let it through.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Page {
    /// None, or one of mtlsd's own.
    Own,
    /// None, or one that cannot be told.
    Unknown,
    /// One of `allow_web_origins`; this is its `Origin`.
    Listed(HeaderValue),
}

/// What a request says about the page it comes from.
struct Claims<'a> {
    /// What it calls mtlsd, as it was written.
    name: &'a str,
    /// Whether browsers trust URLs of that name.
    trusted: bool,
    /// The one `Sec-Fetch-Site`; several count as one that is unknown.
    site: Option<&'a [u8]>,
    /// Whether it has an `Origin`.
    has_origin: bool,
    /// The `Origin`, if it is a single one in ASCII.
    origin: Option<&'a str>,
    /// Whether the origin is that of the request itself.
    is_own: bool,
}

impl<'a> Claims<'a> {
    fn of(headers: &'a HeaderMap, fields: Fields, message: &Message<'a>) -> Self {
        let name = message.text.unwrap_or_default();
        let named = message.named();
        let mut claims = Self {
            name,
            trusted: named.is_some_and(|named| is_trusted(&named, name)),
            site: None,
            has_origin: false,
            origin: None,
            is_own: false,
        };
        if !fields.web {
            return claims;
        }
        let mut sites = headers.get_all("sec-fetch-site").iter();
        claims.site = sites.next().map(HeaderValue::as_bytes);
        if sites.next().is_some() {
            claims.site = Some(b"");
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        let first = origins.next();
        claims.has_origin = first.is_some();
        claims.origin = first
            .filter(|_| origins.next().is_none())
            .and_then(|origin| origin.to_str().ok());
        claims.is_own = claims.trusted
            && claims
                .origin
                .and_then(|origin| AuthorityRef::parse(origin.strip_prefix("http://")?))
                .zip(named)
                .is_some_and(|(origin, named)| origin.is_same(&named, HTTP));
        claims
    }

    /// Whether a request with these claims comes from no page, or from one of mtlsd's own.
    fn are_own(&self, headers: &HeaderMap) -> bool {
        // W3C Fetch Metadata: what the browser itself says, which pages cannot forge.
        match (self.site, self.has_origin) {
            (Some(b"same-origin"), true) => self.is_own || self.origin == Some("null"),
            // Extensions send requests for any page, and say `none`.
            (Some(b"none") | None, true) => self.is_own,
            (Some(site), false) => matches!(site, b"same-origin" | b"none"),
            (Some(_), true) => false,
            (None, false) => self.trusted || !is_from_browser(headers),
        }
    }
}

/// Refuses a request that a web page of another site has a browser send, unless `allowed` admits
/// that site. The Host guard has accepted what the request calls mtlsd before.
///
/// # Errors
///
/// Returns [`ForwardError::Forbidden`], which says what to do instead.
pub fn browser(
    headers: &HeaderMap,
    fields: Fields,
    message: &Message<'_>,
    allowed: &WebOrigins,
    binding: &str,
) -> Result<Page, ForwardError> {
    let claims = Claims::of(headers, fields, message);
    if claims.are_own(headers) {
        return Ok(match claims.trusted {
            true => Page::Own,
            false => Page::Unknown,
        });
    }
    if let Some(origin) = claims.origin
        && allowed.admits(origin)
        && let Ok(origin) = HeaderValue::from_str(origin)
    {
        return Ok(Page::Listed(origin));
    }
    match allowed {
        WebOrigins::Any => Ok(Page::Unknown),
        WebOrigins::Own | WebOrigins::Listed(_) => {
            Err(ForwardError::Forbidden(refusal(headers, &claims, binding)))
        }
    }
}

fn refusal(headers: &HeaderMap, claims: &Claims<'_>, binding: &str) -> String {
    let is = |name: &str, value: &[u8]| {
        let mut values = headers.get_all(name).iter();
        values.any(|found| found.as_bytes() == value)
    };
    let navigates = is("sec-fetch-mode", b"navigate") || is("upgrade-insecure-requests", b"1");
    // A field that is not one clean value is not repeated in a line to paste.
    let clean = |origin: &&str| !origin.contains(['"', '\\']) && *origin != "null";
    // A page under this very name could be anybody's.
    let is_same = |origin: &str| {
        let scheme = origin.strip_suffix(claims.name);
        scheme.is_some_and(|scheme| scheme.ends_with("://"))
    };
    match (claims.trusted, claims.origin.filter(clean)) {
        (false, origin) if origin.is_none_or(is_same) => format!(
            "browsers do not tell which page sends a request to http://{name}, so binding \
             \"{binding}\" takes none from them. Use localhost, {binding}.localhost or a loopback \
             address in place of {name}; to open a page, enter the address in the address bar",
            name = claims.name,
        ),
        (true, _) if navigates => format!(
            "a page of another site may not open binding \"{binding}\". If you want to, enter \
             the address in the address bar"
        ),
        (_, Some(origin)) => format!(
            "a web page of {origin} may not use binding \"{binding}\". If it should, add \
             allow_web_origins = [\"{origin}\"] to [bindings.{binding}]"
        ),
        (_, None) => format!(
            "a web page of another site may not use binding \"{binding}\". If one should, list its \
             origin in allow_web_origins of [bindings.{binding}], and have it send requests that \
             name it (CORS)"
        ),
    }
}

/// Replaces an error that tells what the bindings are, if the request may come from a page that
/// points its own name at mtlsd (DNS rebinding), and could read it. The log has what it says.
pub fn conceal(
    error: ForwardError,
    headers: &HeaderMap,
    fields: Fields,
    message: &Message<'_>,
) -> ForwardError {
    let ForwardError::Misdirected(detail) = &error else {
        return error;
    };
    let named = message.named();
    let name = message.text.unwrap_or_default();
    let trusted = named.is_some_and(|named| is_trusted(&named, name));
    if trusted || !(fields.web || may_be_browser(headers)) {
        return error;
    }
    if let Some(suppressed) = log::once_a_minute("-", "foreign_host") {
        tracing::warn!(host = name, detail, suppressed, "browser request rejected");
    }
    ForwardError::Misdirected(format!(
        "mtlsd does not serve browsers under the name \"{name}\"; its log has the details"
    ))
}

/// Whether browsers send `Sec-Fetch-Site` to http URLs with this authority. Not all of them know
/// names with a final dot.
fn is_trusted(named: &AuthorityRef<'_>, text: &str) -> bool {
    named.is_loopback() && !text.ends_with('.') && !text.contains(".:")
}

/// Whether a request has what every browser sends, and hardly anything else does.
fn is_from_browser(headers: &HeaderMap) -> bool {
    is_mozilla(headers)
        && headers.contains_key(ACCEPT_LANGUAGE)
        && headers.contains_key(ACCEPT_ENCODING)
}

/// Whether a request may come from a browser, even one whose page has replaced what it may.
fn may_be_browser(headers: &HeaderMap) -> bool {
    is_mozilla(headers)
        || (headers.contains_key(ACCEPT_LANGUAGE) && headers.contains_key(ACCEPT_ENCODING))
}

fn is_mozilla(headers: &HeaderMap) -> bool {
    let mut agents = headers.get_all(USER_AGENT).iter();
    agents.any(|agent| {
        let begin = agent.as_bytes().get(..MOZILLA.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(MOZILLA))
    })
}

/// How the `User-Agent` of every browser begins.
const MOZILLA: &[u8] = b"Mozilla/";
/// Port of an http URL that names none.
const HTTP: u16 = 80;

#[cfg(test)]
mod tests;
