//! The keys that `[defaults]` and a binding share.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use toml::de::DeValue;

use super::binding::file;
use super::grant::stored_bundle;
use super::mistake::{Mistake, Place};
use super::origin::no_authority;
use super::roots::Roots;
use super::section::{Found, Section, count};
use super::{
    Allowed, AuthorityRef, Binding, BindingName, ClientPatience, ConnectTo, Details, HeaderPolicy,
    HostHeader, Limits, Pin, Places, Protocol, Retry, Source, SubjectName, Timeouts, TlsPolicy,
    TlsVersion, Trust, UpgradeProtocol, WebOrigin, WebOrigins, defaults, keys,
};

/// The keys that [defaults] and a binding share; `None` where the user left one out.
#[derive(Clone, Default)]
pub struct Settings {
    pub allow: Option<Vec<Found<Allowed>>>,
    /// Whether `allow` names anything, be it understood or not.
    pub names_any: bool,
    pub ca: Option<Found<Trust>>,
    pub crl: Option<Found<PathBuf>>,
    pub pins: Option<Vec<Found<Pin>>>,
    pub verify_names: Option<Vec<Found<SubjectName>>>,
    pub tls_min: Option<Found<TlsVersion>>,
    pub tls_max: Option<Found<TlsVersion>>,
    pub require_request: Option<Found<bool>>,
    pub post_quantum: Option<Found<bool>>,
    pub connect_to: Option<Found<ConnectTo>>,
    pub expose: Option<Found<bool>>,
    pub web_origins: Option<WebOrigins>,
    pub upgrades: Option<Vec<Found<UpgradeProtocol>>>,
    pub allow_private: Option<Found<bool>>,
    pub header_timeout: Option<Found<Duration>>,
    pub client_idle_timeout: Option<Found<Duration>>,
    pub connect_timeout: Option<Found<Duration>>,
    pub response_timeout: Option<Found<Duration>>,
    pub body_timeout: Option<Found<Duration>>,
    pub idle_timeout: Option<Found<Duration>>,
    pub max_connections: Option<Found<NonZeroUsize>>,
    pub max_requests_in_flight: Option<Found<NonZeroUsize>>,
    pub max_connection_age: Option<Found<Duration>>,
    pub max_header_size: Option<Found<NonZeroUsize>>,
    pub max_header_fields: Option<Found<NonZeroUsize>>,
    pub protocol: Option<Found<Protocol>>,
    pub retry: Option<Found<Retry>>,
    pub host_header: Option<Found<HostHeader>>,
    pub forwarded: Option<Found<bool>>,
    pub via: Option<Found<bool>>,
    pub header_case: Option<Found<bool>>,
    pub details: Option<Found<Details>>,
    pub rewrite_location: Option<Found<bool>>,
    pub rewrite_cookies: Option<Found<bool>>,
}

impl Settings {
    pub fn read(section: &mut Section<'_, '_>, roots: Roots<'_>) -> Self {
        let protocols = [
            ("auto", Protocol::Auto),
            ("http1", Protocol::Http1),
            ("http2", Protocol::Http2),
        ];
        let versions = [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];
        let details = [("full", Details::Full), ("brief", Details::Brief)];
        let retries = [("safe", Retry::Safe), ("never", Retry::Never)];
        Self {
            names_any: section.names_any("allow"),
            allow: section.list("allow", Allowed::parse),
            ca: section.parse("ca", |text| trust(text, roots)),
            crl: section.parse("crl", |text| file(text, roots.directory)),
            pins: section.list("pins", Pin::parse),
            verify_names: section.list("verify_names", SubjectName::parse),
            tls_min: section.word("tls_min", &versions),
            tls_max: section.word("tls_max", &versions),
            require_request: section.boolean("require_request"),
            post_quantum: section.boolean("post_quantum"),
            connect_to: section.parse("connect_to", |text| {
                AuthorityRef::parse(text)
                    .map(|authority| ConnectTo {
                        host: authority.host().into(),
                        port: authority.port(),
                    })
                    .ok_or_else(|| no_authority(text))
            }),
            expose: section.boolean("expose"),
            web_origins: web_origins(section),
            upgrades: section.list("upgrades", UpgradeProtocol::parse),
            allow_private: section.boolean("allow_private"),
            header_timeout: section.duration("header_timeout"),
            client_idle_timeout: section.duration("client_idle_timeout"),
            connect_timeout: section.duration("connect_timeout"),
            response_timeout: section.duration("response_timeout"),
            body_timeout: section.duration("body_timeout"),
            idle_timeout: section.duration("idle_timeout"),
            max_connections: section.count("max_connections"),
            max_requests_in_flight: section.count("max_requests_in_flight"),
            max_connection_age: section.duration("max_connection_age"),
            max_header_size: section.count("max_header_size"),
            max_header_fields: section.get("max_header_fields", header_fields),
            protocol: section.word("protocol", &protocols),
            retry: section.word("retry", &retries),
            host_header: section.parse("host_header", host_header),
            forwarded: section.boolean("forwarded"),
            via: section.boolean("via"),
            header_case: section.word("header_case", &[("lower", false), ("preserve", true)]),
            details: section.word("details", &details),
            rewrite_location: section.boolean("rewrite_location"),
            rewrite_cookies: section.boolean("rewrite_cookies"),
        }
    }

