//! Follows the bytes of an HTTP/1 client connection from message to message, and judges each request
//! head before hyper sees it. hyper answers a head that it cannot parse with a bare status; here such a
//! head is replaced by one that it can parse, and the service responds with an explanation.

mod chunks;
mod judge;

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

use crate::error::{HeadError, HeadFault};

use chunks::{Chunks, Fed};
use judge::{Body, Head, Verdict, judge};

pub use judge::HeadLimits;

/// The heads of one connection.
#[derive(Debug)]
pub struct Heads {
    limits: HeadLimits,
    at: At,
    // The beginning of a head, or what may be of another protocol.
    held: Vec<u8>,
    // How many bytes of it were judged last.
    judged: usize,
    // What hyper reads before anything that comes.
    ready: BytesMut,
    ambiguous: bool,
    refusal: Option<HeadError>,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    Head,
    /// A body that goes on for so many bytes; and whether another protocol may follow.
    Body(u64, bool),
    /// A body in chunks.
    Chunks(Chunks, bool),
    /// What follows a request to switch protocols, until that is decided.
    Undecided,
    /// Something that is not looked at: another protocol, or what hyper refuses.
    Open,
    /// Nothing: a head was refused.
    Refused,
}

/// What is done with the bytes at hand.
enum Step {
    /// So many go on as they are.
    Pass(usize),
    /// They are kept until there are more.
    Hold,
    /// In place of so many of them, these go on.
    Replace(usize, Vec<u8>),
    /// They are dropped.
    Drop,
}

