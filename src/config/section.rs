//! Reads one TOML table key by key, and knows in the end which keys nobody asked for.
//!
//! serde stops at the first mistake; a person wants all of them. So the table is walked by hand,
//! every value that cannot be meant becomes a [`Mistake`], and reading goes on.

use std::collections::HashMap;
use std::num::{IntErrorKind, NonZeroUsize};
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys;
use super::mistake::{Mistake, Place};
use super::secret;

/// A value with the place it was written at.
#[derive(Clone, Debug)]
pub struct Found<T> {
    pub value: T,
    pub place: Place,
}

/// One table that is being read.
pub struct Section<'t, 'm> {
    // `in [bindings.payments]`, for messages.
    whereabouts: String,
    known: Vec<&'static str>,
    left: HashMap<String, (Range<usize>, Spanned<DeValue<'t>>)>,
    mistakes: &'m mut Vec<Mistake>,
}

impl<'t, 'm> Section<'t, 'm> {
    /// `known` are the keys that may be asked for.
    pub fn new(
        whereabouts: impl Into<String>,
        known: impl Into<Vec<&'static str>>,
        table: DeTable<'t>,
        mistakes: &'m mut Vec<Mistake>,
    ) -> Self {
        let left = table
            .into_iter()
            .map(|(key, value)| {
                let span = key.span();
                (key.into_inner().into_owned(), (span, value))
            })
            .collect();
        Self {
            whereabouts: whereabouts.into(),
            known: known.into(),
            left,
            mistakes,
        }
    }

    pub fn mistake(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    /// The value of `key`, whatever it is.
    pub fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'t>>> {
        debug_assert!(self.known.contains(&key), "`{key}` is not listed");
        self.left.remove(key).map(|(_, value)| value)
    }

    /// Whether `key` is there and was not read yet.
    pub fn has(&self, key: &str) -> bool {
        self.left.contains_key(key)
    }

    /// Whether `key` is there and was not read yet, or something that was probably meant to be it:
    /// then that is the mistake, and not that `key` is missing.
    pub fn has_or_means(&self, key: &str) -> bool {
        self.has(key)
            || self.left.iter().any(|(written, (_, value))| {
                !self.known.contains(&written.as_str())
                    && keys::stands_for(written, value.get_ref(), &self.known, key)
            })
    }

    /// Whether `key` is there, was not read yet, and is no empty list.
    pub fn names_any(&self, key: &str) -> bool {
        self.left.get(key).is_some_and(|(_, value)| {
            value
                .get_ref()
                .as_array()
                .is_none_or(|items| !items.is_empty())
        })
    }

    /// Makes a mistake of `key` where it is an empty list.
    pub fn refuse_empty(&mut self, key: &'static str) {
        if self.has(key) && !self.names_any(key) {
            let (_, value) = &self.left[key];
            let mistake = Mistake::new(
                Place::at(value.span()),
                format!("`{key}`: the list is empty"),
            );
            self.mistakes
                .push(mistake.help(format!("leave `{key}` out, or name one")));
        }
    }

    /// The value of `key`, read by `read`, whose error becomes a mistake at the value.
    pub fn get<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'t>) -> Result<T, String>,
    ) -> Option<Found<T>> {
        let value = self.take(key)?;
        let place = Place::at(value.span());
        if let Some(mistake) = hidden(key, &value) {
            self.mistakes.push(mistake);
            return None;
        }
        match read(value.get_ref()) {
            Ok(value) => Some(Found { value, place }),
            Err(message) => {
                self.mistakes
                    .push(Mistake::new(place, format!("`{key}`: {message}")));
                None
            }
        }
    }

    /// A string that `read` understands.
    pub fn parse<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Found<T>> {
        self.get(key, |value| read(string(value)?))
    }

