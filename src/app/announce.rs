//! What is said at the start: where mtlsd listens, and how to use each binding.

use crate::config::{Allowed, Binding, HostPrefix};
use crate::reload::Reloader;
use crate::route::Entrance;
use crate::server::Listener;
use crate::timestamp::rfc3339;

use super::plan::Plan;

/// Says, for each binding, how to use it and what it presents.
///
/// `listeners` are those that are opened now, by the number of their door, and `is_new` says of
/// which bindings nothing was said before.
pub fn announce(
    plan: &Plan,
    reloaders: &[Reloader],
    listeners: &[(usize, Listener)],
    is_new: impl Fn(usize) -> bool,
) {
    let by_door = listeners
        .iter()
        .filter_map(|(number, listener)| Some((plan.doors.get(number)?, listener)));
    for (door, listener) in by_door.clone() {
        if door.entrance == Entrance::Shared {
            tracing::info!(%listener, "listening for every binding");
        }
    }
    let shared = by_door
        .clone()
        .find(|(door, _)| door.entrance == Entrance::Shared)
        .map(|(_, listener)| listener);
    let bindings = plan.bindings.iter().zip(reloaders).enumerate();
    for (index, (binding, reloader)) in bindings.filter(|(index, _)| is_new(*index)) {
        let own = by_door
            .clone()
            .filter(|(door, _)| door.entrance == Entrance::Own(index))
            .map(|(_, listener)| listener);
        let own: Vec<&Listener> = own.collect();
        let listen: Vec<String> = own.iter().map(ToString::to_string).collect();
        let leaf = reloader.current().identity().leaf();
        let origin = binding.origin.as_ref().map(ToString::to_string);
        tracing::info!(
            binding = %binding.name,
            listen = (!listen.is_empty()).then(|| listen.join(" ")),
            origin,
            subject = leaf.subject,
            serial = leaf.serial,
            not_after = %rfc3339(leaf.not_after),
            r#try = try_it(binding, &own, shared),
            "serving"
        );
        if binding.allow.contains(&Allowed::Public) {
            tracing::info!(
                binding = %binding.name,
                "may fetch any public origin, as in Workers; allow = [\"HOST\"] in [bindings.{}] narrows it",
                binding.name
            );
        }
        if binding.expose
            && binding.hosts.len() == 1
            && binding.hosts[0].as_str() == HostPrefix::from(&binding.name).as_str()
        {
            tracing::info!(
                binding = %binding.name,
                "other machines must call it \"{}\", or add host = [\"NAME\"] to [bindings.{}]",
                binding.hosts[0],
                binding.name
            );
        }
    }
}

/// A command line that uses the binding.
fn try_it(binding: &Binding, own: &[&Listener], shared: Option<&Listener>) -> Option<String> {
    match (own.first(), shared) {
        (Some(listener), _) => Some(listener.curl()),
        (None, Some(listener)) => {
            let name = binding
                .hosts
                .first()
                .map_or(binding.name.as_str(), |host| host.as_str());
            Some(format!("{} -H 'Host: {name}'", listener.curl()))
        }
        (None, None) => None,
    }
}
