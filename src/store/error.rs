//! Why the store did not do as it was told.

use std::io;
use std::path::PathBuf;

use crate::access::{self, Use};
use crate::config::secret;
use crate::config::{CertificateId, StorePath};
use crate::tls::LoadError;

use super::record::{CertificateName, Kind};

/// Why the store did not do as it was told. The sentences about names are those of Wrangler.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No certificate has this id.
    #[error("certificate not found with id \"{}\"", secret::shown(.0))]
    NoId(String),
    /// No certificate has this name.
    #[error("certificate not found with name \"{}\"", secret::shown(.0))]
    NoName(String),
    /// Another certificate has this name.
    #[error("the name \"{name}\" is taken by certificate {id}")]
    Taken {
        /// The name.
        name: CertificateName,
        /// Who has it.
        id: CertificateId,
    },
    /// A client certificate where a CA bundle was expected, or the other way round.
    #[error("certificate {id} is {kind}")]
    OtherKind {
        /// The certificate.
        id: CertificateId,
        /// What it is.
        kind: Kind,
    },
    /// A file of the store cannot be read.
    #[error("cannot read {}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the store is not as the store writes it.
    #[error("{} is damaged: {reason}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificates in a file make no sense.
    #[error(transparent)]
    Material(#[from] LoadError),
    /// The directory cannot be used.
    #[error("cannot {what} the certificate store {}", secret::shown_path(path.as_path()))]
    Directory {
        /// What was to be done.
        what: &'static str,
        /// The directory.
        path: StorePath,
        /// What the system said.
        source: io::Error,
    },
    /// The system gave no random numbers.
    #[error("cannot make an id")]
    NoRandom(#[source] io::Error),
}

impl StoreError {
    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::NoId(_) | Self::NoName(_) => {
                "`mtlsd mtls-certificate list` shows what there is; is it the right store (--store, MTLSD_STORE)?".to_owned()
            }
            Self::Taken { id, .. } => format!(
                "put the new certificate in its place: mtlsd mtls-certificate replace --id {id} --cert CERT --key KEY"
            ),
            Self::OtherKind { kind: Kind::Client, .. } => "name its new chain and key with --cert and --key".to_owned(),
            Self::OtherKind { kind: Kind::Authority, .. } => "name its new bundle with --ca-cert".to_owned(),
            Self::Unreadable { file, source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                elsewhere(access::help(file, Use::Read, source)?)
            }
            Self::Directory { path, source, .. } if is_forbidden(source) => {
                // What is missing in it tells nothing: the first use makes the directory.
                let inside = path.as_path().join("new");
                elsewhere(access::help(&inside, Use::Create, source)?)
            }
            Self::Directory { source, .. } if source.kind() == io::ErrorKind::TimedOut => {
                "another mtlsd is writing to it; has that been stopped with Ctrl-Z?".to_owned()
            }
            Self::Unreadable { .. } | Self::Directory { .. } | Self::NoRandom(_) => return None,
            Self::Damaged { file, .. } => format!(
                "it was not written by mtlsd, or was changed since; move it away, and upload the certificate again: {}",
                file.display()
            ),
            Self::Material(error) => return error.help(),
        })
    }
}

fn is_forbidden(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

fn elsewhere(help: String) -> String {
    format!("{help}; another store is named with --store or MTLSD_STORE")
}
