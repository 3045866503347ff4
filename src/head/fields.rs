//! Which fields a head has, of those that mean something to a proxy.

use http::{HeaderMap, Version};

/// Which fields a head has. Found in one pass over its names: most heads have few of these, and a
/// lookup for each took twice as many instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// `Connection`.
    pub connection: bool,
    // What it says.
    close: bool,
    keep_alive: bool,
    /// `Connection` names what is neither of these two.
    pub names_others: bool,
    /// `Transfer-Encoding`.
    pub transfer_encoding: bool,
    /// `TE`.
    pub te: bool,
    /// `Upgrade`.
    pub upgrade: bool,
    /// Others that belong to one connection.
    pub hop_by_hop: bool,
    /// `Expect`.
    pub expect: bool,
    /// `Origin` or `Sec-Fetch-Site`, which browsers send.
    pub web: bool,
    /// `Origin` or `Referer`, which name a page.
    pub page: bool,
    /// Fields with URLs that may be the origin's or mtlsd's: `Location`, `Content-Location`,
    /// `Refresh`, `Link`, and WebDAV's `Destination` and `If`.
    pub references: bool,
    /// `Set-Cookie`.
    pub cookies: bool,
    /// `Strict-Transport-Security` or `Alt-Svc`, which speak of the origin's host.
    pub host_bound: bool,
}

impl Fields {
    /// Those of `headers`.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for (name, value) in headers {
            // By length first: a match of all of these, which compares each name with many of them,
            // took a quarter more instructions.
            let name = name.as_str();
            match name.len() {
                2 => {
                    found.te |= name == "te";
                    found.references |= name == "if";
                }
                4 => found.references |= name == "link",
                6 => {
                    found.expect |= name == "expect";
                    found.web |= name == "origin";
                    found.page |= name == "origin";
                }
                7 => {
                    found.upgrade |= name == "upgrade";
                    found.host_bound |= name == "alt-svc";
                    found.references |= name == "refresh";
                    found.page |= name == "referer";
                }
                8 => found.references |= name == "location",
                10 if name == "connection" => {
                    found.connection = true;
                    found.note_options(value.as_bytes());
                }
                10 => {
                    found.hop_by_hop |= name == "keep-alive";
                    found.cookies |= name == "set-cookie";
                }
                11 => found.references |= name == "destination",
                14 => {
                    found.web |= name == "sec-fetch-site";
                    found.hop_by_hop |= name == "http2-settings";
                }
                16 => found.references |= name == "content-location",
                17 => found.transfer_encoding |= name == "transfer-encoding",
                25 => found.host_bound |= name == "strict-transport-security",
                _ => {}
            }
            found.hop_by_hop |= name.starts_with("proxy-");
        }
        found
    }

    fn note_options(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if !option.is_empty() {
                self.names_others = true;
            }
        }
    }

    /// Whether a message of `version` with these is the last on its connection (RFC 9112
    /// section 9.3).
    pub fn is_last(&self, version: Version) -> bool {
        self.close || (version < Version::HTTP_11 && !self.keep_alive)
    }

    /// Whether there are any, but for `Connection`, that belong to one connection.
    pub fn has_hop_by_hop(&self) -> bool {
        self.hop_by_hop || self.transfer_encoding || self.te || self.upgrade
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn every_field_is_found_by_its_name_alone() {
        type Note = fn(&mut Fields);
        const NOTES: &[(&str, Note)] = &[
            ("transfer-encoding", |found| found.transfer_encoding = true),
            ("te", |found| found.te = true),
            ("upgrade", |found| found.upgrade = true),
            ("keep-alive", |found| found.hop_by_hop = true),
            ("http2-settings", |found| found.hop_by_hop = true),
            ("proxy-authorization", |found| found.hop_by_hop = true),
            ("proxy-x", |found| found.hop_by_hop = true),
            ("expect", |found| found.expect = true),
            ("origin", |found| {
                found.web = true;
                found.page = true;
            }),
            ("referer", |found| found.page = true),
            ("sec-fetch-site", |found| found.web = true),
            ("location", |found| found.references = true),
            ("content-location", |found| found.references = true),
            ("refresh", |found| found.references = true),
            ("link", |found| found.references = true),
            ("destination", |found| found.references = true),
            ("if", |found| found.references = true),
            ("set-cookie", |found| found.cookies = true),
            ("strict-transport-security", |found| found.host_bound = true),
            ("alt-svc", |found| found.host_bound = true),
            ("x-origin", |_| ()),
            ("accept", |_| ()),
        ];
        for (name, note) in NOTES {
            let mut expected = Fields::default();
            note(&mut expected);
            // Clients write names as they like.
            let name = HeaderName::from_bytes(name.to_ascii_uppercase().as_bytes()).unwrap();
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static("x"))]);
            assert_eq!(Fields::of(&headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn the_last_message_is_recognised() {
        let last = |options: &[&'static str], version| {
            let mut headers = HeaderMap::new();
            for option in options {
                let name = HeaderName::from_static("connection");
                headers.append(name, HeaderValue::from_static(option));
            }
            Fields::of(&headers).is_last(version)
        };
        assert!(last(&["x, Close"], Version::HTTP_11));
        assert!(last(&["x", "close"], Version::HTTP_11));
        assert!(!last(&[], Version::HTTP_11));
        assert!(last(&[], Version::HTTP_10));
        assert!(!last(&["Keep-Alive"], Version::HTTP_10));
    }
}
