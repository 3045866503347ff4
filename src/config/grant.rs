//! `mtls_certificates`, the table of bindings as Wrangler writes it: a name, and the id of a stored
//! certificate. A `[bindings.NAME]` of the same name adds to it.

use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::authority::is_host_name;
use super::mistake::{Mistake, Place};
use super::section::{Found, Section, described};
use super::{Allowed, CertificateId, HostPrefix, Listen, Source, StorePath, keys};

/// One entry: a stored certificate, lent to a binding.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The binding's name, as it was written.
    pub binding: Found<String>,
    /// The certificate.
    pub id: Found<CertificateId>,
}

impl Grant {
    /// Whether `name` is this binding's: compared as the names in a `Host` are.
    pub fn is_for(&self, name: &str) -> bool {
        match (
            HostPrefix::parse(&self.binding.value),
            HostPrefix::parse(name),
        ) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.binding.value == name,
        }
    }

    /// The same, pointing nowhere: it stands in a file of its own.
    pub fn without_places(mut self) -> Self {
        self.binding.place = Place::default();
        self.id.place = Place::default();
        self
    }
}

/// Reads the list; its mistakes are added to `mistakes`. Whether keys that mean nothing here are
/// mistakes is for `strict` to say: a Wrangler file may hold more than mtlsd knows of.
pub fn grants(
    value: Spanned<DeValue<'_>>,
    strict: bool,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Grant> {
    let place = Place::at(value.span());
    let items = match value.into_inner() {
        DeValue::Array(items) => items,
        other => {
            let message = format!("`mtls_certificates` is a list, found {}", described(&other));
            mistakes.push(Mistake::new(place, message).help(EXAMPLE));
            return Vec::new();
        }
    };
    let grant = |item| grant(item, strict, mistakes);
    items.into_iter().filter_map(grant).collect()
}

fn grant(item: Spanned<DeValue<'_>>, strict: bool, mistakes: &mut Vec<Mistake>) -> Option<Grant> {
    let place = Place::at(item.span());
    let table = match item.into_inner() {
        DeValue::Table(table) => table,
        other => {
            let message = format!(
                "\"mtls_certificates\" bindings should be objects, but got {}",
                described(&other)
            );
            mistakes.push(Mistake::new(place, message).help(EXAMPLE));
            return None;
        }
    };
    let mut section = Section::new("in mtls_certificates", keys::GRANT, table, mistakes);
    for key in ["binding", "certificate_id"] {
        if !section.has(key) {
            let message =
                format!("\"mtls_certificates\" bindings should have a string \"{key}\" field");
            section.mistake(Mistake::new(place.clone(), message).help(EXAMPLE));
        }
    }
    let binding = section.parse("binding", |name| match is_host_name(name) {
        true => Ok(name.to_owned()),
        false => Err(format!("`{name}` is not a binding's name")),
    });
    let id = section.parse("certificate_id", certificate_id);
    // Whether Wrangler itself is to run this binding elsewhere, which is for Wrangler to know.
    section.take("remote");
    if strict {
        section.finish();
    }
    Some(Grant {
        binding: binding?,
        id: id?,
    })
}

/// Reads a certificate's id. The error says what was expected.
pub fn certificate_id(text: &str) -> Result<CertificateId, String> {
    CertificateId::parse(text).ok_or_else(|| {
        format!(
            "`{text}` is not the id of a certificate; `mtlsd mtls-certificate upload` prints one, \
             and `mtlsd mtls-certificate list` shows those there are"
        )
    })
}

/// Where a stored certificate is, for a binding that names one in any way.
pub struct Stored {
    pub id: CertificateId,
    pub source: Source,
    pub place: Place,
}

/// The stored certificate of a binding: what `certificate_id` names, or what it was granted.
///
/// # Errors
///
/// When the binding names its certificate in another way too; that has been reported.
pub fn stored(
    section: &mut Section<'_, '_>,
    grant: Option<&Grant>,
    store: &StorePath,
) -> Result<Option<Stored>, ()> {
    let written = section.has("certificate_id");
    let own = section.parse("certificate_id", certificate_id);
    if !written && grant.is_none() {
        return Ok(None);
    }
    let beside = named_otherwise(section);
    let id = match (own, grant) {
        // What was written was not understood.
        (None, _) if written => return Err(()),
        (None, None) => return Ok(None),
        (Some(own), Some(grant)) if own.value != grant.id.value => {
            section.mistake(
                Mistake::new(own.place, "the certificate is named twice")
                    .with(grant.id.place.clone(), "also here, as another")
                    .help("keep the id of the one to present"),
            );
            return Err(());
        }
        (Some(own), _) => own,
        (None, Some(grant)) => grant.id.clone(),
    };
    if let Some((key, place)) = beside {
        let message = format!("`{key}` stands beside the id of a stored certificate");
        section.mistake(
            Mistake::new(place, message)
                .help("a stored certificate comes with its key; keep one way of naming it"),
        );
        return Err(());
    }
    let file = store.file(&id.value);
    Ok(Some(Stored {
        id: id.value,
        source: Source {
            certificate: file.clone(),
            key: file,
            password: None,
        },
        place: id.place,
    }))
}

/// Takes the keys that name a certificate in another way; the first that is there.
fn named_otherwise(section: &mut Section<'_, '_>) -> Option<(&'static str, Place)> {
    let keys = ["certificate", "key", "certificate_dir", "key_password_file"];
    let found = keys.map(|key| Some((key, Place::at(section.take(key)?.span()))));
    found.into_iter().flatten().next()
}

/// Reads what stands behind `store:` in a `ca`: the id of a stored bundle.
pub fn stored_bundle(text: &str, store: &StorePath) -> Result<PathBuf, String> {
    certificate_id(text).map(|id| store.file(&id))
}

/// Where a granted binding listens unless it says so: workerd names no `Host`, so each has a port
/// of its own.
pub fn own_port() -> Listen {
    Listen::Tcp(([127, 0, 0, 1], 0).into())
}

/// What a granted binding may reach unless an `allow` says so: what the original may.
pub fn anywhere(place: &Place) -> Vec<Found<Allowed>> {
    vec![Found {
        value: Allowed::Public,
        place: place.clone(),
    }]
}

/// The table of a granted binding that the file says nothing else about.
pub fn nothing_more() -> DeTable<'static> {
    DeTable::new()
}

const EXAMPLE: &str =
    "write it as in mtls_certificates = [ { binding = \"MY_CERT\", certificate_id = \"ID\" } ]";
