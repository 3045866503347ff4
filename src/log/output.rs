//! Writes lines to a file descriptor, each of them whole or not at all.

use std::borrow::Cow;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, OFlags, SeekFrom, fcntl_getfl, fcntl_setfl, fstat, ftruncate, seek};
use rustix::io::Errno;

use crate::terminal;

/// A stream that lines are written to.
pub struct Output<F> {
    fd: F,
    is_file: bool,
    is_terminal: bool,
    // Shared with another stream to the same place, whose lines must not come between.
    turn: Option<&'static Mutex<()>>,
    // What is missing of a line whose beginning has been written.
    rest: Vec<u8>,
}

/// Lines that were not written.
#[derive(Debug)]
pub struct Lost {
    /// How many.
    pub lines: u64,
    /// Why.
    pub error: io::Error,
}

impl<F: AsFd> Output<F> {
    /// Writes to `fd`. A regular file is appended to, so that nothing is overwritten after it was
    /// truncated by what rotates it.
    pub fn new(fd: F, turn: Option<&'static Mutex<()>>) -> Self {
        let stat = fstat(&fd);
        let kind = stat.map(|stat| FileType::from_raw_mode(stat.st_mode));
        let is_file = kind == Ok(FileType::RegularFile);
        if is_file && let Ok(flags) = fcntl_getfl(&fd) {
            // Without it lines are written all the same.
            let _ = fcntl_setfl(&fd, flags | OFlags::APPEND);
        }
        Self {
            is_file,
            is_terminal: rustix::termios::isatty(&fd),
            fd,
            turn,
            rest: Vec::new(),
        }
    }

    /// Returns `text` in lines that fit, if this is a terminal.
    pub fn fit<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let width = self.is_terminal.then(|| terminal::width(&self.fd));
        match width.flatten() {
            Some(width) => terminal::wrap_further(text, width),
            None => Cow::Borrowed(text),
        }
    }

    /// Writes whole lines.
    ///
    /// # Errors
    ///
    /// Returns [`Lost`] if some could not be written.
    pub fn write(&mut self, lines: &[u8]) -> Result<(), Lost> {
        let turn = self.turn;
        let _turn = turn.map(take);
        let rest = std::mem::take(&mut self.rest);
        let (done, failed) = self.push(&rest);
        if let Some(error) = failed {
            self.keep(&rest[done..], error);
            let lines = count(lines);
            return Err(lost(lines, error));
        }
        let (done, failed) = self.push(lines);
        let Some(error) = failed else { return Ok(()) };
        let begun = lines[..done]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        let mut missing = count(&lines[begun..]);
        if done > begun && !self.take_back(done - begun) {
            let end = lines[done..].iter().position(|byte| *byte == b'\n');
            let end = end.map_or(lines.len(), |at| done + at + 1);
            self.keep(&lines[done..end], error);
            missing -= 1;
        }
        match missing {
            0 => Ok(()),
            lines => Err(lost(lines, error)),
        }
    }

    /// Writes what it can, and returns how much that was and what kept it from writing the rest.
    fn push(&self, bytes: &[u8]) -> (usize, Option<Errno>) {
        let mut done = 0;
        while done < bytes.len() {
            match rustix::io::write(&self.fd, &bytes[done..]) {
                Ok(0) => return (done, Some(Errno::IO)),
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                // The other side of a pipe may have made it non-blocking.
                Err(Errno::AGAIN) => {
                    let mut writable = [PollFd::new(&self.fd, PollFlags::OUT)];
                    match poll(&mut writable, None) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => return (done, Some(error)),
                    }
                }
                Err(error) => return (done, Some(error)),
            }
        }
        (done, None)
    }

    /// Remembers the rest of a line, unless nobody will ever read it.
    fn keep(&mut self, rest: &[u8], error: Errno) {
        if error != Errno::PIPE {
            self.rest = rest.to_vec();
        }
    }

    /// Removes the beginning of a line from the end of a file. Returns `false` if it is still there.
    fn take_back(&self, bytes: usize) -> bool {
        let (true, Ok(bytes)) = (self.is_file, u64::try_from(bytes)) else {
            return false;
        };
        let removed = || {
            let end = seek(&self.fd, SeekFrom::Current(0)).ok()?;
            let size = u64::try_from(fstat(&self.fd).ok()?.st_size).ok()?;
            // Not if somebody else has written since.
            let start = end.checked_sub(bytes).filter(|_| size == end)?;
            ftruncate(&self.fd, start).ok()?;
            seek(&self.fd, SeekFrom::Start(start)).ok()
        };
        removed().is_some()
    }
}

/// Returns what two streams take turns with if they lead to the same place, as after `2>&1`.
pub fn turn_of(one: &impl AsFd, other: &impl AsFd) -> Option<&'static Mutex<()>> {
    static TURN: Mutex<()> = Mutex::new(());
    let (one, other) = (fstat(one).ok()?, fstat(other).ok()?);
    let is_same = (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino);
    is_same.then_some(&TURN)
}

fn take(turn: &'static Mutex<()>) -> MutexGuard<'static, ()> {
    turn.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn lost(lines: u64, error: Errno) -> Lost {
    Lost {
        lines,
        error: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn a_full_device_loses_whole_lines_and_counts_them() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut output = Output::new(full, None);
        let lost = output.write(b"one\ntwo\n").unwrap_err();
        assert_eq!(lost.lines, 2);
        assert_eq!(lost.error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn the_beginning_of_a_line_is_taken_back_from_a_file() {
        for append in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("log");
            let mut options = OpenOptions::new();
            options.create(true).write(true).append(append);
            let mut file = options.open(&path).unwrap();
            file.write_all(b"whole\nhal").unwrap();
            let output = Output::new(file.try_clone().unwrap(), None);
            assert!(output.take_back(3));
            file.write_all(b"next\n").unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"whole\nnext\n");
            // What somebody else has written since stays.
            let mut other = OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(b"hal").unwrap();
            other.write_all(b"theirs\n").unwrap();
            assert!(!output.take_back(3));
        }
    }

    #[test]
    fn a_file_that_is_truncated_begins_with_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut output = Output::new(File::create(&path).unwrap(), None);
        output.write(b"before\n").unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(0)
            .unwrap();
        output.write(b"after\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"after\n");
    }

    #[test]
    fn a_pipe_that_does_not_block_gets_every_line_whole() {
        let (mut reader, writer) = io::pipe().unwrap();
        let writer = OwnedFd::from(writer);
        let flags = fcntl_getfl(&writer).unwrap();
        fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
        // More than a pipe holds.
        let line = [&[b'a'; 999][..], b"\n"].concat();
        let all = line.repeat(500);
        let expected = all.clone();
        let writing = std::thread::spawn(move || Output::new(writer, None).write(&all).unwrap());
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        writing.join().unwrap();
        assert!(read == expected, "{} bytes", read.len());
    }

    #[test]
    fn a_reader_that_is_gone_costs_lines_only() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut output = Output::new(OwnedFd::from(writer), None);
        assert_eq!(output.write(b"one\n").unwrap_err().lines, 1);
        assert!(output.rest.is_empty());
    }
}
