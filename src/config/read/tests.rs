//! Every mistake there is to make, and how it is reported.

use super::*;
use crate::config::{
    Allowed, HostHeader, LogFormat, LogLevel, Places, Protocol, Retry, Trust, WebOrigins, Word,
};

const SAMPLE: &str = include_str!("../../../config/mtlsd.toml");
const STARTER: &str = include_str!("../starter.toml");

fn parse(text: &str) -> Result<Config, ConfigError> {
    Draft::parse(Path::new("/etc/mtlsd/mtlsd.toml"), text.to_owned()).finish()
}

/// The report of a file with one binding that also has `lines`.
fn binding_with(lines: &str) -> String {
    let text = format!(
        "[bindings.a]\nlisten = \"localhost:1\"\norigin = \"https://o\"\ncertificate = \"c\"\n{lines}\n"
    );
    report(&text)
}

fn report(text: &str) -> String {
    match parse(text) {
        Ok(_) => "no mistake".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// The places and messages of a report, one a line.
fn summary(report: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in report.lines() {
        if let Some(message) = line.strip_prefix("error: ") {
            found.push(message.to_owned());
        } else if let (Some(place), Some(last)) =
            (line.trim_start().strip_prefix("--> "), found.last_mut())
        {
            *last = format!("{}: {last}", place.rsplit('/').next().unwrap_or(place));
        } else if let (Some(help), Some(last)) = (line.split("= help: ").nth(1), found.last_mut()) {
            *last = format!("{last} / {help}");
        }
    }
    found
}

#[test]
fn a_mistake_is_shown_with_its_place_and_what_was_meant() {
    let cases = [
        (
            "[bindings.a]\nlistn = \"localhost:1\"\norigin = \"https://o\"\ncertificate = \"c\"\nlisten = \"localhost:1\"\n",
            "error: unknown key `listn` in [bindings.a]
 --> /etc/mtlsd/mtlsd.toml:2:1
  |
2 | listn = \"localhost:1\"
  | ^^^^^
  |
  = help: did you mean `listen`?

mtlsd: 1 mistake in /etc/mtlsd/mtlsd.toml",
        ),
        (
            "[bindings.a]\nlisten = \"localhost:1\"\norigin = \"http://o\"\ncertificate = \"c\"\n",
            "error: `origin`: an origin is an https:// URL; `http` presents no certificate; did you mean \"https://o\"?
 --> /etc/mtlsd/mtlsd.toml:3:10
  |
3 | origin = \"http://o\"
  |          ^^^^^^^^^^

mtlsd: 1 mistake in /etc/mtlsd/mtlsd.toml",
        ),
        (
            "[bindings.a]\nlisten = \"127.0.0.1:80\"\norigin = \"https://o\"\ncertificate = \"c\"\n[bindings.b]\nlisten = \"localhost:80\"\norigin = \"https://o\"\ncertificate = \"c\"\n",
            "error: localhost:80 is taken: `a` listens on 127.0.0.1:80
 --> /etc/mtlsd/mtlsd.toml:6:10
  |
2 | listen = \"127.0.0.1:80\"
  |          -------------- first taken here
...
6 | listen = \"localhost:80\"
  |          ^^^^^^^^^^^^^^
  |
  = help: each listener has an address of its own; port 0 lets the system choose one

mtlsd: 1 mistake in /etc/mtlsd/mtlsd.toml",
        ),
        (
            "[bindings.a]\nlisten = \"0.0.0.0:80\"\norigin = \"https://o\"\ncertificate = \"c\"\n",
            "error: 0.0.0.0:80 is open to other machines
 --> /etc/mtlsd/mtlsd.toml:2:10
  |
2 | listen = \"0.0.0.0:80\"
  |          ^^^^^^^^^^^^
  |
  = help: everyone who reaches this port acts with the binding's certificate; listen on localhost, or add `expose = true`

mtlsd: 1 mistake in /etc/mtlsd/mtlsd.toml",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(report(text), expected, "{text}");
    }
}

#[test]
fn every_mistake_in_a_binding_is_named() {
    let cases = [
        (
            "hots = \"x\"",
            "mtlsd.toml:5:1: unknown key `hots` in [bindings.a] / did you mean `host`?",
        ),
        (
            "cert = \"x\"",
            "mtlsd.toml:5:1: unknown key `cert` in [bindings.a] / did you mean `certificate`?",
        ),
        (
            "verify = false",
            "mtlsd.toml:5:1: unknown key `verify` in [bindings.a] / origins are always verified; name the authority that issued theirs with `ca`",
        ),
        (
            "pins = [\"sha256//AAAA\"]",
            "mtlsd.toml:5:9: `pins`: expected \"sha256//\" and the base64 of 32 bytes, or 64 hexadecimal digits, found \"sha256//AAAA\"",
        ),
        (
            "verify_names = \"a b\"",
            "mtlsd.toml:5:16: `verify_names`: `a b` is not a host name, an address or a URI such as \"spiffe://a/b\"",
        ),
        (
            "tls_max = \"1.1\"",
            "mtlsd.toml:5:11: `tls_max`: expected one of 1.2, 1.3, found \"1.1\"; did you mean \"1.2\"?",
        ),
        (
            "tls_min = \"1.0\"",
            "mtlsd.toml:5:11: `tls_min`: expected one of 1.2, 1.3, found \"1.0\"; did you mean \"1.2\"?",
        ),
        (
            "tls_min = \"TLSv1.3\"",
            "mtlsd.toml:5:11: `tls_min`: expected one of 1.2, 1.3, found \"TLSv1.3\"; did you mean \"1.3\"?",
        ),
        (
            "tls_max = \"1.4\"",
            "mtlsd.toml:5:11: `tls_max`: expected one of 1.2, 1.3, found \"1.4\"; did you mean \"1.3\"?",
        ),
        (
            "tls_min = 1.2",
            "mtlsd.toml:5:11: `tls_min`: expected a string, found the number 1.2; did you mean \"1.2\"?",
        ),
        (
            "via = \"true\"",
            "mtlsd.toml:5:7: `via`: expected true or false, found the string \"true\"; remove the quotes",
        ),
        (
            "max_connections = \"10\"",
            "mtlsd.toml:5:19: `max_connections`: expected a whole number of at least 1, found the string \"10\"; remove the quotes",
        ),
        (
            "connect_to = \"10.0.0.7:99999\"",
            "mtlsd.toml:5:14: `connect_to`: `99999` is not a port: ports are numbers up to 65535",
        ),
        (
            "allow = \"https://files.example/x\"",
            "mtlsd.toml:5:9: `allow`: an `allow` entry is host[:port], without https://; did you mean \"files.example\"?",
        ),
        (
            "allow = \"files.example:99999\"",
            "mtlsd.toml:5:9: `allow`: `99999` is not a port: ports are numbers up to 65535",
        ),
        (
            "tls_min = \"1.3\"\ntls_max = \"1.2\"",
            "mtlsd.toml:5:11: `tls_min` is above `tls_max`",
        ),
        (
            "admin = \"x\"",
            "mtlsd.toml:5:1: unknown key `admin` in [bindings.a] / `admin` belongs at the top of the file, above the first [table]",
        ),
        (
            "certificate_id = \"x\"",
            "mtlsd.toml:5:18: `certificate_id`: `x` is not the id of a certificate; `mtlsd mtls-certificate upload` prints one, and `mtlsd mtls-certificate list` shows those there are",
        ),
        (
            "zzz = 1",
            "mtlsd.toml:5:1: unknown key `zzz` in [bindings.a]",
        ),
        (
            "connect_timeout = 5",
            "mtlsd.toml:5:19: `connect_timeout`: a duration has a unit: \"5s\" or \"5ms\"",
        ),
        (
            "connect_timeout = \"5\"",
            "mtlsd.toml:5:19: `connect_timeout`: `5` is not a duration such as \"5s\", \"500ms\" or \"5min\"",
        ),
        (
            "connect_timeout = \"0s\"",
            "mtlsd.toml:5:19: `connect_timeout`: must be at least \"1ms\"; a wait without end cannot be configured",
        ),
        (
            "connect_timeout = \"900years\"",
            "mtlsd.toml:5:19: `connect_timeout`: must be at most \"1year\"",
        ),
        (
            "connect_timeout = \"99999999999999999999s\"",
            "mtlsd.toml:5:19: `connect_timeout`: `99999999999999999999s` is not between \"1ms\" and \"1year\"",
        ),
        (
            "max_connections = 0",
            "mtlsd.toml:5:19: `max_connections`: expected a whole number of at least 1, found the number 0",
        ),
        (
            "max_connections = -1",
            "mtlsd.toml:5:19: `max_connections`: expected a whole number of at least 1, found the number -1",
        ),
        (
            "max_connections = 99999999999999999999",
            "mtlsd.toml:5:19: `max_connections`: 99999999999999999999 is too large",
        ),
        (
            "max_requests_in_flight = \"3\"",
            "mtlsd.toml:5:26: `max_requests_in_flight`: expected a whole number of at least 1, found the string \"3\"; remove the quotes",
        ),
        (
            "via = \"no\"",
            "mtlsd.toml:5:7: `via`: expected true or false, found the string \"no\"",
        ),
        (
            "host = 3",
            "mtlsd.toml:5:8: `host`: expected a string, found the number 3",
        ),
        (
            "host = [\"a\", \"b:80\"]",
            "mtlsd.toml:5:14: `host`: `b:80` is not a host name (without a port)",
        ),
        (
            "allow = [\"https://x\"]",
            "mtlsd.toml:5:10: `allow`: an `allow` entry is host[:port], without https://; did you mean \"x\"?",
        ),
        (
            "server_name = \"a:1\"",
            "mtlsd.toml:5:15: `server_name`: `a:1` is not a host name (without a port)",
        ),
        (
            "connect_to = \"a b\"",
            "mtlsd.toml:5:14: `connect_to`: `a b` is not host[:port]",
        ),
        (
            "host_header = \"a/b\"",
            "mtlsd.toml:5:15: `host_header`: expected \"origin\", \"preserve\" or host[:port], found \"a/b\"",
        ),
        (
            "allow_web_origins = [\"app\"]",
            "mtlsd.toml:5:22: `allow_web_origins`: `app` is not a web origin such as \"https://app.example\"",
        ),
        (
            "protocol = \"htp2\"",
            "mtlsd.toml:5:12: `protocol`: expected one of auto, http1, http2, found \"htp2\"; did you mean \"http2\"?",
        ),
        (
            "retry = true",
            "mtlsd.toml:5:9: `retry`: expected a string, found true",
        ),
        (
            "ca = \"\"",
            "mtlsd.toml:5:6: `ca`: expected \"system\", \"mozilla\" or a PEM file",
        ),
        ("key = \"\"", "mtlsd.toml:5:7: `key`: a path is not empty"),
        (
            "key = \"credential:x\"",
            "mtlsd.toml:5:7: `key`: there is no $CREDENTIALS_DIRECTORY: run under systemd, with LoadCredential=x:FILE in the unit",
        ),
        (
            "certificate_dir = \"d\"",
            "mtlsd.toml:5:19: `certificate_dir` stands beside `certificate` or `key` / the directory holds both, as tls.crt and tls.key; keep one way of naming them",
        ),
    ];
    for (lines, expected) in cases {
        assert_eq!(summary(&binding_with(lines)), [expected], "{lines}");
    }
}

#[test]
fn every_mistake_between_keys_is_named() {
    let a = "[bindings.a]\norigin = \"https://o\"\ncertificate = \"c\"\n";
    let b = "[bindings.b]\norigin = \"https://o\"\ncertificate = \"c\"\n";
    let cases = [
        (String::new(), "there is no binding / add a table [bindings.NAME] with `listen`, `origin` and `certificate`"),
        (a.to_owned(), "mtlsd.toml:1:11: `a` has no way in / give it a `listen` such as \"localhost:8001\", or give the file a shared `listen` at its top"),
        ("[bindings.a]\nlisten = \"localhost:1\"\ncertificate = \"c\"".to_owned(), "mtlsd.toml:1:11: `a` leads nowhere / add `origin`, the https:// URL its requests go to"),
        ("[bindings.a]\nlisten = \"localhost:1\"\norigin = \"https://o\"".to_owned(), "mtlsd.toml:1:11: there is no certificate / add `certificate` (and `key`), `certificate_dir`, or `certificate_id`"),
        ("[bindings.a]\nlisten = \"localhost:1\"\norigin = \"https://o\"\nkey = \"k\"".to_owned(), "mtlsd.toml:4:7: there is a `key` and no `certificate` / add `certificate`, the PEM file with the certificate chain"),
        ("bindings = 3".to_owned(), "mtlsd.toml:1:12: `bindings` is a table, found the number 3 / write [bindings.NAME] on a line of its own, and its keys below it"),
        ("bindings.a = 3".to_owned(), "mtlsd.toml:1:14: `bindings.a` is a table, found the number 3 / write [bindings.a] on a line of its own, and its keys below it"),
        ("[bindings.\"a b\"]\nlisten = \"localhost:1\"\norigin = \"https://o\"\ncertificate = \"c\"".to_owned(), "mtlsd.toml:1:11: `a b` is not a binding's name / a name has letters, digits, `_` and `-`, and at most 63 of them"),
        (format!("listen = \"localhost:1\"\n{a}{b}"), "mtlsd.toml:6:10: `o` belongs to `a` already / on the shared listener an absolute URL names no binding, so one authority leads to one; take the shared `listen` away and give each binding its own"),
        (format!("listen = \"localhost:1\"\n{a}[bindings.A]\norigin = \"https://p\"\ncertificate = \"c\"\n"), "mtlsd.toml:5:11: `a` stands for `a` already / names are compared without regard to case, and `_` is the same as `-`"),
        (format!("listen = \"localhost:1\"\n{a}host = [\"x_y\", \"X-Y\"]\n"), "mtlsd.toml:5:16: `x-y` is named twice / names are compared without regard to case, and `_` is the same as `-`"),
        (format!("listen = \"localhost:1\"\n{a}listen = \"[::1]:1\"\n"), "mtlsd.toml:5:10: [::1]:1 is taken: the shared listener listens on localhost:1 / each listener has an address of its own; port 0 lets the system choose one"),
        (format!("listen = \"0.0.0.0:1\"\n{a}"), "mtlsd.toml:1:10: 0.0.0.0:1 is open to other machines / everyone who reaches this port acts with the binding's certificate; listen on localhost, or add `expose = true`"),
        (format!("header_timeout = \"5s\"\n{a}listen = \"localhost:1\""), "mtlsd.toml:1:18: `header_timeout` at the top level speaks of the shared listener, and there is none / add `listen` beside it, or move `header_timeout` to [defaults]"),
        (format!("workers = 0\n{a}listen = \"localhost:1\""), "mtlsd.toml:1:11: `workers`: expected \"auto\" or a whole number from 1 to 1024, found the number 0"),
        (format!("workers = 2000\n{a}listen = \"localhost:1\""), "mtlsd.toml:1:11: `workers`: expected \"auto\" or a whole number from 1 to 1024, found the number 2000"),
        (format!("[log]\nlevel = \"debg\"\n{a}listen = \"localhost:1\""), "mtlsd.toml:2:9: `level`: expected one of error, warn, info, debug, trace, found \"debg\"; did you mean \"debug\"?"),
        (format!("[log]\nformat = \"xml\"\n{a}listen = \"localhost:1\""), "mtlsd.toml:2:10: `format`: expected one of auto, json, text, found \"xml\""),
        (format!("[log]\nfile = \"x\"\n{a}listen = \"localhost:1\""), "mtlsd.toml:2:1: unknown key `file` in [log]"),
        (format!("[defaults]\norigin = \"https://o\"\n{a}listen = \"localhost:1\""), "mtlsd.toml:2:10: `origin` has no default / it belongs to one binding: write it into [bindings.NAME]"),
        (format!("lisen = \"localhost:1\"\n{a}listen = \"localhost:2\""), "mtlsd.toml:1:1: unknown key `lisen` at the top level / did you mean `listen`?"),
    ];
    for (text, expected) in cases {
        assert_eq!(summary(&report(&text)), [expected], "{text}");
    }
}

#[test]
fn a_wildcard_is_claimed_once_as_well() {
    let text = "listen = \"localhost:1\"\n[bindings.a]\nallow = [\"*.x\"]\ncertificate = \"c\"\n[bindings.b]\nallow = [\"*.X\"]\ncertificate = \"c\"\n";
    assert!(
        report(text).contains("`*.x` belongs to `a` already"),
        "{}",
        report(text)
    );
    // Without a shared listener nobody has to choose between them.
    let apart = "[bindings.a]\nlisten = \"localhost:1\"\norigin = \"https://o\"\ncertificate = \"c\"\n[bindings.b]\nlisten = \"localhost:2\"\norigin = \"https://o\"\ncertificate = \"c\"\n";
    assert_eq!(report(apart), "no mistake");
}

/// On the shared listener, what stands for one binding is no origin of another.
#[test]
fn a_host_of_one_binding_is_no_authority_of_another() {
    let config = |api: &str, payments: &str| {
        format!(
            "listen = \"localhost:1\"\n[bindings.api]\n{api}\ncertificate = \"c\"\n[bindings.payments]\n{payments}\ncertificate = \"c\"\n"
        )
    };
    let cdn = "origin = \"https://cdn.test\"";
    for (api, payments, place, what) in [
        (
            "host = \"api.test\"",
            "origin = \"https://api.test\"",
            "4:8",
            "`api.test` stands for `api`",
        ),
        (
            "host = [\"api\", \"API.Test\"]",
            "origin = \"https://api.test:8443/v1\"",
            "4:16",
            "`api.test` stands for `api`",
        ),
        (
            "host = \"my_api.test\"",
            "allow = [\"x.test\", \"my-api.test:8443\"]",
            "4:8",
            "`my-api.test` stands for `api`",
        ),
        (
            "host = \"10.0.0.7\"",
            "origin = \"https://10.0.0.7\"",
            "4:8",
            "`10.0.0.7` stands for `api`",
        ),
        // The default is the binding's name.
        (
            "",
            "origin = \"https://api\"",
            "2:11",
            "`api` stands for `api`",
        ),
        (
            "",
            "origin = \"https://api.localhost:8443\"",
            "2:11",
            "`api.localhost` stands for `api`",
        ),
        (
            "",
            "allow = \"api.cdn.test\"",
            "2:11",
            "`api.cdn.test` means `cdn.test` of `api`",
        ),
        (
            "allow = \"files.test:8443\"",
            "origin = \"https://api.files.test:8443\"",
            "2:11",
            "`api.files.test:8443` means `files.test` of `api`",
        ),
    ] {
        let text = config(&format!("{cdn}\n{api}"), payments);
        let found = summary(&report(&text));
        assert_eq!(found.len(), 1, "{found:?}");
        let expected = format!("mtlsd.toml:{place}: {what} and is also an origin of `payments` / ");
        assert!(found[0].starts_with(&expected), "{found:?}");
        // On listeners of their own nothing is ambiguous.
        let apart = text
            .replace("listen = \"localhost:1\"\n", "")
            .replace("certificate", "listen = \"localhost:0\"\ncertificate");
        assert_eq!(report(&apart), "no mistake");
    }
    for (api, payments) in [
        ("", "origin = \"https://api.test\""),
        ("", "origin = \"https://api.cdn.test:8443\""),
        ("host = \"cdn.test\"", "origin = \"https://api.test\""),
        ("host = \"api.test\"", "allow = \"*.test\""),
    ] {
        let text = config(&format!("{cdn}\n{api}"), payments);
        assert_eq!(report(&text), "no mistake", "{text}");
    }
}

/// What was probably meant is proposed, and nothing of a secret repeated.
#[test]
fn small_mistakes_in_addresses_have_the_right_hint() {
    for (key, value, expected) in [
        (
            "listen",
            "8202",
            "`listen`: expected a string, found the number 8202; did you mean \"localhost:8202\"?",
        ),
        (
            "listen",
            "[8202]",
            "`listen`: expected a string, found the number 8202; did you mean \"localhost:8202\"?",
        ),
        (
            "listen",
            "99999",
            "`listen`: expected a string, found the number 99999",
        ),
        (
            "listen",
            "\":8203\"",
            "`listen`: the address is missing; did you mean \"localhost:8203\"?",
        ),
        (
            "listen",
            "\"localhost:99999\"",
            "`listen`: `99999` is not a port: ports are numbers up to 65535",
        ),
        (
            "origin",
            "\"http://a.example\"",
            "`origin`: an origin is an https:// URL; `http` presents no certificate; did you mean \"https://a.example\"?",
        ),
        (
            "origin",
            "\"http://a.example:80/v1\"",
            "`origin`: an origin is an https:// URL; `http` presents no certificate; did you mean \"https://a.example/v1\"?",
        ),
        (
            "origin",
            "\"http://u:secret@a.example\"",
            "`origin`: an origin is an https:// URL; `http` presents no certificate",
        ),
        (
            "origin",
            "\"a.example:8443\"",
            "`origin`: an origin is an https:// URL; did you mean \"https://a.example:8443\"?",
        ),
        (
            "origin",
            "\"https:/a.example\"",
            "`origin`: an origin is an https:// URL; did you mean \"https://a.example\"?",
        ),
        (
            "origin",
            "\"https://a.example:99999\"",
            "`origin`: `99999` is not a port: ports are numbers up to 65535",
        ),
        ("origin", "\"https://\"", "`origin`: the host is missing"),
        (
            "origin",
            "\"https://*.example\"",
            "`origin`: `*.example` is not one host; wildcards belong into `allow`",
        ),
    ] {
        let lines = [
            ("listen", "\"localhost:1\""),
            ("origin", "\"https://o\""),
            ("certificate", "\"c\""),
        ]
        .map(|(other, good)| format!("{other} = {}\n", if other == key { value } else { good }));
        let found = summary(&report(&format!("[bindings.a]\n{}", lines.concat())));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with(&format!(": {expected}")), "{found:?}");
    }
}

/// What a misspelt key was to do is not missed: the key is the mistake.
#[test]
fn a_misspelt_key_is_the_only_mistake() {
    let rest = |without: &str| {
        [
            "listen = \"localhost:1\"",
            "origin = \"https://o\"",
            "certificate = \"c\"",
        ]
        .iter()
        .filter(|line| !line.starts_with(without))
        .map(|line| format!("{line}\n"))
        .collect::<String>()
    };
    for (lines, without, key) in [
        ("listn = \"localhost:1\"", "listen", "listen"),
        ("Listen = \"localhost:1\"", "listen", "listen"),
        ("orign = \"https://o\"", "origin", "origin"),
        ("upstream = \"https://o\"", "origin", "origin"),
        ("certifcate = \"c\"", "certificate", "certificate"),
        ("cert = \"c\"", "certificate", "certificate"),
        ("certificate-dir = \"c\"", "certificate", "certificate_dir"),
        ("certificate_idd = \"c\"", "certificate", "certificate_id"),
        ("alow = [\"a.test\"]", "origin", "allow"),
        (
            "orign = \"https://o\"\nserver_name = \"x\"",
            "origin",
            "origin",
        ),
        ("expos = true\nlisten = \"0.0.0.0:1\"", "listen", "expose"),
    ] {
        let found = summary(&report(&format!(
            "[bindings.a]\n{lines}\n{}",
            rest(without)
        )));
        assert_eq!(found.len(), 1, "{lines}: {found:?}");
        assert!(
            found[0].ends_with(&format!("did you mean `{key}`?")),
            "{found:?}"
        );
    }
    let binding = "[bindings.a]\norigin = \"https://o\"\ncertificate = \"c\"\n";
    for (text, key) in [
        (
            format!("lisen = \"localhost:1\"\nheader_timeout = \"1s\"\n{binding}"),
            "listen",
        ),
        (
            format!("listen = \"0.0.0.0:1\"\nexpse = true\n{binding}"),
            "expose",
        ),
        (binding.replace("bindings.a", "binding.a"), "bindings"),
        ("mtls_certificate = []".to_owned(), "mtls_certificates"),
    ] {
        let found = summary(&report(&text));
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(
            found[0].ends_with(&format!("did you mean `{key}`?")),
            "{found:?}"
        );
    }
}

#[test]
fn a_server_name_needs_an_origin() {
    let rest = "listen = \"localhost:1\"\ncertificate = \"c\"\nserver_name = \"x\"\n";
    for (lines, expected) in [
        ("allow = \"files.test\"", 1),
        ("allow = \"*.test\"", 1),
        ("origin = \"https://a.test\"", 0),
        ("origin = \"https://a.test\"\nallow = \"b.test\"", 0),
    ] {
        let found = summary(&report(&format!("[bindings.a]\n{rest}{lines}\n")));
        assert_eq!(found.len(), expected, "{found:?}");
        assert!(
            found.iter().all(|line| line.starts_with(
                "mtlsd.toml:4:15: `server_name` requires `origin` / "
            )),
            "{found:?}"
        );
    }
}

#[test]
fn all_mistakes_are_reported_in_one_go_in_the_order_of_the_file() {
    let text = "workers = 0\n[log]\nlevel = 3\n[bindings.a]\nlisten = \"nowhere\"\norigin = \"http://o\"\nkey = \"k\"\nvia = 1\n[bindings.b]\nlisten = \"localhost:1\"\n";
    let places: Vec<String> = summary(&report(text))
        .iter()
        .map(|line| line.split(": ").next().unwrap_or_default().to_owned())
        .collect();
    let expected = [
        "mtlsd.toml:1:11",
        "mtlsd.toml:3:9",
        "mtlsd.toml:5:10",
        "mtlsd.toml:6:10",
        "mtlsd.toml:7:7",
        "mtlsd.toml:8:7",
        "mtlsd.toml:9:11",
        "mtlsd.toml:9:11",
    ];
    assert_eq!(places, expected);
    assert!(report(text).ends_with("mtlsd: 8 mistakes in /etc/mtlsd/mtlsd.toml"));
}

#[test]
fn what_is_no_toml_is_shown_where_it_stops_being_toml() {
    let text = "[bindings.a]\nlisten = \"localhost:1\norigin = [\n";
    let report = report(text);
    assert!(report.contains("/etc/mtlsd/mtlsd.toml:2:"), "{report}");
    // Odd bytes, odd depth, odd types: a report, never a panic.
    for text in [
        "\u{feff}é = \"ü\"",
        "a = {b = {c = 1}}",
        "[[bindings]]",
        "bindings = []",
        "= 1",
        "\"\" = 1",
        "[bindings.a]\nlisten = {}\n",
        "[bindings.é]\nlisten = \"localhost:1\"",
        "x = 1979-05-27",
    ] {
        assert_ne!(super::tests::report(text), "no mistake", "{text}");
    }
}

#[test]
fn a_binding_overrides_the_defaults_and_those_the_built_in_ones() {
    let text = "[defaults]\nconnect_timeout = \"2s\"\nbody_timeout = \"3s\"\nca = \"mozilla\"\nallow = [\"x\"]\n[bindings.a]\nlisten = \"localhost:1\"\norigin = \"https://o\"\ncertificate = \"c\"\nbody_timeout = \"4s\"\nhost_header = \"preserve\"\nallow_web_origins = \"any\"\nprotocol = \"http1\"\nretry = \"never\"\n";
    let binding = parse(text).unwrap().bindings.remove(0);
    assert_eq!(binding.timeouts.connect.as_secs(), 2);
    assert_eq!(binding.timeouts.body.as_secs(), 4);
    assert_eq!(binding.timeouts.idle, defaults::IDLE_TIMEOUT);
    assert_eq!(binding.trust, Trust::Mozilla);
    assert_eq!(binding.allow.len(), 1);
    assert_eq!(binding.headers.host, HostHeader::Preserve);
    assert_eq!(binding.web_origins, WebOrigins::Any);
    assert_eq!(
        (binding.protocol, binding.retry),
        (Protocol::Http1, Retry::Never)
    );
}

#[test]
fn paths_are_relative_to_the_file() {
    let text = "[bindings.a]\nlisten = \"unix:a.sock\"\norigin = \"https://o\"\ncertificate_dir = \"certs\"\n[bindings.b]\nlisten = \"localhost:2\"\norigin = \"https://o\"\ncertificate = \"/abs/c\"\nca = \"ca.crt\"\n";
    let config = parse(text).unwrap();
    let [a, b] = &config.bindings[..] else {
        panic!("not two bindings")
    };
    assert_eq!(a.listen, [Listen::Unix("/etc/mtlsd/a.sock".into())]);
    assert_eq!(a.source.key, Path::new("/etc/mtlsd/certs/tls.key"));
    assert_eq!(
        a.trust,
        Trust::BundleOrSystem("/etc/mtlsd/certs/ca.crt".into())
    );
    assert_eq!(b.source.certificate, Path::new("/abs/c"));
    assert_eq!(b.source.key, Path::new("/abs/c"));
    assert_eq!(b.trust, Trust::Bundle("/etc/mtlsd/ca.crt".into()));
}

#[test]
fn the_sample_shows_every_key_with_its_default() {
    let sample = parse(SAMPLE).unwrap();
    let bare = parse("listen = \"localhost:8080\"\n[bindings.payments]\nlisten = \"localhost:8001\"\norigin = \"https://api.payments.example\"\ncertificate = \"payments/tls.crt\"\nkey = \"payments/tls.key\"\n").unwrap();
    let shown = |config: &Config| {
        let mut binding = config.bindings[0].clone();
        binding.places = Places::default();
        // A list that is empty admits nobody, as none does.
        if binding.web_origins == WebOrigins::Listed(Vec::new()) {
            binding.web_origins = WebOrigins::Own;
        }
        let mut shared = config.shared.clone().unwrap();
        shared.places = Vec::new();
        format!(
            "{binding:#?}\n{shared:#?}\n{:?}\n{:?}",
            config.workers, config.log
        )
    };
    assert_eq!(shown(&sample), shown(&bare));
    // The keys are asked for by name in the sources.
    let sources = [
        include_str!("../read.rs"),
        include_str!("../binding.rs"),
        include_str!("../settings.rs"),
    ];
    let mut seen = 0;
    for source in sources {
        for asked in [
            ".take(\"",
            ".list(\"",
            ".parse(\"",
            ".boolean(\"",
            ".duration(\"",
            ".count(\"",
            ".word(\n",
            ".get(\"",
        ] {
            for (at, _) in source.match_indices(asked) {
                let rest = source[at + asked.len()..]
                    .trim_start()
                    .trim_start_matches('"');
                let key = rest.split('"').next().unwrap_or_default();
                seen += 1;
                let is_there = SAMPLE.lines().any(|line| {
                    let line = line.trim_start_matches("# ");
                    line.starts_with(&format!("{key} = ")) || line.starts_with(&format!("[{key}"))
                });
                assert!(is_there, "config/mtlsd.toml does not show `{key}`");
            }
        }
    }
    assert!(seen > 30, "only {seen} keys were found in the sources");
}

#[test]
fn a_key_that_is_taken_for_a_configuration_is_not_shown() {
    let report = report("-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n-----END PRIVATE KEY-----\n");
    assert_eq!(
        report,
        "error: /etc/mtlsd/mtlsd.toml is a PEM file, not a configuration\n\nmtlsd: 1 mistake in /etc/mtlsd/mtlsd.toml"
    );
}

#[test]
fn the_starter_file_parses() {
    assert_eq!(parse(STARTER).unwrap().bindings.len(), 1);
}

#[test]
fn flags_make_a_binding_and_their_mistakes_name_the_flag() {
    let flags = |to: &str, listen: &[&str]| Flags {
        to: Word {
            value: to.to_owned(),
            name: "MTLSD_TO",
        },
        certificate: Word {
            value: "c.pem".into(),
            name: "--cert",
        },
        key: None,
        ca: Some(Word {
            value: "ca.pem".to_owned(),
            name: "--ca",
        }),
        listen: listen
            .iter()
            .map(|text| Word {
                value: (*text).to_owned(),
                name: "--listen",
            })
            .collect(),
    };
    let draft = |to: &str, listen: &[&str], expose: bool| {
        let overrides = Overrides {
            expose,
            ..Overrides::default()
        };
        Draft::from_flags(&flags(to, listen), &StorePath::find(None), &overrides).finish()
    };
    let config = draft("https://o/v1", &["localhost:1"], false).unwrap();
    let binding = &config.bindings[0];
    assert_eq!(binding.name.as_str(), "default");
    assert_eq!(binding.source.key, Path::new("c.pem"));
    assert_eq!(binding.trust, Trust::Bundle("ca.pem".into()));
    let wrong = draft("http://o", &["here"], false).unwrap_err();
    let messages: Vec<_> = wrong.messages().collect();
    assert_eq!(messages.len(), 2);
    assert!(messages[0].starts_with("MTLSD_TO: "), "{messages:?}");
    assert!(messages[1].starts_with("--listen: "), "{messages:?}");
    let exposed = draft("https://o", &["0.0.0.0:1"], false).unwrap_err();
    assert_eq!(
        exposed.messages().collect::<Vec<_>>(),
        ["--listen: 0.0.0.0:1 is open to other machines"]
    );
    let exposed = draft("https://o", &["0.0.0.0:1", "[::]:1"], true).unwrap();
    assert!(exposed.bindings[0].expose);
    assert_eq!(exposed.bindings[0].listen.len(), 2);
    let twice = draft("https://o", &["localhost:1", "127.0.0.1:1"], true).unwrap_err();
    assert_eq!(
        twice.messages().collect::<Vec<_>>(),
        ["--listen: 127.0.0.1:1 and localhost:1 are the same address"]
    );
}

/// What flags and variables say comes before what the file says, also when that is read again.
#[test]
fn overrides_come_before_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mtlsd.toml");
    let text = "listen = \"0.0.0.0:1\"\n[log]\nlevel = \"error\"\nformat = \"text\"\n\
                [bindings.a]\nlisten = \"0.0.0.0:2\"\norigin = \"https://o\"\ncertificate = \"c\"\n";
    std::fs::write(&path, text).unwrap();
    let mut given = Given::file(&path);
    let refused = given.read().unwrap().finish().unwrap_err();
    assert_eq!(refused.messages().count(), 2);
    given.overrides = Overrides {
        expose: true,
        level: Some(LogLevel::Debug),
        format: Some(LogFormat::Json),
        admin: None,
    };
    for _ in 0..2 {
        let config = given.read().unwrap().finish().unwrap();
        assert_eq!(config.log.level, LogLevel::Debug);
        assert_eq!(config.log.format, LogFormat::Json);
        assert!(config.bindings[0].expose);
    }
}

const ID: &str = "99f5fef1-6cc1-46b8-bd79-44a0d5082b8d";

#[test]
fn the_table_of_workers_makes_bindings_with_a_port_of_their_own() {
    for table in [
        format!("mtls_certificates = [ {{ binding = \"MY_CERT\", certificate_id = \"{ID}\" }} ]"),
        format!(
            "[[mtls_certificates]]\nbinding = \"MY_CERT\"\ncertificate_id = \"{ID}\"\nremote = true"
        ),
    ] {
        let config = parse(&table).unwrap();
        let [binding] = &config.bindings[..] else {
            panic!("{config:?}")
        };
        assert_eq!(binding.name.as_str(), "MY_CERT");
        assert_eq!(binding.listen[0].to_string(), "127.0.0.1:0");
        assert_eq!(binding.allow, [Allowed::Public]);
        assert_eq!(binding.stored.as_ref().unwrap().as_str(), ID);
        assert!(binding.source.certificate.ends_with(format!("{ID}.pem")));
        assert_eq!(binding.source.key, binding.source.certificate);
    }
}

#[test]
fn a_binding_of_the_same_name_adds_to_a_granted_one() {
    let config = parse(&format!(
        "mtls_certificates = [ {{ binding = \"MY_CERT\", certificate_id = \"{ID}\" }} ]\n\
         [bindings.my-cert]\nlisten = \"localhost:1\"\nconnect_to = \"127.0.0.1:9\"\nca = \"store:{ID}\"\n"
    ))
    .unwrap();
    let [binding] = &config.bindings[..] else {
        panic!("{config:?}")
    };
    assert_eq!(binding.name.as_str(), "my-cert");
    assert_eq!(binding.listen, [Listen::Localhost(1)]);
    assert_eq!(binding.allow, [Allowed::Public]);
    assert_eq!(
        binding.trust,
        Trust::Bundle(binding.source.certificate.clone())
    );
    let narrowed = parse(&format!(
        "mtls_certificates = [ {{ binding = \"MY_CERT\", certificate_id = \"{ID}\" }} ]\n\
         [bindings.MY_CERT]\nallow = [\"a.example\"]\n"
    ));
    assert_eq!(
        narrowed.unwrap().bindings[0].allow,
        [Allowed::parse("a.example").unwrap()]
    );
}

#[test]
fn a_stored_certificate_is_named_once_and_by_its_id() {
    let grant =
        format!("mtls_certificates = [ {{ binding = \"a\", certificate_id = \"{ID}\" }} ]\n");
    let other = ID.replace('9', "8");
    for (text, expected) in [
        (
            format!("{grant}[bindings.a]\ncertificate = \"c\"\n"),
            "mtlsd.toml:3:15: `certificate` stands beside the id of a stored certificate / a stored certificate comes with its key; keep one way of naming it",
        ),
        (
            format!("{grant}[bindings.a]\ncertificate_id = \"{other}\"\n"),
            "mtlsd.toml:3:18: the certificate is named twice / keep the id of the one to present",
        ),
        (
            format!("[bindings.a]\nlisten = \"localhost:1\"\ncertificate_id = \"{ID}\"\n"),
            "mtlsd.toml:1:11: `a` leads nowhere / add `origin`, the https:// URL its requests go to",
        ),
        (
            "mtls_certificates = [ { bindin = \"a\" } ]".to_owned(),
            "mtlsd.toml:1:25: unknown key `bindin` in mtls_certificates / did you mean `binding`?",
        ),
        (
            format!(
                "{grant}[bindings.b]\nhost = \"a\"\nlisten = \"localhost:1\"\norigin = \"https://o\"\ncertificate = \"c\"\n"
            ),
            "mtlsd.toml:1:35: `a` stands for `b` already / names are compared without regard to case, and `_` is the same as `-`",
        ),
        (
            "mtls_certificates = 5".to_owned(),
            "mtlsd.toml:1:21: `mtls_certificates` is a list, found the number 5 / write it as in mtls_certificates = [ { binding = \"MY_CERT\", certificate_id = \"ID\" } ]",
        ),
    ] {
        let found = summary(&report(&text));
        assert!(found.iter().any(|line| line == expected), "{found:#?}");
    }
}