    /// These settings, and those of `base` where these say nothing.
    pub fn or(self, base: &Self) -> Self {
        Self {
            names_any: match self.allow {
                Some(_) => self.names_any,
                None => base.names_any,
            },
            allow: self.allow.or_else(|| base.allow.clone()),
            ca: self.ca.or_else(|| base.ca.clone()),
            crl: self.crl.or_else(|| base.crl.clone()),
            pins: self.pins.or_else(|| base.pins.clone()),
            verify_names: self.verify_names.or_else(|| base.verify_names.clone()),
            tls_min: self.tls_min.or_else(|| base.tls_min.clone()),
            tls_max: self.tls_max.or_else(|| base.tls_max.clone()),
            require_request: self
                .require_request
                .or_else(|| base.require_request.clone()),
            post_quantum: self.post_quantum.or_else(|| base.post_quantum.clone()),
            connect_to: self.connect_to.or_else(|| base.connect_to.clone()),
            expose: self.expose.or_else(|| base.expose.clone()),
            web_origins: self.web_origins.or_else(|| base.web_origins.clone()),
            upgrades: self.upgrades.or_else(|| base.upgrades.clone()),
            allow_private: self.allow_private.or_else(|| base.allow_private.clone()),
            header_timeout: self.header_timeout.or_else(|| base.header_timeout.clone()),
            client_idle_timeout: self
                .client_idle_timeout
                .or_else(|| base.client_idle_timeout.clone()),
            connect_timeout: self
                .connect_timeout
                .or_else(|| base.connect_timeout.clone()),
            response_timeout: self
                .response_timeout
                .or_else(|| base.response_timeout.clone()),
            body_timeout: self.body_timeout.or_else(|| base.body_timeout.clone()),
            idle_timeout: self.idle_timeout.or_else(|| base.idle_timeout.clone()),
            max_connections: self
                .max_connections
                .or_else(|| base.max_connections.clone()),
            max_requests_in_flight: self
                .max_requests_in_flight
                .or_else(|| base.max_requests_in_flight.clone()),
            max_connection_age: self
                .max_connection_age
                .or_else(|| base.max_connection_age.clone()),
            max_header_size: self
                .max_header_size
                .or_else(|| base.max_header_size.clone()),
            max_header_fields: self
                .max_header_fields
                .or_else(|| base.max_header_fields.clone()),
            protocol: self.protocol.or_else(|| base.protocol.clone()),
            retry: self.retry.or_else(|| base.retry.clone()),
            host_header: self.host_header.or_else(|| base.host_header.clone()),
            forwarded: self.forwarded.or_else(|| base.forwarded.clone()),
            via: self.via.or_else(|| base.via.clone()),
            header_case: self.header_case.or_else(|| base.header_case.clone()),
            details: self.details.or_else(|| base.details.clone()),
            rewrite_location: self
                .rewrite_location
                .or_else(|| base.rewrite_location.clone()),
            rewrite_cookies: self
                .rewrite_cookies
                .or_else(|| base.rewrite_cookies.clone()),
        }
    }

