//! What the documents say is what the program does: every example parses, every key and command
//! that is named exists, and everything that exists is named.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use mtlsd::cli::Cli;
use mtlsd::config::{Draft, keys};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn readme() -> String {
    fs::read_to_string(file("README.md")).unwrap()
}

/// The content of every block that is fenced as `language`.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    let mut wanted = false;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(fence), None) => {
                wanted = fence == language;
                open = Some(String::new());
            }
            (Some(_), Some(_)) => blocks.extend(open.take().filter(|_| wanted)),
            (None, Some(block)) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    blocks
}

/// The part of the README under this heading.
fn part(text: &str, heading: &str) -> String {
    let start = text
        .find(&format!("\n## {heading}\n"))
        .unwrap_or_else(|| panic!("there is no part \"{heading}\""));
    let rest = &text[start + 1..];
    let end = rest.find("\n## ").unwrap_or(rest.len());
    rest[..end].to_owned()
}

/// The words in backticks in the first column of every table in `text`.
fn first_column(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter_map(|row| row.split(" | ").next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

fn documented_keys() -> BTreeSet<String> {
    let keys = first_column(&part(&readme(), "Configuration"));
    assert!(keys.len() > 20, "{keys:?}");
    keys
}

/// Every key that a file may have, but for the tables themselves.
fn keys_of_the_code() -> BTreeSet<String> {
    [keys::TOP, keys::ADMIN, keys::LOG, keys::OWN, keys::COMMON]
        .concat()
        .into_iter()
        .filter(|key| !["admin", "log", "defaults", "bindings"].contains(key))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_configuration_in_the_documents_is_understood() {
    let blocks = blocks(&readme(), "toml");
    assert!(!blocks.is_empty());
    for block in blocks {
        if let Err(error) = Draft::parse(Path::new("README.md"), block.clone()).finish() {
            panic!("{error}\n{block}");
        }
    }
}

#[test]
fn the_table_of_the_configuration_has_every_key_there_is() {
    assert_eq!(documented_keys(), keys_of_the_code());
}

#[test]
fn the_sample_shows_every_key() {
    let Ok(sample) = fs::read_to_string(file("config/mtlsd.toml")) else {
        return;
    };
    let missing: Vec<_> = documented_keys()
        .into_iter()
        .filter(|key| {
            !sample.lines().any(|line| {
                line.trim_start_matches(['#', ' '])
                    .strip_prefix(key.as_str())
                    .is_some_and(|rest| rest.trim_start().starts_with('='))
            })
        })
        .collect();
    assert!(
        missing.is_empty(),
        "config/mtlsd.toml does not show {missing:?}"
    );
}

/// The command lines of mtlsd that the README gives, as words, without `mtlsd` itself.
fn command_lines() -> Vec<Vec<String>> {
    let text = readme();
    let mut lines = Vec::new();
    for line in blocks(&text, "sh").iter().flat_map(|block| block.lines()) {
        let line = line.split(" #").next().unwrap_or_default();
        for start in ["mtlsd ", "cargo run --release -- "] {
            lines.extend(line.strip_prefix(start).map(str::to_owned));
        }
    }
    let outside: String = text.split("```").step_by(2).collect();
    for span in outside.split('`').skip(1).step_by(2) {
        lines.extend(span.strip_prefix("mtlsd ").map(str::to_owned));
    }
    lines
        .iter()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect()
}

#[test]
fn every_command_in_the_readme_exists() {
    let cli = Cli::command();
    let lines = command_lines();
    for command in ["run", "demo", "check", "init"] {
        assert!(lines.iter().any(|words| words[0] == command), "{command}");
    }
    for words in lines {
        let mut command = cli
            .find_subcommand(&words[0])
            .unwrap_or_else(|| panic!("there is no `mtlsd {}`", words[0]));
        // Commands about the store are two or three words.
        for word in &words[1..] {
            if !command.has_subcommands() {
                break;
            }
            command = command
                .find_subcommand(word)
                .unwrap_or_else(|| panic!("there is no `mtlsd {}`", words.join(" ")));
        }
        for flag in words.iter().filter_map(|word| word.strip_prefix("--")) {
            assert!(
                command
                    .get_arguments()
                    .any(|argument| argument.get_long() == Some(flag)),
                "`mtlsd {}` has no --{flag}",
                words.join(" ")
            );
        }
    }
}

#[test]
fn every_variable_in_the_readme_exists() {
    let cli = Cli::command();
    let known: BTreeSet<_> = cli
        .get_subcommands()
        .flat_map(|command| command.get_arguments())
        .filter_map(|argument| argument.get_env())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    let text = readme();
    let named: BTreeSet<_> = text
        .split(|c: char| !(c.is_ascii_uppercase() || c == '_'))
        .filter(|word| word.starts_with("MTLSD_") && word.len() > "MTLSD_".len())
        .map(str::to_owned)
        .collect();
    assert_eq!(named, known);
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = fs::read_to_string(file("Cargo.toml")).unwrap();
    let start = manifest.find("[dependencies]").unwrap();
    let used: BTreeSet<_> = manifest[start..]
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert!(used.contains("rustls"));
    let explained = first_column(&part(&readme(), "Dependencies"));
    assert_eq!(used, explained);
}

/// The names that stand in backticks or expressions and begin like metrics of mtlsd.
fn metric_names(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
        .filter(|word| word.starts_with("mtlsd_") || word.starts_with("process_"))
        .map(|word| word.trim_end_matches("_bucket").to_owned())
        .collect()
}

#[test]
fn metrics_have_the_same_names_everywhere() {
    let known: BTreeSet<_> = mtlsd::admin::FAMILIES
        .iter()
        .map(|family| family.sample_name())
        .collect();
    let read = |name: &str| fs::read_to_string(file(name)).unwrap();
    let table = first_column(&read("docs/metrics.md"));
    assert_eq!(table, known, "docs/metrics.md");
    for name in [
        "contrib/prometheus/mtlsd.rules.yaml",
        "contrib/prometheus/tests.yaml",
        "contrib/grafana/mtlsd.json",
    ] {
        let used = metric_names(&read(name));
        assert!(!used.is_empty(), "{name}");
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
    }
}

#[test]
fn every_alert_has_a_section_in_the_runbook() {
    let rules = fs::read_to_string(file("contrib/prometheus/mtlsd.rules.yaml")).unwrap();
    let runbook = fs::read_to_string(file("docs/alerts.md")).unwrap();
    let alerts: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        assert!(runbook.contains(&format!("\n## {alert}\n")), "{alert}");
        let link = format!("runbook_url: docs/alerts.md#{}", alert.to_lowercase());
        assert!(rules.contains(&link), "{link}");
    }
}
