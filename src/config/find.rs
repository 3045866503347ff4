//! Which file is the configuration.

use std::path::{Path, PathBuf};

use super::secret::shown_path;

/// The places that are looked at when none is named, in this order.
const PLACES: [&str; 2] = ["./mtlsd.toml", "/etc/mtlsd/mtlsd.toml"];

/// There is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// Neither named nor in a usual place.
    #[error(
        "there is no configuration: looked for {}; name one with --config or MTLSD_CONFIG, \
         write one with `mtlsd init`, or try `mtlsd demo`",
        PLACES.join(" and ")
    )]
    Nowhere,
    /// Named, but not there.
    #[error("there is no configuration at {}; `mtlsd init {}` writes one to start from", shown_path(.0), shown_path(.0))]
    Missing(PathBuf),
}

/// The configuration file: the one that was named (by `--config` or `MTLSD_CONFIG`), else the
/// first that exists of `./mtlsd.toml` and `/etc/mtlsd/mtlsd.toml`.
///
/// # Errors
///
/// When there is no such file.
pub fn find(named: Option<&Path>) -> Result<PathBuf, FindError> {
    match named {
        Some(path) if may_exist(path) => Ok(path.to_owned()),
        Some(path) => Err(FindError::Missing(path.to_owned())),
        None => PLACES
            .iter()
            .map(PathBuf::from)
            .find(|path| may_exist(path))
            .ok_or(FindError::Nowhere),
    }
}

/// Whether there is something to read, or something that keeps us from knowing: reading it says
/// what that is.
fn may_exist(path: &Path) -> bool {
    path.try_exists().unwrap_or(true)
}
