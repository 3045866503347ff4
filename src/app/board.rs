//! Keeps the board up to date: what the reload thread knows, for the admin endpoint.

use std::collections::{BTreeMap, VecDeque};
use std::time::SystemTime;

use crate::config::{Binding, Source};
use crate::metrics::{
    BindingState, Board, BoardHandle, CertificateState, ConfigState, FileExpiry, Identity, Note,
    Rejection, Rotation,
};
use crate::reload::{self, Reloader};
use crate::route::Entrance;
use crate::server::Listener;
use crate::tls::Generation;

use super::plan::Plan;

/// Writes the board, and remembers what a Reloader does not.
pub struct BoardWriter {
    handle: BoardHandle,
    histories: BTreeMap<Box<str>, History>,
    // When the configuration in use was loaded.
    used_since: SystemTime,
}

/// What happened to a binding's certificate since the start.
#[derive(Default)]
struct History {
    rotations: VecDeque<Rotation>,
    published: u64,
    rejected: u64,
    last_rejection: Option<SystemTime>,
}

/// What the board says about a binding that no Reloader knows.
pub struct Announced {
    /// Its listeners' addresses.
    pub listen: Vec<String>,
    /// A command that uses it.
    pub curl: String,
}

/// An open listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    address: String,
    curl: String,
}

/// The addresses of listeners, by their number.
pub fn opened(open: &[(usize, Listener)]) -> impl Iterator<Item = (usize, Opened)> {
    open.iter().map(|(number, listener)| {
        let opened = Opened {
            address: listener.to_string(),
            curl: listener.curl(),
        };
        (*number, opened)
    })
}

/// What the listeners say about the binding with this index.
pub fn announced(plan: &Plan, opened: &BTreeMap<usize, Opened>, index: usize) -> Announced {
    let of = |entrance: Entrance| {
        let doors = plan.doors.iter();
        let doors = doors.filter(move |(_, door)| door.entrance == entrance);
        doors.filter_map(|(number, _)| opened.get(number))
    };
    let own: Vec<&Opened> = of(Entrance::Own(index)).collect();
    let binding = &plan.bindings[index];
    let curl = match (own.first(), of(Entrance::Shared).next()) {
        (Some(own), _) => own.curl.clone(),
        (None, Some(shared)) => format!("{} -H 'Host: {}'", shared.curl, binding.name),
        (None, None) => String::new(),
    };
    let shown = match own.is_empty() {
        true => of(Entrance::Shared).collect(),
        false => own,
    };
    Announced {
        listen: shown.iter().map(|one| one.address.clone()).collect(),
        curl,
    }
}

impl BoardWriter {
    /// Writes to `handle`.
    pub fn new(handle: BoardHandle) -> Self {
        Self {
            handle,
            histories: BTreeMap::new(),
            used_since: SystemTime::now(),
        }
    }

    /// A configuration is in use from `now` on.
    pub fn adopted(&mut self, now: SystemTime) {
        self.used_since = now;
    }

    /// Writes what is known now.
    pub fn write<'a>(
        &mut self,
        files: Vec<String>,
        rejected: Option<&reload::Rejection>,
        bindings: impl Iterator<Item = (&'a Binding, &'a Reloader, Announced)>,
        now: SystemTime,
    ) {
        let mut states = Vec::new();
        let mut histories = BTreeMap::new();
        for (binding, reloader, announced) in bindings {
            let name: Box<str> = binding.name.as_str().into();
            let mut history = self.histories.remove(&name).unwrap_or_default();
            history.note(reloader);
            states.push(BindingState {
                name: name.clone(),
                listen: announced.listen,
                curl: announced.curl,
                origin: binding.origin.as_ref().map(ToString::to_string),
                source: source(&binding.source),
                certificate: certificate(binding, reloader, &history, now),
                connections_limit: binding.limits.connections.get(),
                in_flight_limit: binding.limits.requests_in_flight.get(),
            });
            histories.insert(name, history);
        }
        // What is no longer configured is forgotten.
        self.histories = histories;
        self.handle.write(Board {
            config: ConfigState {
                files,
                used_since: Some(self.used_since),
                rejected: rejected.map(rejection),
            },
            bindings: states,
        });
    }
}

impl History {
    fn note(&mut self, reloader: &Reloader) {
        let generation = reloader.current();
        let serial = &generation.identity().leaf().serial;
        let known = self.rotations.back();
        let is_known = known
            .is_some_and(|last| last.generation == generation.number() && last.serial == *serial);
        if !is_known {
            if known.is_some() {
                self.published += 1;
            }
            self.rotations.push_back(Rotation {
                at: reloader.last_success(),
                generation: generation.number(),
                serial: serial.clone(),
            });
            while self.rotations.len() > ROTATIONS {
                self.rotations.pop_front();
            }
        }
        let last = reloader.last_rejection().map(|rejection| rejection.at);
        if last.is_some() && last != self.last_rejection {
            self.rejected += 1;
            self.last_rejection = last;
        }
    }
}

fn certificate(
    binding: &Binding,
    reloader: &Reloader,
    history: &History,
    now: SystemTime,
) -> CertificateState {
    let generation: &Generation = reloader.current();
    let identity = generation.identity();
    let leaf = identity.leaf();
    let (not_before, not_after) = identity.validity();
    let remarks = generation.remarks(now);
    let expiry = |file: Option<String>, at: Option<SystemTime>| {
        let (file, at) = (file?, at?);
        Some(FileExpiry { file, at })
    };
    let ca = binding.trust.file();
    let ca = ca.map(|path| path.display().to_string());
    let crl = binding.tls.crl.as_ref();
    let crl = crl.map(|path| path.display().to_string());
    CertificateState {
        identity: Identity {
            subject: leaf.subject.clone(),
            issuer: leaf.issuer.clone(),
            serial: leaf.serial.clone(),
        },
        not_before,
        not_after,
        generation: generation.number(),
        published: reloader.last_success(),
        reloads: [history.published, history.rejected],
        rejected: reloader.rejection().map(rejection),
        last_rejection: history.last_rejection,
        rotations: history.rotations.clone(),
        notes: remarks
            .iter()
            .map(|remark| Note {
                kind: remark.kind(),
                text: remark.to_string(),
            })
            .collect(),
        ca_expires: expiry(ca, generation.ca_expires()),
        crl_expires: expiry(crl, generation.crl_next_update()),
    }
}

fn rejection(rejection: &reload::Rejection) -> Rejection {
    Rejection {
        since: rejection.at,
        reason: rejection.reason.clone(),
        help: None,
    }
}

fn source(source: &Source) -> String {
    match source.certificate == source.key {
        true => source.certificate.display().to_string(),
        false => format!("{}, {}", source.certificate.display(), source.key.display()),
    }
}

/// Generations that are remembered.
const ROTATIONS: usize = 5;
