//! Keeps key material out of messages: values that are a key where a path was meant, and files that
//! are a key, a password or a token where the configuration was meant.

use std::borrow::Cow;
use std::path::Path;

use data_encoding::BASE64;

use super::keys;

/// What is printed in place of a value that is not shown.
pub const HIDDEN: &str = "(not shown: it is longer than a path, or contains line breaks or a key)";

/// Whether `value` is no value that is configured: too long for a path, of several lines, or a key.
pub fn is_secret(value: &str) -> bool {
    value.len() >= LONGEST_PATH || value.contains(['\n', '\r']) || is_key_material(value)
}

/// Returns `value`, or [`HIDDEN`] in its place.
pub fn shown(value: &str) -> Cow<'_, str> {
    match is_secret(value) || is_in(value) {
        true => Cow::Borrowed(HIDDEN),
        false => Cow::Borrowed(value),
    }
}

/// Returns `path` as text, or [`HIDDEN`] in its place.
pub fn shown_path(path: &Path) -> String {
    shown(&path.to_string_lossy()).into_owned()
}

/// Whether `value`, an argument or a variable, is a key, or has line breaks. It may be a URL, which
/// can be long.
pub fn is_key_or_lines(value: &str) -> bool {
    let is_long = value.len() >= SHORTEST_KEY;
    value.contains(['\n', '\r']) || is_long && is_key_material(value)
}

/// Whether a message quotes a key, or what looks random enough to be a part of one. Messages are
/// made from values that were checked; this is the last check before one is printed.
pub fn is_in(message: &str) -> bool {
    has_encoded_key(message) || has_random(message) || has_long_number(message)
}

/// Whether there is a key in `message`, in PEM, base64 or hexadecimal.
fn has_encoded_key(message: &str) -> bool {
    let has_pem = message.match_indices("-----BEGIN ").any(|(at, begin)| {
        let label = message[at + begin.len()..].chars().next();
        label.is_some_and(|first| first.is_ascii_uppercase())
    });
    let mut runs = message.split(|character| !is_base64(character));
    // A path or a URL may lead up to it: a slash is a digit of base64.
    let is_key = |run: &str| {
        let after_slashes = run.match_indices('/').map(|(at, _)| &run[at + 1..]);
        let mut rests = std::iter::once(run).chain(after_slashes);
        rests.any(|rest| is_der(rest) || is_der_in_hex(rest))
    };
    has_pem || runs.any(is_key)
}

/// Whether a message has this much in common with `text`, which contains a key: a run of base64.
pub fn quotes(message: &str, text: &str) -> bool {
    let runs = message.split(|character| !is_base64(character));
    runs.filter(|run| run.len() >= SHORTEST_RUN)
        .any(|run| text.contains(run))
}

/// Whether a message has a few consecutive characters in common with `text`.
pub fn shares(message: &str, text: &str) -> bool {
    let mut windows = message.as_bytes().windows(SHORTEST_QUOTE);
    windows.any(|window| memchr::memmem::find(text.as_bytes(), window).is_some())
}

/// Whether the lines of a configuration file may be shown: it has a key of ours, and no PEM.
pub fn is_quotable(text: &str) -> bool {
    !has_key(text) && has_known_key(text)
}

/// Whether there is a key in `text`, in PEM or without it.
pub fn has_key(text: &str) -> bool {
    has_pem(text) || has_encoded_key(text)
}

/// Whether there is a run of random base64, which changes between cases and digits far more often
/// than names and paths do. A pin is public.
fn has_random(message: &str) -> bool {
    let runs = message.split(|character| !is_base64(character) && !matches!(character, '-' | '_'));
    runs.filter(|run| !is_pin(run)).any(|run| {
        let mut windows = run.as_bytes().windows(RANDOM_RUN);
        windows.any(is_random)
    })
}

