//! Judges one request head before hyper parses it.

use std::mem::MaybeUninit;

use http::Uri;

use crate::error::{HeadError, HeadFault, fault};

/// What a head may be like.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes (`max_header_size`).
    pub size: usize,
    /// Fields (`max_header_fields`).
    pub fields: usize,
}

/// What is known of the bytes at the start of a message.
#[derive(Debug)]
pub enum Verdict {
    /// The head is not complete.
    Incomplete,
    /// It is good.
    Good(Head),
    /// It cannot be served.
    Bad(HeadError),
}

/// A head that is good.
#[derive(Debug)]
pub struct Head {
    /// Its bytes.
    pub size: usize,
    /// How the body is framed.
    pub body: Body,
    /// Whether what follows may be another protocol.
    pub switches: bool,
    /// Whether another parser could read it differently, so that nothing may follow it: it has a bare
    /// LF as the end of a line, or several equal lengths (RFC 9112 sections 2.2 and 6.3).
    pub ambiguous: bool,
    /// The same head with characters in its target percent-encoded, where that is necessary.
    pub encoded: Option<Vec<u8>>,
}

/// How a body is framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    Length(u64),
    Chunks,
}

/// Judges the head that `bytes` begins with.
pub fn judge(bytes: &[u8], limits: HeadLimits) -> Verdict {
    let mut few = [MaybeUninit::uninit(); FEW];
    match parse(bytes, &mut few, limits) {
        Err(httparse::Error::TooManyHeaders) => {}
        Err(error) => return bad(bytes, limits, error),
        Ok(verdict) => return verdict,
    }
    // One more than there may be.
    let mut many = vec![MaybeUninit::uninit(); limits.fields.saturating_add(1).max(FEW)];
    match parse(bytes, &mut many, limits) {
        Err(httparse::Error::TooManyHeaders) => {
            Verdict::Bad(HeadError::too_many_fields(limits.fields))
        }
        Err(error) => bad(bytes, limits, error),
        Ok(verdict) => verdict,
    }
}

fn parse<'b>(
    bytes: &'b [u8],
    fields: &mut [MaybeUninit<httparse::Header<'b>>],
    limits: HeadLimits,
) -> Result<Verdict, httparse::Error> {
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, fields)?;
    let httparse::Status::Complete(size) = parsed else {
        return Ok(match bytes.len() > limits.size {
            true => Verdict::Bad(too_large(bytes, limits)),
            false => Verdict::Incomplete,
        });
    };
    Ok(match complete(bytes, size, &request, limits) {
        Ok(head) => Verdict::Good(head),
        Err(error) => Verdict::Bad(error),
    })
}

/// Checks a head that httparse accepts for what hyper would refuse.
fn complete(
    bytes: &[u8],
    size: usize,
    request: &httparse::Request<'_, '_>,
    limits: HeadLimits,
) -> Result<Head, HeadError> {
    if size > limits.size {
        return Err(too_large(&bytes[..size], limits));
    }
    if request.headers.len() > limits.fields {
        return Err(HeadError::too_many_fields(limits.fields));
    }
    let method = request.method.unwrap_or_default();
    let target = request.path.unwrap_or_default();
    let encoded = check_target(method, target)?;
    let mut head = Head {
        size,
        body: Body::Length(0),
        switches: method == "CONNECT",
        ambiguous: has_bare_lf(&bytes[..size]),
        encoded: None,
    };
    framing(request, &mut head)?;
    if let Some(encoded) = encoded {
        // httparse borrows from `bytes`, so this is where the target is.
        let at = target.as_ptr() as usize - bytes.as_ptr() as usize;
        let rest = &bytes[at + target.len()..size];
        head.encoded = Some([&bytes[..at], encoded.as_bytes(), rest].concat());
    }
    Ok(head)
}

