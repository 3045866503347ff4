//! `mtlsd status`.

use std::io::IsTerminal;
use std::thread::sleep;
use std::time::Duration;

use http::Method;

use crate::admin::client::Endpoint;
use crate::admin::span::{bytes, duration, rate, relative, span};
use crate::admin::status::{Binding, Health, Status};
use crate::cli;

use super::Exit;
use super::running::{ask, endpoint};

/// Prints what a running mtlsd knows about its bindings.
pub fn status(arguments: &cli::admin::Status) -> Exit {
    let endpoint = match endpoint(&arguments.admin) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            eprintln!("mtlsd: {error}");
            return Exit::Usage;
        }
    };
    loop {
        let exit = show(&endpoint, arguments);
        if !arguments.watch {
            return exit;
        }
        sleep(Duration::from_secs(2));
    }
}

fn show(endpoint: &Endpoint, arguments: &cli::admin::Status) -> Exit {
    let response = match ask(endpoint, Method::GET, "/status", PATIENCE) {
        Ok(response) => response,
        Err(error) => {
            eprintln!("mtlsd: {error}");
            return Exit::Failure;
        }
    };
    let Ok(status) = serde_json::from_str::<Status>(&response.body) else {
        eprintln!("mtlsd: {endpoint}: {}", response.body.trim_end());
        return Exit::Failure;
    };
    if arguments.watch && std::io::stdout().is_terminal() {
        // Home, and clear what is below.
        print!("\x1b[H\x1b[2J");
    }
    match &arguments.binding {
        Some(name) => match status.binding(name) {
            Some(binding) => {
                match arguments.json {
                    true => print_json(binding),
                    false => print_binding(binding, status.at),
                }
                exit(binding.health)
            }
            None => {
                eprintln!("mtlsd: there is no binding `{name}`; {}", names(&status));
                Exit::Usage
            }
        },
        None => {
            match arguments.json {
                true => print_json(&status),
                false => print_table(&status),
            }
            let worst = status.bindings.iter().map(|binding| binding.health).min();
            exit(worst.unwrap_or(Health::Ok))
        }
    }
}

fn exit(health: Health) -> Exit {
    match health {
        Health::Error => Exit::Failure,
        Health::Warning | Health::Ok => Exit::Success,
    }
}

fn names(status: &Status) -> String {
    let names: Vec<&str> = status.bindings.iter().map(|b| b.name.as_str()).collect();
    format!("there are: {}", names.join(", "))
}

fn print_json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("mtlsd: cannot print the status: {error}"),
    }
}

fn print_table(status: &Status) {
    if let Some(rejected) = &status.config.rejected {
        println!(
            "configuration on disk rejected {}: {}\n",
            relative(rejected.since - status.at),
            rejected.reason
        );
    }
    if !status.ready {
        println!("draining\n");
    }
    let header = [
        "BINDING", "STATE", "EXPIRES", "USED", "GEN", "RELOADED", "REQ/S", "P99", "CONNS", "ORIGIN",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    for binding in &status.bindings {
        let certificate = &binding.certificate;
        let reloaded = match &certificate.rejected {
            Some(rejected) => format!("rejected {}", relative(rejected.since - status.at)),
            None => relative(certificate.published - status.at),
        };
        rows.push([
            binding.name.clone(),
            state(binding.health).to_owned(),
            relative(certificate.expires_in_seconds),
            format!("{:.0}%", certificate.lifetime_used * 100.0),
            certificate.generation.to_string(),
            reloaded,
            rate(binding.requests.per_second),
            binding
                .requests
                .p99_seconds
                .map_or("-".to_owned(), duration),
            (binding.connections.active + binding.connections.idle).to_string(),
            binding.origin.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    let widths: Vec<usize> = (0..header.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        println!("{}", cells.join("  ").trim_end());
    }
    for binding in status.bindings.iter().filter(|b| !b.problems.is_empty()) {
        println!("\n{}:", binding.name);
        for problem in &binding.problems {
            println!("  {problem}");
        }
    }
}

fn state(health: Health) -> &'static str {
    match health {
        Health::Ok => "ok",
        Health::Warning => "warning",
        Health::Error => "failing",
    }
}

fn print_binding(binding: &Binding, now: f64) {
    let certificate = &binding.certificate;
    let requests = &binding.requests;
    let connections = &binding.connections;
    let row = |name: &str, value: String| println!("{name:<12} {value}");
    row(
        "binding",
        format!("{} ({})", binding.name, state(binding.health)),
    );
    for problem in &binding.problems {
        row("problem", problem.clone());
    }
    row("listen", binding.listen.join(" "));
    row(
        "origin",
        binding.origin.clone().unwrap_or_else(|| "-".to_owned()),
    );
    row("subject", certificate.subject.clone());
    row("issuer", certificate.issuer.clone());
    row("serial", certificate.serial.clone());
    row("source", certificate.source.clone());
    row(
        "expires",
        format!(
            "{}, {:.0} % of its lifetime used",
            relative(certificate.expires_in_seconds),
            certificate.lifetime_used * 100.0
        ),
    );
    row(
        "generation",
        format!(
            "{}, in use since {}",
            certificate.generation,
            span(now - certificate.published)
        ),
    );
    if let Some(rejected) = &certificate.rejected {
        row(
            "rejected",
            format!("{}: {}", relative(rejected.since - now), rejected.reason),
        );
        if let Some(help) = &rejected.help {
            row("help", help.clone());
        }
    }
    row(
        "requests",
        format!(
            "{} in all, {}/s, {} in flight of {}, p99 {}",
            requests.total,
            rate(requests.per_second),
            requests.in_flight,
            requests.in_flight_limit,
            requests.p99_seconds.map_or("-".to_owned(), duration)
        ),
    );
    row(
        "bodies",
        format!(
            "{} sent, {} received",
            bytes(requests.request_bytes),
            bytes(requests.response_bytes)
        ),
    );
    row(
        "connections",
        format!(
            "{} active, {} idle, limit {}, {} waiting, {} on a former certificate",
            connections.active,
            connections.idle,
            connections.limit,
            connections.waiting,
            connections.outdated
        ),
    );
    for origin in &binding.origins {
        row("asks", format!("{}: {}", origin.origin, origin.asks));
    }
    if let Some(failure) = &binding.last_failure {
        row(
            "last failure",
            format!("{}: {}", relative(failure.at - now), failure.message),
        );
        if let Some(step) = &failure.next_step {
            row("next step", step.clone());
        }
    }
    row("try", binding.curl.clone());
}

/// A response takes no longer.
const PATIENCE: Duration = Duration::from_secs(5);
