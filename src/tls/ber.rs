//! A reader for BER (ITU-T X.690), which includes DER.
//!
//! Only the structure is read: tags, lengths and contents. PKCS#12 files come in BER from NSS,
//! BouncyCastle and Windows, with indefinite lengths and octet strings in segments.

use zeroize::Zeroizing;

/// A data value.
#[derive(Clone, Copy)]
pub struct Element<'b> {
    /// The identifier octet.
    pub tag: u8,
    /// The contents octets.
    pub content: &'b [u8],
}

/// Reads data values one after the other.
#[derive(Clone, Copy)]
pub struct Reader<'b>(&'b [u8]);

/// Tags of the universal class, and the first one of the context-specific class.
pub const INTEGER: u8 = 0x02;
pub const BIT_STRING: u8 = 0x03;
pub const OCTET_STRING: u8 = 0x04;
pub const OBJECT_IDENTIFIER: u8 = 0x06;
pub const SEQUENCE: u8 = 0x30;
pub const CONTEXT_0: u8 = 0xa0;

impl<'b> Reader<'b> {
    /// A reader of `bytes`.
    pub fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What has not been read.
    pub fn rest(&self) -> &'b [u8] {
        self.0
    }

    /// Reads the next data value. `None` at the end, and where there is none.
    pub fn element(&mut self) -> Option<Element<'b>> {
        let (element, rest) = split(self.0, DEEPEST)?;
        self.0 = rest;
        Some(element)
    }

    /// Reads the next data value if it has this tag.
    pub fn tagged(&mut self, tag: u8) -> Option<Element<'b>> {
        let mut ahead = *self;
        let element = ahead.element().filter(|element| element.tag == tag)?;
        *self = ahead;
        Some(element)
    }

    /// Reads the next data value, which has this tag, and returns a reader of its content.
    pub fn inside(&mut self, tag: u8) -> Option<Self> {
        self.tagged(tag).map(|element| Self(element.content))
    }
}

impl<'b> Element<'b> {
    /// A reader of the content.
    pub fn reader(&self) -> Reader<'b> {
        Reader(self.content)
    }

    /// The octets of an octet string, whose segments are joined where it is constructed.
    pub fn octets(&self) -> Option<Zeroizing<Vec<u8>>> {
        let mut octets = Zeroizing::new(Vec::with_capacity(self.content.len()));
        self.join(&mut octets, DEEPEST)?;
        Some(octets)
    }

    fn join(&self, to: &mut Vec<u8>, depth: usize) -> Option<()> {
        if self.tag & CONSTRUCTED == 0 {
            to.extend_from_slice(self.content);
            return Some(());
        }
        let mut segments = self.reader();
        while !segments.is_empty() {
            segments.element()?.join(to, depth.checked_sub(1)?)?;
        }
        Some(())
    }

    /// The value of an integer; the largest there is where it is larger. `None` when negative.
    pub fn unsigned(&self) -> Option<u64> {
        let first = *self.content.first()?;
        if self.tag != INTEGER || first & 0x80 != 0 {
            return None;
        }
        let digits = &self.content[self.content.iter().take_while(|byte| **byte == 0).count()..];
        match digits.len() {
            0..=8 => Some(
                digits
                    .iter()
                    .fold(0, |sum, digit| sum << 8 | u64::from(*digit)),
            ),
            _ => Some(u64::MAX),
        }
    }

    /// The data value in DER, as far as lengths go.
    pub fn to_der(self) -> Option<Vec<u8>> {
        self.der(DEEPEST)
    }

    fn der(self, depth: usize) -> Option<Vec<u8>> {
        let mut content = Vec::with_capacity(self.content.len());
        if self.tag & CONSTRUCTED == 0 {
            content.extend_from_slice(self.content);
        } else {
            let mut reader = self.reader();
            while !reader.is_empty() {
                content.extend(reader.element()?.der(depth.checked_sub(1)?)?);
            }
        }
        let mut der = vec![self.tag];
        let length = content.len().to_be_bytes();
        let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
        match (length, content.len()) {
            ([], _) => der.push(0),
            (_, 0..=0x7f) => der.extend_from_slice(length),
            _ => {
                der.push(0x80 | u8::try_from(length.len()).ok()?);
                der.extend_from_slice(length);
            }
        }
        der.extend(content);
        Some(der)
    }
}

