//! How mistakes in the configuration are shown: file, line, column, a caret, what was meant.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::printable;
use crate::terminal;

use crate::access::{self, Use};

use super::finding::{Finding, Severity, SourceText};

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
        }
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

/// Everything that is wrong with a configuration.
#[derive(Debug)]
pub struct ConfigError {
    path: Option<PathBuf>,
    text: String,
    mistakes: Vec<Mistake>,
}

impl ConfigError {
    pub(super) fn new(path: Option<PathBuf>, text: String, mut mistakes: Vec<Mistake>) -> Self {
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
        }
    }

    /// The configuration could not even be read.
    pub fn unreadable(path: PathBuf, error: &io::Error) -> Self {
        let message = format!("cannot read {}: {error}", path.display());
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
            source.finding(Severity::Error, &mistake.place, message, help)
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
        let path = self.path.as_ref().map(|path| path.display().to_string());
        let mut out = String::new();
        for mistake in &self.mistakes {
            let message = fit(&mistake.message, "error: ".len());
            let mut group = Group::with_title(Level::ERROR.primary_title(message));
            if let (Some(span), Some(path)) = (&mistake.place.0, &path) {
                let mut snippet = Snippet::source(&self.text)
                    .path(path)
                    .annotation(AnnotationKind::Primary.span(span.clone()));
                if let Some((Place(Some(span)), label)) = &mistake.earlier {
                    snippet =
                        snippet.annotation(AnnotationKind::Context.span(span.clone()).label(label));
                }
                group = group.element(snippet);
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