fn is_random(run: &[u8]) -> bool {
    let count = |is_change: fn(u8, u8) -> bool| {
        let pairs = run.windows(2);
        pairs
            .filter(|pair| matches!(pair, [one, next] if is_change(*one, *next)))
            .count()
    };
    let cases = count(|one, next| {
        one.is_ascii_alphabetic()
            && next.is_ascii_alphabetic()
            && one.is_ascii_lowercase() != next.is_ascii_lowercase()
    });
    let digits = count(|one, next| {
        one.is_ascii_alphanumeric()
            && next.is_ascii_alphanumeric()
            && one.is_ascii_digit() != next.is_ascii_digit()
    });
    cases >= 6 && digits >= 4
}

/// Whether `run` is a pin as curl writes it, with or without its last character.
fn is_pin(run: &str) -> bool {
    run.strip_prefix("sha256//")
        .is_some_and(|digest| digest.len() <= PIN)
}

/// Whether there is a number of more digits than a SHA-256 has, in hexadecimal with or without
/// separators: a key as `openssl pkey -text`, `xxd` or a JWK converter prints it.
fn has_long_number(message: &str) -> bool {
    let separators = [' ', ':', '\n', '\r', '\t'];
    let mut runs = message.split(|character: char| {
        !character.is_ascii_hexdigit() && !separators.contains(&character)
    });
    let digits = |run: &str| run.bytes().filter(u8::is_ascii_hexdigit).count();
    // Words may have such letters alone, too.
    let numbers = |run: &str| run.bytes().filter(u8::is_ascii_digit).count();
    let mut words =
        message.split(|character: char| !character.is_ascii_hexdigit() && character != '/');
    // Not in a path: directories of containers have such names.
    let is_scalar = |word: &str| word.len() >= SHA256_DIGITS && !word.contains('/');
    words.any(|word| is_scalar(word) && numbers(word) > SHA256_DIGITS / 4)
        // Letters of the words around it may belong to the run.
        || runs.any(|run| digits(run) > SHA256_DIGITS + 8 && numbers(run) > SHA256_DIGITS / 4)
}

/// Whether there is a PEM block in `text`, in whatever shape.
pub fn has_pem(text: &str) -> bool {
    MARKS.iter().any(|mark| text.contains(mark))
}

/// Whether `text` has a key that only a configuration of ours, or one of Wrangler's, has.
pub fn has_known_key(text: &str) -> bool {
    let known = [keys::TOP, keys::OWN, keys::COMMON, WRANGLER].concat();
    let known: Vec<_> = known
        .into_iter()
        .filter(|key| !COMMON_WORDS.contains(key))
        .collect();
    // One that is misspelt is ours too.
    let is_nearly_known = |line: &str| {
        let word = line.split_once('=').map(|(key, _)| key.trim());
        let word = word.filter(|word| word.len() >= 5 && word.chars().all(is_word));
        word.is_some_and(|word| {
            known
                .iter()
                .any(|key| strsim::jaro_winkler(word, key) > 0.9)
        })
    };
    text.lines().any(is_nearly_known)
        || known.iter().any(|key| {
            text.match_indices(*key).any(|(at, _)| {
                let before = text[..at].chars().next_back();
                let is_whole = before.is_none_or(|before| !is_word(before));
                let after = text[at + key.len()..].trim_start_matches(['"', '\'', ' ', '\t']);
                is_whole && after.starts_with(['=', ':', ']', '.'])
            })
        })
}

/// Whether the line that sets a key may be shown: a password that somebody wrote into the file is
/// under a key that says so.
pub fn is_secret_line(line: &str) -> bool {
    let key = line.split(['=', ':']).next().unwrap_or(line);
    let key = key
        .trim()
        .trim_matches(['"', '\'', '{', ' '])
        .to_ascii_lowercase();
    key != "key_password_file" && SECRET_WORDS.iter().any(|word| key.contains(word))
}

fn is_key_material(value: &str) -> bool {
    // Without the blanks, and the two characters that line breaks become in an environment variable.
    let escapes = value.replace("\\r", "").replace("\\n", "");
    let bare: String = escapes.split_whitespace().collect();
    has_pem(value) || is_der(&bare) || is_der_in_hex(&bare)
}

