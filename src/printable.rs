//! Makes text from outside safe to print: a certificate's names, a path, a header value, an error of
//! a peer. Such text may carry terminal escape sequences, line breaks that forge a line of ours, or
//! marks that turn the reading direction.
//!
//! [`escape`] is for a value in a line, [`escape_lines`] for a text of several lines that is ours.

use std::borrow::Cow;
use std::fmt::Write;

/// Returns `text` on one line: whatever a terminal or a reader could take for something else than
/// a letter is written as Rust writes it, `\n` or `\u{202e}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    escape_but(text, |_| false)
}

/// Like [`escape`], but keeps line feeds.
pub fn escape_lines(text: &str) -> Cow<'_, str> {
    escape_but(text, |letter| letter == '\n')
}

/// Returns a line of JSON in which the letters that JSON does not have to escape are escaped too.
/// Parsed, it is the same.
pub fn escape_json(line: &str) -> Cow<'_, str> {
    if !line
        .chars()
        .any(|letter| letter != '\n' && is_misleading(letter))
    {
        return Cow::Borrowed(line);
    }
    let mut escaped = String::with_capacity(line.len() + 16);
    for letter in line.chars() {
        if letter == '\n' || !is_misleading(letter) {
            escaped.push(letter);
            continue;
        }
        for unit in letter.encode_utf16(&mut [0; 2]) {
            // A String takes every write.
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    }
    Cow::Owned(escaped)
}

/// Text that arrives in pieces, as a terminal may see it.
#[derive(Default)]
pub struct Screen {
    // The beginning of a letter whose other bytes have not come yet.
    begun: Vec<u8>,
}

impl Screen {
    /// Returns the next piece with everything escaped but tabs, line feeds, and carriage returns
    /// before them. What is not UTF-8 is replaced.
    pub fn show(&mut self, piece: &[u8]) -> String {
        let mut bytes = std::mem::take(&mut self.begun);
        bytes.extend_from_slice(piece);
        // At most three bytes of a letter can be there without the last.
        let tail = bytes.len().saturating_sub(3);
        let begun = bytes[tail..]
            .iter()
            .rposition(|byte| *byte >= 0xc0)
            .filter(|at| {
                std::str::from_utf8(&bytes[tail + at..])
                    .is_err_and(|error| error.error_len().is_none())
            });
        let last_return = bytes.last() == Some(&b'\r');
        let whole = match begun {
            Some(at) => tail + at,
            None => bytes.len() - usize::from(last_return),
        };
        self.begun = bytes.split_off(whole);
        let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
        escape_but(&text, |letter| matches!(letter, '\n' | '\t')).into_owned()
    }
}

fn escape_but(text: &str, kept: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_escaped = |letter: char| is_misleading(letter) && !kept(letter);
    if !text.chars().any(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match is_escaped(letter) {
            true => escaped.extend(letter.escape_default()),
            false => escaped.push(letter),
        }
    }
    Cow::Owned(escaped)
}

/// Returns `true` for what a terminal obeys, and for what changes how the text beside it is read or
/// is not seen at all.
fn is_misleading(letter: char) -> bool {
    // C0, DEL and C1.
    if letter.is_control() {
        return true;
    }
    matches!(letter,
        // Soft hyphen, and fillers that look like nothing.
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}'
        // Marks, embeddings, overrides and isolates of bidirectional text.
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        // Zero-width space, separators of lines and paragraphs, invisible operators.
        | '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}'
        // Byte order mark, annotations, tags.
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_on_a_screen_read_as_the_whole() {
        let text = "ä\u{1b}[2J\r\n\t証\u{9b}x\rB🔐\n";
        let shown = "ä\\u{1b}[2J\n\t証\\u{9b}x\\rB🔐\n";
        for size in 1..text.len() {
            let mut screen = Screen::default();
            let pieces = text.as_bytes().chunks(size);
            let all: String = pieces.map(|piece| screen.show(piece)).collect();
            assert_eq!(all, shown, "in pieces of {size}");
        }
        assert_eq!(
            Screen::default().show(b"\xff\xfe\x9b"),
            "\u{fffd}\u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn what_misleads_is_escaped_and_letters_are_kept() {
        for (text, line) in [
            ("CN=client, O=Käse 証明 🔐", "CN=client, O=Käse 証明 🔐"),
            ("a\nnext step: rm", "a\\nnext step: rm"),
            ("a\r\n\tb", "a\\r\\n\\tb"),
            ("\u{1b}[31mred\u{1b}[0m", "\\u{1b}[31mred\\u{1b}[0m"),
            ("\u{0}\u{7}\u{7f}", "\\u{0}\\u{7}\\u{7f}"),
            ("\u{85}\u{9b}31m", "\\u{85}\\u{9b}31m"),
            ("pay\u{202e}lapyap", "pay\\u{202e}lapyap"),
            ("a\u{2028}b\u{2029}c", "a\\u{2028}b\\u{2029}c"),
            ("\u{2066}\u{200f}\u{feff}", "\\u{2066}\\u{200f}\\u{feff}"),
            ("\u{e0041}", "\\u{e0041}"),
            // Backslashes are letters: an escaped text stays as it is.
            ("\\u{1b}", "\\u{1b}"),
        ] {
            assert_eq!(escape(text), line, "{text:?}");
            assert_eq!(escape(&escape(text)), line, "{text:?}");
            let kept = escape_lines(text);
            let lines: Vec<_> = text.split('\n').map(escape).collect();
            assert_eq!(kept, lines.join("\n"), "{text:?}");
            let json = serde_json::to_string(text).unwrap();
            let escaped = escape_json(&json);
            assert_eq!(escape(&escaped), escaped, "{text:?}");
            assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
        }
    }
}