impl Heads {
    /// At the start of a connection.
    pub fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            at: At::Head,
            held: Vec::new(),
            judged: 0,
            ready: BytesMut::new(),
            ambiguous: false,
            refusal: None,
        }
    }

    /// Whether there was a message that two parsers could read differently.
    pub fn is_ambiguous(&self) -> bool {
        self.ambiguous
    }

    /// Whether a head was refused, after which nothing is read.
    pub fn is_refused(&self) -> bool {
        self.at == At::Refused
    }

    /// Whether it is to be decided if another protocol follows.
    pub fn is_undecided(&self) -> bool {
        self.at == At::Undecided
    }

    /// Whether no message is under way.
    pub fn is_between(&self) -> bool {
        matches!(self.at, At::Head | At::Undecided) && self.held.is_empty()
    }

    /// Takes the reason for which a head was refused.
    pub fn take_refusal(&mut self) -> Option<HeadError> {
        self.refusal.take()
    }

    /// Whether there is something to read before the socket is read.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Moves what is ready to `buffer`.
    pub fn take_ready(&mut self, buffer: &mut ReadBuf<'_>) {
        let size = self.ready.len().min(buffer.remaining());
        buffer.put_slice(&self.ready[..size]);
        self.ready.advance(size);
        if self.ready.is_empty() {
            self.ready = BytesMut::new();
        }
    }

    /// Puts `read`, which has been judged, in front of everything.
    pub fn put_back(&mut self, read: &[u8]) {
        if !read.is_empty() {
            let ready = std::mem::take(&mut self.ready);
            self.ready = BytesMut::from(read);
            self.ready.extend_from_slice(&ready);
        }
    }

    /// Everything that hyper has not read, as it came.
    pub fn into_rest(mut self) -> BytesMut {
        self.ready.extend_from_slice(&self.held);
        self.ready
    }

    /// Another protocol follows.
    pub fn open(&mut self) {
        self.at = At::Open;
        let held = std::mem::take(&mut self.held);
        self.ready.extend_from_slice(&held);
    }

    /// No other protocol follows.
    pub fn resume(&mut self) {
        self.at = At::Head;
        self.work_off();
    }

    /// The client sends no more. Returns whether that leaves a head incomplete, which is refused then.
    pub fn end(&mut self) -> bool {
        if self.at != At::Head || self.held.trim_ascii().is_empty() {
            return false;
        }
        let error = HeadError {
            kind: HeadFault::Malformed,
            what: "the request head is incomplete: the client closed its side of the connection"
                .to_owned(),
            fix: "end the head with an empty line".to_owned(),
        };
        self.refuse_held(error);
        true
    }

    /// The client has taken too long over a head.
    pub fn time_out(&mut self, patience: std::time::Duration) {
        let patience = humantime::format_duration(patience);
        let error = HeadError {
            kind: HeadFault::Timeout,
            what: format!("the request head was not complete within {patience} (`header_timeout`)"),
            fix: "send the head at once, or raise `header_timeout`".to_owned(),
        };
        self.refuse_held(error);
    }

    fn refuse_held(&mut self, error: HeadError) {
        let head = stand_in(&self.held);
        self.held = Vec::new();
        self.at = At::Refused;
        self.refusal = Some(error);
        self.ready.extend_from_slice(&head);
    }

    /// Looks at bytes that have come, and returns how many of them hyper may read as they are. The
    /// others are held, or made ready in another form.
    pub fn pass(&mut self, bytes: &[u8]) -> usize {
        if !self.held.is_empty() {
            let from = self.held.len().saturating_sub(3);
            self.held.extend_from_slice(bytes);
            // Judging every piece of a head that trickles in would take quadratic time.
            let grown = self.held.len() >= 2 * self.judged || self.held.len() > self.limits.size;
            if self.at != At::Head || grown || has_empty_line(&self.held[from..]) {
                self.work_off();
            }
            return 0;
        }
        let mut passed = 0;
        while passed < bytes.len() {
            let rest = &bytes[passed..];
            match self.step(rest) {
                Step::Pass(size) => passed += size,
                Step::Hold => {
                    self.held = rest.to_vec();
                    break;
                }
                Step::Replace(size, head) => {
                    self.ready.extend_from_slice(&head);
                    self.held = rest[size..].to_vec();
                    self.work_off();
                    break;
                }
                Step::Drop => break,
            }
        }
        passed
    }

    /// Makes ready what can be of what is held.
    fn work_off(&mut self) {
        let held = std::mem::take(&mut self.held);
        let mut at = 0;
        while at < held.len() {
            match self.step(&held[at..]) {
                Step::Pass(size) => {
                    self.ready.extend_from_slice(&held[at..at + size]);
                    at += size;
                }
                Step::Replace(size, head) => {
                    self.ready.extend_from_slice(&head);
                    at += size;
                }
                Step::Hold => {
                    self.held = held[at..].to_vec();
                    break;
                }
                Step::Drop => break,
            }
        }
    }

    fn step(&mut self, bytes: &[u8]) -> Step {
        match self.at {
            At::Open => Step::Pass(bytes.len()),
            At::Refused => Step::Drop,
            // A bound for a client that does not wait for the decision.
            At::Undecided if self.held.len() > MOST_UNDECIDED => Step::Drop,
            At::Undecided => Step::Hold,
            At::Body(left, switches) => {
                let here = usize::try_from(left).map_or(bytes.len(), |all| all.min(bytes.len()));
                self.at = match left - here as u64 {
                    0 => after_body(switches),
                    left => At::Body(left, switches),
                };
                Step::Pass(here)
            }
            At::Chunks(mut chunks, switches) => {
                let fed = chunks.feed(bytes);
                self.at = At::Chunks(chunks, switches);
                match fed {
                    Fed::More => Step::Pass(bytes.len()),
                    Fed::Over(size) => {
                        self.at = after_body(switches);
                        Step::Pass(size)
                    }
                    Fed::Invalid => {
                        // hyper ends the connection over this.
                        self.ambiguous = true;
                        self.at = At::Open;
                        Step::Pass(bytes.len())
                    }
                }
            }
            At::Head => match judge(bytes, self.limits) {
                Verdict::Incomplete => {
                    self.judged = bytes.len();
                    Step::Hold
                }
                Verdict::Good(head) => self.begin(head),
                Verdict::Bad(error) => {
                    self.at = At::Refused;
                    self.refusal = Some(error);
                    Step::Replace(bytes.len(), stand_in(bytes))
                }
            },
        }
    }

    fn begin(&mut self, head: Head) -> Step {
        self.ambiguous |= head.ambiguous;
        self.at = match head.body {
            Body::Chunks => At::Chunks(Chunks::start(), head.switches),
            Body::Length(0) => after_body(head.switches),
            Body::Length(length) => At::Body(length, head.switches),
        };
        match head.encoded {
            Some(encoded) => Step::Replace(head.size, encoded),
            None => Step::Pass(head.size),
        }
    }
}

fn after_body(switches: bool) -> At {
    match switches {
        true => At::Undecided,
        false => At::Head,
    }
}

/// Whether a head may end in `bytes`.
fn has_empty_line(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes).any(|at| {
        let next = &bytes[at + 1..];
        next.starts_with(b"\n") || next.starts_with(b"\r\n")
    })
}

