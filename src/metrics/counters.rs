//! One binding's counters on one worker, and the values that are read from them.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// Upper bounds of the duration buckets, in seconds: OpenTelemetry's for HTTP durations.
pub const BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// The same bounds in nanoseconds, so that counting compares integers.
const BOUNDS: [u64; BUCKETS.len()] = [
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
];

/// Why a request was sent to its origin once more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RetryReason {
    /// The reused connection closed before the origin can have acted on the request.
    Closed,
    /// The origin did not process the stream (`REFUSED_STREAM`, or a `GOAWAY` for earlier ones).
    Refused,
    /// The origin responded with 421 (Misdirected Request).
    Misdirected,
    /// The origin rejected a certificate that has been renewed since.
    NewerCertificate,
}

/// Why a connection to an origin was closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Closed {
    /// It was idle for `idle_timeout`.
    Idle,
    /// It reached `max_connection_age`.
    Age,
    /// Its certificate was replaced.
    Certificate,
    /// The origin closed it, or it failed.
    Origin,
    /// Another origin or worker needed its place within `max_connections`.
    Reclaimed,
}

/// How a TLS handshake with an origin ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Handshake {
    /// A full handshake.
    Full,
    /// The session was resumed.
    Resumed,
    /// There is no connection.
    Failed,
}

/// The phases of connecting to an origin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ConnectPhase {
    /// Name lookup.
    Dns,
    /// The TCP handshake.
    Tcp,
    /// The TLS handshake.
    Tls,
}

impl RetryReason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 4] = [
        Self::Closed,
        Self::Refused,
        Self::Misdirected,
        Self::NewerCertificate,
    ];

    /// The value of the label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Refused => "refused_stream",
            Self::Misdirected => "misdirected",
            Self::NewerCertificate => "newer_certificate",
        }
    }
}

impl Closed {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Idle,
        Self::Age,
        Self::Certificate,
        Self::Origin,
        Self::Reclaimed,
    ];

    /// The value of the label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Age => "age",
            Self::Certificate => "certificate",
            Self::Origin => "origin",
            Self::Reclaimed => "reclaimed",
        }
    }
}

impl Handshake {
    /// Every result, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Full, Self::Resumed, Self::Failed];

    /// The value of the label `result`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Failed => "failed",
        }
    }
}

impl ConnectPhase {
    /// Every phase, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Dns, Self::Tcp, Self::Tls];

    /// The value of the label `phase`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// Counts durations by bucket. Written by one thread.
#[derive(Default, Debug)]
struct DurationCells {
    buckets: [Cell<u64>; BUCKETS.len() + 1],
    nanos: Cell<u64>,
}

/// The value of a histogram of durations.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Histogram {
    /// How many durations were in each bucket alone; the last is above every bound.
    pub buckets: [u64; BUCKETS.len() + 1],
    /// The sum of all durations, in seconds.
    pub seconds: f64,
}

/// What one binding counts on one worker. Made when the first request comes, so that a binding
/// nobody uses costs a pointer on each worker.
#[derive(Default, Debug)]
pub struct Counters {
    durations: DurationCells,
    codes: RefCell<Vec<(u16, u64)>>,
    request_bytes: Cell<u64>,
    response_bytes: Cell<u64>,
    retries: [Cell<u64>; RetryReason::ALL.len()],
    opened: Cell<u64>,
    closed: [Cell<u64>; Closed::ALL.len()],
    handshakes: [Cell<u64>; Handshake::ALL.len()],
    // By whether the origin asked for a client certificate.
    requested: [Cell<u64>; 2],
    rare: OnceCell<Box<Rare>>,
}

/// What healthy bindings never count.
#[derive(Default, Debug)]
struct Rare {
    errors: RefCell<BTreeMap<(&'static str, &'static str), u64>>,
    handshake_failures: RefCell<BTreeMap<(&'static str, &'static str), u64>>,
    last_failure: RefCell<Option<super::Failure>>,
    origins: RefCell<BTreeMap<Box<str>, OriginState>>,
}

/// What the last handshake with an origin showed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OriginState {
    /// When that was.
    pub at: SystemTime,
    /// End of its certificate's validity, where it could be read.
    pub not_after: Option<SystemTime>,
    /// What it asks of clients: no certificate, any certificate, or one by these CAs.
    pub asks: String,
}

