//! Keeps web pages from borrowing an identity: a browser sends requests to localhost for any page
//! that asks it to.

use http::HeaderMap;
use http::header::ORIGIN;

use crate::config::WebOrigins;
use crate::error::ForwardError;

/// Refuses a request that a web page of another site has a browser send, unless `allowed` admits
/// that site. Programs other than browsers send neither of the fields this looks at.
///
/// `own` is what the request calls mtlsd; the Host guard has accepted it before.
///
/// # Errors
///
/// [`ForwardError::Forbidden`], which says what to add to the configuration.
pub fn browser(
    headers: &HeaderMap,
    own: Option<&str>,
    allowed: &WebOrigins,
    binding: &str,
) -> Result<(), ForwardError> {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    let mut origins = headers.get_all(ORIGIN).iter();
    let origin = origins.next();
    let single = origins.next().is_none();
    let origin_text = origin
        .and_then(|value| value.to_str().ok())
        .filter(|_| single);
    let admitted = match sites.next() {
        // W3C Fetch Metadata: what the browser itself says, which pages cannot forge.
        Some(site) => matches!(site.as_bytes(), b"same-origin" | b"none") && sites.next().is_none(),
        None if origin.is_none() => true,
        None => match (origin_text, own) {
            (Some(origin), Some(own)) => origin
                .strip_prefix("http://")
                .is_some_and(|authority| authority.eq_ignore_ascii_case(own)),
            _ => false,
        },
    };
    if admitted
        || *allowed == WebOrigins::Any
        || origin_text.is_some_and(|origin| allowed.admits(origin))
    {
        return Ok(());
    }
    // A field that is not one clean value is not repeated in a line to paste.
    let who = match origin_text.filter(|origin| !origin.contains(['"', '\\']) && *origin != "null")
    {
        Some(origin) => format!(
            "a web page of {origin} may not use binding \"{binding}\". If it should, add \
             allow_web_origins = [\"{origin}\"] to [bindings.{binding}]"
        ),
        None => format!(
            "a web page of another site may not use binding \"{binding}\". If any should, add \
             allow_web_origins = \"any\" to [bindings.{binding}]"
        ),
    };
    Err(ForwardError::Forbidden(who))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::config::WebOrigin;

    fn check(fields: &[(&'static str, &'static str)], allowed: &WebOrigins) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        match browser(&headers, Some("localhost:8001"), allowed, "payments") {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    const ANY_PAGE: &str = "a web page of another site may not use binding \"payments\". If any should, add \
         allow_web_origins = \"any\" to [bindings.payments]";
    const EVIL_PAGE: &str = "a web page of https://evil.example may not use binding \"payments\". If it should, \
         add allow_web_origins = [\"https://evil.example\"] to [bindings.payments]";

    #[test]
    fn pages_of_other_sites_are_refused() {
        let site = "sec-fetch-site";
        let cases: &[(&[(&'static str, &'static str)], &str)] = &[
            (&[], "ok"),
            (&[(site, "same-origin")], "ok"),
            (&[(site, "none")], "ok"),
            (
                &[(site, "same-origin"), ("origin", "https://evil.example")],
                "ok",
            ),
            (&[(site, "cross-site")], ANY_PAGE),
            (&[(site, "same-site")], ANY_PAGE),
            (&[(site, "whatever")], ANY_PAGE),
            (&[(site, "none"), (site, "cross-site")], ANY_PAGE),
            (
                &[(site, "cross-site"), ("origin", "https://evil.example")],
                EVIL_PAGE,
            ),
            (
                &[(site, "cross-site"), ("origin", "http://localhost:8001")],
                "a web page of http://localhost:8001 may not use binding \"payments\". If it should, add \
              allow_web_origins = [\"http://localhost:8001\"] to [bindings.payments]",
            ),
            (&[("origin", "http://localhost:8001")], "ok"),
            (&[("origin", "http://LOCALHOST:8001")], "ok"),
            (
                &[("origin", "https://localhost:8001")],
                "a web page of https://localhost:8001 may not use binding \"payments\". If it should, add \
              allow_web_origins = [\"https://localhost:8001\"] to [bindings.payments]",
            ),
            (&[("origin", "https://evil.example")], EVIL_PAGE),
            (&[("origin", "null")], ANY_PAGE),
            (
                &[
                    ("origin", "http://localhost:8001"),
                    ("origin", "http://localhost:8001"),
                ],
                ANY_PAGE,
            ),
            (&[("origin", "http://a\"b")], ANY_PAGE),
        ];
        for (fields, expected) in cases {
            assert_eq!(check(fields, &WebOrigins::Own), *expected, "{fields:?}");
        }
    }

    #[test]
    fn listed_pages_are_let_through() {
        let listed = WebOrigins::Listed(vec![WebOrigin::parse("https://app.example").unwrap()]);
        let site = "sec-fetch-site";
        let cases: &[(&[(&'static str, &'static str)], bool)] = &[
            (&[("origin", "https://app.example")], true),
            (
                &[(site, "cross-site"), ("origin", "https://app.example")],
                true,
            ),
            (&[(site, "cross-site")], false),
            (
                &[
                    ("origin", "https://app.example"),
                    ("origin", "https://evil.example"),
                ],
                false,
            ),
            (&[("origin", "https://app.example.evil")], false),
        ];
        for (fields, admitted) in cases {
            assert_eq!(check(fields, &listed) == "ok", *admitted, "{fields:?}");
        }
        assert_eq!(
            check(
                &[("origin", "null"), (site, "cross-site")],
                &WebOrigins::Any
            ),
            "ok"
        );
    }
}
