//! A thread that writes lines out, so that nothing else waits for a terminal, a pipe or a disk.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing_subscriber::fmt::MakeWriter;

use crate::metrics;

use super::output::{Lost, Output};
use super::plain::timestamp;
use super::{Look, once_a_minute};

/// Where lines go. Cloning is cheap; writing never blocks: when the reader is too slow, lines are
/// dropped and counted, and the count is written as soon as something can be.
#[derive(Clone)]
pub struct Sink {
    lines: SyncSender<Message>,
    lost: Arc<LostLines>,
}

/// Counts lines of one stream that were not written.
struct LostLines {
    // Those that no line of the stream has told of yet.
    unreported: AtomicU64,
    is_access: bool,
}

impl LostLines {
    fn add(&self, lines: u64) {
        self.unreported.fetch_add(lines, Relaxed);
        metrics::process().dropped(self.is_access, lines);
    }
}

/// Writes out what is left of every sink.
#[derive(Default)]
pub struct Flusher(Vec<(SyncSender<Message>, JoinHandle<()>)>);

enum Message {
    Lines(Vec<u8>),
    Dated(Batch),
    End,
}

/// Lines that are written in the order of their times, among those of other batches.
#[derive(Default)]
pub struct Batch {
    /// The lines.
    pub text: Vec<u8>,
    /// When each was recorded, in nanoseconds since 1970, and its length.
    pub lines: Vec<(u64, u32)>,
}

impl Sink {
    /// Starts the thread called `name` that writes lines of this `look` to `output`.
    pub fn start<F>(
        name: &'static str,
        output: Output<F>,
        look: Look,
        flusher: &mut Flusher,
    ) -> Self
    where
        F: AsFd + Send + 'static,
    {
        let (lines, received) = sync_channel(QUEUED);
        let lost = Arc::new(LostLines {
            unreported: AtomicU64::new(0),
            is_access: name != DIAGNOSTICS,
        });
        let mut writer = Writer {
            name,
            output,
            look,
            lost: Arc::clone(&lost),
            waiting: Waiting::default(),
            retry_at: None,
        };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || writer.run(&received));
        match thread {
            Ok(thread) => flusher.0.push((lines.clone(), thread)),
            Err(error) => {
                eprintln!("mtlsd: cannot start the thread {name}, its lines are lost: {error}")
            }
        }
        Self { lines, lost }
    }

    /// Hands over whole lines, to be written at once.
    pub fn send(&self, lines: Vec<u8>) {
        let count = lines.iter().filter(|byte| **byte == b'\n').count();
        self.hand(Message::Lines(lines), count);
    }

    /// Hands over whole lines, to be written among others of the last moment.
    pub fn send_dated(&self, batch: Batch) {
        let count = batch.lines.len();
        self.hand(Message::Dated(batch), count);
    }

    fn hand(&self, message: Message, count: usize) {
        if self.lines.try_send(message).is_err() {
            self.lost.add(count as u64);
        }
    }
}

