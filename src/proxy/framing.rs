//! How a response says that it is framed. What two recipients could read differently is not passed on.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue};

use crate::error::{ForwardError, HeadError, HeadFault};
use crate::head::Fields;

/// Leaves one `Content-Length`, and refuses what is ambiguous.
///
/// # Errors
///
/// Returns [`ForwardError::Response`] if the lengths differ (RFC 9110 section 8.6), or the body has
/// another transfer coding than `chunked` (RFC 9112 section 6.1): mtlsd would remove the field and pass
/// on the coded bytes.
pub fn check(headers: &mut HeaderMap, fields: Fields) -> Result<(), ForwardError> {
    if fields.transfer_encoding {
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let first = codings.next().map(HeaderValue::as_bytes);
        let chunked = first.is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
        if !chunked || codings.next().is_some() {
            let found = list(headers.get_all(TRANSFER_ENCODING).iter());
            return Err(malformed(format!(
                "its Transfer-Encoding is \"{found}\"; only `chunked` can be forwarded"
            )));
        }
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else {
        return Ok(());
    };
    if lengths.next().is_none() && is_number(first.as_bytes()) {
        return Ok(());
    }
    match same_length(headers) {
        Some(length) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            Ok(())
        }
        None => {
            let found = list(headers.get_all(CONTENT_LENGTH).iter());
            Err(malformed(format!(
                "its Content-Length is \"{found}\", not one number"
            )))
        }
    }
}

fn malformed(what: String) -> ForwardError {
    ForwardError::Response(HeadError {
        kind: HeadFault::Malformed,
        what,
        fix: "configure the origin to send one Content-Length, or Transfer-Encoding: chunked alone"
            .to_owned(),
    })
}

/// The length that all fields and all their elements agree on.
fn same_length(headers: &HeaderMap) -> Option<u64> {
    let mut same = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for element in value.as_bytes().split(|byte| *byte == b',') {
            let element = element.trim_ascii();
            let length = std::str::from_utf8(element).ok()?.parse::<u64>().ok()?;
            if !is_number(element) || same.is_some_and(|same| same != length) {
                return None;
            }
            same = Some(length);
        }
    }
    same
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

fn list<'v>(values: impl Iterator<Item = &'v HeaderValue>) -> String {
    let texts = values.map(|value| value.as_bytes().escape_ascii().to_string());
    texts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    #[test]
    fn a_response_passes_with_one_length_or_one_coding() {
        type Fields = &'static [(&'static str, &'static str)];
        const CASES: &[(Fields, Option<&str>)] = &[
            (&[], None),
            (&[("content-length", "2")], Some("2")),
            (&[("content-length", "2, 2")], Some("2")),
            (
                &[("content-length", "2,2"), ("content-length", "2")],
                Some("2"),
            ),
            (&[("content-length", "2, 3")], Some("refused")),
            (&[("content-length", "2,")], Some("refused")),
            (&[("content-length", "+2")], Some("refused")),
            (&[("content-length", "")], Some("refused")),
            (&[("transfer-encoding", "Chunked")], None),
            (&[("transfer-encoding", "gzip, chunked")], Some("refused")),
            (&[("transfer-encoding", "gzip")], Some("refused")),
            (&[("transfer-encoding", "identity")], Some("refused")),
            (
                &[
                    ("transfer-encoding", "gzip"),
                    ("transfer-encoding", "chunked"),
                ],
                Some("refused"),
            ),
        ];
        for (fields, expected) in CASES {
            let mut headers = HeaderMap::new();
            for (name, value) in *fields {
                headers.append(
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                );
            }
            let found = crate::head::Fields::of(&headers);
            let outcome = check(&mut headers, found);
            let lengths: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().collect();
            match (expected, outcome) {
                (Some("refused"), Err(_)) => {}
                (Some(length), Ok(())) => assert_eq!(lengths, [*length], "{fields:?}"),
                (None, Ok(())) => assert!(lengths.is_empty(), "{fields:?}"),
                (_, outcome) => panic!("{fields:?}: {outcome:?}"),
            }
        }
    }
}
