//! What keeps the daemon from starting. Where programs read the diagnostics, that is a line of the
//! log as well; people get it as other commands print it.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::SystemTime;

use serde_json::{Map, Value};
use tracing::Level;

use crate::config::{Finding, LogSettings};
use crate::printable;

use super::Look;
use super::plain::timestamp;

static DAEMON: AtomicBool = AtomicBool::new(false);
static LOOK: OnceLock<Look> = OnceLock::new();

/// Says that this process is to be a daemon. Until its log starts, the look is the default one.
pub fn is_daemon() {
    DAEMON.store(true, Relaxed);
}

/// Says how the log looks.
pub(super) fn looks(look: Look) {
    // A second log has been refused already.
    let _ = LOOK.set(look);
}

/// Logs why the daemon does not run. Returns `false` if people are to be told instead.
pub fn findings(findings: Vec<Finding>) -> bool {
    let Some(look) = look() else { return false };
    for finding in findings {
        let fields = [
            ("file", finding.file.map(Value::from)),
            ("line", finding.line.map(Value::from)),
            ("column", finding.column.map(Value::from)),
            ("key", finding.key.map(Value::from)),
            ("help", finding.help.map(Value::from)),
        ];
        write(&line(look, &finding.message, fields));
    }
    true
}

fn look() -> Option<Look> {
    let look = || Look::of_diagnostics(&LogSettings::default());
    let look = DAEMON
        .load(Relaxed)
        .then(|| LOOK.get().copied().unwrap_or_else(look))?;
    (look.is_json || look.is_journal).then_some(look)
}

fn line<const N: usize>(
    look: Look,
    message: &str,
    fields: [(&'static str, Option<Value>); N],
) -> String {
    let time = timestamp(SystemTime::now());
    let prefix = look.prefix(Level::ERROR);
    let fields = fields.into_iter();
    let mut fields = fields.filter_map(|(name, value)| Some((name, value?)));
    if look.is_json {
        let mut object = Map::new();
        object.insert("timestamp".to_owned(), time.into());
        object.insert("level".to_owned(), "ERROR".into());
        object.insert("message".to_owned(), message.into());
        object.extend(fields.map(|(name, value)| (name.to_owned(), value)));
        let object = Value::Object(object).to_string();
        return format!("{prefix}{}\n", printable::escape_json(&object));
    }
    let message = printable::escape(message);
    let fields: String = fields
        .by_ref()
        .map(|(name, value)| format!(" {name}={}", printable::escape(&value.to_string())))
        .collect();
    format!("{prefix}{time} ERROR {message}{fields}\n")
}

fn write(line: &str) {
    // Where stderr cannot be written, the exit code says it.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_of_the_log() {
        for is_json in [true, false] {
            let look = Look {
                is_json,
                has_color: false,
                is_journal: true,
            };
            let fields = [("line", Some(Value::from(3))), ("key", None)];
            let line = line(look, "a\n\u{1b}b", fields);
            let text = line.strip_prefix("<3>").unwrap();
            assert_eq!(text.lines().count(), 1, "{text}");
            match is_json {
                true => {
                    let value: Value = serde_json::from_str(text).unwrap();
                    assert_eq!(value["message"], "a\n\u{1b}b");
                    assert_eq!(value["line"], 3);
                    assert_eq!(value["level"], "ERROR");
                    assert!(value.get("key").is_none());
                }
                false => assert!(text.ends_with(" ERROR a\\n\\u{1b}b line=3\n"), "{text}"),
            }
        }
    }
}