/// The head that hyper gets in place of one that was refused: with as much of it as decides the form of
/// the response.
fn stand_in(refused: &[u8]) -> Vec<u8> {
    let mut lines = refused
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .skip_while(|line| line.is_empty());
    let line = lines.next().unwrap_or_default();
    let method = match line.split(|byte| *byte == b' ').next() {
        Some(b"HEAD") => "HEAD",
        _ => "GET",
    };
    let version = match line.ends_with(b" HTTP/1.0") {
        true => "HTTP/1.0",
        false => "HTTP/1.1",
    };
    let mut head = format!("{method} {STAND_IN} {version}\r\n").into_bytes();
    let accept = lines.find(|line| {
        line.get(..7)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"accept:"))
    });
    if let Some(accept) = accept
        && accept.len() <= LONGEST_ACCEPT
        && accept.iter().all(|byte| matches!(byte, b' '..=b'~'))
    {
        head.extend_from_slice(accept);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// The target of a head that stands in for one that was refused.
pub const STAND_IN: &str = "*";
const LONGEST_ACCEPT: usize = 1024;
/// Bytes that are held behind a request to switch protocols.
const MOST_UNDECIDED: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        size: 4096,
        fields: 100,
    };

    /// What hyper reads of `sent`, whole and in pieces.
    fn read(sent: &[u8]) -> (String, Heads) {
        let mut texts = Vec::new();
        let mut last = Heads::new(LIMITS);
        for size in [sent.len(), 1, 2, 3, 5, 7] {
            let mut heads = Heads::new(LIMITS);
            let mut text = Vec::new();
            for piece in sent.chunks(size) {
                let passed = heads.pass(piece);
                text.extend_from_slice(&piece[..passed]);
                let ready = std::mem::take(&mut heads.ready);
                text.extend_from_slice(&ready);
            }
            texts.push(String::from_utf8_lossy(&text).into_owned());
            last = heads;
        }
        for text in &texts {
            assert_eq!(*text, texts[0], "{}", sent.escape_ascii());
        }
        (texts.swap_remove(0), last)
    }

    #[test]
    fn good_messages_pass_as_they_are_however_they_are_cut() {
        for sent in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\na\nbGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nh\r\n\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        ] {
            let (text, heads) = read(sent.as_bytes());
            assert_eq!(text, sent);
            assert!(!heads.is_ambiguous() && heads.is_between(), "{sent:?}");
        }
    }

    #[test]
    fn a_target_is_encoded_wherever_its_head_stands() {
        let sent = "POST /<a> HTTP/1.1\r\nContent-Length: 3\r\n\r\n<b>GET /`c HTTP/1.1\r\n\r\n";
        let (text, _) = read(sent.as_bytes());
        assert_eq!(
            text,
            sent.replace("/<a>", "/%3Ca%3E").replace("/`c", "/%60c")
        );
    }

    #[test]
    fn a_refused_head_is_replaced_and_nothing_follows() {
        let sent = "GET / HTTP/1.1\r\n\r\nHEAD / HTTP/1.0\r\nAccept: text/plain\r\nX : b\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        let mut heads = Heads::new(LIMITS);
        let passed = heads.pass(sent.as_bytes());
        assert_eq!(&sent[..passed], "GET / HTTP/1.1\r\n\r\n");
        assert_eq!(&heads.ready[..4], b"HEAD");
        assert!(heads.is_refused());
        assert!(heads.take_refusal().is_some());
        assert_eq!(heads.pass(b"GET / HTTP/1.1\r\n\r\n"), 0);
        // In pieces, the fault may be noticed before the rest of the head has come.
        let (_, heads) = {
            let mut heads = Heads::new(LIMITS);
            for byte in sent.as_bytes() {
                heads.pass(&[*byte]);
            }
            ((), heads)
        };
        assert!(heads.is_refused());
    }

    #[test]
    fn what_follows_a_request_to_switch_is_held_until_that_is_decided() {
        let sent = "POST / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nok\x00\x01";
        let (text, mut heads) = read(sent.as_bytes());
        assert_eq!(text, sent[..sent.len() - 2]);
        assert!(heads.is_undecided());
        heads.open();
        assert_eq!(heads.ready, "\x00\x01");
        let (_, mut heads) = read(format!("{}GET /", &sent[..sent.len() - 2]).as_bytes());
        heads.resume();
        assert!(!heads.has_ready());
        heads.pass(b" HTTP/1.1\r\n\r\n");
        assert_eq!(heads.ready, "GET / HTTP/1.1\r\n\r\n");
    }

    #[test]
    fn half_a_head_is_refused_when_no_more_can_come() {
        let mut heads = Heads::new(LIMITS);
        assert!(!heads.end());
        heads.pass(b"GET / HTTP/1.1\r\nHos");
        assert!(heads.end());
        assert!(heads.take_refusal().is_some());
        assert!(heads.has_ready());
    }
}
