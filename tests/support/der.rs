//! Certificates and CRLs that no library would make, in DER.

use rcgen::{KeyPair, PublicKeyData, SigningKey};

/// A certificate's or CRL's fields, each in DER where it is bytes.
pub struct Fields {
    /// 0 for version 1, which is left out.
    pub version: u8,
    pub serial: Vec<u8>,
    pub issuer: Vec<u8>,
    pub subject: Vec<u8>,
    pub from: Vec<u8>,
    pub to: Vec<u8>,
    pub extensions: Vec<Vec<u8>>,
}

impl Fields {
    /// A certificate of this subject, valid from 2020 to 2090.
    pub fn new(subject: &str, issuer: &str) -> Self {
        Self {
            version: 2,
            serial: vec![0x12, 0x34],
            issuer: name(&[(CN, UTF8, issuer.as_bytes())]),
            subject: name(&[(CN, UTF8, subject.as_bytes())]),
            from: time("20200101000000Z"),
            to: time("20900101000000Z"),
            extensions: Vec::new(),
        }
    }

    /// The certificate for `key`, signed by `issuer`. ECDSA on P-256.
    pub fn certificate(&self, key: &KeyPair, issuer: &KeyPair) -> Vec<u8> {
        let version = match self.version {
            0 => Vec::new(),
            version => tlv(0xa0, &tlv(2, &[version])),
        };
        let mut parts = vec![
            version,
            tlv(2, &self.serial),
            algorithm(),
            self.issuer.clone(),
            sequence(&[self.from.clone(), self.to.clone()]),
            self.subject.clone(),
            key.subject_public_key_info(),
        ];
        if !self.extensions.is_empty() {
            parts.push(tlv(0xa3, &sequence(&self.extensions)));
        }
        signed(&sequence(&parts), issuer)
    }

    /// A CRL of `issuer` with these serial numbers; extensions of the entries are `entry`.
    pub fn crl(&self, issuer: &KeyPair, revoked: &[&[u8]], entry: &[Vec<u8>]) -> Vec<u8> {
        let one = |serial: &&[u8]| {
            let mut parts = vec![tlv(2, serial), time("20240101000000Z")];
            if !entry.is_empty() {
                parts.push(sequence(entry));
            }
            sequence(&parts)
        };
        let mut parts = Vec::new();
        if self.version > 0 {
            parts.push(tlv(2, &[1]));
        }
        parts.extend([algorithm(), self.issuer.clone(), self.from.clone()]);
        if !self.to.is_empty() {
            parts.push(self.to.clone());
        }
        if !revoked.is_empty() {
            parts.push(sequence(&revoked.iter().map(one).collect::<Vec<_>>()));
        }
        if !self.extensions.is_empty() {
            parts.push(tlv(0xa0, &sequence(&self.extensions)));
        }
        signed(&sequence(&parts), issuer)
    }
}

fn signed(content: &[u8], key: &KeyPair) -> Vec<u8> {
    let mut signature = vec![0];
    signature.extend(key.sign(content).unwrap());
    sequence(&[content.to_vec(), algorithm(), tlv(3, &signature)])
}

fn algorithm() -> Vec<u8> {
    sequence(&[oid("1.2.840.10045.4.3.2")])
}

/// A name of these attributes: type, string type and bytes.
pub fn name(attributes: &[(&str, u8, &[u8])]) -> Vec<u8> {
    let rdn = |(kind, string, value): &(&str, u8, &[u8])| {
        tlv(0x31, &sequence(&[oid(kind), tlv(*string, value)]))
    };
    sequence(&attributes.iter().map(rdn).collect::<Vec<_>>())
}

/// A GeneralizedTime, or, where the text has two digits for the year, a UTCTime.
pub fn time(text: &str) -> Vec<u8> {
    let tag = if text.len() == 13 { 0x17 } else { 0x18 };
    tlv(tag, text.as_bytes())
}

pub fn extension(kind: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let mut parts = vec![oid(kind)];
    if critical {
        parts.push(vec![1, 1, 0xff]);
    }
    parts.push(tlv(4, value));
    sequence(&parts)
}

/// A subject alternative name with one DNS name.
pub fn dns_name(name: &str) -> Vec<u8> {
    extension("2.5.29.17", false, &sequence(&[tlv(0x82, name.as_bytes())]))
}

/// Basic constraints of a CA.
pub fn is_ca() -> Vec<u8> {
    extension("2.5.29.19", true, &sequence(&[vec![1, 1, 0xff]]))
}

pub fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

pub fn oid(dotted: &str) -> Vec<u8> {
    let arcs: Vec<u64> = dotted.split('.').map(|arc| arc.parse().unwrap()).collect();
    let mut bytes = vec![u8::try_from(arcs[0] * 40 + arcs[1]).unwrap()];
    for arc in &arcs[2..] {
        let groups: Vec<u8> = (0..10).map(|at| (arc >> (7 * at) & 0x7f) as u8).collect();
        let last = groups.iter().rposition(|group| *group > 0).unwrap_or(0);
        for at in (0..=last).rev() {
            bytes.push(groups[at] | if at > 0 { 0x80 } else { 0 });
        }
    }
    tlv(6, &bytes)
}

pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let skipped = length.iter().take_while(|byte| **byte == 0).count();
    let mut der = vec![tag];
    match &length[skipped..] {
        [] => der.push(0),
        [short @ 0..=0x7f] => der.push(*short),
        long => {
            der.push(0x80 | u8::try_from(long.len()).unwrap());
            der.extend_from_slice(long);
        }
    }
    der.extend_from_slice(content);
    der
}

pub fn pem(label: &str, der: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

pub const CN: &str = "2.5.4.3";
pub const UTF8: u8 = 12;
