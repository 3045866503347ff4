//! `mtlsd init`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::access::{self, Use};
use crate::cli::Init;

use super::Exit;

/// Writes the starter file; an existing file is left alone.
pub fn init(arguments: &Init) -> Exit {
    let path = &arguments.file;
    if path == Path::new("-") {
        print!("{STARTER}");
        return Exit::Success;
    }
    match write(path) {
        Ok(()) => {
            println!(
                "wrote {0}; edit it, then: mtlsd check -c {0} && mtlsd run -c {0}",
                path.display()
            );
            Exit::Success
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            eprintln!(
                "mtlsd: {} exists already, and is left as it is",
                path.display()
            );
            Exit::Failure
        }
        Err(error) => {
            eprintln!("mtlsd: cannot write {}: {error}", path.display());
            if let Some(help) = access::help(path, Use::Create, &error) {
                eprintln!("  help: {help}");
            }
            Exit::Failure
        }
    }
}

fn write(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        // Whoever can write to it decides where certificates are presented.
        .mode(0o644)
        .open(path)?;
    file.write_all(STARTER.as_bytes())
}

const STARTER: &str = include_str!("../config/starter.toml");
