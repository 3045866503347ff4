//! Reads one `[bindings.NAME]` table.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::grant::{self, Grant, Stored};
use super::layout::Layout;
use super::mistake::{Mistake, Place};
use super::origin::{idn, verifiable};
use super::read::{exposure, listen_value};
use super::roots::Roots;
use super::secret;
use super::section::{Found, Section};
use super::settings::Settings;
use super::{
    Allowed, AuthorityRef, Binding, BindingName, CertificateId, HostPrefix, Listen, Origin, Places,
    Source, Trust, keys,
};

/// What was understood of a binding. What it shares a space with others in is known even where a
/// mistake elsewhere leaves no [`Binding`], so that one mistake does not hide another.
pub struct Read {
    pub binding: Option<Binding>,
    pub name: Found<String>,
    pub listen: Vec<Found<Listen>>,
    pub hosts: Vec<Found<HostPrefix>>,
    pub origin: Option<Found<Origin>>,
    pub allow: Vec<Found<Allowed>>,
}

/// Reads a binding, which may have its certificate by a `grant`; its mistakes are added to
/// `mistakes`.
pub fn binding(
    name: Found<String>,
    table: DeTable<'_>,
    grant: Option<&Grant>,
    base: &Settings,
    shared: bool,
    roots: Roots<'_>,
    mistakes: &mut Vec<Mistake>,
) -> Read {
    let Found {
        value: written,
        place,
    } = name;
    let directory = roots.directory;
    let before = mistakes.len();
    let whereabouts = format!("in [bindings.{written}]");
    let mut section = Section::new(whereabouts, keys::of_a_binding(), table, mistakes);
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
    section.refuse_empty("listen");
    section.refuse_empty("host");
    if !section.has_or_means("listen") && !shared && grant.is_none() {
        section.mistake(
            Mistake::new(place.clone(), format!("`{written}` has no way in"))
                .help("give it a `listen` such as \"localhost:8001\", or give the file a shared `listen` at its top"),
        );
    }
    let has_origin = section.has_or_means("origin");
    let may_be_exposed = section.has_or_means("expose") && !section.has("expose");
    let listen = section.list_of("listen", |value| listen_value(value, directory));
    let listen = listen.unwrap_or_else(|| grant.map(own_port).into_iter().collect());
    let hosts = section.list("host", |text| {
        HostPrefix::parse(text)
            .ok_or_else(|| format!("`{text}` is not a host name (without a port)"))
    });
    let origin = section.parse("origin", Origin::parse);
    let identity = match grant::stored(&mut section, grant, roots.store) {
        Ok(Some(stored)) => Some(Identity::from(stored)),
        Ok(None) => identity(&mut section, &place, directory),
        Err(()) => None,
    };
    let server_name = section.parse("server_name", |text| {
        AuthorityRef::parse(text)
            .filter(|name| name.port().is_none())
            .ok_or_else(|| {
                idn(text).unwrap_or_else(|| format!("`{text}` is not a host name (without a port)"))
            })
            .and_then(|name| verifiable(name.host()).map(|()| name.host().into()))
    });
    if let Some(server_name) = server_name.as_ref().filter(|_| !has_origin) {
        section.mistake(
            Mistake::new(server_name.place.clone(), "`server_name` requires `origin`").help(
                "it replaces the host of `origin`; \
                 `verify_names` applies to the origins in `allow` too",
            ),
        );
    }
    let means_allow = section.has_or_means("allow");
    let mut settings = Settings::read(&mut section, roots).or(base);
    if grant.is_some() && settings.allow.is_none() {
        settings.allow = Some(grant::anywhere(&place));
        settings.names_any = true;
    }
    if roots.expose {
        settings.expose = Some(Found {
            value: true,
            place: place.clone(),
        });
    }
    let exposed = settings.expose.as_ref().is_some_and(|expose| expose.value);
    exposure(&mut section, &listen, exposed || may_be_exposed);
    if !has_origin && !settings.names_any && !means_allow {
        section.mistake(
            Mistake::new(place.clone(), format!("`{written}` leads nowhere"))
                .help("add `origin`, the https:// URL its requests go to"),
        );
    }
    if let (Some(min), Some(max)) = (&settings.tls_min, &settings.tls_max)
        && min.value > max.value
    {
        section.mistake(Mistake::new(
            min.place.clone(),
            "`tls_min` is above `tls_max`",
        ));
    }
    section.finish();
    let hosts = hosts.unwrap_or_else(|| {
        let prefix = name.as_ref().map(HostPrefix::from);
        let found = |value| Found {
            value,
            place: place.clone(),
        };
        prefix.into_iter().map(found).collect()
    });
    let mut read = Read {
        binding: None,
        name: Found {
            value: written,
            place,
        },
        listen,
        hosts,
        origin,
        allow: settings.allow.clone().unwrap_or_default(),
    };
    if mistakes.len() == before
        && let (Some(name), Some(identity)) = (name, identity)
    {
        read.binding = Some(whole(&read, name, identity, server_name, settings));
    }
    read
}

fn own_port(grant: &Grant) -> Found<Listen> {
    Found {
        value: grant::own_port(),
        place: grant.binding.place.clone(),
    }
}

