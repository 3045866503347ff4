//! `mtlsd mtls-certificate` and `mtlsd cert`: the certificate store. What is printed without
//! `--json` is, word for word, what Wrangler prints; dates are month/day/year, in UTC.

mod format;

use std::fs;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::access::{self, Use};
use crate::cli::store::{
    Cert, CertReplace, CertUpload, Delete, List, MtlsCertificate, Replace, Show, StoreFlag, Target,
    Upload, UploadAuthority,
};
use crate::config::secret;
use crate::config::{Binding, CertificateId, ConfigError, Draft, Given, Source, StorePath};
use crate::store::{CertificateName, Entry, Kind, Store, StoreError, Which};
use crate::tls::{LoadError, Material};

use super::{Exit, chain, report_config};

/// Runs `mtlsd mtls-certificate …`.
pub fn mtls_certificate(command: MtlsCertificate) -> Exit {
    conclude(match command {
        MtlsCertificate::Upload(arguments) => upload(arguments),
        MtlsCertificate::List(arguments) => list(&arguments, |entry| entry.kind == Kind::Client),
        MtlsCertificate::Show(arguments) => show(arguments),
        MtlsCertificate::Replace(arguments) => replace(arguments),
        MtlsCertificate::Delete(arguments) => delete(arguments),
    })
}

/// Runs `mtlsd cert …`.
pub fn cert(command: Cert) -> Exit {
    conclude(match command {
        Cert::Upload(CertUpload::MtlsCertificate(arguments)) => upload(arguments),
        Cert::Upload(CertUpload::CertificateAuthority(arguments)) => upload_authority(arguments),
        Cert::List(arguments) => list(&arguments, |_| true),
        Cert::Show(arguments) => show(arguments),
        Cert::Replace(arguments) => replace_any(arguments),
        Cert::Delete(arguments) => delete(arguments),
    })
}

/// Why a command about the store did not do what it was to do.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error("Error: can't provide both --id and --name.")]
    Both,
    #[error("Error: must provide --id or --name.")]
    Neither,
    #[error("--name: {0}")]
    Name(String),
    #[error("Could not read file: {}", secret::shown_path(path))]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Material(#[from] LoadError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("certificate {id} is used by {user} of {}", config.display())]
    Used {
        id: CertificateId,
        user: String,
        config: PathBuf,
    },
    #[error("{}", .0.render())]
    Config(ConfigError),
    #[error("cannot ask whether to delete")]
    Ask(#[source] io::Error),
    #[error("Not deleting")]
    Declined,
    #[error("some certificates could not be read")]
    Incomplete,
}

fn conclude(result: Result<(), CommandError>) -> Exit {
    let error = match result {
        Ok(()) => return Exit::Success,
        Err(error) => error,
    };
    let help = match &error {
        CommandError::Config(error) => return report_config(error),
        CommandError::Both | CommandError::Neither => {
            eprintln!("{error}");
            return Exit::Usage;
        }
        CommandError::Name(_) => {
            eprintln!("mtlsd: {error}");
            return Exit::Usage;
        }
        CommandError::Declined => {
            println!("{error}");
            return Exit::Failure;
        }
        CommandError::Store(error) => error.help(),
        CommandError::Material(error) => error.help(),
        CommandError::Used { .. } => Some(
            "take it out of the configuration first; to renew a certificate use `replace`, which keeps its id".to_owned(),
        ),
        CommandError::Unreadable { path, source } => {
            access::help(path, Use::Read, source).filter(|help| !secret::is_in(help))
        }
        CommandError::Ask(_) | CommandError::Incomplete => None,
    };
    eprintln!("mtlsd: {}", chain(&error));
    if let Some(help) = help {
        eprintln!("  help: {help}");
    }
    Exit::Failure
}

fn upload(arguments: Upload) -> Result<(), CommandError> {
    let name = parse_name(arguments.name)?;
    let what = format::what(Kind::Client, name.as_ref());
    if !arguments.json {
        println!("Uploading {what}...");
    }
    let password = arguments.key_password_file;
    let material = read_identity(arguments.cert, arguments.key, password)?;
    let entry = open(&arguments.store).upload(Kind::Client, name, &material)?;
    done("Uploaded", &entry, arguments.json);
    Ok(())
}

fn upload_authority(arguments: UploadAuthority) -> Result<(), CommandError> {
    let name = parse_name(arguments.name)?;
    let what = format::what(Kind::Authority, name.as_ref());
    if !arguments.json {
        println!("Uploading {what}...");
    }
    let material = read_authorities(&arguments.ca_cert)?;
    let entry = open(&arguments.store).upload(Kind::Authority, name, &material)?;
    done("Uploaded", &entry, arguments.json);
    Ok(())
}

fn replace(arguments: Replace) -> Result<(), CommandError> {
    let which = which(arguments.target)?;
    let password = arguments.key_password_file;
    let material = read_identity(arguments.cert, arguments.key, password)?;
    let entry = open(&arguments.store).replace(&which, Kind::Client, &material)?;
    done("Replaced", &entry, arguments.json);
    Ok(())
}