    /// A binding with these settings, the defaults for what was left out, and nothing of its own.
    pub fn binding(self, name: BindingName, source: Source, trust: Trust) -> Binding {
        Binding {
            name,
            listen: Vec::new(),
            hosts: Vec::new(),
            origin: None,
            allow: values(self.allow),
            source,
            stored: None,
            trust,
            tls: TlsPolicy {
                crl: self.crl.map(|found| found.value),
                pins: values(self.pins),
                verify_names: values(self.verify_names),
                min: value_or(self.tls_min, TlsVersion::Tls12),
                max: value_or(self.tls_max, TlsVersion::Tls13),
                require_request: value_or(self.require_request, defaults::REQUIRE_REQUEST),
                post_quantum: value_or(self.post_quantum, defaults::POST_QUANTUM),
            },
            server_name: None,
            connect_to: self.connect_to.map(|found| found.value),
            expose: value_or(self.expose, defaults::EXPOSE),
            web_origins: self.web_origins.unwrap_or(WebOrigins::Own),
            upgrades: match self.upgrades {
                Some(listed) => values(Some(listed)),
                None => UpgradeProtocol::defaults(),
            },
            allow_private: value_or(self.allow_private, defaults::ALLOW_PRIVATE),
            patience: ClientPatience {
                header: value_or(self.header_timeout, defaults::HEADER_TIMEOUT),
                idle: value_or(self.client_idle_timeout, defaults::CLIENT_IDLE_TIMEOUT),
            },
            max_header_size: value_or(self.max_header_size, defaults::MAX_HEADER_SIZE).get(),
            max_header_fields: value_or(self.max_header_fields, defaults::MAX_HEADER_FIELDS).get(),
            protocol: value_or(self.protocol, defaults::PROTOCOL),
            retry: value_or(self.retry, defaults::RETRY),
            timeouts: Timeouts {
                connect: value_or(self.connect_timeout, defaults::CONNECT_TIMEOUT),
                response: value_or(self.response_timeout, defaults::RESPONSE_TIMEOUT),
                body: value_or(self.body_timeout, defaults::BODY_TIMEOUT),
                idle: value_or(self.idle_timeout, defaults::IDLE_TIMEOUT),
            },
            limits: Limits {
                connections: value_or(self.max_connections, defaults::MAX_CONNECTIONS),
                requests_in_flight: value_or(
                    self.max_requests_in_flight,
                    defaults::MAX_REQUESTS_IN_FLIGHT,
                ),
                connection_age: value_or(self.max_connection_age, defaults::MAX_CONNECTION_AGE),
            },
            headers: HeaderPolicy {
                host: value_or(self.host_header, HostHeader::Origin),
                forwarded: value_or(self.forwarded, defaults::FORWARDED),
                via: value_or(self.via, defaults::VIA),
                preserve_case: value_or(self.header_case, false),
                rewrite_location: value_or(self.rewrite_location, defaults::REWRITE_LOCATION),
                rewrite_cookies: value_or(self.rewrite_cookies, defaults::REWRITE_COOKIES),
            },
            details: value_or(self.details, defaults::DETAILS),
            places: Places::default(),
        }
    }
}

/// Reads `[defaults]`.
pub fn defaults_table(mut section: Section<'_, '_>, roots: Roots<'_>) -> Settings {
    for key in keys::OWN {
        if let Some(value) = section.take(key) {
            section.mistake(
                Mistake::new(Place::at(value.span()), format!("`{key}` has no default"))
                    .help("it belongs to one binding: write it into [bindings.NAME]"),
            );
        }
    }
    let settings = Settings::read(&mut section, roots);
    section.finish();
    settings
}

fn web_origins(section: &mut Section<'_, '_>) -> Option<WebOrigins> {
    const KEY: &str = "allow_web_origins";
    // A list whose only word is "any" is meant as the word.
    enum Entry {
        Any,
        Origin(WebOrigin),
    }
    let entries = section.list(KEY, |text| match text {
        "any" | "*" => Ok(Entry::Any),
        text => WebOrigin::parse(text).map(Entry::Origin),
    })?;
    let mut listed = Vec::new();
    for entry in entries {
        match entry.value {
            Entry::Any => return Some(WebOrigins::Any),
            Entry::Origin(origin) => listed.push(origin),
        }
    }
    Some(match listed.is_empty() {
        true => WebOrigins::Own,
        false => WebOrigins::Listed(listed),
    })
}

/// A number of fields that a head may have.
pub fn header_fields(value: &DeValue<'_>) -> Result<NonZeroUsize, String> {
    let count = count(value)?;
    match count.get() <= MOST_HEADER_FIELDS {
        true => Ok(count),
        false => Err(format!("must be at most {MOST_HEADER_FIELDS}")),
    }
}

/// Fields that the `http` crate can hold, with room for those that mtlsd adds.
const MOST_HEADER_FIELDS: usize = 20_000;

fn host_header(text: &str) -> Result<HostHeader, String> {
    match text {
        "origin" => Ok(HostHeader::Origin),
        "preserve" => Ok(HostHeader::Preserve),
        literal => AuthorityRef::parse(literal)
            // A word in capitals is not the name of a host.
            .filter(|_| !["origin", "preserve"].contains(&literal.to_ascii_lowercase().as_str()))
            .and_then(|_| HeaderValue::from_str(literal).ok())
            .map(HostHeader::Literal)
            .ok_or_else(|| {
                format!("expected \"origin\", \"preserve\" or host[:port], found \"{literal}\"")
            }),
    }
}

fn values<T>(found: Option<Vec<Found<T>>>) -> Vec<T> {
    let found = found.into_iter().flatten();
    found.map(|found| found.value).collect()
}

/// What was found, or the default.
pub fn value_or<T>(found: Option<Found<T>>, default: T) -> T {
    found.map_or(default, |found| found.value)
}

/// Reads a `ca` value. The error says what was expected.
pub fn trust(text: &str, roots: Roots<'_>) -> Result<Trust, String> {
    match text {
        "system" => Ok(Trust::System),
        "mozilla" => Ok(Trust::Mozilla),
        "" => Err("expected \"system\", \"mozilla\" or a PEM file".to_owned()),
        text => Ok(Trust::Bundle(match text.strip_prefix("store:") {
            Some(id) => stored_bundle(id, roots.store)?,
            None => file(text, roots.directory)?,
        })),
    }
}