fn framing(request: &httparse::Request<'_, '_>, head: &mut Head) -> Result<(), HeadError> {
    let mut length = None;
    let mut chunked = false;
    for field in request.headers.iter() {
        match field.name.len() {
            7 if field.name.eq_ignore_ascii_case("upgrade") => head.switches = true,
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                let number = number(field.value).ok_or_else(|| {
                    malformed(
                        "the field Content-Length is not one number",
                        "send the number of bytes of the body, once",
                    )
                })?;
                if length.is_some_and(|length| length != number) {
                    return Err(malformed(
                        "the request has several Content-Length fields that differ",
                        "send the number of bytes of the body, once",
                    ));
                }
                head.ambiguous |= length.is_some();
                length = Some(number);
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                // A list of codings is refused: what one parser takes for the last of them, another
                // does not (RFC 9112 section 6.1).
                if chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(malformed(
                        "the field Transfer-Encoding is not just `chunked`",
                        "send Transfer-Encoding: chunked, once, and code the body with \
                         Content-Encoding",
                    ));
                }
                chunked = true;
            }
            _ => {}
        }
    }
    if chunked && request.version == Some(0) {
        return Err(malformed(
            "an HTTP/1.0 request has the field Transfer-Encoding",
            "send HTTP/1.1, or a Content-Length",
        ));
    }
    head.body = match chunked {
        true => Body::Chunks,
        false => Body::Length(length.unwrap_or(0)),
    };
    Ok(())
}

fn number(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits)?;
    // The largest three numbers mean something else to hyper.
    text.parse().ok().filter(|length| *length < u64::MAX - 2)
}

/// Checks a request target, and percent-encodes what people type and no URI may contain, such as
/// `"` and `<`.
fn check_target(method: &str, target: &str) -> Result<Option<String>, HeadError> {
    let plain = target.bytes().all(|byte| PLAIN[usize::from(byte)]);
    if plain && target.starts_with('/') && target.len() <= LONGEST_TARGET {
        return Ok(None);
    }
    let start = match target.find("://") {
        _ if target.starts_with('/') => 0,
        Some(scheme) => target[scheme + 3..]
            .find(['/', '?'])
            .map_or(target.len(), |path| scheme + 3 + path),
        None => target.len(),
    };
    let encoded = encode(&target[start..]).map(|path| format!("{}{path}", &target[..start]));
    let target = encoded.as_deref().unwrap_or(target);
    if target.len() > LONGEST_TARGET {
        return Err(target_too_long());
    }
    match target.parse::<Uri>() {
        // Only CONNECT may name an authority alone; that is judged with the method.
        Ok(_) => Ok(encoded),
        Err(error) => Err(malformed(
            format!("the request target of this {method} is not a valid URI: {error}"),
            "send a path such as /a?b=c, or an http:// URL; percent-encode what is not ASCII",
        )),
    }
}

/// The path and query with `"`, `<`, `>` and `` ` `` percent-encoded. The `http` crate refuses some of
/// them.
fn encode(path: &str) -> Option<String> {
    let refused = |letter: char| matches!(letter, '"' | '<' | '>' | '`');
    if !path.contains(refused) {
        return None;
    }
    let mut encoded = String::new();
    for letter in path.chars() {
        if refused(letter) {
            encoded.push_str(&format!("%{:02X}", u32::from(letter)));
        } else {
            encoded.push(letter);
        }
    }
    Some(encoded)
}

fn has_bare_lf(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r')
}

fn bad(bytes: &[u8], limits: HeadLimits, error: httparse::Error) -> Verdict {
    // Only the head is looked at: a body is none of it.
    let seen = &bytes[..bytes.len().min(limits.size)];
    Verdict::Bad(match fault::in_request(seen) {
        Some(fault) => malformed(fault.what, fault.fix),
        None => malformed(
            format!("the request head cannot be parsed: {error}"),
            "send HTTP/1.1",
        ),
    })
}

fn malformed(what: impl Into<String>, fix: impl Into<String>) -> HeadError {
    HeadError {
        kind: HeadFault::Malformed,
        what: what.into(),
        fix: fix.into(),
    }
}

fn too_large(head: &[u8], limits: HeadLimits) -> HeadError {
    let line = memchr::memchr(b'\n', head).unwrap_or(head.len());
    if line > LONGEST_TARGET {
        return target_too_long();
    }
    let size = limits.size;
    match line >= size {
        true => HeadError {
            kind: HeadFault::TargetTooLong,
            what: format!("the request line exceeds {size} bytes (`max_header_size`)"),
            fix: "send a shorter URL, or raise `max_header_size`".to_owned(),
        },
        false => HeadError {
            kind: HeadFault::TooLarge,
            what: format!("the request head exceeds {size} bytes (`max_header_size`)"),
            fix: "send fewer or shorter fields, or raise `max_header_size`".to_owned(),
        },
    }
}

fn target_too_long() -> HeadError {
    HeadError {
        kind: HeadFault::TargetTooLong,
        what: format!("the request target exceeds {LONGEST_TARGET} bytes"),
        fix: "send a shorter URL, or send the data in the body; no key raises this limit"
            .to_owned(),
    }
}

