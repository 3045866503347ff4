//! What a client wants to read when something goes wrong.

use http::HeaderMap;
use http::header::ACCEPT;

/// Whether a client would rather have JSON than text (RFC 9110 section 12.5.1): it names JSON, and
/// does not like text better. One that takes anything is given text.
pub fn prefers_json(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(ACCEPT).iter();
    let mut json = 0;
    let mut text = 0;
    for range in fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b',')) {
        let Ok(range) = std::str::from_utf8(range) else {
            continue;
        };
        let (kind, parameters) = range.split_once(';').unwrap_or((range, ""));
        let Some((kind, subtype)) = kind.trim().split_once('/') else {
            continue;
        };
        if kind.eq_ignore_ascii_case("application") && is_json(subtype) {
            json = json.max(weight(parameters));
        } else if kind.eq_ignore_ascii_case("text") {
            text = text.max(weight(parameters));
        }
    }
    json > 0 && json >= text
}

fn is_json(subtype: &str) -> bool {
    let suffix = subtype.rsplit('+').next().unwrap_or(subtype);
    suffix.eq_ignore_ascii_case("json")
}

/// Thousandths; 1 unless a parameter `q` says otherwise.
fn weight(parameters: &str) -> u16 {
    let written = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    match written {
        None => 1000,
        Some(text) => match text.parse::<f32>() {
            Ok(weight) if (0.0..=1.0).contains(&weight) => (weight * 1000.0).round() as u16,
            _ => 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn json_is_for_those_who_ask_for_it() {
        let cases: &[(&[&str], bool)] = &[
            (&[], false),
            (&["*/*"], false),
            (&["application/json"], true),
            (&["application/problem+json"], true),
            (&["application/vnd.api+json; v=1"], true),
            // axios, and libraries like it
            (&["application/json, text/plain, */*"], true),
            (&["text/html, application/json;q=0.9, */*;q=0.8"], false),
            (&["application/json;q=0, text/plain"], false),
            (&["application/json;q=0"], false),
            (&["application/json;q=x"], false),
            (&["text/plain;q=0.5", "application/json; Q=0.7"], true),
            (&["image/png, TEXT/HTML"], false),
        ];
        for (fields, expected) in cases {
            let mut headers = HeaderMap::new();
            for field in *fields {
                headers.append(ACCEPT, HeaderValue::from_static(field));
            }
            assert_eq!(prefers_json(&headers), *expected, "{fields:?}");
        }
    }
}
