//! What a person sees in a terminal.

use std::fs;

use rustix::process::Signal;

use crate::support::{Ca, Origin, Terminal, binding, lead, leading, typed, wait_for};

/// Escape sequences begin with this.
const ESCAPE: char = '\u{1b}';

/// What must never be seen.
fn assert_sound(screen: &str) {
    for wrong in ["tracing-subscriber", "panicked", "RUST_BACKTRACE"] {
        assert!(!screen.contains(wrong), "{screen}");
    }
}

/// Ways to say that a terminal is to have no color.
const PLAIN: [(&str, &str); 2] = [("NO_COLOR", "1"), ("TERM", "dumb")];

#[test]
fn logs_help_and_carets_have_color_in_a_terminal_unless_it_is_turned_off() {
    let (ca, directory) = (Ca::new(), tempfile::tempdir().unwrap());
    let origin = Origin::start(&ca);
    let files = [
        ("mtlsd.toml", binding(&origin, "")),
        ("client.pem", ca.issue("client").pem()),
        ("ca.crt", ca.pem.clone()),
        ("wrong.toml", "[bindings.b]\nlistn = 1\n".to_owned()),
    ];
    for (name, content) in files {
        fs::write(directory.path().join(name), content).unwrap();
    }
    let ready = "ready";
    let rows = [
        (&["run"][..], ready),
        (&["--help"], "Usage:"),
        (&["run", "--help"], "Usage:"),
        (&["run", "--nonsense"], "--help"),
        (&["check", "-c", "wrong.toml"], "mistake"),
    ];
    for (arguments, last) in rows {
        for plain in [None, Some(PLAIN[0]), Some(PLAIN[1])] {
            let mut command = typed(directory.path(), arguments);
            command.envs(plain);
            let mut terminal = Terminal::start(command, 80);
            wait_for(last, || match terminal.screen() {
                screen if screen.contains(last) => Ok(()),
                screen => Err(screen),
            });
            if last != ready {
                terminal.wait();
            }
            let screen = terminal.screen();
            assert_sound(&screen);
            assert_eq!(
                screen.contains(ESCAPE),
                plain.is_none(),
                "{arguments:?} with {plain:?}: {screen:?}"
            );
        }
    }
}

#[test]
fn the_demonstration_runs_in_a_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::start(typed(directory.path(), &["demo", "--once"]), 60);
    let status = terminal.wait();
    let screen = terminal.screen();
    assert!(status.success(), "{screen}");
    assert_sound(&screen);
}

#[test]
#[ignore = "the program that `leading` starts, not a test"]
fn leader_of_a_session() {
    lead();
}

/// A directory with a configuration, and the origin that it names.
fn configured() -> (tempfile::TempDir, Origin) {
    let (ca, directory) = (Ca::new(), tempfile::tempdir().unwrap());
    let origin = Origin::start(&ca);
    let files = [
        ("mtlsd.toml", binding(&origin, "")),
        ("client.pem", ca.issue("client").pem()),
        ("ca.crt", ca.pem.clone()),
    ];
    for (name, content) in files {
        fs::write(directory.path().join(name), content).unwrap();
    }
    (directory, origin)
}

fn wait_for_screen(terminal: &Terminal, text: &str) {
    wait_for(text, || match terminal.screen() {
        screen if screen.contains(text) => Ok(()),
        screen => Err(screen),
    });
}

#[test]
fn closing_the_terminal_ends_what_was_started_from_it() {
    for (arguments, started) in [(&["run"][..], "ready"), (&["demo"], "Ctrl-C ends it")] {
        let (directory, _origin) = configured();
        let mut terminal = Terminal::start(leading(directory.path(), arguments), 80);
        wait_for_screen(&terminal, started);
        // While the terminal is there, SIGHUP is what it is for every daemon.
        if arguments == ["run"] {
            terminal.signal(Signal::HUP);
            wait_for_screen(&terminal, "reloading");
        }
        terminal.close();
        assert_eq!(terminal.wait().code(), Some(0), "{}", terminal.screen());
    }
}

#[test]
fn without_a_terminal_of_its_own_a_hangup_reloads() {
    let (directory, _origin) = configured();
    let terminal = Terminal::start(typed(directory.path(), &["run"]), 80);
    wait_for_screen(&terminal, "ready");
    for _ in 0..2 {
        terminal.signal(Signal::HUP);
    }
    wait_for_screen(&terminal, "reloading");
    assert!(!terminal.screen().contains("draining"));
}

/// The screen without what sets colors.
fn without_color(screen: &str) -> String {
    let mut text = String::new();
    let mut letters = screen.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ESCAPE => _ = letters.find(char::is_ascii_alphabetic),
            letter => text.push(letter),
        }
    }
    text
}

/// Every line fits, but for a word that is longer than a line by itself.
fn assert_fits(what: &str, screen: &str, columns: usize) {
    for line in without_color(screen).lines() {
        let is_word = !line.trim().contains(' ');
        assert!(
            line.chars().count() <= columns || is_word,
            "{what}: {line:?} in\n{screen}"
        );
    }
}

#[test]
fn the_output_of_every_command_fits_sixty_columns() {
    let (directory, _origin) = configured();
    let wrong = "[bindings.b]\nlistn = 1\norigin = \"http://o\"\nconnect_timeout = \"a few minutes or so\"\n";
    fs::write(directory.path().join("wrong.toml"), wrong).unwrap();
    let mut rows: Vec<Vec<&str>> = vec![
        vec![],
        vec!["version"],
        vec!["init", "new.toml"],
        vec!["init", "new.toml"],
        vec!["check"],
        vec!["check", "--probe"],
        vec!["check", "-c", "wrong.toml"],
        vec!["check", "-c", "nowhere.toml"],
        vec!["run", "-c", "wrong.toml"],
        vec!["run", "--nonsense"],
        vec!["probe", "b"],
        vec!["probe", "nobody"],
        vec!["fetch", "nobody", "/"],
        vec!["fetch", "b", "nothing at all"],
        vec!["cert", "list", "--store", "store"],
        vec!["mtls-certificate", "show", "--store", "store"],
        vec![
            "mtls-certificate",
            "show",
            "--store",
            "store",
            "--name",
            "x",
        ],
        vec!["demo", "--once"],
    ];
    for command in [
        "",
        "run",
        "demo",
        "check",
        "probe",
        "fetch",
        "init",
        "mtls-certificate",
        "cert",
        "version",
    ] {
        let words = command.split_whitespace();
        rows.push(words.chain(["--help"]).collect());
    }
    for arguments in rows {
        let mut terminal = Terminal::start(typed(directory.path(), &arguments), 60);
        terminal.wait();
        let screen = terminal.screen();
        assert_sound(&screen);
        assert_fits(&format!("{arguments:?}"), &screen, 60);
    }
    let terminal = Terminal::start(typed(directory.path(), &["run"]), 60);
    wait_for_screen(&terminal, "ready");
    assert_fits("run", &terminal.screen(), 60);
}
