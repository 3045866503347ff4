//! Reads one `[bindings.NAME]` table.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeValue;

use super::mistake::{Mistake, Place};
use super::read::{as_table, exposure};
use super::section::{Found, Section};
use super::settings::Settings;
use super::{
    AuthorityRef, Binding, BindingName, HostPrefix, Listen, Origin, Places, Source, Trust,
};

/// A binding and the places of what it shares a space with others in.
pub struct Read {
    pub binding: Binding,
    pub name: Place,
    pub listen: Vec<Place>,
    pub hosts: Vec<Place>,
    pub origin: Place,
    pub allow: Vec<Place>,
}

/// `None` when there were mistakes in it; they have been added to `mistakes`.
pub fn binding(
    key: Spanned<Cow<'_, str>>,
    value: Spanned<DeValue<'_>>,
    base: &Settings,
    shared: bool,
    directory: &Path,
    mistakes: &mut Vec<Mistake>,
) -> Option<Read> {
    let place = Place::at(key.span());
    let written = key.into_inner();
    let table = as_table(&format!("bindings.{written}"), value, mistakes)?;
    let before = mistakes.len();
    let mut section = Section::new(
        format!("[bindings.{written}]"),
        place.clone(),
        table,
        mistakes,
    );
    let name = BindingName::parse(&written);
    if name.is_none() {
        section.mistake(
            Mistake::new(
                place.clone(),
                format!("`{written}` is not a binding's name"),
            )
            .help("a name has letters, digits, `_` and `-`, and at most 63 of them"),
        );
    }
    let has_listen = section.has("listen");
    let listen = section
        .list("listen", |text| Listen::parse(text, directory))
        .unwrap_or_default();
    let hosts = section.list("host", |text| {
        HostPrefix::parse(text)
            .ok_or_else(|| format!("`{text}` is not a host name (without a port)"))
    });
    let has_origin = section.has("origin");
    let origin = section.parse("origin", Origin::parse);
    let (source, certificate_place, key_place, bundled_ca) = source(&mut section, directory);
    let server_name = section.parse("server_name", |text| {
        AuthorityRef::parse(text)
            .filter(|name| name.port().is_none())
            .map(|name| name.host().into())
            .ok_or_else(|| format!("`{text}` is not a host name"))
    });
    let settings = Settings::read(&mut section, directory).or(base);
    let exposed = settings.expose.as_ref().is_some_and(|expose| expose.value);
    exposure(&mut section, &listen, exposed);
    if !has_listen && !shared {
        section.mistake(
            Mistake::new(place.clone(), format!("`{written}` has no way in"))
                .help("give it a `listen` such as \"localhost:8001\", or give the file a shared `listen` at its top"),
        );
    }
    let allow_empty = settings.allow.as_ref().is_none_or(Vec::is_empty);
    if !has_origin && allow_empty {
        section.mistake(
            Mistake::new(place.clone(), format!("`{written}` leads nowhere"))
                .help("add `origin`, the https:// URL its requests go to"),
        );
    }
    section.finish();
    if mistakes.len() > before {
        return None;
    }
    let (name, source) = (name?, source?);
    let (ca, ca_place) = match (&settings.ca, bundled_ca) {
        (Some(ca), _) => (ca.value.clone(), ca.place.clone()),
        (None, Some(bundle)) => (Trust::Bundle(bundle), certificate_place.clone()),
        (None, None) => (Trust::System, Place::default()),
    };
    let origin_place = origin
        .as_ref()
        .map(|found| found.place.clone())
        .unwrap_or_default();
    let server_name_place = server_name
        .as_ref()
        .map_or(origin_place.clone(), |found| found.place.clone());
    let (listen, listen_places) = apart(listen);
    let (hosts, host_places) = match hosts {
        Some(hosts) => apart(hosts),
        None => (vec![HostPrefix::from(&name)], vec![place.clone()]),
    };
    let allow_places = settings
        .allow
        .iter()
        .flatten()
        .map(|found| found.place.clone())
        .collect();
    let binding = Binding {
        listen,
        hosts,
        origin: origin.map(|found| found.value),
        server_name: server_name.map(|found| found.value),
        places: Places {
            certificate: certificate_place,
            key: key_place,
            ca: ca_place,
            server_name: server_name_place,
        },
        ..settings.binding(name, source, ca)
    };
    Some(Read {
        binding,
        name: place,
        listen: listen_places,
        hosts: host_places,
        origin: origin_place,
        allow: allow_places,
    })
}

/// The certificate and its key, the places that name them, and the CA bundle that came along.
fn source(
    section: &mut Section<'_, '_>,
    directory: &Path,
) -> (Option<Source>, Place, Place, Option<PathBuf>) {
    let path = |text: &str| file(text, directory);
    let certificate = section.parse("certificate", path);
    let key = section.parse("key", path);
    let folder = section.parse("certificate_dir", path);
    match (certificate, key, folder) {
        (Some(certificate), None, None) => {
            let source = Source {
                key: certificate.value.clone(),
                certificate: certificate.value,
            };
            (
                Some(source),
                certificate.place.clone(),
                certificate.place,
                None,
            )
        }
        (Some(certificate), Some(key), None) => {
            let source = Source {
                certificate: certificate.value,
                key: key.value,
            };
            (Some(source), certificate.place, key.place, None)
        }
        (None, None, Some(folder)) => {
            let source = Source {
                certificate: folder.value.join("tls.crt"),
                key: folder.value.join("tls.key"),
            };
            let ca = folder.value.join("ca.crt");
            (Some(source), folder.place.clone(), folder.place, Some(ca))
        }
        (_, _, Some(folder)) => {
            section.mistake(
                Mistake::new(
                    folder.place,
                    "`certificate_dir` stands beside `certificate` or `key`",
                )
                .help(
                    "the directory holds both, as tls.crt and tls.key; keep one way of naming them",
                ),
            );
            (None, Place::default(), Place::default(), None)
        }
        (None, Some(key), None) => {
            section.mistake(
                Mistake::new(key.place, "there is a `key` and no `certificate`")
                    .help("add `certificate`, the PEM file with the certificate chain"),
            );
            (None, Place::default(), Place::default(), None)
        }
        (None, None, None) => {
            // A value that could not be read has been reported already; its key is gone.
            let place = section.place();
            section.mistake(
                Mistake::new(place, "there is no certificate")
                    .help("add `certificate` (and `key`), or `certificate_dir`"),
            );
            (None, Place::default(), Place::default(), None)
        }
    }
}

fn file(text: &str, directory: &Path) -> Result<PathBuf, String> {
    match text {
        "" => Err("a path is not empty".to_owned()),
        _ if text.starts_with("credential:") => {
            Err("systemd credentials are not part of this version; name the file".to_owned())
        }
        _ => Ok(directory.join(text)),
    }
}

fn apart<T>(found: Vec<Found<T>>) -> (Vec<T>, Vec<Place>) {
    found
        .into_iter()
        .map(|found| (found.value, found.place))
        .unzip()
}