fn replace_any(arguments: CertReplace) -> Result<(), CommandError> {
    let which = which(arguments.target)?;
    let password = arguments.key_password_file;
    let (kind, material) = match (arguments.ca_cert, arguments.cert, arguments.key) {
        (None, Some(cert), Some(key)) => (Kind::Client, read_identity(cert, key, password)?),
        // clap demands one of the two.
        (bundle, ..) => {
            let bundle = bundle.unwrap_or_default();
            (Kind::Authority, read_authorities(&bundle)?)
        }
    };
    let entry = open(&arguments.store).replace(&which, kind, &material)?;
    done("Replaced", &entry, arguments.json);
    Ok(())
}

fn list(arguments: &List, wanted: impl Fn(&Entry) -> bool) -> Result<(), CommandError> {
    let mut listing = open(&arguments.store).list()?;
    listing.entries.retain(wanted);
    match arguments.json {
        true => format::print_json(&listing.entries.iter().map(format::json).collect::<Vec<_>>()),
        false => listing.entries.iter().for_each(format::print_listed),
    }
    for error in &listing.damaged {
        eprintln!("mtlsd: {}", chain(error));
    }
    match listing.damaged.is_empty() {
        true => Ok(()),
        false => Err(CommandError::Incomplete),
    }
}

fn show(arguments: Show) -> Result<(), CommandError> {
    let entry = open(&arguments.store).find(&which(arguments.target)?)?;
    match arguments.json {
        true => format::print_json(&format::json(&entry)),
        false => format::print_shown(&entry),
    }
    Ok(())
}

fn delete(arguments: Delete) -> Result<(), CommandError> {
    let which = which(arguments.target)?;
    let path = StorePath::find(arguments.store.store.as_deref());
    let store = Store::new(path.clone());
    let entry = store.find(&which)?;
    if let Some(config) = &arguments.config {
        refuse_used(&entry, config, &path)?;
    }
    let called = format::called(&entry);
    if !arguments.yes
        && !ask(&format!(
            "Are you sure you want to delete certificate {called}?"
        ))?
    {
        return Err(CommandError::Declined);
    }
    store.delete(&entry.id)?;
    println!("Deleted certificate {called} successfully");
    Ok(())
}

/// Refuses to delete what the configuration at `config` needs. One that has mistakes may need
/// anything.
fn refuse_used(entry: &Entry, config: &Path, store: &StorePath) -> Result<(), CommandError> {
    let given = Given {
        store: store.clone(),
        ..Given::file(config)
    };
    let configuration = given
        .read()
        .and_then(Draft::finish)
        .map_err(CommandError::Config)?;
    let uses = |binding: &&Binding| {
        let bundle = binding.trust.file() == Some(&store.file(&entry.id));
        bundle || binding.source.certificate == store.file(&entry.id)
    };
    match configuration.bindings.iter().find(uses) {
        Some(binding) => Err(CommandError::Used {
            id: entry.id.clone(),
            user: format!("binding \"{}\"", binding.name),
            config: config.to_owned(),
        }),
        None => Ok(()),
    }
}

/// Asks on the terminal, or whoever is on stdin. No answer is a no.
fn ask(question: &str) -> Result<bool, CommandError> {
    print!("{question} (y/N) ");
    let mut answer = String::new();
    io::stdout()
        .flush()
        .and_then(|()| io::stdin().lock().read_line(&mut answer))
        .map_err(CommandError::Ask)?;
    if !answer.ends_with('\n') {
        println!();
    }
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

fn open(flag: &StoreFlag) -> Store {
    Store::new(StorePath::find(flag.store.as_deref()))
}

fn which(target: Target) -> Result<Which, CommandError> {
    match (target.id, target.name) {
        (Some(_), Some(_)) => Err(CommandError::Both),
        (None, None) => Err(CommandError::Neither),
        (Some(id), None) => Ok(Which::Id(id)),
        (None, Some(name)) => Ok(Which::Name(name)),
    }
}

fn parse_name(name: Option<String>) -> Result<Option<CertificateName>, CommandError> {
    name.map(|name| CertificateName::parse(&name).map_err(CommandError::Name))
        .transpose()
}

fn read_identity(
    certificate: PathBuf,
    key: PathBuf,
    password: Option<PathBuf>,
) -> Result<Material, CommandError> {
    let source = Source {
        certificate,
        key,
        password,
    };
    let material = Material::identity(&source).map_err(|error| match error {
        LoadError::Read { path, source, .. } => CommandError::Unreadable { path, source },
        error => CommandError::Material(error),
    })?;
    let now = SystemTime::now();
    material.check_not_expired(&source.certificate, now)?;
    if material.leaf().is_early(now) {
        eprintln!(
            "mtlsd: the certificate in {} is not valid yet",
            source.certificate.display()
        );
    }
    Ok(material)
}

fn read_authorities(path: &Path) -> Result<Material, CommandError> {
    Ok(Material::authorities(path, &read(path)?)?)
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Zeroizing::new(bytes)),
        Err(source) => Err(CommandError::Unreadable {
            path: path.to_owned(),
            source,
        }),
    }
}

fn done(did: &str, entry: &Entry, json: bool) {
    match json {
        true => format::print_json(&format::json(entry)),
        false => format::print_done(did, entry),
    }
}
