//! Finding the admin endpoint of a running mtlsd, and asking it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use tokio::runtime::Builder;

use crate::admin::client::{AskError, Endpoint, Response};
use crate::cli::admin::AdminFlag;
use crate::config::{self, Draft, Listen, secret};

/// Where the admin endpoint is, as the flag, the environment or the configuration says.
///
/// # Errors
///
/// What is wrong with the address.
pub fn endpoint(flag: &AdminFlag) -> Result<Endpoint, String> {
    let listen = match &flag.admin {
        Some(text) => Some(Listen::parse(text, Path::new("")).map_err(|error| {
            let error = format!("--admin {text}: {error}");
            match secret::is_in(&error) {
                true => format!("--admin: the value is not valid {}", secret::HIDDEN),
                false => error,
            }
        })?),
        None => configured(flag.config.as_deref()),
    };
    Ok(match listen {
        None => Endpoint::Unix(PathBuf::from(DEFAULT_SOCKET)),
        Some(Listen::Unix(path)) => Endpoint::Unix(path),
        Some(listen) => match listen.addresses().first() {
            Some(address) => Endpoint::Tcp(*address),
            None => return Err(format!("{listen} is no address to connect to")),
        },
    })
}

/// The first admin listener of the configuration; a file that is not there or is wrong names none.
fn configured(file: Option<&Path>) -> Option<Listen> {
    let file = match file {
        Some(file) => file.to_owned(),
        None => config::find(None).ok()?,
    };
    let config = Draft::read(&file).ok()?;
    let listen = config.admin().listen.as_ref()?;
    // The unix socket can do everything.
    let unix = listen.iter().find(|l| matches!(l, Listen::Unix(_)));
    unix.or(listen.first()).cloned()
}

/// Sends one request to it.
///
/// # Errors
///
/// When there is no response within `patience`.
pub fn ask(
    endpoint: &Endpoint,
    method: Method,
    path: &str,
    patience: Duration,
) -> Result<Response, AskError> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime of one thread needs an epoll and a timer");
    runtime.block_on(endpoint.ask(method, path, patience))
}

/// Where a service of systemd has its socket.
const DEFAULT_SOCKET: &str = "/run/mtlsd/admin.sock";
