//! Rules between bindings: what two of them cannot share.

use std::collections::HashMap;

use super::binding::Read;
use super::mistake::{Mistake, Place};
use super::{HostPrefix, Listen, SharedListener};

/// No two listeners on one address.
pub fn listeners_apart(
    shared: Option<&SharedListener>,
    bindings: &[Read],
    mistakes: &mut Vec<Mistake>,
) {
    let mut taken: Vec<(&Listen, Place, String)> = Vec::new();
    for listen in shared.iter().flat_map(|shared| &shared.listen) {
        taken.push((listen, Place::default(), "the shared listener".to_owned()));
    }
    for read in bindings {
        for (listen, place) in read.binding.listen.iter().zip(&read.listen) {
            let clash = taken.iter().find(|(other, ..)| listen.clashes_with(other));
            if let Some((other, earlier, owner)) = clash {
                let message = format!("{listen} is taken: {owner} listens on {other}");
                mistakes.push(
                    Mistake::new(place.clone(), message)
                        .with(earlier.clone(), "first taken here")
                        .help("each listener has an address of its own; port 0 lets the system choose one"),
                );
            }
            taken.push((listen, place.clone(), format!("`{}`", read.binding.name)));
        }
    }
}

/// No two bindings by one name, and no two that answer to one `host`.
pub fn names_apart(bindings: &[Read], mistakes: &mut Vec<Mistake>) {
    let mut taken: HashMap<&HostPrefix, (&Read, &Place)> = HashMap::new();
    for read in bindings {
        for (host, place) in read.binding.hosts.iter().zip(&read.hosts) {
            let Some((other, earlier)) = taken.insert(host, (read, place)) else {
                continue;
            };
            let message = match std::ptr::eq(other, read) {
                true => format!("`{host}` is named twice"),
                false => format!("`{host}` stands for `{}` already", other.binding.name),
            };
            mistakes.push(
                Mistake::new(place.clone(), message)
                    .with((*earlier).clone(), "first used here")
                    .help("names are compared without regard to case, and `_` is the same as `-`"),
            );
        }
    }
}

/// On the shared listener an absolute URL must mean one binding.
pub fn authorities_apart(bindings: &[Read], mistakes: &mut Vec<Mistake>) {
    let mut taken: HashMap<String, (&Read, Place)> = HashMap::new();
    for read in bindings {
        let origin = read
            .binding
            .origin
            .iter()
            .map(|origin| (origin.authority.to_string(), read.origin.clone()));
        let allow = read
            .binding
            .allow
            .iter()
            .zip(&read.allow)
            .map(|(allowed, place)| (allowed.to_string(), place.clone()));
        for (authority, place) in origin.chain(allow) {
            match taken.get(&authority) {
                Some((other, _)) if std::ptr::eq(*other, read) => {}
                Some((other, earlier)) => mistakes.push(
                    Mistake::new(
                        if place == *earlier { read.name.clone() } else { place },
                        format!("`{authority}` belongs to `{}` already", other.binding.name),
                    )
                    .with(earlier.clone(), "first claimed here")
                    .help(
                        "on the shared listener an absolute URL names no binding, so one authority leads \
                         to one; take the shared `listen` away and give each binding its own",
                    ),
                ),
                None => {
                    taken.insert(authority, (read, place));
                }
            }
        }
    }
}