impl Flusher {
    /// Writes out what was handed over before; gives up after a second, since a reader that does
    /// not read must not keep the process from ending.
    pub fn flush(self) {
        let until = Instant::now() + Duration::from_secs(1);
        for (lines, _) in &self.0 {
            while let Err(TrySendError::Full(_)) = lines.try_send(Message::End) {
                if Instant::now() > until {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        for (_, thread) in self.0 {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// The thread's side of a sink.
struct Writer<F> {
    name: &'static str,
    output: Output<F>,
    look: Look,
    lost: Arc<LostLines>,
    waiting: Waiting,
    // When to try again after a failure. A full disk is not asked again for every line.
    retry_at: Option<Instant>,
}

impl<F: AsFd> Writer<F> {
    fn run(&mut self, received: &Receiver<Message>) {
        loop {
            // Woken now and then, so that a count of lost lines does not wait for the next line.
            let until_next = match (self.waiting.due, self.lost.unreported.load(Relaxed)) {
                (Some(due), _) => due.saturating_duration_since(Instant::now()),
                (None, 0) => Duration::from_secs(60),
                (None, _) => RETRY,
            };
            match received.recv_timeout(until_next) {
                Ok(Message::Lines(lines)) => self.write(&lines),
                Ok(Message::Dated(batch)) => self.waiting.add(batch),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.waiting.is_due() {
                let until = nanoseconds(SystemTime::now()).saturating_sub(HOLD.as_nanos() as u64);
                let lines = self.waiting.release(until);
                self.write(&lines);
            }
            self.report();
        }
        // The last moment to try.
        self.retry_at = None;
        let lines = self.waiting.release(u64::MAX);
        self.write(&lines);
        self.report();
    }

    fn write(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            let lines = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.lost.add(lines);
            return;
        }
        self.report();
        let written = match self.look.is_json {
            true => self.output.write(lines),
            false => {
                let text = String::from_utf8_lossy(lines);
                let fitted = self.output.fit(&text).into_owned();
                self.output.write(fitted.as_bytes())
            }
        };
        if let Err(Lost { lines, error }) = written {
            self.lost.add(lines);
            self.retry_at = Some(Instant::now() + RETRY);
            // Those of the other stream may still be read.
            if self.name != DIAGNOSTICS
                && let Some(suppressed) = once_a_minute(self.name, "lost")
            {
                tracing::warn!(stream = self.name, %error, suppressed, "cannot write log lines");
            }
        }
    }

    /// Writes how many lines were lost, if any were and it can.
    fn report(&mut self) {
        let lost = self.lost.unreported.load(Relaxed);
        if lost == 0 || self.retry_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.retry_at = match self.output.write(&self.lost_line(lost)) {
            Ok(()) => {
                self.lost.unreported.fetch_sub(lost, Relaxed);
                None
            }
            Err(_) => Some(Instant::now() + RETRY),
        };
    }

    fn lost_line(&self, lost: u64) -> Vec<u8> {
        let time = timestamp(SystemTime::now());
        let prefix = self.look.prefix(tracing::Level::WARN);
        let line = match self.look.is_json {
            true => format!(
                "{prefix}{{\"timestamp\":\"{time}\",\"level\":\"WARN\",\"message\":\"log lines dropped\",\"dropped\":{lost}}}\n"
            ),
            false => format!("{prefix}{time}  WARN log lines dropped dropped={lost}\n"),
        };
        line.into_bytes()
    }
}

/// Batches of several threads, until no line from before can come any more.
#[derive(Default)]
struct Waiting {
    batches: Vec<Batch>,
    bytes: usize,
    due: Option<Instant>,
}

impl Waiting {
    fn add(&mut self, batch: Batch) {
        self.bytes += batch.text.len();
        self.batches.push(batch);
        self.due.get_or_insert_with(|| Instant::now() + HOLD);
    }

    fn is_due(&self) -> bool {
        self.bytes > MOST_WAITING || self.due.is_some_and(|due| due <= Instant::now())
    }

    /// Takes the lines out that were recorded no later than `until`, in order.
    fn release(&mut self, until: u64) -> Vec<u8> {
        let until = if self.bytes > MOST_WAITING {
            u64::MAX
        } else {
            until
        };
        let mut order = Vec::new();
        for (index, batch) in self.batches.iter().enumerate() {
            let mut start = 0;
            for (time, length) in &batch.lines {
                let end = start + *length as usize;
                order.push((*time, index, start..end));
                start = end;
            }
        }
        // A stable sort; each batch is in order already.
        order.sort_by_key(|(time, ..)| *time);
        let late = order.partition_point(|(time, ..)| *time <= until);
        let mut lines = Vec::with_capacity(self.bytes);
        let mut kept = Batch::default();
        for (at, (time, index, range)) in order.into_iter().enumerate() {
            let line = self.batches[index].text.get(range).unwrap_or_default();
            match at < late {
                true => lines.extend_from_slice(line),
                false => {
                    kept.text.extend_from_slice(line);
                    kept.lines.push((time, line.len() as u32));
                }
            }
        }
        *self = Self::default();
        if !kept.lines.is_empty() {
            self.add(kept);
        }
        lines
    }
}

/// Returns `time` as [`Batch`] counts it.
pub fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// One event of `tracing`, which is written with a single call.
impl<'a> MakeWriter<'a> for Sink {
    type Writer = Event<'a>;

    fn make_writer(&'a self) -> Event<'a> {
        Event(self)
    }
}

/// The writer of one event.
pub struct Event<'a>(&'a Sink);

impl Write for Event<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.send(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The name of the thread that writes diagnostics.
pub const DIAGNOSTICS: &str = "log";
/// Batches that wait for a slow reader, at most; the rest is dropped.
const QUEUED: usize = 1024;
/// So long dated lines wait for earlier ones: a worker hands over its own within half of that.
const HOLD: Duration = Duration::from_millis(20);
/// So long after a failure the next line is tried.
const RETRY: Duration = Duration::from_millis(500);
/// More bytes do not wait.
const MOST_WAITING: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;

    use super::*;

    const JSON: Look = Look {
        is_json: true,
        has_color: false,
        is_journal: false,
    };

    #[test]
    fn a_blocked_reader_costs_lines_and_never_time() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut flusher = Flusher::default();
        let output = Output::new(OwnedFd::from(writer), None);
        let sink = Sink::start("test", output, JSON, &mut flusher);
        let line = [&[b'a'; 1023][..], b"\n"].concat();
        let sent = 64 + QUEUED + 100;
        for _ in 0..sent {
            sink.send(line.clone());
        }
        // As many as a pipe holds, and one more, may be out of the queue already.
        let lost = sink.lost.unreported.load(Relaxed);
        assert!((99..=164).contains(&lost), "{lost}");
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        drop(sink);
        flusher.flush();
        let text = reading.join().unwrap();
        let (reports, lines): (Vec<_>, Vec<_>) =
            text.lines().partition(|line| line.starts_with('{'));
        assert_eq!(lines.len() as u64 + lost, sent as u64);
        assert!(lines.iter().all(|line| line.len() == 1023));
        let reported = reports.iter().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["message"], "log lines dropped");
            line["dropped"].as_u64().unwrap()
        });
        assert_eq!(reported.sum::<u64>(), lost, "{reports:?}");
    }

    #[test]
    fn lines_of_several_threads_come_out_in_order() {
        let batch = |lines: &[(u64, &str)]| Batch {
            text: lines.iter().flat_map(|(_, line)| line.bytes()).collect(),
            lines: lines
                .iter()
                .map(|(time, line)| (*time, line.len() as u32))
                .collect(),
        };
        let mut waiting = Waiting::default();
        waiting.add(batch(&[(1, "one\n"), (4, "four\n"), (9, "nine\n")]));
        waiting.add(batch(&[(2, "two\n"), (3, "three\n"), (8, "eight\n")]));
        assert_eq!(waiting.release(5), b"one\ntwo\nthree\nfour\n");
        waiting.add(batch(&[(6, "six\n")]));
        assert_eq!(waiting.release(u64::MAX), b"six\neight\nnine\n");
        assert!(waiting.due.is_none());
    }
}
