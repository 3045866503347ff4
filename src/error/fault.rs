//! What is wrong with a head that cannot be parsed: which field or character, and what to do about it.
//! Values are never repeated, because they may be credentials.

/// What is wrong with a head, and the fix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl Fault {
    /// A fault and its fix.
    pub fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            fix: fix.into(),
        }
    }
}

/// Returns the first fault of a request head, or of its beginning.
pub fn in_request(head: &[u8]) -> Option<Fault> {
    let mut lines = lines(head);
    let line = lines.find(|line| !line.is_empty())?;
    in_request_line(line).or_else(|| in_fields(lines))
}

/// Returns the first fault of a response head, or of its beginning. `None` if it is valid as far as it
/// goes.
pub fn in_response(head: &[u8]) -> Option<Fault> {
    let mut rest = head;
    // Interim responses come first.
    while rest.starts_with(b"HTTP/1.1 1")
        && let Some(end) = memchr::memmem::find(rest, b"\r\n\r\n")
    {
        rest = &rest[end + 4..];
    }
    let line = lines(rest).next()?;
    in_status_line(line)
        .or_else(|| in_fields(lines(rest).skip(1)))
        .or_else(|| in_lengths(lines(rest).skip(1)))
}

fn in_lengths<'h>(lines: impl Iterator<Item = &'h [u8]>) -> Option<Fault> {
    let mut first: Option<&[u8]> = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        if !line[..colon]
            .trim_ascii()
            .eq_ignore_ascii_case(b"content-length")
        {
            continue;
        }
        let value = line[colon + 1..].trim_ascii();
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        if !is_number || first.is_some_and(|first| first != value) {
            return Some(Fault::new(
                "the field Content-Length is not one number",
                "configure the origin to send the number of bytes of the body, once",
            ));
        }
        first = Some(value);
    }
    None
}

fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn in_request_line(line: &[u8]) -> Option<Fault> {
    if line.starts_with(&[0x16, 0x03]) {
        return Some(Fault::new(
            "a TLS handshake arrived where plain HTTP is expected",
            "use an http:// URL; mtlsd adds TLS towards the origin",
        ));
    }
    let method_ends = line.iter().position(|byte| *byte == b' ');
    let method = &line[..method_ends.unwrap_or(line.len())];
    if let Some(byte) = method.iter().find(|byte| !is_token(**byte)) {
        return Some(Fault::new(
            format!("the method contains {}", shown(*byte)),
            "a request starts with METHOD, a space, the target, a space and HTTP/1.1",
        ));
    }
    if method.is_empty() {
        return Some(Fault::new(
            "the request line has no method",
            "a request starts with METHOD, a space, the target, a space and HTTP/1.1",
        ));
    }
    let rest = line.get(method_ends? + 1..).unwrap_or_default();
    let version_starts = rest.iter().rposition(|byte| *byte == b' ');
    let (target, version) = match version_starts {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, &[][..]),
    };
    if let Some(fault) = in_target(target) {
        return Some(fault);
    }
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" => None,
        b"" => Some(Fault::new(
            "the request line has no HTTP version",
            "end the request line with HTTP/1.1",
        )),
        version => Some(Fault::new(
            format!(
                "the request line ends with {}, not with HTTP/1.1 or HTTP/1.0",
                name(version)
            ),
            "speak HTTP/1.1, or HTTP/2 from the first byte of the connection (prior knowledge)",
        )),
    }
}

fn in_target(target: &[u8]) -> Option<Fault> {
    if target.is_empty() {
        return Some(Fault::new(
            "the request target is empty",
            "put one space between the method, the target and the version",
        ));
    }
    let unfit = |byte: &u8| byte.is_ascii_control() || *byte == b' ';
    let byte = match target.iter().copied().find(unfit) {
        Some(byte) => byte,
        // Bytes beyond ASCII pass where they are UTF-8.
        None => {
            let fault = std::str::from_utf8(target).err()?;
            *target.get(fault.valid_up_to())?
        }
    };
    Some(Fault::new(
        format!("the request target contains {}", shown(byte)),
        format!("percent-encode it as %{byte:02X}"),
    ))
}

fn in_status_line(line: &[u8]) -> Option<Fault> {
    let fix = "check that the origin speaks HTTP on this port, and its log";
    let Some(rest) = line
        .strip_prefix(b"HTTP/1.1 ")
        .or_else(|| line.strip_prefix(b"HTTP/1.0 "))
    else {
        return Some(Fault::new(
            "its first line does not start with HTTP/1.1 or HTTP/1.0",
            fix,
        ));
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let followed = matches!(rest.get(digits), None | Some(b' '));
    (digits != 3 || !followed)
        .then(|| Fault::new("its status is not a number of three digits", fix))
}

fn in_fields<'h>(lines: impl Iterator<Item = &'h [u8]>) -> Option<Fault> {
    let mut before: Option<&[u8]> = None;
    for (number, line) in lines.enumerate() {
        if line.is_empty() {
            return None;
        }
        if let Some(fault) = in_field(line, before, number + 1) {
            return Some(fault);
        }
        before = line.split(|byte| *byte == b':').next();
    }
    None
}

