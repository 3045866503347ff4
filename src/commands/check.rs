//! `mtlsd check`.

use std::time::SystemTime;

use serde::Serialize;

use crate::app::{self, Loaded, Validity};
use crate::cli::Check;
use crate::config::{Binding, ConfigError};
use crate::printable;
use crate::probe::Verdict;
use crate::terminal;
use crate::timestamp::rfc3339;

use super::Exit;
use super::given::given;
use super::probe::verdict;

/// What `--json` prints; its shape is an interface.
#[derive(Serialize)]
struct Report {
    ok: bool,
    config: String,
    bindings: Vec<Checked>,
    mistakes: Vec<String>,
}

#[derive(Serialize)]
struct Checked {
    name: String,
    listen: Vec<String>,
    origin: Option<String>,
    /// Where its requests go, in words.
    #[serde(skip)]
    leads_to: String,
    subject: String,
    issuer: String,
    serial: String,
    not_before: String,
    not_after: String,
    days_left: u64,
    /// What is odd about the certificate.
    remarks: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probe: Option<Verdict>,
}

/// Reads the configuration and opens every file it names. Anything wrong is exit code 78, also
/// what a running daemon would wait for: whoever asks wants to know now.
pub fn check(arguments: &Check) -> Exit {
    let given = match given(
        arguments.config.as_deref(),
        arguments.wrangler.clone(),
        arguments.env.clone(),
        &arguments.store,
    ) {
        Ok(given) => given,
        Err(error) => {
            return fail(
                arguments,
                "",
                vec![error.to_string()],
                &printable::escape(&format!("mtlsd: {error}")),
            );
        }
    };
    let wrangler = given.wrangler.as_ref().map(|project| &project.file);
    let path = given.file.as_ref().or(wrangler);
    let shown = path.map_or(String::new(), |path| path.display().to_string());
    match given
        .read()
        .and_then(|draft| app::load(draft, Validity::Demanded))
    {
        Ok(loaded) => succeed(arguments, &shown, &loaded),
        Err(error) => fail(arguments, &shown, messages(&error), &error.render()),
    }
}

fn messages(error: &ConfigError) -> Vec<String> {
    error.messages().map(ToOwned::to_owned).collect()
}

fn succeed(arguments: &Check, path: &str, loaded: &Loaded) -> Exit {
    let mut bindings: Vec<_> = checked(loaded).collect();
    if arguments.probe {
        let all = loaded.config.bindings.iter().zip(&loaded.reloaders);
        for ((binding, reloader), checked) in all.zip(&mut bindings) {
            // Where an `allow` alone says what may be reached, there is nothing to try.
            if binding.origin.is_some() {
                checked.probe = Some(verdict(binding, reloader.current()));
            }
        }
    }
    let failed = |checked: &Checked| checked.probe.as_ref().is_some_and(|probe| !probe.ok);
    let ok = !bindings.iter().any(failed);
    if arguments.json {
        print(&Report {
            ok,
            config: path.to_owned(),
            bindings,
            mistakes: Vec::new(),
        });
    } else if !ok || !arguments.quiet {
        match ok {
            true => println!("{path}: all is well"),
            false => println!("{path}: the configuration is right, and an origin cannot be used"),
        }
        for binding in bindings {
            println!(
                "  {}: {} -> {}, {}, valid until {} ({} days)",
                binding.name,
                match binding.listen.is_empty() {
                    true => "shared listener".to_owned(),
                    false => binding.listen.join(" "),
                },
                binding.leads_to,
                binding.subject,
                binding.not_after,
                binding.days_left,
            );
            for remark in &binding.remarks {
                println!("    note: {remark}");
            }
            if let Some(probe) = &binding.probe {
                print_verdict(probe);
            }
        }
    }
    match ok {
        true => Exit::Success,
        false => Exit::Failure,
    }
}

fn print_verdict(probe: &Verdict) {
    let report = &probe.report;
    println!("    probe: {}", report.detail);
    if !report.next_step.is_empty() {
        println!("    next step: {}", report.next_step);
    }
}

fn fail(arguments: &Check, path: &str, mistakes: Vec<String>, text: &str) -> Exit {
    match arguments.json {
        true => print(&Report {
            ok: false,
            config: path.to_owned(),
            bindings: Vec::new(),
            mistakes,
        }),
        false => terminal::eprint_styled(text),
    }
    Exit::Config
}

fn checked(loaded: &Loaded) -> impl Iterator<Item = Checked> {
    let now = SystemTime::now();
    loaded
        .config
        .bindings
        .iter()
        .zip(&loaded.reloaders)
        .map(move |(binding, reloader)| {
            let leaf = reloader.current().identity().leaf();
            let left = leaf.not_after.duration_since(now).unwrap_or_default();
            let remarks = reloader.current().remarks(now);
            Checked {
                name: binding.name.to_string(),
                listen: binding.listen.iter().map(ToString::to_string).collect(),
                origin: binding.origin.as_ref().map(ToString::to_string),
                leads_to: leads_to(binding),
                subject: leaf.subject.clone(),
                issuer: leaf.issuer.clone(),
                serial: leaf.serial.clone(),
                not_before: rfc3339(leaf.not_before).to_string(),
                not_after: rfc3339(leaf.not_after).to_string(),
                days_left: left.as_secs() / (24 * 3600),
                remarks: remarks.iter().map(ToString::to_string).collect(),
                probe: None,
            }
        })
}

/// The origin, which paths go to; where there is none, what a whole URL may name.
fn leads_to(binding: &Binding) -> String {
    if let Some(origin) = &binding.origin {
        return origin.to_string();
    }
    let allowed: Vec<_> = binding.allow.iter().map(ToString::to_string).collect();
    allowed.join(", ")
}

fn print(report: &Report) {
    match serde_json::to_string_pretty(report) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("mtlsd: cannot print the report: {error}"),
    }
}