/// Whether `text` is the base64 of a key or a certificate: of a SEQUENCE that fills it.
fn is_der(text: &str) -> bool {
    if text.len() < SHORTEST_KEY || !text.starts_with('M') || !text.chars().all(is_base64) {
        return false;
    }
    // Whole groups of four, so that one that was cut short is recognized too.
    let whole = text.trim_end_matches('=');
    let whole = &whole[..whole.len() / 4 * 4];
    let Ok(der) = BASE64.decode(whole.as_bytes()) else {
        return false;
    };
    // What is inside of it: a version, an algorithm, or what is signed.
    match der.as_slice() {
        [0x30, 0x81, _, inner, ..] | [0x30, 0x82, _, _, inner, ..] => is_inner(*inner),
        [0x30, 0..=0x7f, inner, ..] => is_inner(*inner),
        _ => false,
    }
}

fn is_inner(tag: u8) -> bool {
    matches!(tag, 0x02 | 0x30 | 0x06)
}

fn is_der_in_hex(text: &str) -> bool {
    let digits = text.replace(':', "").to_ascii_lowercase();
    digits.len() >= SHORTEST_KEY
        && (digits.starts_with("3081")
            || digits.starts_with("3082")
            || digits.starts_with("302e02"))
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_base64(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '+' | '/' | '=')
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.' | '$')
}

