//! Internationalized host names, which DNS and certificates carry in ASCII.

/// Returns `host` as it has to be written, `xn--…`, if it contains letters beyond ASCII: in lower
/// case, each label in Punycode (RFC 5891, RFC 3492).
pub fn to_ascii(host: &str) -> Option<String> {
    if host.is_ascii() {
        return None;
    }
    let host = host.to_lowercase();
    // The full stops that RFC 3490 section 3.1 counts as dots.
    let labels = host.split(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']);
    let label = |label: &str| match label.is_ascii() {
        true => Some(label.to_owned()),
        false => Some(format!("xn--{}", punycode(label)?)),
    };
    let labels: Option<Vec<String>> = labels.map(label).collect();
    Some(labels?.join("."))
}

/// Encodes a label by RFC 3492 section 6.3.
fn punycode(label: &str) -> Option<String> {
    let points: Vec<u32> = label.chars().map(u32::from).collect();
    let mut encoded: String = label.chars().filter(char::is_ascii).collect();
    let basic = u32::try_from(encoded.len()).ok()?;
    let mut handled = basic;
    if basic > 0 {
        encoded.push('-');
    }
    let (mut n, mut delta, mut bias) = (128_u32, 0_u32, 72_u32);
    while (handled as usize) < points.len() {
        let next = points.iter().copied().filter(|point| *point >= n).min()?;
        delta = delta.checked_add((next - n).checked_mul(handled + 1)?)?;
        n = next;
        for point in &points {
            if *point < n {
                delta = delta.checked_add(1)?;
            }
            if *point == n {
                write_integer(&mut encoded, delta, bias);
                bias = adapt(delta, handled + 1, handled == basic);
                delta = 0;
                handled += 1;
            }
        }
        delta = delta.checked_add(1)?;
        n += 1;
    }
    Some(encoded)
}

/// Appends a variable-length integer (RFC 3492 section 3.3).
fn write_integer(to: &mut String, mut value: u32, bias: u32) {
    for k in (BASE..).step_by(BASE as usize) {
        let threshold = k.saturating_sub(bias).clamp(1, 26);
        if value < threshold {
            break;
        }
        to.push(digit(threshold + (value - threshold) % (BASE - threshold)));
        value = (value - threshold) / (BASE - threshold);
    }
    to.push(digit(value));
}

/// RFC 3492 section 6.1.
fn adapt(delta: u32, points: u32, is_first: bool) -> u32 {
    let mut delta = if is_first { delta / 700 } else { delta / 2 };
    delta += delta / points;
    let mut k = 0;
    while delta > 35 * 26 / 2 {
        delta /= 35;
        k += BASE;
    }
    k + 36 * delta / (delta + 38)
}

fn digit(value: u32) -> char {
    // Below 36.
    let value = value as u8;
    char::from(if value < 26 {
        b'a' + value
    } else {
        b'0' + value - 26
    })
}

const BASE: u32 = 36;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_dns_has_them() {
        let cases = [
            ("bücher.example", "xn--bcher-kva.example"),
            ("Bücher.Example", "xn--bcher-kva.example"),
            ("münchen-ost.de", "xn--mnchen-ost-9db.de"),
            ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
            ("пример.рф", "xn--e1afmkfd.xn--p1ai"),
            ("ü", "xn--tda"),
            ("☃.net", "xn--n3h.net"),
            ("a。bücher", "a.xn--bcher-kva"),
        ];
        for (host, ascii) in cases {
            assert_eq!(to_ascii(host).as_deref(), Some(ascii), "{host}");
        }
        assert_eq!(to_ascii("plain.example"), None);
    }
}
