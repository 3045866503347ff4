//! `mtlsd check`.

use std::time::SystemTime;

use serde::Serialize;

use crate::app::{self, Examined};
use crate::cli::Check;
use crate::config::{Binding, ConfigError, Finding, Severity, SourceText};
use crate::probe::Verdict;
use crate::reload::Reloader;
use crate::terminal;
use crate::timestamp::rfc3339;

use super::given::{Named, given, named};
use super::probe::verdicts;
use super::{Exit, print_json};

/// What `--json` prints; its shape is an interface.
#[derive(Serialize)]
struct Report {
    ok: bool,
    /// The file; `None` where flags or variables took its place.
    config: Option<String>,
    findings: Vec<Finding>,
    /// Those that are in order.
    bindings: Vec<Checked>,
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

/// Reads the configuration, opens every file it names, and tries every address. Anything wrong is
/// exit code 78, also what a running daemon would wait for: whoever asks wants to know now.
pub fn check(arguments: &Check) -> Exit {
    let mut report = Report {
        ok: false,
        config: None,
        findings: Vec::new(),
        bindings: Vec::new(),
    };
    let given = match given(&arguments.source) {
        Ok(given) => given,
        Err(error) => {
            report.findings.push(error.finding());
            return fail(arguments, &report, &error.text(), error.exit());
        }
    };
    let Named { shown, path } = named(&given);
    report.config = path;
    let examined = match given.read() {
        Ok(draft) => {
            let source = draft.source();
            (source, app::examine(draft))
        }
        Err(error) => {
            report.findings = error.findings();
            return fail(arguments, &report, &error.render(), Exit::Config);
        }
    };
    conclude(arguments, &shown, report, examined)
}

fn conclude(
    arguments: &Check,
    shown: &str,
    mut report: Report,
    (source, examined): (SourceText, Examined),
) -> Exit {
    let Examined {
        bindings,
        error,
        mut warnings,
    } = examined;
    report.bindings = checked(&bindings);
    report.findings = error.as_ref().map_or(Vec::new(), ConfigError::findings);
    if arguments.probe {
        // Beside a mistake nobody reads how the probes go.
        let shows_progress = !arguments.json && !arguments.quiet && error.is_none();
        for (at, verdict) in verdicts(&bindings, shows_progress) {
            if !verdict.ok {
                let finding = failed_probe(&source, &bindings[at].0, &verdict);
                report.findings.push(finding);
            }
            report.bindings[at].probe = Some(verdict);
        }
    }
    report.ok = report.findings.is_empty();
    let notes = warnings.clone();
    report.findings.append(&mut warnings);
    if let Some(error) = error {
        return fail(arguments, &report, &error.render(), Exit::Config);
    }
    let exit = match report.ok {
        true => Exit::Success,
        false => Exit::Failure,
    };
    if arguments.json {
        print_json(&report);
    } else if !report.ok || !arguments.quiet {
        print(shown, &report, &notes);
    }
    exit
}

fn failed_probe(source: &SourceText, binding: &Binding, verdict: &Verdict) -> Finding {
    let help = &verdict.report.next_step;
    Finding {
        key: Some(format!("bindings.{}.origin", binding.name)),
        ..source.finding(
            Severity::Error,
            &binding.places.server_name,
            format!("binding {}: {}", binding.name, verdict.report.detail),
            (!help.is_empty()).then(|| help.clone()),
        )
    }
}

fn print(shown: &str, report: &Report, notes: &[Finding]) {
    match report.ok {
        true => println!("{shown}: all is well"),
        false => println!("{shown}: the configuration is valid, but an origin cannot be used"),
    }
    for binding in &report.bindings {
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
    let remarks: Vec<_> = report
        .bindings
        .iter()
        .flat_map(|one| &one.remarks)
        .collect();
    for note in notes
        .iter()
        .filter(|note| !remarks.contains(&&note.message))
    {
        println!("  note: {}", note.message);
        if let Some(help) = &note.help {
            println!("    help: {help}");
        }
    }
}

fn print_verdict(probe: &Verdict) {
    let report = &probe.report;
    println!("    probe: {}", report.detail);
    if !report.next_step.is_empty() {
        println!("    next step: {}", report.next_step);
    }
}

fn fail(arguments: &Check, report: &Report, text: &str, exit: Exit) -> Exit {
    match arguments.json {
        true => print_json(report),
        false => terminal::eprint_styled(text),
    }
    exit
}

fn checked(bindings: &[(Binding, Reloader)]) -> Vec<Checked> {
    let now = SystemTime::now();
    let checked = |(binding, reloader): &(Binding, Reloader)| {
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
    };
    bindings.iter().map(checked).collect()
}

/// The origin, which paths go to; where there is none, what a whole URL may name.
fn leads_to(binding: &Binding) -> String {
    if let Some(origin) = &binding.origin {
        return origin.to_string();
    }
    let allowed: Vec<_> = binding.allow.iter().map(ToString::to_string).collect();
    allowed.join(", ")
}
