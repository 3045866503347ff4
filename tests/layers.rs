//! Holds the floors of `src/lib.rs` against the code: a module imports only from floors below its
//! own, and what may change one day has one home.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of each floor, from the ground up.
const FLOORS: [&[&str]; 6] = [
    &[
        "access",
        "body",
        "config",
        "error",
        "lifecycle",
        "log",
        "metrics",
        "printable",
        "sys",
        "terminal",
        "timestamp",
    ],
    &[
        "head", "route", "server", "store", "systemd", "tls", "watch",
    ],
    &["diagnosis", "upstream"],
    &["admin", "probe", "proxy", "reload"],
    &["app", "demo"],
    &["cli", "commands"],
];

/// Within a floor, who may use whom.
const NEIGHBOURS: &[(&str, &str)] = &[
    ("config", "access"),
    ("log", "config"),
    ("config", "printable"),
    ("log", "metrics"),
    ("log", "printable"),
    ("store", "printable"),
    ("log", "terminal"),
    ("terminal", "printable"),
    ("error", "printable"),
    ("config", "terminal"),
    ("body", "lifecycle"),
    ("error", "timestamp"),
    ("log", "timestamp"),
    ("store", "tls"),
    ("demo", "app"),
    ("commands", "cli"),
];

/// Crates with one home, where their types stay.
const HOMES: [(&str, &[&str]); 8] = [
    ("rustls", &["tls"]),
    ("webpki", &["tls"]),
    ("tokio_rustls", &["tls"]),
    ("notify", &["watch"]),
    ("toml", &["config"]),
    ("jsonc_parser", &["config"]),
    ("sd_notify", &["systemd"]),
    ("rcgen", &["demo"]),
];

#[test]
fn every_module_imports_from_below_only() {
    let floors: BTreeMap<&str, usize> = FLOORS
        .iter()
        .enumerate()
        .flat_map(|(floor, rooms)| rooms.iter().map(move |room| (*room, floor)))
        .collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (room, path, text) in sources() {
        let Some(own) = floors.get(room.as_str()) else {
            panic!(
                "{} is in no floor: add `{room}` to FLOORS and to src/lib.rs",
                path.display()
            );
        };
        for used in rooms_used(&text) {
            seen += 1;
            let Some(floor) = floors.get(used.as_str()) else {
                continue;
            };
            let neighbours = NEIGHBOURS.contains(&(room.as_str(), used.as_str()));
            if used != room && floor >= own && !neighbours {
                wrong.push(format!(
                    "{} (floor {own}) uses {used} (floor {floor})",
                    path.display()
                ));
            }
        }
    }
    assert!(seen > 50, "only {seen} imports were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_may_change_has_one_home() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (room, path, text) in sources() {
        // Tests make certificates wherever they need some.
        if path.ends_with("tests.rs") {
            continue;
        }
        for (krate, homes) in HOMES {
            let uses = text.lines().any(|line| uses_crate(line, krate));
            seen += usize::from(uses);
            if uses && !homes.contains(&room.as_str()) {
                wrong.push(format!(
                    "{} uses {krate}, whose home is {}",
                    path.display(),
                    homes.join(", ")
                ));
            }
        }
    }
    assert!(seen >= HOMES.len(), "only {seen} uses were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_top_floors_read_a_whole_configuration() {
    let mut wrong = Vec::new();
    for (room, path, text) in sources() {
        let allowed = ["config", "app", "demo", "cli", "commands"].contains(&room.as_str());
        let reads = text.lines().any(|line| {
            ["&Config", ": Config"]
                .iter()
                .any(|start| names(line, start))
        });
        if reads && !allowed {
            wrong.push(path.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether a line has `start` as the end of a whole word.
fn names(line: &str, start: &str) -> bool {
    line.match_indices(start).any(|(at, _)| {
        let after = line[at + start.len()..].chars().next();
        !after.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// Every source file below `src/`, with the room it belongs to.
fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut todo = vec![root.clone()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
                continue;
            }
            let inside = path.strip_prefix(&root).unwrap();
            let first = inside
                .components()
                .next()
                .unwrap()
                .as_os_str()
                .to_str()
                .unwrap();
            let room = first.trim_end_matches(".rs").to_owned();
            let rust = path.extension().is_some_and(|extension| extension == "rs");
            if rust && room != "lib" && room != "main" {
                let text = fs::read_to_string(&path).unwrap();
                found.push((room, path, text));
            }
        }
    }
    assert!(found.len() > 20, "only {} files were found", found.len());
    found
}

fn rooms_used(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| {
            line.match_indices("crate::")
                .map(|(at, _)| &line[at + "crate::".len()..])
        })
        .map(|rest| {
            rest.chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect()
        })
        .collect()
}

fn uses_crate(line: &str, krate: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices(krate).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + krate.len()..];
        after.starts_with("::")
            && !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}