/// The binding that was read, when there was no mistake in it.
fn whole(
    read: &Read,
    name: BindingName,
    identity: Identity,
    server_name: Option<Found<Box<str>>>,
    settings: Settings,
) -> Binding {
    let (trust, ca) = match (&settings.ca, identity.ca) {
        (Some(ca), _) => (ca.value.clone(), ca.place.clone()),
        (None, Some(trust)) => (trust, identity.certificate.clone()),
        (None, None) => (Trust::System, Place::default()),
    };
    let crl = settings.crl.as_ref().map(|found| found.place.clone());
    let origin = read.origin.as_ref();
    let place_of_the_name = server_name
        .as_ref()
        .map(|found| &found.place)
        .or(origin.map(|found| &found.place));
    Binding {
        stored: identity.stored,
        listen: values(&read.listen),
        hosts: values(&read.hosts),
        origin: origin.map(|found| found.value.clone()),
        places: Places {
            certificate: identity.certificate,
            key: identity.key,
            password: identity.password,
            ca,
            crl: crl.unwrap_or_default(),
            listen: read
                .listen
                .iter()
                .map(|found| found.place.clone())
                .collect(),
            server_name: place_of_the_name.cloned().unwrap_or_default(),
        },
        server_name: server_name.map(|found| found.value),
        ..settings.binding(name, identity.source, trust)
    }
}

fn values<T: Clone>(found: &[Found<T>]) -> Vec<T> {
    found.iter().map(|found| found.value.clone()).collect()
}

/// The certificate and its key, the places that name them, and the CA bundle that comes along.
struct Identity {
    source: Source,
    certificate: Place,
    key: Place,
    password: Place,
    ca: Option<Trust>,
    stored: Option<CertificateId>,
}

impl From<Stored> for Identity {
    fn from(stored: Stored) -> Self {
        Self {
            source: stored.source,
            certificate: stored.place.clone(),
            key: stored.place,
            password: Place::default(),
            ca: None,
            stored: Some(stored.id),
        }
    }
}

/// `None` when there was a mistake; it has been reported.
fn identity(section: &mut Section<'_, '_>, binding: &Place, directory: &Path) -> Option<Identity> {
    let path = |text: &str| file(text, directory);
    let misspelt = ["certificate", "certificate_dir", "certificate_id"]
        .iter()
        .any(|key| !section.has(key) && section.has_or_means(key));
    let written = ["certificate", "key", "certificate_dir"].map(|key| section.has(key));
    let certificate = section.parse("certificate", path);
    let key = section.parse("key", path);
    let folder = section.parse("certificate_dir", path);
    let password = section.parse("key_password_file", path);
    let password_place = password
        .as_ref()
        .map_or(Place::default(), |found| found.place.clone());
    let password = password.map(|found| found.value);
    if let ([true, ..] | [_, true, _], Some(folder)) = (written, &folder) {
        section.mistake(
            Mistake::new(
                folder.place.clone(),
                "`certificate_dir` stands beside `certificate` or `key`",
            )
            .help("the directory holds both, as tls.crt and tls.key; keep one way of naming them"),
        );
        return None;
    }
    if misspelt || written != [certificate.is_some(), key.is_some(), folder.is_some()] {
        // One of them was not understood, so nothing can be said about what is missing.
        return None;
    }
    match (certificate, key, folder) {
        (Some(certificate), key, _) => {
            let key = key.unwrap_or_else(|| certificate.clone());
            Some(Identity {
                source: Source {
                    certificate: certificate.value,
                    key: key.value,
                    password,
                },
                certificate: certificate.place,
                key: key.place,
                password: password_place,
                ca: None,
                stored: None,
            })
        }
        (None, _, Some(folder)) => {
            let layout = match Layout::of(&folder.value) {
                Ok(layout) => layout,
                Err(message) => {
                    let mistake =
                        Mistake::new(folder.place, format!("`certificate_dir`: {message}"));
                    section.mistake(mistake.help(
                        "set `certificate` and `key` to the files in it, in place of `certificate_dir`",
                    ));
                    return None;
                }
            };
            Some(Identity {
                source: Source {
                    certificate: folder.value.join(layout.certificate),
                    key: folder.value.join(layout.key),
                    password,
                },
                certificate: folder.place.clone(),
                key: folder.place,
                password: password_place,
                ca: layout.ca,
                stored: None,
            })
        }
        (None, Some(key), None) => {
            section.mistake(
                Mistake::new(key.place, "there is a `key` and no `certificate`")
                    .help("add `certificate`, the PEM file with the certificate chain"),
            );
            None
        }
        (None, None, None) => {
            section.mistake(
                Mistake::new(binding.clone(), "there is no certificate")
                    .help("add `certificate` (and `key`), `certificate_dir`, or `certificate_id`"),
            );
            None
        }
    }
}

/// Reads a path. The error says what is wrong.
pub fn file(text: &str, directory: &Path) -> Result<PathBuf, String> {
    match text {
        "" => Err("a path is not empty".to_owned()),
        _ if secret::is_secret(text) => Err(format!("expected a path {}", secret::HIDDEN)),
        _ => match text.strip_prefix("credential:") {
            Some(name) => credential(name, std::env::var_os("CREDENTIALS_DIRECTORY")),
            None => Ok(directory.join(text)),
        },
    }
}

/// A credential of systemd's (systemd.exec(5), `LoadCredential=`).
fn credential(name: &str, directory: Option<OsString>) -> Result<PathBuf, String> {
    if name.is_empty() || name.contains('/') || name == ".." {
        return Err(format!("`{name}` is not the name of a credential"));
    }
    let directory = directory.ok_or_else(|| {
        format!(
            "there is no $CREDENTIALS_DIRECTORY: run under systemd, with LoadCredential={name}:FILE in the unit"
        )
    })?;
    Ok(Path::new(&directory).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_a_file_that_systemd_made() {
        let directory = || Some(OsString::from("/run/credentials/mtlsd.service"));
        assert_eq!(
            credential("key", directory()),
            Ok(PathBuf::from("/run/credentials/mtlsd.service/key"))
        );
        assert!(credential("key", None).is_err());
        for name in ["", "..", "a/b"] {
            assert!(credential(name, directory()).is_err(), "{name}");
        }
    }
}
