//! Finds the files of a `certificate_dir` by the names that the programs which write them use.

use std::fs;
use std::path::Path;

use super::Trust;

/// The files of a directory.
#[derive(PartialEq, Eq, Debug)]
pub struct Layout {
    /// The name of the certificate's file.
    pub certificate: String,
    /// The name of the key's file.
    pub key: String,
    /// The CAs that come along, if any do.
    pub ca: Option<Trust>,
}

impl Layout {
    /// Finds the files in `directory`. If it is empty or not there yet, they will be those of
    /// Kubernetes.
    ///
    /// # Errors
    ///
    /// Returns what is there if that is no pair of files, or more than one.
    pub fn of(directory: &Path) -> Result<Self, String> {
        let names = names(directory);
        let has = |name: &str| names.iter().any(|known| known == name);
        // What exists counts as well where the directory cannot be listed.
        let is_there = |name: &str| has(name) || directory.join(name).exists();
        if let Some(known) = KNOWN.iter().find(|known| is_there(known.certificate)) {
            return Ok(known.layout(directory));
        }
        if names.is_empty() {
            return Ok(KNOWN[0].layout(directory));
        }
        let found = match pairs(&names).as_slice() {
            [(certificate, key)] => {
                return Ok(Self {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    ca: None,
                });
            }
            [] => "no certificate with its key, such as tls.crt and tls.key".to_owned(),
            several => {
                let several: Vec<_> = several.iter().map(|(one, _)| one.as_str()).collect();
                format!(
                    "more than one certificate with its key: {}",
                    some_of(&several)
                )
            }
        };
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        Err(format!(
            "{} contains {found}; its files are {}",
            directory.display(),
            some_of(&names)
        ))
    }
}

/// The names that a program uses for every certificate.
struct Known {
    certificate: &'static str,
    key: &'static str,
    ca: Ca,
}

enum Ca {
    /// There is none, or it is not about origins.
    None,
    /// It is always there.
    Required(&'static str),
    /// Some secrets have none.
    Optional(&'static str),
}

impl Known {
    fn layout(&self, directory: &Path) -> Layout {
        Layout {
            certificate: self.certificate.to_owned(),
            key: self.key.to_owned(),
            ca: match self.ca {
                Ca::None => None,
                Ca::Required(name) => Some(Trust::Bundle(directory.join(name))),
                Ca::Optional(name) => Some(Trust::BundleOrSystem(directory.join(name))),
            },
        }
    }
}

const KNOWN: &[Known] = &[
    // Kubernetes' secrets of type kubernetes.io/tls, cert-manager, and its CSI driver.
    Known {
        certificate: "tls.crt",
        key: "tls.key",
        ca: Ca::Optional("ca.crt"),
    },
    // SPIFFE helper.
    Known {
        certificate: "svid.pem",
        key: "svid_key.pem",
        ca: Ca::Required("svid_bundle.pem"),
    },
    // certbot, whose chain.pem is about this certificate and not about the origin's.
    Known {
        certificate: "fullchain.pem",
        key: "privkey.pem",
        ca: Ca::None,
    },
    // Smallstep's autocert.
    Known {
        certificate: "site.crt",
        key: "site.key",
        ca: Ca::Required("root.crt"),
    },
];

/// Certificates and keys that belong together by their names: `NAME.crt` and `NAME.key`, as lego
/// writes them, or acme.sh's `fullchain.cer` and the only key.
fn pairs(names: &[String]) -> Vec<(String, String)> {
    let keys: Vec<&String> = names.iter().filter(|name| name.ends_with(".key")).collect();
    if let ([key], true) = (keys.as_slice(), names.iter().any(|name| name == ACME_SH)) {
        return vec![(ACME_SH.to_owned(), (*key).clone())];
    }
    let pair = |key: &&String| {
        let stem = key.strip_suffix(".key")?;
        let mut candidates = [".crt", ".pem", ".cer"]
            .map(|end| format!("{stem}{end}"))
            .into_iter();
        let certificate = candidates.find(|candidate| names.contains(candidate))?;
        Some((certificate, (*key).clone()))
    };
    keys.iter().filter_map(pair).collect()
}

/// The names of the files in a directory, sorted; none where it cannot be read. Hidden ones are the
/// machinery of Kubernetes' volumes.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

/// The first few names.
fn some_of(names: &[&str]) -> String {
    match names.len() {
        0..=FEW => names.join(", "),
        all => format!("{}, and {} more", names[..FEW].join(", "), all - FEW),
    }
}

const ACME_SH: &str = "fullchain.cer";
const FEW: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Result<(String, String, Option<Trust>), String> {
        let directory = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let place = directory.path().display().to_string();
        Layout::of(directory.path())
            .map(|layout| (layout.certificate, layout.key, layout.ca))
            .map_err(|message| message.replace(&place, "DIR"))
    }

    #[test]
    fn the_names_of_every_program_are_known() {
        for (names, certificate, key) in [
            (&[][..], "tls.crt", "tls.key"),
            (&["..data", "tls.crt", "tls.key"], "tls.crt", "tls.key"),
            (&["ca.crt", "tls.crt", "tls.key"], "tls.crt", "tls.key"),
            (&["svid.pem", "svid_key.pem"], "svid.pem", "svid_key.pem"),
            (
                &[
                    "README",
                    "cert.pem",
                    "chain.pem",
                    "fullchain.pem",
                    "privkey.pem",
                ],
                "fullchain.pem",
                "privkey.pem",
            ),
            (
                &["root.crt", "site.crt", "site.key"],
                "site.crt",
                "site.key",
            ),
            // lego.
            (
                &[
                    "a.example.crt",
                    "a.example.issuer.crt",
                    "a.example.json",
                    "a.example.key",
                ],
                "a.example.crt",
                "a.example.key",
            ),
            // acme.sh.
            (
                &[
                    "a.example.cer",
                    "a.example.conf",
                    "a.example.csr",
                    "a.example.key",
                    "ca.cer",
                    "fullchain.cer",
                ],
                "fullchain.cer",
                "a.example.key",
            ),
            (&["client.pem", "client.key"], "client.pem", "client.key"),
        ] {
            let (found_certificate, found_key, _) = of(names).unwrap();
            assert_eq!((&*found_certificate, &*found_key), (certificate, key));
        }
    }

    #[test]
    fn the_cas_that_come_along_are_required_or_not() {
        let (.., kubernetes) = of(&["tls.crt", "tls.key"]).unwrap();
        assert!(
            matches!(kubernetes, Some(Trust::BundleOrSystem(path)) if path.ends_with("ca.crt"))
        );
        for names in [&["svid.pem"][..], &["site.crt"]] {
            let (.., ca) = of(names).unwrap();
            assert!(matches!(ca, Some(Trust::Bundle(_))));
        }
        assert!(of(&["fullchain.pem"]).unwrap().2.is_none());
        assert!(of(&["a.crt", "a.key"]).unwrap().2.is_none());
    }

    #[test]
    fn what_is_there_instead_is_listed() {
        let error = of(&["b.crt", "b.key", "a.pem", "a.key"]).unwrap_err();
        assert_eq!(
            error,
            "DIR contains more than one certificate with its key: a.pem, b.crt; its files are a.key, a.pem, b.crt, b.key"
        );
        let error = of(&["client.p12", "notes.txt"]).unwrap_err();
        assert_eq!(
            error,
            "DIR contains no certificate with its key, such as tls.crt and tls.key; its files are client.p12, notes.txt"
        );
    }
}
