//! What to write into the configuration of workerd, so that `env.MY_CERT.fetch()` reaches mtlsd.

use crate::app::App;
use crate::log;
use crate::server::Listener;

/// Prints the lines for each binding with a stored certificate and a listener of its own, on
/// stderr: for people where the log is, and as a log line where that is JSON.
pub fn print(app: &App) {
    let granted: Vec<_> = app
        .listening()
        .filter(|(binding, _)| binding.stored.is_some())
        .filter_map(|(binding, listeners)| Some((binding.name.as_str(), address(&listeners)?)))
        .collect();
    if granted.is_empty() {
        return;
    }
    if log::diagnostics_are_json(app.log()) {
        for (name, address) in granted {
            tracing::info!(
                binding = name,
                service = service(name, &address),
                variable = variable(name),
                "for workerd"
            );
        }
        return;
    }
    eprintln!("\nIn the configuration of workerd, among the services:");
    for (name, address) in &granted {
        eprintln!("    {},", service(name, address));
    }
    eprintln!("and among the bindings of the worker:");
    for (name, _) in &granted {
        eprintln!("    {},", variable(name));
    }
    eprintln!();
}

fn service(name: &str, address: &str) -> String {
    format!("(name = \"{name}\", external = (address = \"{address}\", http = (style = proxy)))")
}

fn variable(name: &str) -> String {
    format!("(name = \"{name}\", service = \"{name}\")")
}

/// As workerd writes an address: `host:port`, `[v6]:port`, or `unix:PATH`.
fn address(listeners: &[&Listener]) -> Option<String> {
    listeners.first().map(ToString::to_string)
}
