//! Rules between bindings: what two of them cannot share.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::binding::Read;
use super::mistake::{Mistake, Place};
use super::section::Found;
use super::{Allowed, Authority, HostPrefix, Listen};

/// No two listeners on one address.
pub fn listeners_apart(
    shared: &[Found<Listen>],
    admin: &[Found<Listen>],
    bindings: &[Read],
    mistakes: &mut Vec<Mistake>,
) {
    let all = shared
        .iter()
        .map(|listen| (listen, "the shared listener".to_owned()))
        .chain(admin.iter().map(|listen| (listen, "[admin]".to_owned())))
        .chain(bindings.iter().flat_map(|read| {
            read.listen
                .iter()
                .map(|listen| (listen, format!("`{}`", read.name.value)))
        }));
    let mut taken: Vec<(&Found<Listen>, String)> = Vec::new();
    for (listen, owner) in all {
        let clash = taken
            .iter()
            .find(|(other, _)| listen.value.clashes_with(&other.value));
        if let Some((other, owner)) = clash {
            let message = format!(
                "{} is taken: {owner} listens on {}",
                listen.value, other.value
            );
            mistakes.push(
                Mistake::new(listen.place.clone(), message)
                    .with(other.place.clone(), "first taken here")
                    .help("each listener has an address of its own; port 0 lets the system choose one"),
            );
        }
        taken.push((listen, owner));
    }
}

/// No two bindings by one name, and no two that answer to one `host`.
pub fn names_apart(bindings: &[Read], mistakes: &mut Vec<Mistake>) {
    let mut taken: HashMap<&HostPrefix, (&Read, &Place)> = HashMap::new();
    for read in bindings {
        for host in &read.hosts {
            let (other, earlier) = match taken.entry(&host.value) {
                Entry::Vacant(free) => {
                    free.insert((read, &host.place));
                    continue;
                }
                Entry::Occupied(taken) => *taken.get(),
            };
            let message = match std::ptr::eq(other, read) {
                true => format!("`{}` is named twice", host.value),
                false => format!("`{}` stands for `{}` already", host.value, other.name.value),
            };
            mistakes.push(
                Mistake::new(host.place.clone(), message)
                    .with(earlier.clone(), "first used here")
                    .help("names are compared without regard to case, and `_` is the same as `-`"),
            );
        }
    }
}

/// On the shared listener an absolute URL must mean one binding.
pub fn authorities_apart(bindings: &[Read], mistakes: &mut Vec<Mistake>) {
    let mut taken: HashMap<String, (&Read, &Place)> = HashMap::new();
    for read in bindings {
        let origin = read
            .origin
            .iter()
            .map(|origin| (origin.value.authority.to_string(), &origin.place));
        let allow = read
            .allow
            .iter()
            // What may reach everything claims nothing in particular.
            .filter(|allowed| allowed.value != Allowed::Public)
            .map(|allowed| (allowed.value.to_string(), &allowed.place));
        for (authority, place) in origin.chain(allow) {
            let (other, earlier) = match taken.get(&authority) {
                Some((other, _)) if std::ptr::eq(*other, read) => continue,
                Some(claim) => *claim,
                None => {
                    taken.insert(authority, (read, place));
                    continue;
                }
            };
            // Both may have it from [defaults]; then the later binding is what can be pointed at.
            let place = if place == earlier {
                &read.name.place
            } else {
                place
            };
            let owner = &other.name.value;
            mistakes.push(
                Mistake::new(
                    place.clone(),
                    format!("`{authority}` belongs to `{owner}` already"),
                )
                .with(earlier.clone(), "first claimed here")
                .help(
                    "on the shared listener an absolute URL names no binding, so one authority leads \
                     to one; take the shared `listen` away and give each binding its own",
                ),
            );
        }
    }
}

/// On the shared listener a `Host` must mean one binding: what stands for one must not also be an
/// origin of another, or a request for that origin would carry the wrong certificate.
pub fn hosts_apart(bindings: &[Read], mistakes: &mut Vec<Mistake>) {
    let mut by_host: HashMap<&str, Vec<(usize, usize)>> = HashMap::new();
    for (index, read) in bindings.iter().enumerate() {
        for (position, host) in read.hosts.iter().enumerate() {
            let same = by_host.entry(host.value.as_str()).or_default();
            same.push((index, position));
        }
    }
    let mut found = Vec::new();
    for (number, other) in bindings.iter().enumerate() {
        for (authority, place) in authorities(other) {
            let folded = HostPrefix::fold(authority.host());
            let ends = folded.match_indices('.').map(|(end, _)| end);
            let prefixes = ends.chain([folded.len()]).map(|end| &folded[..end]);
            for (index, position) in prefixes.filter_map(|prefix| by_host.get(prefix)).flatten() {
                let read = &bindings[*index];
                if *index == number {
                    continue;
                }
                let host = &read.hosts[*position];
                if let Some(mistake) = ambiguous(read, host, other, authority, place) {
                    found.push(((*index, *position), mistake));
                }
            }
        }
    }
    // In the order of the file, as all mistakes are.
    found.sort_by_key(|(at, _)| *at);
    mistakes.extend(found.into_iter().map(|(_, mistake)| mistake));
}

/// The mistake of `host` standing for `read` where `authority` of `other` is written the same.
fn ambiguous(
    read: &Read,
    host: &Found<HostPrefix>,
    other: &Read,
    authority: &Authority,
    place: &Place,
) -> Option<Mistake> {
    let folded = HostPrefix::fold(authority.host());
    let rest = host.value.strip_from(&folded)?;
    let (name, owner) = (&read.name.value, &other.name.value);
    // Bindings are found by name whatever the port.
    let message = if rest.is_empty() || rest == "localhost" {
        format!("`{folded}` stands for `{name}` and is also an origin of `{owner}`")
    } else {
        let means_both = authorities(read)
            .any(|(own, _)| HostPrefix::fold(own.host()) == rest && own.port() == authority.port());
        if !means_both {
            return None;
        }
        format!("`{authority}` means `{rest}` of `{name}` and is also an origin of `{owner}`")
    };
    let rename = match host.place == read.name.place {
        true => format!("set `host` in [bindings.{name}] to another name"),
        false => format!("choose another `host` for `{name}`"),
    };
    Some(
        Mistake::new(host.place.clone(), message)
            .with(place.clone(), format!("origin of `{owner}`"))
            .help(format!(
                "on the shared listener a request for this origin would carry the certificate of \
                 `{name}`; {rename}, or remove the shared `listen` and give each binding its own"
            )),
    )
}

/// The origins that a binding names, and where.
fn authorities(read: &Read) -> impl Iterator<Item = (&Authority, &Place)> {
    let origin = read
        .origin
        .iter()
        .map(|origin| (&*origin.value.authority, &origin.place));
    let allow = read
        .allow
        .iter()
        .filter_map(|allowed| match &allowed.value {
            Allowed::Exact(authority) => Some((&**authority, &allowed.place)),
            Allowed::Below(_) | Allowed::Public => None,
        });
    origin.chain(allow)
}
