//! The certificate store: a directory in which each certificate has an id, and a file.
//!
//! ```text
//! STORE/          0700
//!   ID.pem        0600  a certificate with its key, or a CA bundle: lines that say what it is,
//!                       then the PEM blocks (see `record`)
//!   ID.new        0600  one that is being written; what a crash leaves of it is swept away
//!   lock          0600  empty; whoever writes holds its flock(2)
//! ```
//!
//! A certificate is one file, so everything that can happen to it is one rename or one unlink:
//! whoever reads without asking finds the old one or the new one, whole, and a key never stands
//! beside the certificate of another.

mod disk;
mod error;
mod record;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::config::{CertificateId, StorePath};
use crate::tls::{Leaf, Material, leaf};

use disk::Lock;
use record::Header;

pub use error::StoreError;
pub use record::{CertificateName, Kind};

/// The store in one directory, which need not exist yet.
#[derive(Clone, Debug)]
pub struct Store {
    path: StorePath,
}

/// A stored certificate.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its id.
    pub id: CertificateId,
    /// Its name, which no other has.
    pub name: Option<CertificateName>,
    /// What it is good for.
    pub kind: Kind,
    /// When it was uploaded.
    pub created: SystemTime,
    /// When it was last replaced.
    pub replaced: Option<SystemTime>,
    /// What its first certificate says.
    pub leaf: Leaf,
    /// Its file.
    pub file: PathBuf,
}

/// How a command names a stored certificate.
#[derive(Clone, Debug)]
pub enum Which {
    /// By its id, as it was typed.
    Id(String),
    /// By its name.
    Name(String),
}

/// Everything in the store.
#[derive(Debug, Default)]
pub struct Listing {
    /// What could be read, the oldest first.
    pub entries: Vec<Entry>,
    /// What could not.
    pub damaged: Vec<StoreError>,
}

impl Store {
    /// The store in this directory.
    pub fn new(path: StorePath) -> Self {
        Self { path }
    }

    /// Keeps `material` under a new id. When this returns, a loss of power loses nothing.
    ///
    /// # Errors
    ///
    /// When the name is taken, or the directory cannot be written.
    pub fn upload(
        &self,
        kind: Kind,
        name: Option<CertificateName>,
        material: &Material,
    ) -> Result<Entry, StoreError> {
        let lock = self.lock()?;
        if let Some(name) = &name {
            self.refuse_taken(name)?;
        }
        let header = Header {
            id: disk::random_id()?,
            name,
            kind,
            created: SystemTime::now(),
            replaced: None,
        };
        self.write(&lock, header, material)
    }

    /// Puts `material` in the place of a stored certificate, which keeps its id and its name. A
    /// running mtlsd notices by itself.
    ///
    /// # Errors
    ///
    /// When there is no such certificate, it is of another kind, or the directory cannot be
    /// written.
    pub fn replace(
        &self,
        which: &Which,
        kind: Kind,
        material: &Material,
    ) -> Result<Entry, StoreError> {
        let lock = self.lock()?;
        let entry = self.find(which)?;
        if entry.kind != kind {
            return Err(StoreError::OtherKind {
                id: entry.id,
                kind: entry.kind,
            });
        }
        let header = Header {
            id: entry.id,
            name: entry.name,
            kind,
            created: entry.created,
            replaced: Some(SystemTime::now()),
        };
        self.write(&lock, header, material)
    }

    /// Forgets a certificate for good.
    ///
    /// # Errors
    ///
    /// When it is not there any more, or the directory cannot be written.
    pub fn delete(&self, id: &CertificateId) -> Result<(), StoreError> {
        let lock = self.lock()?;
        match disk::remove(&lock, &self.path.file(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::NoId(id.to_string()))
            }
            result => result.map_err(|source| self.cannot("delete from", source)),
        }
    }

    /// Everything there is. A store that does not exist is empty.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read; a file that makes no sense is part of the listing.
    pub fn list(&self) -> Result<Listing, StoreError> {
        let mut listing = Listing::default();
        for id in self.ids()? {
            match self.read(&id) {
                Ok(entry) => listing.entries.push(entry),
                // It was deleted while we looked.
                Err(StoreError::NoId(_)) => {}
                Err(error) => listing.damaged.push(error),
            }
        }
        listing
            .entries
            .sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(listing)
    }

    /// One certificate.
    ///
    /// # Errors
    ///
    /// When there is none of that id or name, or it cannot be read.
    pub fn find(&self, which: &Which) -> Result<Entry, StoreError> {
        match which {
            Which::Id(text) => match CertificateId::parse(text) {
                Some(id) => self.read(&id),
                None => Err(StoreError::NoId(text.clone())),
            },
            Which::Name(text) => {
                let mut listing = self.list()?;
                let called =
                    |entry: &Entry| entry.name.as_ref().is_some_and(|n| n.as_str() == text);
                match listing.entries.iter().position(called) {
                    Some(at) => Ok(listing.entries.swap_remove(at)),
                    // The damaged one may be the one that is wanted.
                    None => Err(match listing.damaged.pop() {
                        Some(damaged) => damaged,
                        None => StoreError::NoName(text.clone()),
                    }),
                }
            }
        }
    }

    fn refuse_taken(&self, name: &CertificateName) -> Result<(), StoreError> {
        match self.find(&Which::Name(name.as_str().to_owned())) {
            Ok(entry) => Err(StoreError::Taken {
                name: name.clone(),
                id: entry.id,
            }),
            Err(StoreError::NoName(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn lock(&self) -> Result<Lock, StoreError> {
        let lock =
            Lock::take(self.path.as_path()).map_err(|source| self.cannot("write to", source))?;
        disk::sweep(&lock).map_err(|source| self.cannot("write to", source))?;
        Ok(lock)
    }

    fn write(&self, lock: &Lock, header: Header, material: &Material) -> Result<Entry, StoreError> {
        let file = self.path.file(&header.id);
        let text = Zeroizing::new(format!("{header}{}", material.pem()));
        disk::write(lock, &file, text.as_bytes())
            .map_err(|source| self.cannot("write to", source))?;
        Ok(entry(header, material.leaf().clone(), file))
    }

    fn ids(&self) -> Result<BTreeSet<CertificateId>, StoreError> {
        let directory = match fs::read_dir(self.path.as_path()) {
            Ok(directory) => directory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(self.cannot("read", error)),
        };
        let mut ids = BTreeSet::new();
        for file in directory {
            let name = file
                .map_err(|source| self.cannot("read", source))?
                .file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".pem"));
            ids.extend(id.and_then(CertificateId::parse));
        }
        Ok(ids)
    }

    fn read(&self, id: &CertificateId) -> Result<Entry, StoreError> {
        let file = self.path.file(id);
        let bytes = match fs::read(&file) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NoId(id.to_string()));
            }
            Err(source) => return Err(StoreError::Unreadable { file, source }),
        };
        let header = Header::parse(id, &bytes).map_err(|reason| StoreError::Damaged {
            file: file.clone(),
            reason,
        })?;
        let leaf = leaf(&file, &bytes)?;
        Ok(entry(header, leaf, file))
    }

    fn cannot(&self, what: &'static str, source: io::Error) -> StoreError {
        StoreError::Directory {
            what,
            path: self.path.clone(),
            source,
        }
    }
}

fn entry(header: Header, leaf: Leaf, file: PathBuf) -> Entry {
    Entry {
        id: header.id,
        name: header.name,
        kind: header.kind,
        created: header.created,
        replaced: header.replaced,
        leaf,
        file,
    }
}

#[cfg(test)]
mod tests;
