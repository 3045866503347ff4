//! What is said at the start: where mtlsd listens, and how to use each binding.

use crate::config::{Allowed, Binding, HostPrefix};
use crate::reload::Reloader;
use crate::route::Entrance;
use crate::timestamp::rfc3339;

use super::listeners::{Address, Listeners};
use super::plan::Plan;

/// Says, for each binding, how to use it and what it presents.
///
/// `is_opened` says which listeners, by their number, were not open before, and `is_new` of which
/// bindings nothing was said before.
pub fn announce(
    plan: &Plan,
    listeners: &Listeners,
    reloaders: &[Reloader],
    is_opened: impl Fn(usize) -> bool,
    is_new: impl Fn(usize) -> bool,
) {
    for (number, address) in listeners.leading_to(Entrance::Shared) {
        if is_opened(number) {
            tracing::info!(listener = address.text, "listening for every binding");
        }
    }
    let mut shared = listeners.leading_to(Entrance::Shared);
    let shared = shared.next().map(|(_, address)| address);
    let bindings = plan.bindings.iter().zip(reloaders).enumerate();
    for (index, (binding, reloader)) in bindings.filter(|(index, _)| is_new(*index)) {
        let own = listeners.leading_to(Entrance::Own(index));
        let own: Vec<_> = own.map(|(_, address)| address).collect();
        let listen: Vec<_> = own.iter().map(|address| address.text.as_str()).collect();
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
fn try_it(binding: &Binding, own: &[&Address], shared: Option<&Address>) -> Option<String> {
    match (own.first(), shared) {
        (Some(address), _) => Some(address.curl.clone()),
        (None, Some(address)) => {
            let name = binding
                .hosts
                .first()
                .map_or(binding.name.as_str(), |host| host.as_str());
            Some(format!("{} -H 'Host: {name}'", address.curl))
        }
        (None, None) => None,
    }
}
