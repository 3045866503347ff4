//! A demonstration that needs nothing: a throw-away CA, an origin that demands a client
//! certificate, and mtlsd in front of it from a real configuration file. It is what users run
//! first, so it uses the same parts that they will: the file is parsed, the watcher sees the
//! rotation, the requests go through the workers.

mod origin;
mod pki;
mod story;

use std::fs::{self, Permissions};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc::channel;

use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::app::{self, App, StartError, Validity};
use crate::config::Draft;
use crate::log;

use origin::Origin;
use pki::Pki;
use story::{Story, StoryError};

/// Why the demonstration failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// mtlsd itself did not run.
    #[error(transparent)]
    Start(#[from] StartError),
    /// What was to be seen was not seen.
    #[error(transparent)]
    Story(#[from] StoryError),
    /// The files and certificates could not be made.
    #[error("cannot prepare the demonstration")]
    Prepare(#[source] io::Error),
}

/// Runs until interrupted, or for one round when `once`.
///
/// # Errors
///
/// When anything does not work as it should.
pub fn run(once: bool) -> Result<(), DemoError> {
    // Nobody else may write to it at any moment, whatever the umask is.
    let directory: TempDir = tempfile::Builder::new()
        .prefix("mtlsd-demo-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .map_err(DemoError::Prepare)?;
    let pki = Pki::new(directory.path()).map_err(DemoError::Prepare)?;
    let origin = Origin::start(&pki).map_err(DemoError::Prepare)?;
    let port = free_port(PORT).map_err(DemoError::Prepare)?;
    let admin = free_port(ADMIN_PORT).map_err(DemoError::Prepare)?;
    let path = directory.path().join("mtlsd.toml");
    fs::write(&path, configuration(port, origin.port(), admin)).map_err(DemoError::Prepare)?;

    let draft = Draft::read(&path).map_err(StartError::from)?;
    let (access, flusher) = log::start(draft.log());
    let app = App::bind(app::load(draft, Validity::Wished).map_err(StartError::from)?)?;
    let story = Story {
        pki,
        port,
        admin,
        origin: origin.address(),
        once,
    };
    introduce(&path, port);
    let (finish, finished) = oneshot::channel::<()>();
    let (outcome, told) = channel();
    let telling = std::thread::Builder::new().name("story".to_owned());
    let thread = telling.spawn(move || {
        // Told to somebody who may have been interrupted.
        let _ = outcome.send(story.tell());
        drop(finish);
    });
    thread.map_err(DemoError::Prepare)?;
    let served = app.run(access, async {
        let _ = finished.await;
    });
    flusher.flush();
    served?;
    // Without an outcome, somebody interrupted it, which is how it ends when not `once`.
    match told.try_recv() {
        Ok(outcome) => Ok(outcome?),
        Err(_) if once => Err(DemoError::Story(StoryError::Interrupted)),
        Err(_) => Ok(()),
    }
}

fn configuration(port: u16, origin: u16, admin: u16) -> String {
    format!(
        "[admin]
listen = \"127.0.0.1:{admin}\"

[log]
level = \"warn\"
access = false

[bindings.demo]
listen      = \"127.0.0.1:{port}\"
origin      = \"https://localhost:{origin}\"
certificate = \"client.crt\"
key         = \"client.key\"
ca          = \"ca.crt\"
"
    )
}

fn introduce(path: &Path, port: u16) {
    if port != PORT {
        println!("Port {PORT} is taken; using {port}.\n");
    }
    println!(
        "mtlsd is running with this configuration ({}):\n",
        path.display()
    );
    for line in fs::read_to_string(path).unwrap_or_default().lines() {
        println!("    {line}");
    }
    println!();
}

/// The usual port, or another when it is taken.
fn free_port(usual: u16) -> io::Result<u16> {
    let free =
        TcpListener::bind(("127.0.0.1", usual)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?;
    Ok(free.local_addr()?.port())
}

/// Where the demonstration listens if it can.
const PORT: u16 = 8001;
/// Where its page is if it can be.
const ADMIN_PORT: u16 = 9442;