/// How a worker reaches the counters of one binding, and its own.
#[derive(Default, Debug)]
pub struct Meter {
    counters: OnceCell<Box<Counters>>,
    connect: OnceCell<Box<[DurationCells; ConnectPhase::ALL.len()]>>,
}

impl Meter {
    /// The counters, made when they are first used.
    pub fn counters(&self) -> &Counters {
        self.counters.get_or_init(Box::default)
    }

    /// Counts one phase of connecting to an origin.
    pub fn connected(&self, phase: ConnectPhase, took: Duration) {
        self.connect.get_or_init(Box::default)[phase as usize].add(took);
    }

    /// The counts so far; `None` when the binding was never used on this worker.
    pub fn sample(&self) -> Option<BindingSample> {
        let mut sample = self.counters.get()?.sample();
        if let Some(connect) = self.connect.get() {
            sample.connect = connect.each_ref().map(DurationCells::value);
        }
        Some(sample)
    }
}

impl Counters {
    /// Counts a request whose response has ended.
    pub fn request(&self, code: u16, took: Duration) {
        self.durations.add(took);
        let mut codes = self.codes.borrow_mut();
        match codes.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += 1,
            None => codes.push((code, 1)),
        }
    }

    /// Counts body bytes that were passed on.
    pub fn bytes(&self, request: u64, response: u64) {
        add(&self.request_bytes, request);
        add(&self.response_bytes, response);
    }

    /// Counts a request that failed here: its RFC 9209 error type, and the word for its cause.
    pub fn error(&self, error: &'static str, cause: &'static str) {
        let mut errors = self.rare().errors.borrow_mut();
        *errors.entry((error, cause)).or_default() += 1;
    }

    /// Keeps the most recent failure that is not the client's.
    pub fn failed(&self, failure: super::Failure) {
        self.rare().last_failure.replace(Some(failure));
    }

    /// Counts a request that is sent once more.
    pub fn retry(&self, reason: RetryReason) {
        add(&self.retries[reason as usize], 1);
    }

    /// Counts a connection to an origin that is open now.
    pub fn opened(&self) {
        add(&self.opened, 1);
    }

    /// Counts connections to origins that are closed now.
    pub fn closed(&self, reason: Closed, count: u64) {
        add(&self.closed[reason as usize], count);
    }

    /// Counts a handshake that succeeded, and whether the origin asked for a client certificate.
    pub fn handshake(&self, result: Handshake, requested: bool) {
        add(&self.handshakes[result as usize], 1);
        add(&self.requested[usize::from(requested)], 1);
    }

    /// Counts a handshake that failed: by which side, and why.
    pub fn handshake_failed(&self, by: &'static str, reason: &'static str) {
        add(&self.handshakes[Handshake::Failed as usize], 1);
        *self
            .rare()
            .handshake_failures
            .borrow_mut()
            .entry((by, reason))
            .or_default() += 1;
    }

    /// Notes what a full handshake with an origin showed. Only for origins that the configuration
    /// names, so that their number is bounded.
    pub fn origin(&self, origin: &str, state: OriginState) {
        self.rare()
            .origins
            .borrow_mut()
            .insert(origin.into(), state);
    }

    fn rare(&self) -> &Rare {
        self.rare.get_or_init(Box::default)
    }

    fn sample(&self) -> BindingSample {
        let mut sample = BindingSample {
            durations: self.durations.value(),
            codes: self.codes.borrow().iter().copied().collect(),
            request_bytes: self.request_bytes.get(),
            response_bytes: self.response_bytes.get(),
            retries: self.retries.each_ref().map(Cell::get),
            opened: self.opened.get(),
            closed: self.closed.each_ref().map(Cell::get),
            handshakes: self.handshakes.each_ref().map(Cell::get),
            requested: self.requested.each_ref().map(Cell::get),
            ..BindingSample::default()
        };
        if let Some(rare) = self.rare.get() {
            sample.errors = rare.errors.borrow().clone();
            sample.handshake_failures = rare.handshake_failures.borrow().clone();
            sample.last_failure = rare.last_failure.borrow().clone();
            sample.origins = rare.origins.borrow().clone();
        }
        sample
    }
}

impl DurationCells {
    fn add(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().take_while(|bound| **bound < nanos).count();
        add(&self.buckets[bucket], 1);
        self.nanos.set(self.nanos.get().saturating_add(nanos));
    }

