//! What the process prints for people: in color where a terminal takes it, in lines that fit the
//! terminal, and without a panic where nothing can be printed.
//!
//! In this crate `println!`, `print!` and `eprintln!` are those of this module.

use std::borrow::Cow;
use std::env;
use std::fmt::Arguments;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use rustix::termios::tcgetwinsize;

use crate::printable;

/// Decides about color once, for everything that the process prints: `TERM=dumb` means none, even
/// where `CI` is set. Call this before anything is printed.
pub fn start() {
    if env::var_os("TERM").is_some_and(|term| term == "dumb") {
        ColorChoice::Never.write_global();
    }
}

/// Returns `true` if `stream` takes color: a terminal does, unless `NO_COLOR` is set. The help and
/// the usage errors of clap follow the same rule.
pub fn is_colored<S: RawStream>(stream: &S) -> bool {
    AutoStream::choice(stream) != ColorChoice::Never
}

/// Returns the columns of the terminal behind `stream`; `None` if there is none, or it does not say.
pub fn width(stream: &impl AsFd) -> Option<usize> {
    let size = tcgetwinsize(stream).ok()?;
    (size.ws_col > 0).then(|| usize::from(size.ws_col))
}

/// Prints to stdout. What cannot be written is lost; the exit code of the command says more.
pub fn print(text: Arguments<'_>, end: &str) {
    let stdout = io::stdout();
    let text = fitted(&format!("{text}{end}"), &stdout);
    let mut stdout = stdout.lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

/// Prints to stderr.
pub fn eprint(text: Arguments<'_>) {
    let stderr = io::stderr();
    let text = fitted(&format!("{text}\n"), &stderr);
    let _ = stderr.lock().write_all(text.as_bytes());
}

/// Prints a text to stderr that has been escaped and fitted already, and may be in color.
pub fn eprint_styled(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Returns `text` as `stream` shows it: without what a terminal would obey, in lines that fit.
fn fitted(text: &str, stream: &(impl AsFd + IsTerminal)) -> String {
    let text = printable::escape_lines(text);
    match width(stream).filter(|_| stream.is_terminal()) {
        Some(width) => wrap(&text, width).into_owned(),
        None => text.into_owned(),
    }
}

/// Breaks lines of more than `width` columns at their blanks. What follows is indented as the line
/// is, and two columns more.
pub fn wrap(text: &str, width: usize) -> Cow<'_, str> {
    wrap_by(text, width, 2)
}

/// Like [`wrap`], but what follows is indented as the line is.
pub fn wrap_flush(text: &str, width: usize) -> Cow<'_, str> {
    wrap_by(text, width, 0)
}

/// Like [`wrap`], but what follows is indented by four columns: for lines of a log.
pub fn wrap_further(text: &str, width: usize) -> Cow<'_, str> {
    wrap_by(text, width, 4)
}

fn wrap_by(text: &str, width: usize, hang: usize) -> Cow<'_, str> {
    if text.lines().all(|line| columns(line) <= width) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 64);
    for line in text.split_inclusive('\n') {
        let content = line.strip_suffix('\n').unwrap_or(line);
        wrap_line(&mut out, content, width, hang);
        out.push_str(&line[content.len()..]);
    }
    Cow::Owned(out)
}

fn wrap_line(out: &mut String, line: &str, width: usize, hang: usize) {
    let indent = line.len() - line.trim_start_matches(' ').len();
    let further = (indent + hang).min(width / 2);
    let mut column = 0;
    let mut rest = line;
    let mut is_first = true;
    while !rest.is_empty() {
        // A word, and the blanks before it.
        let gap = rest.len() - rest.trim_start_matches(' ').len();
        let end = rest[gap..].find(' ').map_or(rest.len(), |at| gap + at);
        let length = columns(&rest[gap..end]);
        if !is_first && length > 0 && column + gap + length > width {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', further));
            out.push_str(&rest[gap..end]);
            column = further + length;
        } else {
            out.push_str(&rest[..end]);
            column += gap + length;
        }
        rest = &rest[end..];
        is_first = false;
    }
}

/// Returns how many columns `text` takes: its letters, nearly all of which are ASCII here, without
/// the sequences that set a color.
fn columns(text: &str) -> usize {
    let mut letters = text.chars();
    let mut columns = 0;
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => _ = letters.find(char::is_ascii_alphabetic),
            _ => columns += 1,
        }
    }
    columns
}

macro_rules! println {
    () => { $crate::terminal::print(format_args!(""), "\n") };
    ($($text:tt)*) => { $crate::terminal::print(format_args!($($text)*), "\n") };
}
macro_rules! print {
    ($($text:tt)*) => { $crate::terminal::print(format_args!($($text)*), "") };
}
macro_rules! eprintln {
    () => { $crate::terminal::eprint(format_args!("")) };
    ($($text:tt)*) => { $crate::terminal::eprint(format_args!($($text)*)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_at_blanks_and_short_ones_are_kept() {
        for (text, wrapped) in [
            ("short\n  as it is\n", "short\n  as it is\n"),
            ("one two three four", "one two\n  three\n  four"),
            ("  one two three\nend\n", "  one two\n    three\nend\n"),
            ("a-very-long-word-alone", "a-very-long-word-alone"),
            ("x a-very-long-word y", "x\n  a-very-long-word\n  y"),
            ("a: b        c", "a: b\n  c"),
            ("aaaa bbbbb ", "aaaa bbbbb "),
            (
                "\u{1b}[2maaaa\u{1b}[0m bbbbb",
                "\u{1b}[2maaaa\u{1b}[0m bbbbb",
            ),
        ] {
            assert_eq!(wrap(text, 10), wrapped, "{text:?}");
        }
    }
}
