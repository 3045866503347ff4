//! The keys of each table, and what was probably meant by a key that is none of them.
//!
//! The reader of a table asks for none that is not listed here.

use toml::de::DeValue;

use super::section::nearest;

/// At the top of the file.
pub const TOP: &[&str] = &[
    "listen",
    "expose",
    "header_timeout",
    "client_idle_timeout",
    "max_header_size",
    "max_header_fields",
    "max_client_connections",
    "workers",
    "mtls_certificates",
    "admin",
    "log",
    "defaults",
    "bindings",
];

/// In `[admin]`.
pub const ADMIN: &[&str] = &["listen", "allow_users", "expose"];

/// In `[log]`.
pub const LOG: &[&str] = &["level", "format", "access"];

/// In `[bindings.NAME]` only: what no two bindings can have in common.
pub const OWN: &[&str] = &[
    "listen",
    "host",
    "origin",
    "certificate",
    "key",
    "certificate_dir",
    "key_password_file",
    "certificate_id",
    "server_name",
];

/// In an entry of `mtls_certificates`.
pub const GRANT: &[&str] = &["binding", "certificate_id", "remote"];

/// In `[bindings.NAME]`, and in `[defaults]` for all of them.
pub const COMMON: &[&str] = &[
    "allow",
    "ca",
    "crl",
    "pins",
    "verify_names",
    "tls_min",
    "tls_max",
    "require_request",
    "post_quantum",
    "connect_to",
    "expose",
    "allow_web_origins",
    "upgrades",
    "allow_private",
    "header_timeout",
    "client_idle_timeout",
    "max_header_size",
    "max_header_fields",
    "connect_timeout",
    "response_timeout",
    "body_timeout",
    "idle_timeout",
    "max_connections",
    "max_requests_in_flight",
    "max_connection_age",
    "protocol",
    "retry",
    "host_header",
    "forwarded",
    "via",
    "header_case",
    "details",
    "rewrite_location",
    "rewrite_cookies",
];

/// Everything a binding can have.
pub fn of_a_binding() -> Vec<&'static str> {
    [OWN, COMMON].concat()
}

/// What was probably meant by `key`, when it is none of `known`.
pub fn meant(key: &str, value: &DeValue<'_>, known: &[&'static str]) -> Option<String> {
    if let Some(help) = later(key) {
        return Some(help.to_owned());
    }
    if let Some(home) = home(key) {
        return Some(format!("`{key}` belongs {home}"));
    }
    if let Some(near) = nearest(key, known) {
        return Some(did_you_mean(near));
    }
    let is_binding = value
        .as_table()
        .is_some_and(|table| OWN.iter().any(|own| table.contains_key(*own)));
    is_binding.then(|| format!("a binding is written [bindings.{key}]"))
}

/// Whether `written`, which is none of `known`, was probably meant to be `key`.
pub fn stands_for(written: &str, value: &DeValue<'_>, known: &[&'static str], key: &str) -> bool {
    meant(written, value, known).is_some_and(|help| help == did_you_mean(key))
}

fn did_you_mean(key: &str) -> String {
    format!("did you mean `{key}`?")
}

// Where `key` belongs, when there is such a key.
fn home(key: &str) -> Option<&'static str> {
    if OWN.contains(&key) || COMMON.contains(&key) {
        return Some("in a binding, below [bindings.NAME]");
    }
    if ADMIN.contains(&key) {
        return Some("below [admin]");
    }
    if LOG.contains(&key) {
        return Some("below [log]");
    }
    TOP.contains(&key)
        .then_some("at the top of the file, above the first [table]")
}

// What people bring from other programs, or from a newer mtlsd.
fn later(key: &str) -> Option<&'static str> {
    Some(match key {
        "cert" | "crt" | "cert_file" | "client_certificate" => "did you mean `certificate`?",
        "timeout" => {
            "each wait has its own: `connect_timeout`, `response_timeout`, `body_timeout`, `idle_timeout`"
        }
        "verify" | "insecure" | "skip_verify" | "tls_insecure_skip_verify" => {
            "origins are always verified; name the authority that issued theirs with `ca`"
        }
        "upstream" | "target" | "backend" | "proxy_pass" | "to" | "url" => "did you mean `origin`?",
        "allow_uids" | "allow_gids" => "this key is not part of this version",
        _ => return None,
    })
}
