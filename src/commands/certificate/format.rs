//! How certificates are printed.

use std::time::SystemTime;

use serde::Serialize;

use crate::store::{CertificateName, Entry, Kind};
use crate::timestamp::rfc3339;

/// What `--json` prints. The names are those of the API behind Wrangler, where it has one; its
/// shape is an interface.
#[derive(Serialize)]
pub struct Json<'e> {
    id: &'e str,
    name: Option<&'e str>,
    ca: bool,
    subject: &'e str,
    issuer: &'e str,
    serial_number: &'e str,
    uploaded_on: String,
    replaced_on: Option<String>,
    valid_from: String,
    expires_on: String,
    file: String,
}

/// `entry` as `--json` prints it.
pub fn json(entry: &Entry) -> Json<'_> {
    Json {
        id: entry.id.as_str(),
        name: entry.name.as_ref().map(CertificateName::as_str),
        ca: entry.kind == Kind::Authority,
        subject: &entry.leaf.subject,
        issuer: &entry.leaf.issuer,
        serial_number: &entry.leaf.serial,
        uploaded_on: moment(entry.created),
        replaced_on: entry.replaced.map(moment),
        valid_from: moment(entry.leaf.not_before),
        expires_on: moment(entry.leaf.not_after),
        file: entry.file.display().to_string(),
    }
}

/// Prints JSON for people and programs.
pub fn print_json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("mtlsd: cannot print it as JSON: {error}"),
    }
}

/// `mTLS Certificate my-client-cert`.
pub fn what(kind: Kind, name: Option<&CertificateName>) -> String {
    let kind = match kind {
        Kind::Client => "mTLS",
        Kind::Authority => "CA",
    };
    match name {
        Some(name) => format!("{kind} Certificate {name}"),
        None => format!("{kind} Certificate"),
    }
}

/// `ID (NAME)`, or the id alone.
pub fn called(entry: &Entry) -> String {
    match &entry.name {
        Some(name) => format!("{} ({name})", entry.id),
        None => entry.id.to_string(),
    }
}

/// What an upload ends with.
pub fn print_done(did: &str, entry: &Entry) {
    println!("Success! {did} {}", what(entry.kind, entry.name.as_ref()));
    println!("ID: {}", entry.id);
    println!("Issuer: {}", entry.leaf.issuer);
    println!("Expires on {}", date(entry.leaf.not_after));
}

/// One entry of a list.
pub fn print_listed(entry: &Entry) {
    print_fields(entry);
    println!("\n");
}

/// One entry, with everything that is known of it.
pub fn print_shown(entry: &Entry) {
    print_fields(entry);
    println!("Subject: {}", entry.leaf.subject);
    println!("Serial: {}", entry.leaf.serial);
    println!("Valid from: {}", date(entry.leaf.not_before));
    if let Some(replaced) = entry.replaced {
        println!("Replaced on: {}", date(replaced));
    }
    println!("File: {}", entry.file.display());
}

fn print_fields(entry: &Entry) {
    println!("ID: {}", entry.id);
    if let Some(name) = &entry.name {
        println!("Name: {name}");
    }
    println!("Issuer: {}", entry.leaf.issuer);
    println!("Created on: {}", date(entry.created));
    println!("Expires on: {}", date(entry.leaf.not_after));
    if entry.kind == Kind::Authority {
        println!("CA: true");
    }
}

fn moment(time: SystemTime) -> String {
    rfc3339(time).to_string()
}

/// `1/31/2025`, as Wrangler writes it for Americans.
fn date(time: SystemTime) -> String {
    let moment = moment(time);
    let mut parts = moment
        .split(['-', 'T'])
        .map(|part| part.trim_start_matches('0'))
        .map(|part| if part.is_empty() { "0" } else { part });
    match (parts.next(), parts.next(), parts.next()) {
        (Some(year), Some(month), Some(day)) => format!("{month}/{day}/{year}"),
        _ => moment,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_written_as_americans_do() {
        let at = |seconds| date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1/1/1970");
        assert_eq!(at(1_738_281_600), "1/31/2025");
        assert_eq!(
            date(SystemTime::UNIX_EPOCH - Duration::from_secs(1)),
            "12/31/1969"
        );
    }
}