    fn value(&self) -> Histogram {
        Histogram {
            buckets: self.buckets.each_ref().map(Cell::get),
            seconds: Duration::from_nanos(self.nanos.get()).as_secs_f64(),
        }
    }
}

impl Histogram {
    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (sum, count) in self.buckets.iter_mut().zip(other.buckets) {
            *sum += count;
        }
        self.seconds += other.seconds;
    }

    /// The duration that this share of all durations does not exceed, in seconds, by linear
    /// interpolation within its bucket; `None` when nothing was counted, infinite above the last
    /// bound.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let wanted = share * count as f64;
        let mut below = 0.0;
        for (at, in_bucket) in self.buckets.iter().enumerate() {
            let in_bucket = *in_bucket as f64;
            if below + in_bucket >= wanted && in_bucket > 0.0 {
                let Some(upper) = BUCKETS.get(at) else { break };
                let lower = at.checked_sub(1).map_or(0.0, |at| BUCKETS[at]);
                return Some(lower + (upper - lower) * (wanted - below) / in_bucket);
            }
            below += in_bucket;
        }
        Some(f64::INFINITY)
    }
}

/// The connections of one binding on one worker at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Connections {
    /// HTTP/1.1 connections that carry a request.
    pub http1_active: usize,
    /// HTTP/1.1 connections that wait for one.
    pub http1_idle: usize,
    /// HTTP/2 connections that carry at least one request.
    pub http2_active: usize,
    /// HTTP/2 connections that carry none.
    pub http2_idle: usize,
    /// Connections that still use a certificate which has been replaced.
    pub outdated: usize,
}

/// What one binding counted on one worker, or on all of them.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct BindingSample {
    /// Requests by status code.
    pub codes: BTreeMap<u16, u64>,
    /// From the end of a request's head to the end of its response.
    pub durations: Histogram,
    /// Bytes of request bodies.
    pub request_bytes: u64,
    /// Bytes of response bodies.
    pub response_bytes: u64,
    /// By [`RetryReason`].
    pub retries: [u64; RetryReason::ALL.len()],
    /// Connections to origins that were opened.
    pub opened: u64,
    /// Connections to origins that were closed, by [`Closed`].
    pub closed: [u64; Closed::ALL.len()],
    /// By [`Handshake`].
    pub handshakes: [u64; Handshake::ALL.len()],
    /// Handshakes without and with a request for a client certificate.
    pub requested: [u64; 2],
    /// Failed requests by error type (RFC 9209) and cause.
    pub errors: BTreeMap<(&'static str, &'static str), u64>,
    /// Failed handshakes by side and reason.
    pub handshake_failures: BTreeMap<(&'static str, &'static str), u64>,
    /// The most recent failure.
    pub last_failure: Option<super::Failure>,
    /// What the configured origins showed in their last full handshake.
    pub origins: BTreeMap<Box<str>, OriginState>,
    /// By [`ConnectPhase`].
    pub connect: [Histogram; ConnectPhase::ALL.len()],
}

impl BindingSample {
    /// Adds what another worker counted.
    pub fn merge(&mut self, other: &Self) {
        for (code, count) in &other.codes {
            *self.codes.entry(*code).or_default() += count;
        }
        self.durations.merge(&other.durations);
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
        sum(&mut self.retries, &other.retries);
        self.opened += other.opened;
        sum(&mut self.closed, &other.closed);
        sum(&mut self.handshakes, &other.handshakes);
        sum(&mut self.requested, &other.requested);
        for (key, count) in &other.errors {
            *self.errors.entry(*key).or_default() += count;
        }
        for (key, count) in &other.handshake_failures {
            *self.handshake_failures.entry(*key).or_default() += count;
        }
        let later = match (&self.last_failure, &other.last_failure) {
            (Some(ours), Some(theirs)) => theirs.at > ours.at,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if later {
            self.last_failure.clone_from(&other.last_failure);
        }
        for (origin, theirs) in &other.origins {
            let known = self.origins.get(origin);
            if known.is_none_or(|ours| ours.at < theirs.at) {
                self.origins.insert(origin.clone(), theirs.clone());
            }
        }
        for (ours, theirs) in self.connect.iter_mut().zip(&other.connect) {
            ours.merge(theirs);
        }
    }

    /// Counts as closed by their origins the connections that are neither `open` nor were closed for
    /// another reason.
    pub fn count_lost(&mut self, open: Connections) {
        let open = open.http1_active
            + open.http1_idle
            + open.http2_active
            + open.http2_idle
            + open.outdated;
        let known: u64 = self.closed.iter().sum();
        self.closed[Closed::Origin as usize] = self.opened.saturating_sub(known + open as u64);
    }

    /// How many requests were counted.
    pub fn requests(&self) -> u64 {
        self.codes.values().sum()
    }
}

impl Connections {
    /// Adds what another worker has.
    pub fn merge(&mut self, other: Self) {
        self.http1_active += other.http1_active;
        self.http1_idle += other.http1_idle;
        self.http2_active += other.http2_active;
        self.http2_idle += other.http2_idle;
        self.outdated += other.outdated;
    }
}

/// How busy one binding is at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Load {
    /// Its connections.
    pub connections: Connections,
    /// Requests in flight, on all workers.
    pub in_flight: usize,
    /// Requests that wait for a connection, on all workers.
    pub waiting: usize,
}

