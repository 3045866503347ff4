//! `mtlsd probe`.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use tokio::runtime::{Builder, LocalOptions};

use crate::app::{Once, OnceError};
use crate::cli;
use crate::config::Binding;
use crate::diagnosis::{Evidence, Report};
use crate::error::ForwardError;
use crate::probe::{Probe, Step, Verdict};
use crate::tls::Generation;

use super::given::given;
use super::{Exit, report_config};

/// What `--json` prints; its shape is an interface.
#[derive(Serialize)]
struct Probed {
    binding: String,
    url: String,
    steps: Vec<Step>,
    verdict: Verdict,
}

/// Goes the way of one request, and prints what each step met.
pub fn probe(arguments: &cli::Probe) -> Exit {
    let given = match given(
        arguments.config.as_deref(),
        arguments.wrangler.clone(),
        arguments.env.clone(),
        &arguments.store,
    ) {
        Ok(given) => given,
        Err(error) => {
            eprintln!("mtlsd: {error}");
            return Exit::Config;
        }
    };
    let once = match given.read().map_err(OnceError::from) {
        Ok(draft) => Once::load(draft, &arguments.binding),
        Err(error) => Err(error),
    };
    let once = match once {
        Ok(once) => once,
        Err(OnceError::Config(error)) => return report_config(&error),
        Err(error) => {
            eprintln!("mtlsd: {error}");
            return Exit::Usage;
        }
    };
    let (binding, generation) = (once.binding(), once.generation());
    let probe = match Probe::new(binding, generation, arguments.url.as_deref()) {
        Ok(probe) => probe,
        Err(error) => {
            eprintln!("mtlsd: {error}");
            return Exit::Usage;
        }
    };
    match arguments.json {
        true => print_json(binding, &probe),
        false => print(binding, &probe),
    }
}

/// What a probe of the binding's origin comes to.
pub fn verdict(binding: &Binding, generation: &Arc<Generation>) -> Verdict {
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
    let probed = Probed {
        binding: binding.name.to_string(),
        url: probe.url(),
        steps,
        verdict,
    };
    match serde_json::to_string_pretty(&probed) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("mtlsd: cannot print the report: {error}"),
    }
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
