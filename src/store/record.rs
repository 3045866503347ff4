//! What a file of the store says about itself, above its PEM blocks (RFC 7468 section 2 leaves room
//! for such lines):
//!
//! ```text
//! mtlsd certificate store, version 1
//! ID: 0d1e…
//! Name: my-client-cert
//! Kind: client
//! Created on: 2026-11-24T01:02:03Z
//! Replaced on: 2026-11-25T01:02:03Z
//! -----BEGIN CERTIFICATE-----
//! ```
//!
//! `Name` and `Replaced on` only where there is one.

use std::fmt;
use std::time::SystemTime;

use humantime::{format_rfc3339, parse_rfc3339};

use crate::config::{CertificateId, secret};

/// What a stored certificate is good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A binding presents it; there is a key.
    Client,
    /// A binding believes origins that it vouches for.
    Authority,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "a client certificate",
            Self::Authority => "a certificate authority",
        })
    }
}

/// What people call a stored certificate.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CertificateName(Box<str>);

impl CertificateName {
    /// Takes any line of text. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > LONGEST {
            return Err(format!("a name has 1 to {LONGEST} bytes"));
        }
        // Somebody who writes --name "$(cat key.pem)" must not find the key in every listing.
        if text.contains("-----") || secret::is_secret(text) {
            return Err(
                "this is PEM, not a name; files are named with --cert and --key".to_owned(),
            );
        }
        if text.trim() != text || text.chars().any(char::is_control) {
            return Err("a name is one line without space around it".to_owned());
        }
        Ok(Self(text.into()))
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The lines above the PEM blocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    pub id: CertificateId,
    pub name: Option<CertificateName>,
    pub kind: Kind,
    pub created: SystemTime,
    pub replaced: Option<SystemTime>,
}

impl Header {
    /// Reads the header of the file of `id`. The error says what is wrong.
    pub fn parse(id: &CertificateId, bytes: &[u8]) -> Result<Self, String> {
        let end = memchr::memmem::find(bytes, b"-----BEGIN ")
            .ok_or_else(|| "there is no PEM block".to_owned())?;
        let text = str::from_utf8(&bytes[..end]).map_err(|_| "it is not text".to_owned())?;
        let mut lines = text.lines();
        if lines.next() != Some(FIRST) {
            return Err(format!("its first line is not \"{FIRST}\""));
        }
        let mut fields = Fields(lines.collect());
        let read = Self {
            id: fields.demand("ID", CertificateId::parse)?,
            name: fields.take("Name", |name| CertificateName::parse(name).ok())?,
            kind: fields.demand("Kind", |word| match word {
                "client" => Some(Kind::Client),
                "authority" => Some(Kind::Authority),
                _ => None,
            })?,
            created: fields.demand("Created on", |text| parse_rfc3339(text).ok())?,
            replaced: fields.take("Replaced on", |text| parse_rfc3339(text).ok())?,
        };
        // The line itself is not printed: any file can have been moved here, a key too.
        if !fields.0.is_empty() {
            return Err("it has an unknown line above its PEM blocks".to_owned());
        }
        match read.id == *id {
            true => Ok(read),
            false => Err(format!("it says that it is {}", read.id)),
        }
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST}\nID: {}", self.id)?;
        if let Some(name) = &self.name {
            writeln!(f, "Name: {name}")?;
        }
        let kind = match self.kind {
            Kind::Client => "client",
            Kind::Authority => "authority",
        };
        writeln!(f, "Kind: {kind}")?;
        writeln!(
            f,
            "Created on: {}",
            format_rfc3339(self.created.max(SystemTime::UNIX_EPOCH))
        )?;
        if let Some(replaced) = self.replaced {
            writeln!(
                f,
                "Replaced on: {}",
                format_rfc3339(replaced.max(SystemTime::UNIX_EPOCH))
            )?;
        }
        Ok(())
    }
}

/// Lines `NAME: VALUE` that were not asked for yet.
struct Fields<'t>(Vec<&'t str>);

impl Fields<'_> {
    fn take<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let value = |line: &str| {
            line.strip_prefix(name)
                .and_then(|rest| rest.strip_prefix(": "))
                .map(str::to_owned)
        };
        let Some(at) = self.0.iter().position(|line| value(line).is_some()) else {
            return Ok(None);
        };
        let line = self.0.remove(at);
        let read = value(line).and_then(|value| read(&value));
        read.map(Some)
            .ok_or_else(|| format!("the line \"{name}: …\" is invalid"))
    }

    fn demand<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<T, String> {
        self.take(name, read)?
            .ok_or_else(|| format!("there is no line \"{name}: …\""))
    }
}

const FIRST: &str = "mtlsd certificate store, version 1";
/// As long as a file's name may be; longer ones are mistakes.
const LONGEST: usize = 255;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\n";

    fn header() -> Header {
        Header {
            id: CertificateId::from_random([7; 16]),
            name: Some(CertificateName::parse("Kunde: ä, 1").unwrap()),
            kind: Kind::Client,
            created: SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 5),
            replaced: None,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut header = header();
        for _ in 0..2 {
            let text = format!("{header}{PEM}");
            assert_eq!(
                Header::parse(&header.id, text.as_bytes()),
                Ok(header.clone())
            );
            header.name = None;
            header.kind = Kind::Authority;
            header.replaced = Some(header.created);
        }
    }

    #[test]
    fn what_was_not_written_by_the_store_is_refused() {
        let header = header();
        let text = format!("{header}{PEM}");
        let cases = [
            (
                PEM.to_owned(),
                "its first line is not \"mtlsd certificate store, version 1\"",
            ),
            (text.replace(PEM, ""), "there is no PEM block"),
            (
                text.replace("version 1", "version 2"),
                "its first line is not \"mtlsd certificate store, version 1\"",
            ),
            (
                text.replace("Kind: client\n", ""),
                "there is no line \"Kind: …\"",
            ),
            (
                text.replace("client", "server"),
                "the line \"Kind: …\" is invalid",
            ),
            (
                text.replace("Name: ", "Nom: "),
                "it has an unknown line above its PEM blocks",
            ),
            (
                text.replace("ID: 0", "ID: 1"),
                "it says that it is 17070707-0707-4707-8707-070707070707",
            ),
        ];
        for (text, reason) in cases {
            assert_eq!(
                Header::parse(&header.id, text.as_bytes()).unwrap_err(),
                reason
            );
        }
    }

    #[test]
    fn a_name_is_one_line_and_no_key() {
        for text in ["a", "my-client-cert", "Ünï cödé: 100 %"] {
            assert_eq!(CertificateName::parse(text).unwrap().as_str(), text);
        }
        for text in [
            "",
            " a",
            "a\nb",
            "a\u{7f}",
            "-----BEGIN X",
            "EC PRIVATE KEY",
            &"a".repeat(256),
        ] {
            assert!(CertificateName::parse(text).is_err(), "{text}");
        }
    }
}
