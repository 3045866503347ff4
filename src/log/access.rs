//! A line per request, collected per worker and written out within 50 ms.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Method;

use crate::printable;
use crate::timestamp::{from_seconds, rfc3339};

use super::plain;
use super::sink::{Batch, Sink, nanoseconds};

/// One worker's access lines.
pub struct Access {
    sink: Sink,
    json: bool,
    batch: RefCell<Batch>,
    flushing: Cell<bool>,
    // The second that was formatted last, and its text: most lines fall into the same one.
    second: Cell<(u64, [u8; SECOND])>,
}

/// What a line says.
pub struct Entry<'a> {
    /// Which binding, when one was found.
    pub binding: Option<&'a str>,
    /// The client's address; `None` on a unix socket.
    pub peer: Option<SocketAddr>,
    /// The method.
    pub method: &'a Method,
    /// The path, without the query.
    pub path: &'a str,
    /// The host that was asked for, where no origin says it.
    pub host: Option<&'a str>,
    /// The status that was answered.
    pub status: u16,
    /// From the request's head to the answer's last byte.
    pub elapsed: Duration,
    /// The origin's host and port.
    pub origin: Option<&'a str>,
    /// The address that was connected to, and whether the connection had served before.
    pub upstream: Option<(SocketAddr, bool)>,
    /// Which Generation's certificate was presented.
    pub generation: Option<u64>,
    /// The kind of failure, as RFC 9209 names it.
    pub error: Option<&'static str>,
}

impl Access {
    /// Lines for `sink`.
    pub fn new(sink: Sink, json: bool) -> Rc<Self> {
        Rc::new(Self {
            sink,
            json,
            batch: RefCell::default(),
            flushing: Cell::new(false),
            second: Cell::new((u64::MAX, [0; SECOND])),
        })
    }

    /// Adds a line. Must be called on the worker's runtime.
    pub fn record(self: &Rc<Self>, entry: &Entry<'_>) {
        let now = SystemTime::now();
        let mut batch = self.batch.borrow_mut();
        let before = batch.text.len();
        match self.json {
            true => self.write_json(&mut batch.text, entry, now),
            false => self.write_text(&mut batch.text, entry, now),
        }
        let length = u32::try_from(batch.text.len() - before).unwrap_or(u32::MAX);
        batch.lines.push((nanoseconds(now), length));
        if batch.text.len() >= BATCH {
            let next = Batch {
                text: Vec::with_capacity(BATCH + LONGEST),
                lines: Vec::with_capacity(batch.lines.len() + 1),
            };
            self.sink.send_dated(std::mem::replace(&mut *batch, next));
        } else if !self.flushing.replace(true) {
            // One timer for all lines of the next moment, and none when nothing happens.
            let access = Rc::clone(self);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(FLUSH).await;
                access.flush();
            });
        }
    }

    /// Writes out what there is.
    pub fn flush(&self) {
        self.flushing.set(false);
        let batch = self.batch.take();
        if !batch.lines.is_empty() {
            self.sink.send_dated(batch);
        }
    }

    fn write_json(&self, out: &mut Vec<u8>, entry: &Entry<'_>, now: SystemTime) {
        out.extend_from_slice(b"{\"timestamp\":\"");
        self.write_time(out, now);
        out.extend_from_slice(b"\",\"level\":\"INFO\",\"target\":\"access\"");
        if let Some(binding) = entry.binding {
            out.extend_from_slice(b",\"binding\":");
            plain::string(out, binding);
        }
        if let Some(peer) = entry.peer {
            out.extend_from_slice(b",\"peer\":\"");
            plain::address(out, peer);
            out.push(b'"');
        }
        out.extend_from_slice(b",\"method\":");
        plain::string(out, entry.method.as_str());
        out.extend_from_slice(b",\"path\":");
        plain::string(out, entry.path);
        if let Some(host) = entry.host {
            out.extend_from_slice(b",\"host\":");
            plain::string(out, host);
        }
        out.extend_from_slice(b",\"status\":");
        plain::number(out, entry.status.into());
        out.extend_from_slice(b",\"duration_ms\":");
        plain::milliseconds(out, entry.elapsed);
        if let Some(origin) = entry.origin {
            out.extend_from_slice(b",\"origin\":");
            plain::string(out, origin);
        }
        if let Some((address, reused)) = entry.upstream {
            out.extend_from_slice(b",\"upstream\":\"");
            plain::address(out, address);
            out.extend_from_slice(b"\",\"reused\":");
            let reused: &[u8] = if reused { b"true" } else { b"false" };
            out.extend_from_slice(reused);
        }
        if let Some(generation) = entry.generation {
            out.extend_from_slice(b",\"generation\":");
            plain::number(out, generation);
        }
        if let Some(error) = entry.error {
            out.extend_from_slice(b",\"error\":");
            plain::string(out, error);
        }
        out.extend_from_slice(b"}\n");
    }

    fn write_text(&self, out: &mut Vec<u8>, entry: &Entry<'_>, now: SystemTime) {
        self.write_time(out, now);
        let words = [
            entry.binding.unwrap_or("-"),
            entry.method.as_str(),
            match (entry.path, entry.host) {
                ("", Some(host)) => host,
                (path, _) => path,
            },
        ];
        for word in words {
            out.push(b' ');
            out.extend_from_slice(printable::escape(word).as_bytes());
        }
        out.push(b' ');
        plain::number(out, entry.status.into());
        out.push(b' ');
        plain::milliseconds(out, entry.elapsed);
        out.extend_from_slice(b"ms");
        if let Some((address, reused)) = entry.upstream {
            out.push(b' ');
            plain::address(out, address);
            let history: &[u8] = if reused { b" reused" } else { b" new" };
            out.extend_from_slice(history);
        }
        if let Some(error) = entry.error {
            out.push(b' ');
            out.extend_from_slice(error.as_bytes());
        }
        out.push(b'\n');
    }

    fn write_time(&self, out: &mut Vec<u8>, now: SystemTime) {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (mut second, mut text) = self.second.get();
        if second != now.as_secs() {
            second = now.as_secs();
            let seconds = i64::try_from(second).unwrap_or(i64::MAX);
            let formatted = rfc3339(from_seconds(seconds)).to_string();
            // "2026-11-23T21:22:08Z" without its Z; a clock beyond the year 9999 is cut.
            for (to, from) in text.iter_mut().zip(formatted.bytes()) {
                *to = from;
            }
            self.second.set((second, text));
        }
        out.extend_from_slice(&text);
        out.push(b'.');
        plain::thousandths(out, now.subsec_millis());
        out.push(b'Z');
    }
}

