//! Sends requests at a fixed rate, whether or not the ones before were answered, and says how long
//! each took from the moment it was due. Had it waited for a slow answer, the requests that were
//! due meanwhile would have been slow too; a closed loop never sends those, and so never sees them.
//!
//!     open_loop PORT PATH LENGTH RATE CONNECTIONS SECONDS
//!
//! Each connection has a thread and a Poisson process of its own; together they are one of RATE.
//! An answer that is not 200 with LENGTH bytes ends everything with an error.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [port, path, length, rate, connections, seconds] = &words[..] else {
        return Err("usage: open_loop PORT PATH LENGTH RATE CONNECTIONS SECONDS".into());
    };
    let connections: u32 = connections.parse()?;
    let plan = Plan {
        port: port.parse()?,
        request: format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into(),
        length: length.parse()?,
        mean_gap: f64::from(connections) / rate.parse::<f64>()?,
        duration: Duration::from_secs_f64(seconds.parse()?),
    };
    // A sleep ends up to 50 µs late by default, which would be counted as the proxy's. Threads
    // inherit this.
    std::fs::write("/proc/self/timerslack_ns", "1")?;
    let took = plan.run(connections)?;
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    println!(
        "{{\"requests\": {}, \"p50\": {:.1}, \"p99\": {:.1}}}",
        took.len(),
        at(0.5),
        at(0.99),
    );
    Ok(())
}

struct Plan {
    port: u16,
    request: Vec<u8>,
    length: usize,
    // Seconds between two requests on one connection.
    mean_gap: f64,
    duration: Duration,
}

impl Plan {
    /// How long the requests took, the quickest first.
    fn run(&self, connections: u32) -> Result<Vec<Duration>, Failure> {
        let mut took = thread::scope(|scope| {
            let threads: Vec<_> = (1..=connections)
                .map(|seed| scope.spawn(move || self.send_on_time(seed)))
                .collect();
            threads.into_iter().try_fold(Vec::new(), |mut all, thread| {
                all.extend(thread.join().map_err(|_| "a thread panicked")??);
                Ok::<_, Failure>(all)
            })
        })?;
        if took.is_empty() {
            return Err("no request was due".into());
        }
        took.sort_unstable();
        Ok(took)
    }

    fn send_on_time(&self, seed: u32) -> Result<Vec<Duration>, Failure> {
        let mut connection = BufReader::new(TcpStream::connect(("127.0.0.1", self.port))?);
        connection.get_ref().set_nodelay(true)?;
        connection.get_ref().set_read_timeout(Some(PATIENCE))?;
        self.ask(&mut connection)?;
        let mut gaps = Gaps::new(seed, self.mean_gap);
        let mut took = Vec::new();
        let began = Instant::now();
        let mut due = began + gaps.next();
        while due < began + self.duration {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            self.ask(&mut connection)?;
            took.push(due.elapsed());
            due += gaps.next();
        }
        Ok(took)
    }

    /// One request and its answer, which has to be right.
    fn ask(&self, connection: &mut BufReader<TcpStream>) -> Result<(), Failure> {
        connection.get_mut().write_all(&self.request)?;
        let mut line = String::new();
        connection.read_line(&mut line)?;
        if !line.starts_with("HTTP/1.1 200 ") {
            return Err(format!("the answer begins with {line:?}").into());
        }
        let mut length = None;
        while line != "\r\n" {
            line.clear();
            if connection.read_line(&mut line)? == 0 {
                return Err("the answer ended in its head".into());
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse::<usize>()?);
            }
        }
        if length != Some(self.length) {
            return Err(format!("the answer has the length {length:?}").into());
        }
        let mut body = vec![0; self.length];
        connection.read_exact(&mut body)?;
        Ok(())
    }
}

/// The gaps of a Poisson process, the same in every run.
struct Gaps {
    state: u64,
    mean: f64,
}

impl Gaps {
    fn new(seed: u32, mean: f64) -> Self {
        // Spreads neighbouring seeds apart; any odd number with many bits does.
        let state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { state, mean }
    }

    /// Exponentially distributed, from a xorshift generator (Marsaglia 2003).
    fn next(&mut self) -> Duration {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        // 53 bits, and never 0, whose logarithm is infinite.
        let uniform = ((self.state >> 11) + 1) as f64 / (1u64 << 53) as f64;
        Duration::from_secs_f64(-uniform.ln() * self.mean)
    }
}

const PATIENCE: Duration = Duration::from_secs(15);
