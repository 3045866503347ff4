//! What a configuration is taken from, and what its words are relative to.

use std::fs;
use std::path::{Path, PathBuf};

use super::mistake::ConfigError;
use super::wrangler::Project;
use super::{Draft, Flags, Listen, Overrides, StorePath};

/// What paths and ids in a file are relative to.
#[derive(Clone, Copy)]
pub struct Roots<'a> {
    /// The directory of the file.
    pub directory: &'a Path,
    /// The certificate store.
    pub store: &'a StorePath,
    /// Whether listeners may be open to other machines, whatever the file says.
    pub expose: bool,
}

/// Everything that a configuration is taken from. Reading it again says what it is by then.
#[derive(Clone, Debug)]
pub struct Given {
    /// The configuration file; there need be none where there is a Wrangler project.
    pub file: Option<PathBuf>,
    /// The binding that flags and variables describe, in place of any file.
    pub flags: Option<Flags>,
    /// A Wrangler project, whose bindings are added.
    pub wrangler: Option<Project>,
    /// Where bindings listen, by their names, in place of what the file says.
    pub listen: Vec<(String, Listen)>,
    /// What replaces values of the file.
    pub overrides: Overrides,
    /// The certificate store.
    pub store: StorePath,
}

impl Given {
    /// A file and nothing else, with the store that is used when none is named.
    pub fn file(path: &Path) -> Self {
        Self {
            file: Some(path.to_owned()),
            flags: None,
            wrangler: None,
            listen: Vec::new(),
            overrides: Overrides::default(),
            store: StorePath::find(std::env::var_os("MTLSD_STORE").as_deref().map(Path::new)),
        }
    }

    /// The files that say something, the configuration first.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let wrangler = self.wrangler.as_ref().map(|project| &project.file);
        self.file.iter().chain(wrangler).map(PathBuf::as_path)
    }

    /// What stands in the files, as they are now.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read.
    pub fn texts(&self) -> Result<Texts, ConfigError> {
        let wrangler = self.wrangler.as_ref().map(|project| &project.file);
        let read = |path: Option<&PathBuf>| match path {
            Some(path) => fs::read_to_string(path)
                .map_err(|error| ConfigError::unreadable(path.clone(), &error)),
            None => Ok(String::new()),
        };
        Ok(Texts {
            file: read(self.file.as_ref())?,
            wrangler: read(wrangler)?,
        })
    }

    /// Understands what stood in the files.
    ///
    /// # Errors
    ///
    /// When the Wrangler project has mistakes. Those of the configuration file wait for
    /// [`Draft::finish`].
    pub fn understand(&self, texts: &Texts) -> Result<Draft, ConfigError> {
        if let Some(flags) = &self.flags {
            return Ok(Draft::from_flags(flags, &self.store, &self.overrides));
        }
        let grants = match &self.wrangler {
            Some(project) => project.understand(&texts.wrangler)?,
            None => Vec::new(),
        };
        Ok(Draft::of(self, texts, grants))
    }

    /// Reads all of it, and understands it.
    ///
    /// # Errors
    ///
    /// Those of [`Given::texts`] and [`Given::understand`].
    pub fn read(&self) -> Result<Draft, ConfigError> {
        self.understand(&self.texts()?)
    }
}

/// What stands in the files of a [`Given`]; empty where there is no such file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Texts {
    pub(super) file: String,
    wrangler: String,
}
