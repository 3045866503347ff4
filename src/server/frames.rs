//! Follows the frames that an HTTP/2 client sends, to see how long a head takes: the h2 library waits
//! for the rest of one without a limit.

/// How far a client's frames have got.
#[derive(Debug)]
pub struct Frames {
    // Bytes that belong to no frame header: the rest of the preface, or of a payload.
    left: usize,
    front: [u8; FRONT],
    filled: usize,
    // Whether a head is under way, and whether the frame at hand ends it.
    in_head: bool,
    ends: bool,
    heads: u64,
}

impl Frames {
    /// Before the preface.
    pub fn new() -> Self {
        Self {
            left: PREFACE,
            front: [0; FRONT],
            filled: 0,
            in_head: false,
            ends: false,
            heads: 0,
        }
    }

    /// Takes the next bytes. Returns the number of the head that is under way after them.
    pub fn see(&mut self, mut bytes: &[u8]) -> Option<u64> {
        loop {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            if self.left == 0 && self.filled == 0 && self.ends {
                self.in_head = false;
                self.ends = false;
            }
            if bytes.is_empty() {
                return self.in_head.then_some(self.heads);
            }
            let taken = (FRONT - self.filled).min(bytes.len());
            self.front[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == FRONT {
                self.begin_frame();
            }
        }
    }

    fn begin_frame(&mut self) {
        let [a, b, c, kind, flags, ..] = self.front;
        self.filled = 0;
        self.left = u32::from_be_bytes([0, a, b, c]) as usize;
        match kind {
            HEADERS => {
                self.heads += 1;
                self.in_head = true;
                self.ends = flags & END_HEADERS != 0;
            }
            CONTINUATION => self.ends = flags & END_HEADERS != 0,
            _ => {}
        }
    }
}

/// Bytes of the connection preface (RFC 9113 section 3.4).
const PREFACE: usize = 24;
/// Bytes of a frame header (section 4.1).
const FRONT: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![0, 0, length as u8, kind, flags, 0, 0, 0, 1];
        frame.extend(vec![7; length]);
        frame
    }

    /// The head that is under way after `sent`, however it is cut.
    fn under_way(sent: &[u8]) -> Option<u64> {
        let sent = [&[b'x'; PREFACE], sent].concat();
        let whole = Frames::new().see(&sent);
        for size in [1, 2, 5, 11] {
            let mut frames = Frames::new();
            let seen = sent.chunks(size).map(|piece| frames.see(piece)).last();
            assert_eq!(seen, Some(whole), "by {size}");
        }
        whole
    }

    #[test]
    fn a_head_is_under_way_until_its_last_frame_is_whole() {
        let whole = frame(HEADERS, END_HEADERS, 5);
        let begun = frame(HEADERS, 0, 5);
        let more = frame(CONTINUATION, 0, 5);
        let last = frame(CONTINUATION, END_HEADERS, 5);
        let data = frame(0, 0, 5);
        assert_eq!(under_way(&[]), None);
        assert_eq!(under_way(&whole), None);
        assert_eq!(under_way(&frame(HEADERS, END_HEADERS, 0)), None);
        assert_eq!(under_way(&whole[..10]), Some(1));
        assert_eq!(under_way(&begun), Some(1));
        assert_eq!(under_way(&[begun.clone(), more.clone()].concat()), Some(1));
        assert_eq!(under_way(&[&begun[..], &more, &last].concat()), None);
        assert_eq!(
            under_way(&[begun.clone(), last.clone(), begun].concat()),
            Some(2)
        );
        assert_eq!(under_way(&[&whole[..], &data[..7]].concat()), None);
    }
}
