//! Switching a connection to another protocol (RFC 9110 section 7.8).

use http::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};
use http::{HeaderMap, HeaderValue, Version};

use crate::config::UpgradeProtocol;

use super::{Fields, list, names_option};

/// Returns the protocols that a client offers to switch to, of those that are `allowed`.
///
/// `h2c` beside `HTTP2-Settings` is never one of them: some clients, Java's for one, make that
/// offer with every request, and expect the response in HTTP/2 (RFC 9113 section 3.1 has removed
/// that). Without it, as Docker's BuildKit sends it, the connection starts with an HTTP/2 preface.
pub fn offered(
    headers: &HeaderMap,
    fields: Fields,
    version: Version,
    allowed: &[UpgradeProtocol],
) -> Option<HeaderValue> {
    // Only HTTP/1.1 has upgrades.
    if !(fields.upgrade && fields.names_others) || version != Version::HTTP_11 {
        return None;
    }
    if !names_option(headers, "upgrade") {
        return None;
    }
    let with_settings = headers.contains_key("http2-settings");
    let passes = |protocol: &&str| {
        allowed.iter().any(|one| one.is(protocol))
            && !(with_settings && protocol.eq_ignore_ascii_case("h2c"))
    };
    let protocols: Vec<&str> = list(headers, &UPGRADE)
        .filter_map(|protocol| std::str::from_utf8(protocol).ok())
        .filter(passes)
        .collect();
    match protocols.is_empty() {
        true => None,
        false => HeaderValue::from_str(&protocols.join(", ")).ok(),
    }
}

/// Returns the protocol that a 101 switches to, if it is one that was `offered`.
pub fn accepted(headers: &HeaderMap, offered: &HeaderValue) -> Option<HeaderValue> {
    let mut chosen = headers.get_all(UPGRADE).iter();
    let protocol = chosen.next()?;
    let mut offers = offered.as_bytes().split(|byte| *byte == b',');
    let is_offered =
        offers.any(|offer| offer.trim_ascii().eq_ignore_ascii_case(protocol.as_bytes()));
    let agrees = names_option(headers, "upgrade");
    (agrees && chosen.next().is_none() && is_offered).then(|| protocol.clone())
}

/// Makes `headers` those of a 101 that switches to `protocol`.
pub fn switch(headers: &mut HeaderMap, protocol: HeaderValue) {
    // RFC 9110 section 8.6: a 1xx has no length.
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| {
            (
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )
        };
        fields.iter().map(field).collect()
    }

    fn passed(fields: &[(&str, &str)], allowed: &[&str]) -> Option<String> {
        let headers = map(fields);
        let allowed: Vec<_> = allowed
            .iter()
            .map(|protocol| UpgradeProtocol::parse(protocol).unwrap())
            .collect();
        let fields = Fields::of(&headers);
        offered(&headers, fields, Version::HTTP_11, &allowed)
            .map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn only_listed_protocols_are_offered_in_any_spelling() {
        const DEFAULTS: &[&str] = &["websocket", "tcp", "SPDY/3.1"];
        const WITH_H2C: &[&str] = &["websocket", "h2c"];
        let cases: &[(&[&str], &[&str], Option<&str>)] = &[
            (&["websocket"], DEFAULTS, Some("websocket")),
            (&["WebSocket"], DEFAULTS, Some("WebSocket")),
            (&["TCP"], DEFAULTS, Some("TCP")),
            (&["spdy/3.1"], DEFAULTS, Some("spdy/3.1")),
            (&["h2c"], DEFAULTS, None),
            (&["H2C"], DEFAULTS, None),
            (&["H2c, websocket"], DEFAULTS, Some("websocket")),
            (&["h2c", "websocket"], DEFAULTS, Some("websocket")),
            (&["http/2.0"], DEFAULTS, None),
            (&["HTTP/2.0"], DEFAULTS, None),
            (&["h2"], DEFAULTS, None),
            (&["TLS/1.2"], DEFAULTS, None),
            (&["SPDY/3.1/x"], DEFAULTS, None),
            (&["websocket/13"], DEFAULTS, None),
            (&[""], DEFAULTS, None),
            (&["websocket"], &[], None),
            (&["h2c"], WITH_H2C, Some("h2c")),
            (&["H2C , x"], WITH_H2C, Some("H2C")),
            (&["HTTP/2.0", "h2"], WITH_H2C, None),
        ];
        for (upgrade, allowed, expected) in cases {
            let mut fields = vec![("Connection", "keep-alive"), ("Connection", "x, UPGRADE")];
            fields.extend(upgrade.iter().map(|value| ("Upgrade", *value)));
            assert_eq!(passed(&fields, allowed).as_deref(), *expected, "{fields:?}");
        }
        let with_settings = [
            ("Connection", "Upgrade, HTTP2-Settings"),
            ("Upgrade", "H2C, WebSocket"),
            ("HTTP2-Settings", "AAMAAABk"),
        ];
        assert_eq!(
            passed(&with_settings, WITH_H2C).as_deref(),
            Some("WebSocket")
        );
        assert_eq!(passed(&[("Upgrade", "websocket")], DEFAULTS), None);
    }

    #[test]
    fn a_switch_has_to_be_to_what_was_offered() {
        let offered = HeaderValue::from_static("websocket, tcp");
        let cases: &[(&[(&str, &str)], bool)] = &[
            (&[("Connection", "Upgrade"), ("Upgrade", "TCP")], true),
            (
                &[
                    ("Connection", "x"),
                    ("Connection", "upgrade"),
                    ("Upgrade", "websocket"),
                ],
                true,
            ),
            (&[("Connection", "Upgrade"), ("Upgrade", "h2c")], false),
            (&[("Connection", "Upgrade")], false),
            (&[("Upgrade", "tcp")], false),
            (
                &[
                    ("Connection", "Upgrade"),
                    ("Upgrade", "tcp"),
                    ("Upgrade", "h2c"),
                ],
                false,
            ),
            (
                &[("Connection", "Upgrade"), ("Upgrade", "tcp, websocket")],
                false,
            ),
        ];
        for (fields, expected) in cases {
            let protocol = accepted(&map(fields), &offered);
            assert_eq!(protocol.is_some(), *expected, "{fields:?}");
        }
    }
}
