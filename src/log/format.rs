//! How an event looks: a line of JSON, or text for people.

use std::fmt::{self, Write};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::printable;

use super::Look;
use super::plain::timestamp;

/// Formats events for one stream.
pub struct Lines {
    json: Format<Json>,
    look: Look,
}

impl Lines {
    /// Lines of this look.
    pub fn new(look: Look) -> Self {
        let format = tracing_subscriber::fmt::format().json();
        let json = format
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false);
        Self { json, look }
    }

    fn write_text(&self, out: &mut String, event: &Event<'_>) -> fmt::Result {
        let level = *event.metadata().level();
        let mut text = Text {
            message: String::new(),
            fields: String::new(),
            has_color: self.look.has_color,
        };
        event.record(&mut text);
        let time = timestamp(SystemTime::now());
        match self.look.has_color {
            true => write!(out, "{DIM}{time}{PLAIN} {}{level:>5}{PLAIN} ", color(level))?,
            false => write!(out, "{time} {level:>5} ")?,
        }
        writeln!(out, "{}{}", text.message, text.fields)
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str(self.look.prefix(*event.metadata().level()))?;
        let mut line = String::new();
        match self.look.is_json {
            true => {
                let json = Writer::new(&mut line);
                self.json.format_event(context, json, event)?;
                writer.write_str(&printable::escape_json(&line))
            }
            false => {
                self.write_text(&mut line, event)?;
                writer.write_str(&line)
            }
        }
    }
}

/// What an event says, as text.
struct Text {
    message: String,
    fields: String,
    has_color: bool,
}

impl Text {
    fn add(&mut self, field: &Field, value: &str) {
        let value = printable::escape(value);
        if field.name() == "message" {
            self.message.push_str(&value);
            return;
        }
        let name = field.name().strip_prefix("r#").unwrap_or(field.name());
        self.fields.push(' ');
        match self.has_color {
            true => self.fields.extend([DIM, name, "=", PLAIN]),
            false => self.fields.extend([name, "="]),
        }
        // A value that could be read as more than one, or as the next field, is quoted.
        let is_bare = |letter: char| !matches!(letter, ' ' | '"' | '=' | '\\');
        match !value.is_empty() && value.chars().all(is_bare) {
            true => self.fields.push_str(&value),
            false => {
                let value = value.replace('"', "\\\"");
                self.fields.extend(["\"", &value, "\""]);
            }
        }
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, &value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

fn color(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        Level::DEBUG | Level::TRACE => "\u{1b}[34m",
    }
}

const DIM: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    fn look(is_json: bool, has_color: bool, is_journal: bool) -> Lines {
        Lines::new(Look {
            is_json,
            has_color,
            is_journal,
        })
    }

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn line(lines: Lines, log: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .event_format(lines)
            .with_max_level(Level::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    /// Everything that a value may not do to a line.
    const HOSTILE: &str = "a\u{1b}[2J\r\nnext step: \"rm\" x=1 \u{202e}\u{9b}\u{2028}";

    fn hostile() {
        tracing::warn!(subject = HOSTILE, error = %HOSTILE, debug = ?HOSTILE, n = 3, "{HOSTILE}");
    }

    #[test]
    fn no_value_leaves_its_line_or_its_quotes_and_none_reaches_a_terminal() {
        for is_journal in [false, true] {
            let text = line(look(false, false, is_journal), hostile);
            assert_eq!(text.lines().count(), 1, "{text:?}");
            assert_eq!(printable::escape_lines(&text), text);
            assert_eq!(text.starts_with("<4>2"), is_journal, "{text}");
            let subject =
                "subject=\"a\\u{1b}[2J\\r\\nnext step: \\\"rm\\\" x=1 \\u{202e}\\u{9b}\\u{2028}\"";
            assert!(text.contains(subject), "{text}");
            assert!(text.ends_with(" n=3\n"), "{text}");

            let json = line(look(true, false, is_journal), hostile);
            assert_eq!(json.lines().count(), 1, "{json:?}");
            assert_eq!(printable::escape_lines(&json), json);
            let object = json.strip_prefix("<4>").unwrap_or(&json);
            let value: serde_json::Value = serde_json::from_str(object).unwrap();
            assert_eq!(value["subject"], HOSTILE);
            assert_eq!(value["level"], "WARN");
        }
    }

    #[test]
    fn a_value_that_is_not_there_has_no_field() {
        let log = || {
            let peer: Option<std::net::SocketAddr> = None;
            let there = Some(std::net::SocketAddr::from(([127, 0, 0, 1], 8)));
            tracing::info!(
                peer = peer.map(tracing::field::display),
                there = there.map(tracing::field::display),
                r#try = "x",
                "said"
            );
        };
        let text = line(look(false, false, false), log);
        assert!(
            text.ends_with("  INFO said there=127.0.0.1:8 try=x\n"),
            "{text}"
        );
    }

    #[test]
    fn the_journal_learns_the_level_of_every_line() {
        let all = || {
            tracing::error!("e");
            tracing::warn!("w");
            tracing::info!("i");
            tracing::debug!("d");
        };
        let text = line(look(true, false, true), all);
        let prefixes: Vec<_> = text.lines().map(|line| &line[..3]).collect();
        assert_eq!(prefixes, ["<3>", "<4>", "<6>", "<7>"]);
    }
}