/// The first data value of `bytes`, and what comes after it.
fn split(bytes: &[u8], depth: usize) -> Option<(Element<'_>, &[u8])> {
    let (&tag, bytes) = bytes.split_first()?;
    // Tags above 30 occur in none of the structures that are read.
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (&length, bytes) = bytes.split_first()?;
    if length == 0x80 {
        if tag & CONSTRUCTED == 0 {
            return None;
        }
        let mut rest = bytes;
        while !rest.starts_with(END_OF_CONTENTS) {
            (_, rest) = split(rest, depth.checked_sub(1)?)?;
        }
        let content = bytes.get(..bytes.len() - rest.len())?;
        return Some((Element { tag, content }, &rest[END_OF_CONTENTS.len()..]));
    }
    let (length, bytes) = match length & 0x80 {
        0 => (usize::from(length), bytes),
        _ => {
            let (digits, bytes) = bytes.split_at_checked(usize::from(length & 0x7f))?;
            let number = digits.iter().try_fold(0usize, |sum, digit| {
                sum.checked_mul(256)?.checked_add(usize::from(*digit))
            });
            (number?, bytes)
        }
    };
    let (content, rest) = bytes.split_at_checked(length)?;
    Some((Element { tag, content }, rest))
}

const CONSTRUCTED: u8 = 0x20;
const END_OF_CONTENTS: &[u8] = &[0, 0];
/// Files that make sense nest about a dozen deep.
const DEEPEST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indefinite_lengths_and_segments_are_read() {
        // SEQUENCE { OCTET STRING in two segments, INTEGER 5 }, all of indefinite length.
        let ber = [
            0x30, 0x80, 0x24, 0x80, 0x04, 0x01, 0xaa, 0x04, 0x02, 0xbb, 0xcc, 0, 0, 0x02, 0x01, 5,
            0, 0, 0x05, 0x00,
        ];
        let mut reader = Reader::new(&ber);
        let mut inside = reader.inside(SEQUENCE).unwrap();
        let octets = inside.element().unwrap();
        assert_eq!(**octets.octets().unwrap(), [0xaa, 0xbb, 0xcc]);
        assert_eq!(inside.element().unwrap().unsigned(), Some(5));
        assert!(inside.is_empty());
        assert_eq!(reader.element().unwrap().tag, 5);
        assert!(reader.is_empty());
    }

    #[test]
    fn lengths_become_definite() {
        let ber = [0x30, 0x80, 0x30, 0x80, 0x02, 0x01, 5, 0, 0, 0, 0];
        let element = Reader::new(&ber).element().unwrap();
        assert_eq!(element.to_der().unwrap(), [0x30, 5, 0x30, 3, 0x02, 1, 5]);
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let mut long = vec![0x04, 0x84];
            long.extend(u32::try_from(length).unwrap().to_be_bytes());
            long.resize(6 + length, 7);
            let der = Reader::new(&long).element().unwrap().to_der().unwrap();
            let again = Reader::new(&der).element().unwrap();
            assert_eq!(again.content.len(), length);
        }
    }

    #[test]
    fn nothing_panics_and_everything_ends() {
        let deep = [0x30, 0x80].repeat(100_000);
        assert!(Reader::new(&deep).element().is_none());
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 0x81],
            &[0x30, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 0xff, 1],
            &[0x04, 0x80, 0, 0],
            &[0x1f, 0x1f, 0],
            &[0x30, 5, 1],
        ] {
            assert!(Reader::new(bytes).element().is_none(), "{bytes:x?}");
        }
        let huge = Element {
            tag: INTEGER,
            content: &[0x7f; 20],
        };
        assert_eq!(huge.unsigned(), Some(u64::MAX));
        let negative = Element {
            tag: INTEGER,
            content: &[0x80],
        };
        assert_eq!(negative.unsigned(), None);
    }
}