/// What one worker reports.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Sample {
    /// By the binding's name; without counts when the worker has served none of its requests.
    pub bindings: Vec<(Box<str>, Option<BindingSample>, Load)>,
    /// Client connections.
    pub clients: usize,
    /// Time that the worker's thread was not waiting, in seconds.
    pub busy_seconds: f64,
}

fn add(cell: &Cell<u64>, more: u64) {
    cell.set(cell.get().wrapping_add(more));
}

fn sum<const N: usize>(ours: &mut [u64; N], theirs: &[u64; N]) {
    for (sum, count) in ours.iter_mut().zip(theirs) {
        *sum += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_that_holds_it() {
        let cells = DurationCells::default();
        for millis in [5, 6, 10, 11_000] {
            cells.add(Duration::from_millis(millis));
        }
        let value = cells.value();
        assert_eq!(value.buckets[..2], [1, 2]);
        assert_eq!(value.buckets[BUCKETS.len()], 1);
        assert_eq!(value.count(), 4);
        assert!((value.seconds - 11.021).abs() < 1e-9);
    }

    #[test]
    fn bounds_are_the_buckets_in_nanoseconds() {
        for (bound, bucket) in BOUNDS.iter().zip(BUCKETS) {
            assert_eq!(*bound, (bucket * 1e9).round() as u64);
        }
    }

    #[test]
    fn quantiles_are_interpolated_within_their_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        histogram.buckets[1] = 10;
        let median = histogram.quantile(0.5).unwrap();
        assert!((median - 0.0075).abs() < 1e-9, "{median}");
        histogram.buckets[BUCKETS.len()] = 1000;
        assert_eq!(histogram.quantile(0.99), Some(f64::INFINITY));
    }

    #[test]
    fn a_binding_that_is_not_used_costs_no_more_than_two_pointers() {
        assert!(size_of::<Meter>() <= 16);
        // Used, it stays below 400 bytes with its four most common status codes.
        let used = size_of::<Counters>() + 4 * size_of::<(u16, u64)>();
        assert!(used <= 400, "{used}");
    }

    #[test]
    fn samples_of_several_workers_add_up() {
        let failure = |at| super::super::Failure {
            at: std::time::UNIX_EPOCH + Duration::from_secs(at),
            error: "tls_alert_received",
            cause: "unknown_ca",
            message: at.to_string(),
            next_step: None,
        };
        let count = |codes: &[u16], at| {
            let meter = Meter::default();
            for code in codes {
                meter.counters().request(*code, Duration::from_millis(1));
            }
            meter.counters().error("tls_alert_received", "unknown_ca");
            meter.counters().failed(failure(at));
            meter.counters().retry(RetryReason::Closed);
            meter.sample().unwrap()
        };
        let mut sum = count(&[200, 200, 502], 2);
        sum.merge(&count(&[200, 404], 1));
        assert_eq!(sum.codes, BTreeMap::from([(200, 3), (404, 1), (502, 1)]));
        assert_eq!(sum.requests(), 5);
        assert_eq!(sum.errors[&("tls_alert_received", "unknown_ca")], 2);
        assert_eq!(sum.retries[RetryReason::Closed as usize], 2);
        assert_eq!(sum.last_failure.unwrap().message, "2");
    }
}
