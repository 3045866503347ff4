//! The configuration that command-line flags stand for.

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
    pub to: String,
    /// `--cert`.
    pub certificate: PathBuf,
    /// `--key`; without it the certificate's file holds the key too.
    pub key: Option<PathBuf>,
    /// `--ca`: as the key `ca`.
    pub ca: Option<String>,
    /// `--listen`.
    pub listen: String,
    /// `--store`, or what it is by default.
    pub store: StorePath,
}

impl Flags {
    /// The binding, called `default`; `None` when there were mistakes, which have been added to
    /// `mistakes`, each naming its flag.
    pub(super) fn binding(&self, mistakes: &mut Vec<Mistake>) -> Option<Binding> {
        let here = Path::new("");
        let origin = flag("--to", Origin::parse(&self.to), mistakes);
        let certificate = path("--cert", &self.certificate, mistakes);
        let key = match &self.key {
            Some(key) => path("--key", key, mistakes),
            None => certificate.clone(),
        };
        let trust = match &self.ca {
            Some(ca) => {
                let roots = Roots {
                    directory: here,
                    store: &self.store,
                };
                flag("--ca", trust(ca, roots), mistakes)
            }
            None => Some(Trust::System),
        };
        let listen = flag("--listen", Listen::parse(&self.listen, here), mistakes)?;
        if !listen.is_local() {
            let message = format!("--listen {listen} is open to other machines");
            mistakes.push(
                Mistake::new(Place::default(), message).help(
                    "listen on localhost, or write a configuration file with `expose = true`",
                ),
            );
        }
        let name = BindingName::parse("default").expect("`default` is a label");
        let source = Source {
            certificate: certificate?,
            key: key?,
            password: None,
        };
        Some(Binding {
            hosts: vec![HostPrefix::from(&name)],
            listen: vec![listen],
            origin: Some(origin?),
            ..Settings::default().binding(name, source, trust?)
        })
    }
}

fn flag<T>(name: &str, read: Result<T, String>, mistakes: &mut Vec<Mistake>) -> Option<T> {
    read.map_err(|error| mistakes.push(Mistake::new(Place::default(), format!("{name}: {error}"))))
        .ok()
}

fn path(name: &str, path: &Path, mistakes: &mut Vec<Mistake>) -> Option<PathBuf> {
    match path.to_str() {
        Some(text) => flag(name, file(text, Path::new("")), mistakes),
        // What is no text is no word of ours either.
        None => Some(path.to_owned()),
    }
}
