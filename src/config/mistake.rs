//! How mistakes in the configuration are shown: file, line, column, a caret, what was meant.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use crate::printable;
use crate::terminal;

use crate::access::{self, Use};

use super::finding::{self, Finding, Severity, SourceText};
use super::secret;

/// Where in the file something stands, in bytes; nowhere when it came from the command line.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Place(Option<Range<usize>>);

impl Place {
    /// These bytes of the file.
    pub fn at(span: Range<usize>) -> Self {
        Self(Some(span))
    }

    /// The first byte; `None` for what is in no file.
    pub(super) fn start(&self) -> Option<usize> {
        self.0.as_ref().map(|span| span.start)
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    message: String,
    place: Place,
    help: Option<String>,
    earlier: Option<(Place, String)>,
    waits: bool,
    concealed: bool,
}

impl Mistake {
    /// `message` says what is wrong; it starts in lower case and has no full stop.
    pub fn new(place: Place, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            place,
            help: None,
            earlier: None,
            waits: false,
            concealed: false,
        }
    }

    /// Keeps the lines of the file out of the report: they contain a key or a password.
    pub fn concealed(mut self) -> Self {
        self.concealed = true;
        self
    }

    /// Adds what was probably meant, or what to do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Points at another place that belongs to the mistake.
    pub fn with(mut self, place: Place, label: impl Into<String>) -> Self {
        self.earlier = Some((place, label.into()));
        self
    }

    /// Says that it may right itself (a file that is not there yet), so that a supervisor
    /// should try again.
    pub fn may_pass(mut self) -> Self {
        self.waits = true;
        self
    }
}

impl Mistake {
    /// Takes out what `text`, the content of the file, must not say in public.
    fn redact(&mut self, text: &str) {
        let is_ours = text.is_empty() || secret::has_known_key(text);
        let has_key = secret::has_key(text);
        let is_secret =
            |message: &str| secret::is_in(message) || has_key && secret::quotes(message, text);
        if !is_ours {
            self.earlier = None;
            let help = self.help.as_deref().unwrap_or_default();
            if !secret::shares(&self.message, text) && !secret::shares(help, text) {
                return;
            }
            *self = Self::new(
                self.place.clone(),
                "this is not a configuration of mtlsd: it has none of its keys",
            )
            .help("`mtlsd init` writes a configuration to start from");
            return;
        }
        if is_secret(&self.message) {
            self.message = format!("a value is not valid {}", secret::HIDDEN);
        }
        self.help = self.help.take().filter(|help| !is_secret(help));
        self.earlier = self.earlier.take().filter(|(_, label)| !is_secret(label));
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug)]
pub struct ConfigError {
    path: Option<PathBuf>,
    text: String,
    mistakes: Vec<Mistake>,
    // Whether lines of the file may be shown.
    is_quotable: bool,
}

impl ConfigError {
    pub(super) fn new(path: Option<PathBuf>, text: String, mut mistakes: Vec<Mistake>) -> Self {
        let is_quotable =
            secret::is_quotable(&text) && !mistakes.iter().any(|mistake| mistake.concealed);
        if !text.is_empty() && !secret::has_known_key(&text) {
            // A key, a password or a token, or a configuration of another program.
            mistakes.truncate(1);
        }
        for mistake in &mut mistakes {
            mistake.redact(&text);
        }
        // In the order of the file; what stands nowhere comes last.
        mistakes.sort_by_key(|mistake| {
            mistake
                .place
                .0
                .as_ref()
                .map_or(usize::MAX, |span| span.start)
        });
        Self {
            path,
            text,
            mistakes,
            is_quotable,
        }
    }

    /// The configuration could not even be read.
    pub fn unreadable(path: PathBuf, error: &io::Error) -> Self {
        let message = format!("cannot read {}: {error}", secret::shown_path(&path));
        let mut mistake = Mistake::new(Place::default(), message);
        mistake.help = access::help(&path, Use::Read, error);
        mistake.waits = error.kind() == io::ErrorKind::PermissionDenied;
        Self::new(Some(path), String::new(), vec![mistake])
    }

    /// Whether starting again later, with nothing changed in the configuration, may succeed.
    pub fn may_pass(&self) -> bool {
        self.mistakes.iter().all(|mistake| mistake.waits)
    }

