//! What a configuration is taken from, as flags and variables say.

use std::path::{Path, PathBuf};

use crate::cli::store::StoreFlag;
use crate::config::{self, FindError, Given, Listen, Project, StorePath};

/// What the flags shared by several commands name.
///
/// # Errors
///
/// When there is no configuration file, and no Wrangler project to make up for it.
pub fn given(
    config: Option<&Path>,
    wrangler: Option<PathBuf>,
    environment: Option<String>,
    store: &StoreFlag,
) -> Result<Given, FindError> {
    let file = match config::find(config) {
        Ok(path) => Some(path),
        Err(FindError::Nowhere) if wrangler.is_some() => None,
        Err(error) => return Err(error),
    };
    Ok(Given {
        file,
        wrangler: wrangler.map(|file| Project { file, environment }),
        listen: Vec::new(),
        store: StorePath::find(store.store.as_deref()),
    })
}

/// Reads `NAME=ADDRESS`. The error says what is wrong.
pub fn named_listen(text: &str) -> Result<(String, Listen), String> {
    let Some((name, address)) = text.split_once('=') else {
        return Err(format!(
            "--listen {text}: which binding? Write NAME={text}, or use it with --to"
        ));
    };
    // A relative path on the command line is relative to where one is.
    let listen = Listen::parse(address, Path::new(""))
        .map_err(|error| format!("--listen {text}: {error}"))?;
    Ok((name.to_owned(), listen))
}
