//! A thread that writes lines out, so that nothing else waits for a terminal, a pipe or a disk.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Where lines go. Cloning is cheap; writing never blocks: when the reader is too slow, lines are
/// dropped and counted, and the count is written as soon as something can be.
#[derive(Clone)]
pub struct Sink {
    lines: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

/// Writes out what is left of every sink.
#[derive(Default)]
pub struct Flusher(Vec<(SyncSender<Message>, JoinHandle<()>)>);

enum Message {
    Lines(Vec<u8>),
    End,
}

impl Sink {
    /// Starts the thread called `name` that writes to `out`.
    pub fn start(name: &str, out: impl Write + Send + 'static, flusher: &mut Flusher) -> Self {
        let (lines, received) = sync_channel(QUEUED);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || write_out(&received, &counted, out));
        match thread {
            Ok(thread) => flusher.0.push((lines.clone(), thread)),
            Err(error) => {
                eprintln!("mtlsd: cannot start the thread {name}, its lines are lost: {error}")
            }
        }
        Self { lines, dropped }
    }

    /// Hands over whole lines.
    pub fn send(&self, lines: Vec<u8>) {
        if let Err(
            TrySendError::Full(Message::Lines(lines))
            | TrySendError::Disconnected(Message::Lines(lines)),
        ) = self.lines.try_send(Message::Lines(lines))
        {
            let count = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.dropped.fetch_add(count, Relaxed);
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

fn write_out(received: &Receiver<Message>, dropped: &AtomicU64, mut out: impl Write) {
    loop {
        // Woken now and then, so that a count of dropped lines does not wait for the next line.
        match received.recv_timeout(Duration::from_secs(60)) {
            Ok(Message::Lines(lines)) => {
                // Nobody is left to be told that a write failed.
                let _ = out.write_all(&lines);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => break,
        }
        match dropped.swap(0, Relaxed) {
            0 => {}
            lost => {
                let _ = writeln!(
                    out,
                    "{{\"level\":\"WARN\",\"message\":\"log lines dropped\",\"dropped\":{lost}}}"
                );
            }
        }
    }
    let _ = out.flush();
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

/// Batches that wait for a slow reader, at most; the rest is dropped.
const QUEUED: usize = 1024;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Blocks until it is let go.
    struct Slow(Mutex<Receiver<()>>, Sender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.0.lock().unwrap().recv();
            self.1.send(line.to_vec()).unwrap();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_blocked_reader_costs_lines_and_never_time() {
        let (go, gate) = channel();
        let (sent, written) = channel();
        let mut flusher = Flusher::default();
        let sink = Sink::start("test", Slow(Mutex::new(gate), sent), &mut flusher);
        for _ in 0..QUEUED + 100 {
            sink.send(b"line\n".to_vec());
        }
        // One more than fits may be in the writer's hands already.
        let lost = sink.dropped.load(Relaxed);
        assert!((99..=100).contains(&lost), "{lost}");
        drop(go);
        flusher.flush();
        let out: Vec<u8> = written.try_iter().flatten().collect();
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains(&format!("\"dropped\":{lost}")), "{out}");
    }
}