/// What is wrong with the field line of this number, which follows the field `before`.
fn in_field(line: &[u8], before: Option<&[u8]>, number: usize) -> Option<Fault> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Some(match before {
            Some(before) => Fault::new(
                format!(
                    "the value of the field {} is folded over two lines (obs-fold)",
                    name(before)
                ),
                "send the value on one line (RFC 9112 section 5.2)",
            ),
            None => Fault::new(
                "the first field line starts with whitespace",
                "remove the whitespace (RFC 9112 section 2.2)",
            ),
        });
    }
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return Some(Fault::new(
            format!("field line {number} has no colon"),
            "write each field as NAME: VALUE on a line of its own",
        ));
    };
    let field = &line[..colon];
    let trimmed = field.trim_ascii_end();
    if trimmed.len() < field.len() && !trimmed.is_empty() {
        return Some(Fault::new(
            format!(
                "there is whitespace between the field name {} and its colon",
                name(trimmed)
            ),
            "remove the whitespace (RFC 9112 section 5.1)",
        ));
    }
    if field.is_empty() {
        return Some(Fault::new(
            format!("field line {number} has no name"),
            "write each field as NAME: VALUE",
        ));
    }
    if let Some(byte) = field.iter().find(|byte| !is_token(**byte)) {
        return Some(Fault::new(
            format!("the field name {} contains {}", name(field), shown(*byte)),
            "use letters, digits and hyphens in field names",
        ));
    }
    let value = &line[colon + 1..];
    let byte = value
        .iter()
        .find(|byte| byte.is_ascii_control() && **byte != b'\t')?;
    Some(Fault::new(
        format!(
            "the value of the field {} contains {}",
            name(field),
            shown(*byte)
        ),
        "remove the character, or encode the value",
    ))
}

/// A byte of a token (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A name as it may be printed.
fn name(name: &[u8]) -> String {
    let short = name.get(..LONGEST_SHOWN);
    match short {
        Some(short) => format!("\"{}...\"", short.escape_ascii()),
        None => format!("\"{}\"", name.escape_ascii()),
    }
}

fn shown(byte: u8) -> String {
    match byte {
        b' ' => "a space".to_owned(),
        b'\t' => "a tab".to_owned(),
        b'\r' => "a carriage return (0x0D)".to_owned(),
        0 => "a NUL byte (0x00)".to_owned(),
        b'!'..=b'~' => format!("the character {}", char::from(byte)),
        byte => format!("the byte 0x{byte:02X}"),
    }
}

/// Bytes of a name that are printed at most.
const LONGEST_SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_fault_of_a_request_is_named() {
        const CASES: &[(&[u8], &str)] = &[
            (b"\x16\x03\x01\x02\x00\x01", "a TLS handshake"),
            (
                b"G(T / HTTP/1.1\r\n\r\n",
                "the method contains the character (",
            ),
            (b" / HTTP/1.1\r\n\r\n", "no method"),
            (b"GET /a b HTTP/1.1\r\n\r\n", "target contains a space"),
            (
                b"GET /\x00 HTTP/1.1\r\n\r\n",
                "target contains a NUL byte (0x00)",
            ),
            (
                b"GET /\x7f HTTP/1.1\r\n\r\n",
                "target contains the byte 0x7F",
            ),
            (
                b"GET /\xe4 HTTP/1.1\r\n\r\n",
                "target contains the byte 0xE4",
            ),
            (b"GET  / HTTP/1.1\r\n\r\n", "target contains a space"),
            (b"GET /\r\n\r\n", "no HTTP version"),
            (b"GET / HTTP/2.0\r\n\r\n", "ends with \"HTTP/2.0\""),
            (
                b"GET / HTTP/1.1\r\nX-A : b\r\n\r\n",
                "between the field name \"X-A\" and its colon",
            ),
            (
                b"GET / HTTP/1.1\r\nX-A: b\r\n c\r\n\r\n",
                "the field \"X-A\" is folded",
            ),
            (
                b"GET / HTTP/1.1\r\n X-A: b\r\n\r\n",
                "starts with whitespace",
            ),
            (
                b"GET / HTTP/1.1\r\nX-A: b\r\nX-B\r\n\r\n",
                "field line 2 has no colon",
            ),
            (b"GET / HTTP/1.1\r\n: b\r\n\r\n", "field line 1 has no name"),
            (
                b"GET / HTTP/1.1\r\nX(A): b\r\n\r\n",
                "the field name \"X(A)\" contains the character (",
            ),
            (
                b"GET / HTTP/1.1\r\nX-A: \x00b\r\n\r\n",
                "value of the field \"X-A\" contains a NUL byte",
            ),
            (
                b"GET / HTTP/1.1\r\nX-A: a\rb\r\n\r\n",
                "\"X-A\" contains a carriage return",
            ),
        ];
        for (head, words) in CASES {
            let fault = in_request(head).unwrap_or_else(|| panic!("{words}: no fault"));
            assert!(fault.what.contains(words), "{words}: {fault:?}");
            assert!(!fault.fix.is_empty(), "{words}");
        }
        assert_eq!(in_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nX"), None);
    }

    #[test]
    fn the_first_fault_of_a_response_is_named() {
        const CASES: &[(&[u8], &str)] = &[
            (b"hello", "does not start with HTTP/1.1"),
            (b"HTTP/2 200 OK\r\n\r\n", "does not start with HTTP/1.1"),
            (b"HTTP/1.1 2000 OK\r\n\r\n", "three digits"),
            (b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\n\r\n", "the field \"X-A\" is folded"),
            (b"HTTP/1.1 200 OK\r\nX A: b\r\n\r\n", "the field name \"X A\" contains a space"),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "Content-Length is not one"),
            (b"HTTP/1.1 200 OK\r\nX-A: \x01\r\n\r\n", "the field \"X-A\" contains the byte 0x01"),
        ];
        for (head, words) in CASES {
            let fault = in_response(head).unwrap_or_else(|| panic!("{words}: no fault"));
            assert!(fault.what.contains(words), "{words}: {fault:?}");
        }
        assert_eq!(in_response(b"HTTP/1.1 200\r\nA: b\r\n\r\n"), None);
    }
}
