//! Finds the end of a body in chunks (RFC 9112 section 7.1), as strictly as hyper does.

/// How far a chunked body has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chunks {
    /// In a size, of which there may be digits already.
    Size {
        size: u64,
        digits: bool,
    },
    /// In whitespace behind a size, or in an extension.
    Extension {
        size: u64,
    },
    /// Before the LF of a size line.
    SizeEnd {
        size: u64,
    },
    /// In data, of which so many bytes are left.
    Data(u64),
    /// Before the CR and LF behind data.
    DataCr,
    DataLf,
    /// In the trailers, at the start of a line.
    Line,
    /// Within a trailer line.
    Trailer,
    /// Before the LF of a trailer line.
    TrailerEnd,
    /// Before the LF of the last line.
    End,
}

/// What became of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fed {
    /// All of them belong to the body, which goes on.
    More,
    /// So many of them belong to the body, which is over.
    Over(usize),
    /// They are no chunks.
    Invalid,
}

impl Chunks {
    /// Before the first byte.
    pub fn start() -> Self {
        Self::Size {
            size: 0,
            digits: false,
        }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Fed {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if let Self::Data(left) = *self {
                let here = usize::try_from(left).unwrap_or(usize::MAX);
                let here = here.min(bytes.len() - at);
                at += here;
                *self = match left - here as u64 {
                    0 => Self::DataCr,
                    left => Self::Data(left),
                };
                continue;
            }
            at += 1;
            match self.step(*byte) {
                Some(Self::End) if *self == Self::End => return Fed::Over(at),
                Some(next) => *self = next,
                None => return Fed::Invalid,
            }
        }
        Fed::More
    }

    /// The state after `byte`; `End` again once the last byte was taken.
    fn step(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Size { size, .. }, byte) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16)?;
                Self::Size {
                    size: size.checked_mul(16)?.checked_add(u64::from(digit))?,
                    digits: true,
                }
            }
            (Self::Size { size, digits: true }, b' ' | b'\t' | b';') => Self::Extension { size },
            (Self::Size { size, digits: true } | Self::Extension { size }, b'\r') => {
                Self::SizeEnd { size }
            }
            (Self::Size { .. } | Self::Extension { .. }, b'\n') => return None,
            (Self::Extension { size }, _) => Self::Extension { size },
            (Self::SizeEnd { size: 0 }, b'\n') => Self::Line,
            (Self::SizeEnd { size }, b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::start(),
            (Self::Line, b'\r') => Self::End,
            (Self::Line, b'\n') => return None,
            (Self::Line | Self::Trailer, byte) if byte != b'\r' => Self::Trailer,
            (Self::Trailer, b'\r') => Self::TrailerEnd,
            (Self::TrailerEnd, b'\n') => Self::Line,
            (Self::End, b'\n') => Self::End,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of `bytes`, however they are cut.
    fn fed(bytes: &[u8]) -> Fed {
        let whole = Chunks::start().feed(bytes);
        for size in 1..5 {
            let mut chunks = Chunks::start();
            let mut before = 0;
            let mut outcome = Fed::More;
            for piece in bytes.chunks(size) {
                outcome = match chunks.feed(piece) {
                    Fed::Over(at) => Fed::Over(before + at),
                    other => other,
                };
                if outcome != Fed::More {
                    break;
                }
                before += piece.len();
            }
            assert_eq!(outcome, whole, "{} by {size}", bytes.escape_ascii());
        }
        whole
    }

    #[test]
    fn a_body_ends_behind_its_last_line() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "5;a=b\r\nhello\r\n000\r\n\r\n",
            "A \r\n0123456789\r\n0\r\nX-A: b\r\nX-B: c\r\n\r\n",
        ] {
            let more = format!("{body}GET / HTTP/1.1");
            assert_eq!(fed(more.as_bytes()), Fed::Over(body.len()), "{body:?}");
            assert_eq!(fed(&body.as_bytes()[..body.len() - 1]), Fed::More);
        }
    }

    #[test]
    fn what_is_no_chunk_is_noticed() {
        for body in [
            "zz\r\n",
            "\r\n",
            "5\nhello",
            "5;a\nb\r\n",
            "-5\r\n",
            "0x5\r\n",
            "fffffffffffffffff\r\n",
            "3\r\nhello\r\n",
            "0\r\n\n",
        ] {
            assert_eq!(fed(body.as_bytes()), Fed::Invalid, "{body:?}");
        }
    }
}
