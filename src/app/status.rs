//! The line that `systemctl status` shows.

/// Says how many bindings are served, and what is rejected and why.
pub fn line(bindings: usize, problems: &[(&str, &str)]) -> String {
    let mut line = match bindings {
        1 => "serving 1 binding".to_owned(),
        count => format!("serving {count} bindings"),
    };
    for (at, (name, reason)) in problems.iter().enumerate() {
        if at == MOST {
            line.push_str(&format!("; and {} more", problems.len() - MOST));
            break;
        }
        let reason = first_line(reason);
        line.push_str(&format!("; reload of {name} failed: {reason}"));
    }
    line
}

/// The first line of a reason, cut to a length that leaves room for others.
fn first_line(reason: &str) -> String {
    let line = reason.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// Problems that are named.
const MOST: usize = 3;
/// Characters of one reason.
const LONGEST: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_what_is_rejected_and_stays_a_line() {
        assert_eq!(line(1, &[]), "serving 1 binding");
        assert_eq!(
            line(2, &[("b", "error: cannot read /x: gone\n --> y")]),
            "serving 2 bindings; reload of b failed: cannot read /x: gone"
        );
        let long = "ä".repeat(1000);
        let many = [("a", long.as_str()); 5];
        let status = line(5, &many);
        assert!(status.ends_with("…; and 2 more"), "{status}");
        assert!(status.chars().count() < 700);
    }
}