    /// The messages alone, in the order of the file.
    pub fn messages(&self) -> impl Iterator<Item = &str> {
        self.mistakes.iter().map(|mistake| mistake.message.as_str())
    }

    /// What is wrong, for programs, in the order of the file.
    pub fn findings(&self) -> Vec<Finding> {
        let source = SourceText {
            path: self.path.clone(),
            text: self.text.clone(),
        };
        let finding = |mistake: &Mistake| {
            let (message, help) = (mistake.message.as_str(), mistake.help.clone());
            let finding = source.finding(Severity::Error, &mistake.place, message, help);
            Finding {
                key: finding
                    .key
                    .filter(|key| self.is_quotable && !secret::is_in(key)),
                ..finding
            }
        };
        self.mistakes.iter().map(finding).collect()
    }

    /// The mistakes with carets, as stderr shows them: in color and in lines that fit where it is a
    /// terminal. Print this with [`terminal::eprint_styled`].
    pub fn render(&self) -> String {
        let stderr = io::stderr();
        let renderer = match terminal::is_colored(&stderr) {
            true => Renderer::styled(),
            false => Renderer::plain(),
        };
        self.render_with(&renderer, terminal::width(&stderr))
    }

    /// Whether the lines of a mistake may be shown.
    fn may_show(&self, mistake: &Mistake) -> bool {
        let places = [
            Some(&mistake.place),
            mistake.earlier.as_ref().map(|(place, _)| place),
        ];
        let lines = places.into_iter().flatten().filter_map(|place| {
            let span = place.0.clone()?;
            let start = self
                .text
                .get(..span.start)?
                .rfind('\n')
                .map_or(0, |at| at + 1);
            let rest = self.text.get(span.end..)?;
            let end = span.end + rest.find('\n').unwrap_or(rest.len());
            self.text.get(start..end)
        });
        self.is_quotable
            && !lines
                .flat_map(str::lines)
                .any(|line| secret::is_secret_line(line) || secret::is_in(line))
    }

    fn render_with(&self, renderer: &Renderer, width: Option<usize>) -> String {
        let renderer = match width {
            Some(width) => renderer.clone().term_width(width),
            None => renderer.clone(),
        };
        // What stands in front of a title, "error: ", and of a help below a snippet.
        let fit = |text: &str, before: usize| {
            let text = printable::escape_lines(text).into_owned();
            match width {
                Some(width) => {
                    terminal::wrap_flush(&text, width.saturating_sub(before)).into_owned()
                }
                None => text,
            }
        };
        let path = self.path.as_deref().map(secret::shown_path);
        let mut out = String::new();
        for mistake in &self.mistakes {
            let message = fit(&mistake.message, "error: ".len());
            let mut group = Group::with_title(Level::ERROR.primary_title(message));
            if let (Some(span), Some(path)) = (&mistake.place.0, &path) {
                group = match self.may_show(mistake) {
                    true => {
                        let mut snippet = Snippet::source(&self.text)
                            .path(path)
                            .annotation(AnnotationKind::Primary.span(span.clone()));
                        if let Some((Place(Some(span)), label)) = &mistake.earlier {
                            let context = AnnotationKind::Context.span(span.clone());
                            snippet = snippet.annotation(context.label(label));
                        }
                        group.element(snippet)
                    }
                    false => {
                        let (line, column) = finding::position(&self.text, span.start);
                        group.element(Origin::path(path).line(line).char_column(column))
                    }
                };
            }
            if let Some(help) = &mistake.help {
                let digits = self.text.lines().count().to_string().len();
                let help = fit(help, "  = help: ".len() + digits);
                group = group.element(Level::HELP.message(help));
            }
            out.push_str(&renderer.render(&[group]));
            out.push_str("\n\n");
        }
        let where_ = path.as_deref().unwrap_or("the command line");
        let where_ = printable::escape(where_);
        let summary = match self.mistakes.len() {
            1 => format!("mtlsd: 1 mistake in {where_}"),
            n => format!("mtlsd: {n} mistakes in {where_}"),
        };
        out.push_str(&fit(&summary, 0));
        out
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render_with(&Renderer::plain(), None))
    }
}

impl std::error::Error for ConfigError {}
