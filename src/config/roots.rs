//! What a configuration is taken from, and what its words are relative to.

use std::path::{Path, PathBuf};

use super::mistake::ConfigError;
use super::wrangler::Project;
use super::{Draft, Listen, StorePath};

/// What paths and ids in a file are relative to.
#[derive(Clone, Copy)]
pub struct Roots<'a> {
    /// The directory of the file.
    pub directory: &'a Path,
    /// The certificate store.
    pub store: &'a StorePath,
}

/// Everything that a configuration is taken from. Reading it again says what it is by then.
#[derive(Clone, Debug)]
pub struct Given {
    /// The configuration file; there need be none where there is a Wrangler project.
    pub file: Option<PathBuf>,
    /// A Wrangler project, whose bindings are added.
    pub wrangler: Option<Project>,
    /// Where bindings listen, by their names, in place of what the file says.
    pub listen: Vec<(String, Listen)>,
    /// The certificate store.
    pub store: StorePath,
}

impl Given {
    /// A file and nothing else, with the store that is used when none is named.
    pub fn file(path: &Path) -> Self {
        Self {
            file: Some(path.to_owned()),
            wrangler: None,
            listen: Vec::new(),
            store: StorePath::find(std::env::var_os("MTLSD_STORE").as_deref().map(Path::new)),
        }
    }

    /// Reads all of it, as it is now.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or the Wrangler project has mistakes. Those of the
    /// configuration file wait for [`Draft::finish`].
    pub fn read(&self) -> Result<Draft, ConfigError> {
        let grants = match &self.wrangler {
            Some(project) => project.read()?,
            None => Vec::new(),
        };
        Draft::read_given(self, grants)
    }
}
