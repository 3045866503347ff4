//! The configuration that command-line flags and variables stand for.

use std::path::{Path, PathBuf};

use super::binding::file;
use super::mistake::{Mistake, Place};
use super::roots::Roots;
use super::settings::{Settings, trust};
use super::{Binding, BindingName, HostPrefix, Listen, Origin, Source, StorePath, Trust};

/// The one binding of `mtlsd run --to`.
#[derive(Clone, Debug)]
pub struct Flags {
    /// `--to`: the origin.
    pub to: Word<String>,
    /// `--cert`.
    pub certificate: Word<PathBuf>,
    /// `--key`; without it the certificate's file holds the key too.
    pub key: Option<Word<PathBuf>>,
    /// `--ca`: as the key `ca`.
    pub ca: Option<Word<String>>,
    /// `--listen`.
    pub listen: Vec<Word<String>>,
}

/// A value and what it was set by: a flag, or a variable.
#[derive(Clone, Debug)]
pub struct Word<T> {
    /// The value.
    pub value: T,
    /// `--to`, or `MTLSD_TO`.
    pub name: &'static str,
}

impl Flags {
    /// The binding, called `default`; `None` when there were mistakes, which have been added to
    /// `mistakes`, each naming its flag or variable.
    pub(super) fn binding(
        &self,
        store: &StorePath,
        expose: bool,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Binding> {
        let here = Path::new("");
        let origin = self.to.read(|text| Origin::parse(text), mistakes);
        let certificate = path(&self.certificate, mistakes);
        let key = match &self.key {
            Some(key) => path(key, mistakes),
            None => certificate.clone(),
        };
        let roots = Roots {
            directory: here,
            store,
            expose,
        };
        let trust = match &self.ca {
            Some(ca) => ca.read(|text| trust(text, roots), mistakes),
            None => Some(Trust::System),
        };
        let listen = self.listen(expose, mistakes);
        let name = BindingName::parse("default").expect("`default` is a label");
        let source = Source {
            certificate: certificate?,
            key: key?,
            password: None,
        };
        Some(Binding {
            hosts: vec![HostPrefix::from(&name)],
            listen,
            origin: Some(origin?),
            expose,
            ..Settings::default().binding(name, source, trust?)
        })
    }

    fn listen(&self, expose: bool, mistakes: &mut Vec<Mistake>) -> Vec<Listen> {
        let mut all: Vec<Listen> = Vec::new();
        for word in &self.listen {
            let name = word.name;
            let Some(listen) = word.read(|text| Listen::parse(text, Path::new("")), mistakes)
            else {
                continue;
            };
            let mistake = if !listen.is_local() && !expose {
                let message = format!("{name}: {listen} is open to other machines");
                let allow = match name.starts_with("--") {
                    true => "--expose",
                    false => "MTLSD_EXPOSE=true",
                };
                Mistake::new(Place::default(), message).help(format!(
                    "everyone who reaches this port acts with the certificate; \
                     listen on localhost, or set {allow}"
                ))
            } else if let Some(other) = all.iter().find(|other| other.clashes_with(&listen)) {
                let message = format!("{name}: {listen} and {other} are the same address");
                Mistake::new(Place::default(), message).help("remove one of them")
            } else {
                all.push(listen);
                continue;
            };
            mistakes.push(mistake);
        }
        all
    }
}

impl<T> Word<T> {
    /// Reads the value; an error becomes a mistake that names the flag or variable.
    fn read<U>(
        &self,
        read: impl FnOnce(&T) -> Result<U, String>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<U> {
        let mistake = |error| Mistake::new(Place::default(), format!("{}: {error}", self.name));
        read(&self.value)
            .map_err(|error| mistakes.push(mistake(error)))
            .ok()
    }
}

fn path(word: &Word<PathBuf>, mistakes: &mut Vec<Mistake>) -> Option<PathBuf> {
    word.read(
        |path| match path.to_str() {
            Some(text) => file(text, Path::new("")),
            // A path that is not UTF-8 has no prefix of ours.
            None => Ok(path.clone()),
        },
        mistakes,
    )
}