/// The bytes that mean the same in a path and in a query, and that every parser accepts.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        table[byte] = !matches!(byte as u8, b'"' | b'#' | b'<' | b'>' | b'`');
        byte += 1;
    }
    table
};

/// Bytes of a target: what the `http` crate can hold.
pub const LONGEST_TARGET: usize = 65_534;
/// Fields that are looked for first.
const FEW: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        size: 100_000,
        fields: 1000,
    };

    fn head(target: &str, fields: &str) -> String {
        format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
    }

    #[test]
    fn characters_that_people_type_are_encoded_and_others_kept() {
        const CASES: &[(&str, Option<&str>)] = &[
            ("/a?b={\"c\":[1]}", Some("/a?b={%22c%22:[1]}")),
            ("/a<b>", Some("/a%3Cb%3E")),
            ("/a`b?`c", Some("/a%60b?%60c")),
            ("/a\"b", Some("/a%22b")),
            ("/a|b^c\\d{e}?f=%22", None),
            ("http://a/<b>", Some("http://a/%3Cb%3E")),
            ("http://a?<b>", Some("http://a?%3Cb%3E")),
            ("/\u{e9}", None),
            ("*", None),
        ];
        for (target, expected) in CASES {
            let sent = head(target, "");
            let Verdict::Good(judged) = judge(sent.as_bytes(), LIMITS) else {
                panic!("{target} is refused");
            };
            let encoded = judged.encoded.map(|head| String::from_utf8(head).unwrap());
            assert_eq!(encoded, expected.map(|target| head(target, "")), "{target}");
        }
    }

    #[test]
    fn hyper_accepts_whatever_is_good() {
        // Every byte, in a path and in a query.
        for byte in 0x21..=0x7e_u8 {
            for target in [
                format!("/{}", char::from(byte)),
                format!("/?{}", char::from(byte)),
            ] {
                let sent = head(&target, "");
                let Verdict::Good(judged) = judge(sent.as_bytes(), LIMITS) else {
                    panic!("{target} is refused");
                };
                let sent = judged.encoded.unwrap_or(sent.into_bytes());
                let line = String::from_utf8(sent).unwrap();
                let target = line.split(' ').nth(1).unwrap();
                assert!(target.parse::<Uri>().is_ok(), "{target}");
            }
        }
    }

    #[test]
    fn limits_are_named() {
        let long = head(&format!("/{}", "a".repeat(LONGEST_TARGET)), "");
        let wide = head("/", &"X-A: b\r\n".repeat(1000));
        let large = head("/", &format!("X-A: {}\r\n", "b".repeat(100_000)));
        let line = format!("GET /{}", "a".repeat(50_000));
        let small = HeadLimits {
            size: 40_000,
            ..LIMITS
        };
        for (sent, limits, kind, words) in [
            (long, LIMITS, HeadFault::TargetTooLong, "65534"),
            (wide, LIMITS, HeadFault::TooLarge, "max_header_fields"),
            (large, LIMITS, HeadFault::TooLarge, "max_header_size"),
            (line, small, HeadFault::TargetTooLong, "max_header_size"),
        ] {
            let Verdict::Bad(error) = judge(sent.as_bytes(), limits) else {
                panic!("{words} is no limit");
            };
            assert_eq!(error.kind, kind, "{error:?}");
            assert!(error.what.contains(words), "{error:?}");
        }
        let enough = head("/", &"X-A: b\r\n".repeat(999));
        assert!(matches!(judge(enough.as_bytes(), LIMITS), Verdict::Good(_)));
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_the_last_or_refused() {
        let ambiguous = |sent: &str| match judge(sent.as_bytes(), LIMITS) {
            Verdict::Good(head) => Some(head.ambiguous),
            _ => None,
        };
        for (sent, expected) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Some(false)),
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Some(false)),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", Some(true)),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", Some(true)),
            ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Some(true)),
            (
                "POST / HTTP/1.1\r\ncontent-length: 1\r\nContent-Length:1\r\n\r\na",
                Some(true),
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n\n",
                Some(false),
            ),
            ("POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n\n", None),
            ("POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n\n", None),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                None,
            ),
            (
                "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
                None,
            ),
        ] {
            assert_eq!(ambiguous(sent), expected, "{sent:?}");
        }
    }
}
