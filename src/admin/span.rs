//! Lengths of time and shares, as a person reads them.

/// A length of time in its two largest units: `6 h 12 min`, `89 d 3 h`, `42 s`.
pub fn span(seconds: f64) -> String {
    let total = seconds.abs() as u64;
    let (days, hours) = (total / 86_400, total / 3600 % 24);
    let (minutes, seconds) = (total / 60 % 60, total % 60);
    let two = |large: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {small_unit}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => two(minutes, "min", seconds, "s"),
        (0, _, _) => two(hours, "h", minutes, "min"),
        // The hours of a year do not matter.
        (30.., _, _) => format!("{days} d"),
        _ => two(days, "d", hours, "h"),
    }
}

/// A moment in the past or the future: `in 6 h 12 min`, `3 d ago`.
pub fn relative(seconds_from_now: f64) -> String {
    if seconds_from_now < 0.0 {
        return format!("{} ago", span(seconds_from_now));
    }
    format!("in {}", span(seconds_from_now))
}

/// A duration of a request: `850 µs`, `12 ms`, `1.5 s`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 0.01 => format!("{:.1} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s => format!("{s:.1} s"),
    }
}

/// A number of bytes: `512 B`, `9.1 MiB`.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    match unit {
        "B" => format!("{count} B"),
        _ => format!("{value:.1} {unit}"),
    }
}

/// A rate: `0.2`, `14`, `2,310`.
pub fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 10.0 {
        return format!("{per_second:.1}");
    }
    let whole = (per_second.round() as u64).to_string();
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_have_their_two_largest_units() {
        let cases = [
            (0.4, "0 s"),
            (42.0, "42 s"),
            (60.0, "1 min"),
            (61.0, "1 min 1 s"),
            (22_320.0, "6 h 12 min"),
            (86_400.0, "1 d"),
            (90_000.0, "1 d 1 h"),
            (90.0 * 86_400.0 + 7200.0, "90 d"),
        ];
        for (seconds, text) in cases {
            assert_eq!(span(seconds), text, "{seconds}");
        }
        assert_eq!(relative(-61.0), "1 min 1 s ago");
        assert_eq!(relative(61.0), "in 1 min 1 s");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(duration(0.000_85), "850 µs");
        assert_eq!(duration(0.012), "12 ms");
        assert_eq!(duration(1.54), "1.5 s");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(9_541_000), "9.1 MiB");
        assert_eq!(rate(0.0), "0");
        assert_eq!(rate(0.21), "0.2");
        assert_eq!(rate(2310.0), "2,310");
    }
}
