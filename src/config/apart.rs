//! Rules between bindings: what two of them cannot share.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::binding::Read;
use super::mistake::{Mistake, Place};
use super::section::Found;
use super::{Allowed, HostPrefix, Listen};

/// No two listeners on one address.
pub fn listeners_apart(shared: &[Found<Listen>], bindings: &[Read], mistakes: &mut Vec<Mistake>) {
    let all = shared
        .iter()
        .map(|listen| (listen, "the shared listener".to_owned()))
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