/// PATH_MAX of Linux.
const LONGEST_PATH: usize = 4096;
/// The base64 of an Ed25519 key has 64 characters.
const SHORTEST_KEY: usize = 48;
/// As much of base64 as is enough to tell it from names.
const RANDOM_RUN: usize = 40;
/// The base64 of a SHA-256.
const PIN: usize = 44;
/// A SHA-256 in hexadecimal, as a pin or the name of a container's directory has it.
const SHA256_DIGITS: usize = 64;
/// Shorter runs occur in names and in words.
const SHORTEST_RUN: usize = 12;
/// What may be in a message and in a file by chance is shorter.
const SHORTEST_QUOTE: usize = 6;
/// What PEM, and the base64 of PEM, is recognized by.
const MARKS: &[&str] = &[
    "-----BEGIN",
    "-----END",
    "PRIVATE KEY",
    "LS0tLS1CRUdJTi",
    "PuTTY-User-Key-File",
];
/// Keys of a Wrangler file.
const WRANGLER: &[&str] = &["mtls_certificates", "compatibility_date", "$schema"];
/// Keys of ours that other files have too.
const COMMON_WORDS: &[&str] = &["key", "host"];
const SECRET_WORDS: &[&str] = &["passw", "passphrase", "secret", "token", "pin_"];

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = include_str!("../../tests/key_formats/p-256.key");

    fn bare() -> String {
        KEY.lines().filter(|line| !line.starts_with('-')).collect()
    }

    #[test]
    fn a_key_in_any_shape_is_no_value() {
        let bare = bare();
        let der = BASE64.decode(bare.as_bytes()).unwrap();
        for value in [
            KEY.to_owned(),
            KEY.replace('\n', " "),
            KEY.replace('\n', "\\n"),
            KEY.replace('\n', ""),
            bare.clone(),
            bare[..100].to_owned(),
            KEY.lines().nth(1).unwrap().to_owned(),
            BASE64.encode(KEY.as_bytes()),
            data_encoding::HEXLOWER.encode(&der),
            "two\nlines".to_owned(),
            "x".repeat(5000),
        ] {
            assert!(is_secret(&value), "{value}");
            assert_eq!(shown(&value), HIDDEN);
        }
        for value in [
            "client.key",
            "/etc/mtlsd/My certificates/client-1.key",
            "/var/lib/docker/overlay2/3082a0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f7a8b9/merged/tls.key",
            "MAIN/Production/certificates/of/the/Payments/Team/in/Frankfurt/client",
            "sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "https://api.example:8443",
            "credential:key",
        ] {
            assert!(!is_secret(value), "{value}");
            assert!(!is_in(value), "{value}");
        }
        assert!(is_in(&format!("`{bare}` is not a host name")));
        assert!(is_in(&format!("did you mean \"https://{bare}\"?")));
        assert!(is_in(&format!(
            "cannot read /etc/mtlsd/{bare}: no such file"
        )));
        assert!(is_in(&format!("found \"{KEY}\"")));
        assert!(!is_in("it must contain a -----BEGIN …----- block"));
    }

    #[test]
    fn what_looks_random_is_no_part_of_a_message() {
        let bare = bare();
        let key = &bare[20..];
        let der = BASE64.decode(bare.as_bytes()).unwrap();
        let hex = data_encoding::HEXLOWER.encode(&der);
        let pairs: Vec<_> = hex
            .as_bytes()
            .chunks(2)
            .map(String::from_utf8_lossy)
            .collect();
        for secret in [
            key.to_owned(),
            key[..60].to_owned(),
            key.replace('+', "-").replace('/', "_"),
            BASE64.encode(format!("openssh-key-v1{key}").as_bytes()),
            BASE64.encode(KEY.as_bytes()),
            BASE64.encode(&KEY.as_bytes()[7..]),
            hex.clone(),
            pairs.join(":"),
            pairs.join(" "),
            pairs.join(":\n    "),
            "7".repeat(77),
            hex[20..84].to_owned(),
        ] {
            for message in [
                format!("expected true or false, found \"{secret}\""),
                format!("cannot read {secret}: file not found"),
                format!("{{\"d\": \"{secret}\"}}"),
            ] {
                assert!(is_in(&message), "{message}");
            }
            // A directory may have the name of a SHA-256.
            let path = format!("cannot read /etc/mtlsd/{secret}: file not found");
            assert_eq!(is_in(&path), secret.len() != 64, "{path}");
            assert_eq!(shown(&secret), HIDDEN);
        }
        for message in [
            "cannot read /var/lib/kubelet/pods/0b3e2a4c-8d1f-4c55-9a3e-77aa01b2c3d4/volumes/kubernetes.io~secret/tls.key",
            "cannot read /Users/JaneDoe/Projects/Payments2026/Certificates/ClientCertificate_v2.pem",
            "cannot read /nix/store/5rnfzla9kcx4mj5zdc7nlnv8na1najvg-mtlsd-0.1.0/etc/mtlsd.toml",
            "cannot read /var/lib/docker/containers/4f5b2c1d3e6a798081726354a5b6c7d8e9f00112233445566778899aabbccdde/tls.key",
            "certificate not found with id \"99f5fef1-6cc1-46b8-bd79-44a0d5082b8d\"",
            "`pins`: \"sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\" is listed twice",
            "`pins`: \"sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU\" lacks a =",
            "unknown key `max_client_connections`; did you mean CAFE BABE DEAD BEEF added faced a bad decade",
            "certificate: CN=client-1, serial 2F:5B:00:1C:90:AA:17:33:2F:5B:00:1C:90:AA:17:33:01:02:03:04",
        ] {
            assert!(!is_in(message), "{message}");
        }
    }

    #[test]
    fn only_configurations_are_quoted() {
        for text in [
            "listen = \"localhost:1\"",
            "[bindings.a]",
            "[ bindings . a ]",
            "{\"mtls_certificates\": []}",
            "  certificate_dir=\"x\"",
        ] {
            assert!(is_quotable(text), "{text}");
        }
        for text in [
            "hunter2-hunter2-hunter2",
            "KEY=value",
            "key = \"value\"",
            "{\"data\": {\"tls.key\": \"x\"}}",
            "the listen key and bindings",
            KEY,
            &format!("[bindings.a]\nkey = \"\"\"{KEY}\"\"\""),
        ] {
            assert!(!is_quotable(text), "{text}");
        }
    }
}
