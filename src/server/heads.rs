//! Looks over the shoulder of hyper's parser, which settles by itself two things that another parser
//! could see differently (RFC 9112 sections 2.2 and 6.3): a bare LF as the end of a line, and several
//! equal lengths. Such a message may pass, but it is the last on its connection.

/// Follows a client connection from message to message.
#[derive(Debug)]
pub struct Heads {
    at: At,
    line: Line,
    // Whether the current head has had a line that is not empty.
    begun: bool,
    // What it says of its body.
    length: Option<u64>,
    chunked: bool,
    ambiguous: bool,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum At {
    Head,
    /// A body that goes on for so many bytes.
    Body(u64),
    /// A body in chunks, and the last bytes that came. Its end is hyper's to find.
    Chunks([u8; 4]),
}

/// A line that is not over yet.
#[derive(Debug)]
struct Line {
    // Its beginning: a name and a length fit.
    start: [u8; 48],
    length: usize,
    last: u8,
}

impl Heads {
    pub fn new() -> Self {
        Self {
            at: At::Head,
            line: Line::new(),
            begun: false,
            length: None,
            chunked: false,
            ambiguous: false,
        }
    }

    /// Whether there was a message that two parsers could read differently, or one that was not
    /// seen from its first byte.
    pub fn is_ambiguous(&self) -> bool {
        self.ambiguous
    }

    /// Takes note of bytes on their way to the parser. `between` says that it has no message under
    /// way.
    pub fn see(&mut self, mut bytes: &[u8], between: bool) {
        if let (At::Chunks(last), true) = (self.at, between) {
            // If more came with the last chunk, it was the begin of this head.
            self.ambiguous |= last != *b"\r\n\r\n";
            self.at = At::Head;
        }
        while !bytes.is_empty() {
            bytes = match self.at {
                At::Head => self.see_line(bytes),
                At::Body(left) => {
                    let here =
                        usize::try_from(left).map_or(bytes.len(), |all| all.min(bytes.len()));
                    self.at = match left - here as u64 {
                        0 => At::Head,
                        left => At::Body(left),
                    };
                    &bytes[here..]
                }
                At::Chunks(mut last) => {
                    for byte in &bytes[bytes.len().saturating_sub(last.len())..] {
                        last.rotate_left(1);
                        last[3] = *byte;
                    }
                    self.at = At::Chunks(last);
                    &[]
                }
            };
        }
    }

    /// Takes a line, or a piece of one, off `bytes`; returns the rest.
    fn see_line<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            self.line.push(bytes);
            return &[];
        };
        self.line.push(&bytes[..end]);
        self.ambiguous |= self.line.last != b'\r';
        match self.line.is_empty() {
            false => self.see_field(),
            // Empty lines before a message are skipped (RFC 9112 section 2.2).
            true if self.begun => self.end_head(),
            true => {}
        }
        self.line.length = 0;
        self.line.last = 0;
        &bytes[end + 1..]
    }

    fn see_field(&mut self) {
        self.begun = true;
        let start = self.line.start();
        if let Some(value) = after(start, b"content-length:") {
            let value = std::str::from_utf8(value).unwrap_or_default().trim();
            self.ambiguous |= self.length.is_some();
            // One that is no number is refused anyway.
            self.length = Some(value.parse().unwrap_or_default());
        } else if after(start, b"transfer-encoding:").is_some() {
            self.chunked = true;
        }
    }

    fn end_head(&mut self) {
        self.at = match (self.chunked, self.length) {
            (true, _) => At::Chunks([0; 4]),
            (false, Some(length)) if length > 0 => At::Body(length),
            (false, _) => At::Head,
        };
        self.begun = false;
        self.chunked = false;
        self.length = None;
    }
}

impl Line {
    fn new() -> Self {
        Self {
            start: [0; 48],
            length: 0,
            last: 0,
        }
    }

    fn push(&mut self, piece: &[u8]) {
        if let Some(room) = self.start.get_mut(self.length..) {
            let kept = piece.len().min(room.len());
            room[..kept].copy_from_slice(&piece[..kept]);
        }
        self.length += piece.len();
        self.last = piece.last().copied().unwrap_or(self.last);
    }

    fn is_empty(&self) -> bool {
        match self.length {
            0 => true,
            1 => self.last == b'\r',
            _ => false,
        }
    }

    fn start(&self) -> &[u8] {
        &self.start[..self.length.min(self.start.len())]
    }
}

/// What follows `name` in `line`, without regard to case.
fn after<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::Heads;

    /// Whether `message` is ambiguous, however it is cut.
    fn ambiguous(message: &str) -> bool {
        let mut whole = Heads::new();
        whole.see(message.as_bytes(), true);
        for size in 1..7 {
            let mut pieces = Heads::new();
            for (at, piece) in message.as_bytes().chunks(size).enumerate() {
                pieces.see(piece, at == 0);
            }
            assert_eq!(
                pieces.is_ambiguous(),
                whole.is_ambiguous(),
                "{message:?} by {size}"
            );
        }
        whole.is_ambiguous()
    }

    #[test]
    fn plain_messages_are_not() {
        for message in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\na\nbGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        ] {
            assert!(!ambiguous(message), "{message:?}");
        }
    }

    #[test]
    fn others_are() {
        for message in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 1\r\nContent-Length:1\r\n\r\na",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\naGET / HTTP/1.1\n\r\n",
        ] {
            assert!(ambiguous(message), "{message:?}");
        }
    }

    #[test]
    fn what_begins_behind_chunks_was_not_seen() {
        let chunks = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        let mut heads = Heads::new();
        heads.see(chunks.as_bytes(), true);
        heads.see(b"GET / HTTP/1.1\r\n\r\n", true);
        assert!(!heads.is_ambiguous());
        heads.see(format!("{chunks}GET / HT").as_bytes(), true);
        heads.see(b"TP/1.1\r\n\r\n", true);
        assert!(heads.is_ambiguous());
    }
}