    /// A string, or a list of strings, each of which `read` understands. `None` when the key is
    /// not there.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<Found<T>>> {
        self.list_of(key, |value| read(string(value)?))
    }

    /// A value, or a list of values, each of which `read` understands.
    pub fn list_of<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&DeValue<'t>) -> Result<T, String>,
    ) -> Option<Vec<Found<T>>> {
        let value = self.take(key)?;
        let mut items = Vec::new();
        let mut each = |value: &Spanned<DeValue<'t>>, mistakes: &mut Vec<Mistake>| {
            let place = Place::at(value.span());
            if let Some(mistake) = hidden(key, value) {
                mistakes.push(mistake);
                return;
            }
            match read(value.get_ref()) {
                Ok(value) => items.push(Found { value, place }),
                Err(message) => {
                    mistakes.push(Mistake::new(place, format!("`{key}`: {message}")));
                }
            }
        };
        match value.get_ref() {
            DeValue::Array(array) => {
                for item in array.iter() {
                    each(item, self.mistakes);
                }
            }
            _ => each(&value, self.mistakes),
        }
        Some(items)
    }

    pub fn boolean(&mut self, key: &'static str) -> Option<Found<bool>> {
        self.get(key, |value| {
            value.as_bool().ok_or_else(|| {
                let quotes = match value.as_str() {
                    Some("true" | "false") => "; remove the quotes",
                    _ => "",
                };
                format!("expected true or false, found {}{quotes}", described(value))
            })
        })
    }

    /// A duration of at least a millisecond, written `"5s"`, `"500ms"`, `"1h 30m"`.
    pub fn duration(&mut self, key: &'static str) -> Option<Found<Duration>> {
        self.get(key, |value| {
            let DeValue::String(text) = value else {
                return Err(no_duration(value));
            };
            let duration = humantime::parse_duration(text).map_err(|error| match error {
                humantime::DurationError::NumberOverflow => {
                    format!("`{text}` is not between \"1ms\" and \"1year\"")
                }
                _ => {
                    format!("`{text}` is not a duration such as \"5s\", \"500ms\" or \"5min\"")
                }
            })?;
            match duration {
                d if d < Duration::from_millis(1) => Err(
                    "must be at least \"1ms\"; a wait without end cannot be configured".to_owned(),
                ),
                d if d > LONGEST => Err("must be at most \"1year\"".to_owned()),
                d => Ok(d),
            }
        })
    }

    /// One of these words, as what it stands for.
    pub fn word<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
    ) -> Option<Found<T>> {
        self.get(key, |value| {
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            let text = match value {
                DeValue::String(text) => text.as_ref(),
                DeValue::Float(number) if known.contains(&number.as_str()) => {
                    let number = number.as_str();
                    return Err(format!(
                        "expected a string, found the number {number}; did you mean \"{number}\"?"
                    ));
                }
                other => string(other)?,
            };
            if let Some((_, meant)) = words.iter().find(|(word, _)| *word == text) {
                return Ok(*meant);
            }
            let hint = closest(text, &known)
                .map_or(String::new(), |near| format!("; did you mean \"{near}\"?"));
            Err(format!(
                "expected one of {}, found \"{text}\"{hint}",
                known.join(", ")
            ))
        })
    }

    /// A whole number of at least 1.
    pub fn count(&mut self, key: &'static str) -> Option<Found<NonZeroUsize>> {
        self.get(key, count)
    }

    /// Reports every key that nobody asked for.
    pub fn finish(self) {
        let mut left: Vec<_> = self.left.into_iter().collect();
        left.sort_by_key(|(_, (span, _))| span.start);
        for (key, (span, value)) in left {
            let message = format!("unknown key `{key}` {}", self.whereabouts);
            let mistake = Mistake::new(Place::at(span), message);
            self.mistakes
                .push(match keys::meant(&key, value.get_ref(), &self.known) {
                    Some(help) => mistake.help(help),
                    None => mistake,
                });
        }
    }
}

/// The mistake of writing a key, or what else is no value, where a value was expected.
fn hidden(key: &str, value: &Spanned<DeValue<'_>>) -> Option<Mistake> {
    let text = value
        .get_ref()
        .as_str()
        .filter(|text| secret::is_secret(text))?;
    let what = match secret::has_pem(text) {
        true => "PEM",
        false => "a key, line breaks, or more than a path can hold",
    };
    let help = match PATHS.contains(&key) {
        true => format!("write it into a file of its own, and set `{key}` to the path of that"),
        false => format!("`{key}` is one short line"),
    };
    let message = format!("`{key}`: the value contains {what}, and is not shown");
    Some(
        Mistake::new(Place::at(value.span()), message)
            .help(help)
            .concealed(),
    )
}

pub fn string<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    value
        .as_str()
        .ok_or_else(|| format!("expected a string, found {}", described(value)))
}

pub fn count(value: &DeValue<'_>) -> Result<NonZeroUsize, String> {
    let expected = || {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let quotes = match value.as_str().is_some_and(is_number) {
            true => "; remove the quotes",
            false => "",
        };
        format!(
            "expected a whole number of at least 1, found {}{quotes}",
            described(value)
        )
    };
    let number = value.as_integer().ok_or_else(expected)?;
    match usize::from_str_radix(number.as_str(), number.radix()) {
        Ok(number) => NonZeroUsize::new(number).ok_or_else(expected),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => {
            Err(format!("{number} is too large"))
        }
        Err(_) => Err(expected()),
    }
}

pub fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string \"{}\"", secret::shown(text)),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(flag) => format!("{flag}"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// The one of `known` that `word` was probably meant to be.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let folded = word.to_ascii_lowercase().replace('-', "_");
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&folded, candidate), *candidate))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// The one of `known` that is nearest to `text`: in number where all are numbers, else in spelling.
fn closest<'k>(text: &str, known: &[&'k str]) -> Option<&'k str> {
    let number = |text: &str| {
        let digits = text.trim_start_matches(|letter: char| !letter.is_ascii_digit());
        digits.parse::<f64>().ok()
    };
    let numbers: Option<Vec<f64>> = known.iter().map(|word| word.parse().ok()).collect();
    let (Some(numbers), Some(wanted)) = (numbers, number(text)) else {
        return nearest(text, known);
    };
    let distances = numbers.iter().map(|number| (number - wanted).abs());
    let pairs = distances.zip(known);
    let nearest = pairs.min_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(nearest.1)
}

// What is wrong with a duration that is no string.
fn no_duration(value: &DeValue<'_>) -> String {
    let number = match value {
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        other => {
            return format!(
                "expected a duration such as \"5s\", found {}",
                described(other)
            );
        }
    };
    let is_plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if is_plain && number.bytes().any(|b| matches!(b, b'1'..=b'9')) {
        format!("a duration has a unit: \"{number}s\" or \"{number}ms\"")
    } else {
        format!("expected a duration such as \"5s\", found the number {number}")
    }
}

/// The keys whose values are paths.
const PATHS: &[&str] = &[
    "certificate",
    "key",
    "key_password_file",
    "certificate_dir",
    "ca",
    "crl",
];
// Far enough away for anyone, and near enough that adding it to a clock cannot overflow.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
