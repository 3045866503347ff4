//! `mtlsd probe`.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use serde::Serialize;
use tokio::runtime::{Builder, LocalOptions};

use crate::app::{Once, OnceError};
use crate::cli;
use crate::config::{Binding, ConfigError, Finding};
use crate::diagnosis::{Evidence, Report};
use crate::error::ForwardError;
use crate::probe::{Probe, Step, Verdict};
use crate::reload::Reloader;
use crate::terminal;
use crate::tls::Generation;

use super::given::{GivenError, given};
use super::target::Target;
use super::usage::UsageError;
use super::{Exit, keylog};

/// What `--json` prints; its shape is an interface.
#[derive(Serialize)]
struct Probed {
    ok: bool,
    findings: Vec<Finding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    steps: Vec<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<Verdict>,
}

/// Why there is nothing to probe.
enum Refusal {
    Given(GivenError),
    Config(ConfigError),
    Usage(UsageError),
}

/// Goes the way of one request, and prints what each step met.
pub fn probe(arguments: &cli::Probe) -> Exit {
    let (once, url) = match load(arguments) {
        Ok(loaded) => loaded,
        Err(refusal) => return refuse(arguments.json, refusal),
    };
    let (binding, generation) = (once.binding(), once.generation());
    let probe = match Probe::new(binding, generation, url.as_deref()) {
        Ok(probe) => probe,
        Err(error) => {
            return refuse(
                arguments.json,
                Refusal::Usage(UsageError::bare(error.to_string())),
            );
        }
    };
    match arguments.json {
        true => print_json(binding, &probe),
        false => print(binding, &probe),
    }
}

/// The binding, and what to fetch.
fn load(arguments: &cli::Probe) -> Result<(Once, Option<String>), Refusal> {
    let target = Target::new(arguments.binding.as_deref(), arguments.url.as_deref())
        .map_err(Refusal::Usage)?;
    let given = given(&arguments.source).map_err(Refusal::Given)?;
    keylog::start(arguments.keylog.as_deref(), true).map_err(Refusal::Usage)?;
    let draft = given.read().map_err(Refusal::Config)?;
    let name = target.binding(&draft).map_err(Refusal::Usage)?;
    let once = Once::load(draft, &name).map_err(|error| match error {
        OnceError::Config(error) => Refusal::Config(error),
        error => Refusal::Usage(UsageError::bare(error.to_string())),
    })?;
    Ok((once, target.url))
}

fn refuse(json: bool, refusal: Refusal) -> Exit {
    let (findings, text, exit) = match refusal {
        Refusal::Given(error) => (vec![error.finding()], error.text(), error.exit()),
        Refusal::Usage(error) => (vec![error.finding()], error.text(), Exit::Usage),
        Refusal::Config(error) => (
            error.findings(),
            error.render(),
            match error.may_pass() {
                true => Exit::Failure,
                false => Exit::Config,
            },
        ),
    };
    match json {
        true => super::print_json(&Probed {
            ok: false,
            findings,
            binding: None,
            url: None,
            steps: Vec::new(),
            verdict: None,
        }),
        false => terminal::eprint_styled(&text),
    }
    exit
}

/// What probes of the origins come to, side by side, by the number of their binding. Where an
/// `allow` alone says what may be reached, there is nothing to try. With `shows_progress`, each
/// prints a line when it begins and when it ends.
pub fn verdicts(bindings: &[(Binding, Reloader)], shows_progress: bool) -> Vec<(usize, Verdict)> {
    let all = bindings.iter().enumerate();
    let todo: Vec<_> = all
        .filter(|(_, (binding, _))| binding.origin.is_some())
        .collect();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..todo.len().min(MOST_AT_ONCE) {
            scope.spawn(|| {
                while let Some((at, (binding, reloader))) = todo.get(next.fetch_add(1, Relaxed)) {
                    let verdict = match shows_progress {
                        true => watched(binding, reloader),
                        false => verdict(binding, reloader.current()),
                    };
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.push((*at, verdict));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done
}

fn watched(binding: &Binding, reloader: &Reloader) -> Verdict {
    let origin = binding
        .origin
        .as_ref()
        .map_or(String::new(), ToString::to_string);
    println!("probing {}: {origin}", binding.name);
    let began = Instant::now();
    let verdict = verdict(binding, reloader.current());
    let outcome = match verdict.ok {
        true => "ok",
        false => "failed",
    };
    let took = began.elapsed().as_millis();
    println!("probed {}: {outcome}, {took} ms", binding.name);
    verdict
}

/// Probes that run at the same time.
const MOST_AT_ONCE: usize = 16;

/// What a probe of the binding's origin comes to.
fn verdict(binding: &Binding, generation: &Arc<Generation>) -> Verdict {
    match Probe::new(binding, generation, None) {
        Ok(probe) => run(&probe, &mut |_| {}),
        Err(error) => unreached(&error, binding),
    }
}

fn unreached(error: &ForwardError, binding: &Binding) -> Verdict {
    let evidence = Evidence::nothing(SystemTime::now());
    Verdict {
        ok: false,
        report: Report::of(error, evidence, Some(binding.name.as_str()), None),
    }
}

fn run(probe: &Probe<'_>, see: &mut dyn FnMut(Step)) -> Verdict {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .expect("a runtime of one thread needs an epoll and a timer");
    runtime.block_on(probe.run(see))
}

fn print_json(binding: &Binding, probe: &Probe<'_>) -> Exit {
    let mut steps = Vec::new();
    let verdict = run(probe, &mut |step| steps.push(step));
    let exit = exit(&verdict);
    let finding = |report: &Report| {
        let help = Some(report.next_step.clone()).filter(|help| !help.is_empty());
        Finding {
            key: Some(format!("bindings.{}", binding.name)),
            ..Finding::error(&*report.detail, help)
        }
    };
    let findings = match verdict.ok {
        true => Vec::new(),
        false => vec![finding(&verdict.report)],
    };
    super::print_json(&Probed {
        ok: verdict.ok,
        findings,
        binding: Some(binding.name.to_string()),
        url: Some(probe.url()),
        steps,
        verdict: Some(verdict),
    });
    exit
}

fn print(binding: &Binding, probe: &Probe<'_>) -> Exit {
    println!("{} as binding {}", probe.url(), binding.name);
    let verdict = run(probe, &mut |step| print_step(&step));
    println!();
    print!("{}", verdict.report);
    exit(&verdict)
}

fn print_step(step: &Step) {
    let mark = match step.ok {
        true => "ok  ",
        false => "FAIL",
    };
    for (at, line) in step.saw.iter().enumerate() {
        match at {
            0 => println!("{mark} {:<4} {:>6} ms  {line}", step.step, step.ms),
            _ => println!("                    {line}"),
        }
    }
}

fn exit(verdict: &Verdict) -> Exit {
    match verdict.ok {
        true => Exit::Success,
        false => Exit::Failure,
    }
}