/// The length of "2026-11-23T21:22:08".
const SECOND: usize = 19;
/// So much is written at once: each batch wakes the thread that writes.
const BATCH: usize = 32 * 1024;
/// Most lines are shorter.
const LONGEST: usize = 1024;
/// So long a line waits for others. The sink holds it for twice as long.
const FLUSH: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::output::Output;
    use crate::log::{Flusher, Look};

    fn line(json: bool) -> String {
        let null = std::fs::File::create("/dev/null").unwrap();
        let look = Look {
            is_json: json,
            has_color: false,
            is_journal: false,
        };
        let output = Output::new(null, None);
        let sink = Sink::start("test", output, look, &mut Flusher::default());
        let access = Access::new(sink, json);
        access.flushing.set(true);
        access.record(&Entry {
            binding: Some("payments"),
            peer: None,
            method: &Method::GET,
            path: "/v1/\"x",
            host: None,
            status: 200,
            elapsed: Duration::from_micros(1_204),
            origin: Some("api.example"),
            upstream: Some((([127, 0, 0, 1], 443).into(), true)),
            generation: Some(2),
            error: None,
        });
        String::from_utf8(access.batch.take().text).unwrap()
    }

    #[test]
    fn json_lines_are_json() {
        let value: serde_json::Value = serde_json::from_str(&line(true)).unwrap();
        assert_eq!(value["path"], "/v1/\"x");
        assert_eq!(value["duration_ms"], 1.204);
        assert_eq!(value["reused"], true);
        assert_eq!(value["target"], "access");
        let time = value["timestamp"].as_str().unwrap();
        assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");
    }

    #[test]
    fn text_lines_read_from_left_to_right() {
        let line = line(false);
        let rest = line.split_once(' ').unwrap().1;
        assert_eq!(
            rest,
            "payments GET /v1/\"x 200 1.204ms 127.0.0.1:443 reused\n"
        );
    }
}
