//! A [`Report`] as metrics, in the format that the scraper asks for.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

use crate::metrics::{
    BUCKETS, BindingSample, BindingState, CUTOFF_REASONS, Closed, ConnectPhase, Handshake,
    Histogram, Load, RetryReason,
};

use super::families::{self, Family};
use super::report::Report;

/// The text of `/metrics` and its content type. OpenMetrics where `accept` asks for it, the older
/// text format otherwise.
///
/// # Errors
///
/// When the text cannot be encoded.
pub fn encode(report: Arc<Report>, accept: &str) -> Result<(String, &'static str), fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Metrics(report)));
    let mut out = String::new();
    if accept.contains("application/openmetrics-text") {
        text::encode(&mut out, &registry)?;
        return Ok((out, OPENMETRICS));
    }
    prometheus_text::encode(&mut out, &registry)?;
    Ok((out, prometheus_text::CONTENT_TYPE))
}

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug)]
struct Metrics(Arc<Report>);

type Label<'a> = (&'a str, &'a str);

/// Writes one family after the other.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn write(
        &mut self,
        family: &Family,
        samples: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let mut encoder = self
            .0
            .encode_descriptor(family.name, family.help, None, family.kind)?;
        samples(&mut encoder)
    }

    /// A family of one sample without labels.
    fn gauge(&mut self, family: &Family, value: f64) -> fmt::Result {
        self.write(family, |encoder| encoder.encode_gauge(&value))
    }

    fn counter(&mut self, family: &Family, value: f64) -> fmt::Result {
        self.write(family, |encoder| {
            encoder.encode_counter::<NoLabelSet, _, f64>(&value, None)
        })
    }
}

fn gauge(encoder: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, value: f64) -> fmt::Result {
    encoder.encode_family(labels)?.encode_gauge(&value)
}

fn counter(
    encoder: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    value: u64,
) -> fmt::Result {
    encoder
        .encode_family(labels)?
        .encode_counter::<NoLabelSet, _, f64>(&value, None)
}

fn histogram(
    encoder: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    value: &Histogram,
) -> fmt::Result {
    let bounds = BUCKETS.iter().copied().chain([f64::MAX]);
    let buckets: Vec<_> = bounds.zip(value.buckets).collect();
    encoder
        .encode_family(labels)?
        .encode_histogram::<NoLabelSet>(value.seconds, value.count(), &buckets, None)
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let report = &*self.0;
        let mut families = Families(encoder);
        requests(&mut families, report)?;
        connections(&mut families, report)?;
        handshakes(&mut families, report)?;
        certificates(&mut families, report)?;
        process(&mut families, report)
    }
}

/// The bindings with their counts, in the order of the configuration.
fn each(
    report: &Report,
) -> impl Iterator<Item = (&str, &BindingState, Option<&BindingSample>, &Load)> {
    report.board.bindings.iter().filter_map(|binding| {
        let (sample, load) = report.bindings.get(&binding.name)?;
        Some((&*binding.name, binding, sample.as_ref(), load))
    })
}

/// Those of them that were used.
fn used(report: &Report) -> impl Iterator<Item = (&str, &BindingSample)> {
    each(report).filter_map(|(name, _, sample, _)| Some((name, sample?)))
}

/// Status codes whose series exist from the start, so that an alert sees their first increase.
const INITIAL_CODES: [u16; 4] = [200, 502, 503, 504];

fn requests(families: &mut Families<'_>, report: &Report) -> fmt::Result {
    families.write(&families::REQUESTS, |encoder| {
        for (binding, _, sample, _) in each(report) {
            let empty = BindingSample::default();
            let mut codes = sample.unwrap_or(&empty).codes.clone();
            for code in INITIAL_CODES {
                codes.entry(code).or_default();
            }
            for (code, count) in codes {
                let code = code.to_string();
                counter(encoder, &[("binding", binding), ("code", &code)], count)?;
            }
        }
        Ok(())
    })?;
    families.write(&families::DURATION, |encoder| {
        for (binding, sample) in used(report) {
            histogram(encoder, &[("binding", binding)], &sample.durations)?;
        }
        Ok(())
    })?;
    families.write(&families::REQUEST_BYTES, |encoder| {
        for (binding, sample) in used(report) {
            counter(encoder, &[("binding", binding)], sample.request_bytes)?;
        }
        Ok(())
    })?;
    families.write(&families::RESPONSE_BYTES, |encoder| {
        for (binding, sample) in used(report) {
            counter(encoder, &[("binding", binding)], sample.response_bytes)?;
        }
        Ok(())
    })?;
    families.write(&families::IN_FLIGHT, |encoder| {
        for (binding, _, _, load) in each(report) {
            gauge(encoder, &[("binding", binding)], load.in_flight as f64)?;
        }
        Ok(())
    })?;
    families.write(&families::IN_FLIGHT_LIMIT, |encoder| {
        for (binding, state, _, _) in each(report) {
            gauge(
                encoder,
                &[("binding", binding)],
                state.in_flight_limit as f64,
            )?;
        }
        Ok(())
    })?;
    families.write(&families::ERRORS, |encoder| {
        for (binding, sample) in used(report) {
            for ((error, cause), count) in &sample.errors {
                let labels = [("binding", binding), ("error", error), ("cause", cause)];
                counter(encoder, &labels, *count)?;
            }
        }
        Ok(())
    })?;
    families.write(&families::REFUSED, |encoder| {
        for (error, count) in &report.process.refused {
            counter(encoder, &[("error", *error)], *count)?;
        }
        Ok(())
    })?;
    families.write(&families::RETRIES, |encoder| {
        for (binding, sample) in used(report) {
            for (reason, count) in RetryReason::ALL.iter().zip(sample.retries) {
                let labels = [("binding", binding), ("reason", reason.label())];
                counter(encoder, &labels, count)?;
            }
        }
        Ok(())
    })
}

fn connections(families: &mut Families<'_>, report: &Report) -> fmt::Result {
    families.write(&families::CLIENTS, |encoder| {
        let open: usize = report.workers.iter().map(|w| w.sample.clients).sum();
        encoder.encode_gauge(&(open as f64))
    })?;
    families.write(&families::CUTOFFS, |encoder| {
        for reason in CUTOFF_REASONS {
            let count = report.process.cutoffs.get(reason).copied();
            counter(encoder, &[("reason", reason)], count.unwrap_or_default())?;
        }
        Ok(())
    })?;
    families.write(&families::CONNECTIONS, |encoder| {
        for (binding, _, _, load) in each(report) {
            let open = load.connections;
            for (protocol, state, count) in [
                ("http1", "active", open.http1_active),
                ("http1", "idle", open.http1_idle),
                ("http2", "active", open.http2_active),
                ("http2", "idle", open.http2_idle),
            ] {
                let labels = [
                    ("binding", binding),
                    ("protocol", protocol),
                    ("state", state),
                ];
                gauge(encoder, &labels, count as f64)?;
            }
        }
        Ok(())
    })?;
    families.write(&families::CONNECTIONS_OUTDATED, |encoder| {
        for (binding, _, _, load) in each(report) {
            let outdated = load.connections.outdated as f64;
            gauge(encoder, &[("binding", binding)], outdated)?;
        }
        Ok(())
    })?;
    families.write(&families::CONNECTIONS_LIMIT, |encoder| {
        for (binding, state, _, _) in each(report) {
            let limit = state.connections_limit as f64;
            gauge(encoder, &[("binding", binding)], limit)?;
        }
        Ok(())
    })?;
    families.write(&families::WAITERS, |encoder| {
        for (binding, _, _, load) in each(report) {
            gauge(encoder, &[("binding", binding)], load.waiting as f64)?;
        }
        Ok(())
    })?;
    families.write(&families::OPENED, |encoder| {
        for (binding, sample) in used(report) {
            counter(encoder, &[("binding", binding)], sample.opened)?;
        }
        Ok(())
    })?;
    families.write(&families::CLOSED, |encoder| {
        for (binding, sample) in used(report) {
            for (reason, count) in Closed::ALL.iter().zip(sample.closed) {
                let labels = [("binding", binding), ("reason", reason.label())];
                counter(encoder, &labels, count)?;
            }
        }
        Ok(())
    })?;
    families.write(&families::CONNECT_DURATION, |encoder| {
        for phase in ConnectPhase::ALL {
            let mut sum = Histogram::default();
            for (_, sample) in used(report) {
                sum.merge(&sample.connect[phase as usize]);
            }
            histogram(encoder, &[("phase", phase.label())], &sum)?;
        }
        Ok(())
    })
}

fn handshakes(families: &mut Families<'_>, report: &Report) -> fmt::Result {
    families.write(&families::HANDSHAKES, |encoder| {
        for (binding, _, sample, _) in each(report) {
            let counts = sample.map(|sample| sample.handshakes).unwrap_or_default();
            for (result, count) in Handshake::ALL.iter().zip(counts) {
                let labels = [("binding", binding), ("result", result.label())];
                counter(encoder, &labels, count)?;
            }
        }
        Ok(())
    })?;
    families.write(&families::HANDSHAKE_FAILURES, |encoder| {
        for (binding, _, sample, _) in each(report) {
            // The pair that an alert watches exists from the start.
            let mut seen = false;
            for ((by, reason), count) in sample.iter().flat_map(|s| &s.handshake_failures) {
                seen |= (*by, *reason) == INITIAL_FAILURE;
                let labels = [("binding", binding), ("by", by), ("reason", reason)];
                counter(encoder, &labels, *count)?;
            }
            if !seen {
                let (by, reason) = INITIAL_FAILURE;
                let labels = [("binding", binding), ("by", by), ("reason", reason)];
                counter(encoder, &labels, 0)?;
            }
        }
        Ok(())
    })?;
    families.write(&families::CERTIFICATE_REQUESTED, |encoder| {
        for (binding, sample) in used(report) {
            for (requested, count) in ["false", "true"].into_iter().zip(sample.requested) {
                let labels = [("binding", binding), ("requested", requested)];
                counter(encoder, &labels, count)?;
            }
        }
        Ok(())
    })
}

/// The handshake failure whose series exists from the start.
const INITIAL_FAILURE: (&str, &str) = ("origin", "unknown_ca");

fn certificates(families: &mut Families<'_>, report: &Report) -> fmt::Result {
    let mut each_gauge = |family: &Family, value: fn(&BindingState) -> Option<f64>| {
        families.write(family, |encoder| {
            for (binding, state, _, _) in each(report) {
                if let Some(value) = value(state) {
                    gauge(encoder, &[("binding", binding)], value)?;
                }
            }
            Ok(())
        })
    };
    each_gauge(&families::NOT_BEFORE, |state| {
        Some(unix(state.certificate.not_before))
    })?;
    each_gauge(&families::EXPIRATION, |state| {
        Some(unix(state.certificate.not_after))
    })?;
    each_gauge(&families::GENERATION, |state| {
        Some(state.certificate.generation as f64)
    })?;
    each_gauge(&families::PUBLISHED, |state| {
        Some(unix(state.certificate.published))
    })?;
    each_gauge(&families::REJECTED, |state| {
        Some(f64::from(u8::from(state.certificate.rejected.is_some())))
    })?;
    each_gauge(&families::LAST_REJECTION, |state| {
        state.certificate.last_rejection.map(unix)
    })?;
    each_gauge(&families::CA_EXPIRATION, |state| {
        state
            .certificate
            .ca_expires
            .as_ref()
            .map(|expiry| unix(expiry.at))
    })?;
    each_gauge(&families::CRL_NEXT_UPDATE, |state| {
        state
            .certificate
            .crl_expires
            .as_ref()
            .map(|expiry| unix(expiry.at))
    })?;
    families.write(&families::CERTIFICATE, |encoder| {
        for (binding, state, _, _) in each(report) {
            let identity = &state.certificate.identity;
            let labels: [Label<'_>; 4] = [
                ("binding", binding),
                ("subject", &identity.subject),
                ("issuer", &identity.issuer),
                ("serial", &identity.serial),
            ];
            encoder.encode_info(&labels)?;
        }
        Ok(())
    })?;
    families.write(&families::RELOADS, |encoder| {
        for (binding, state, _, _) in each(report) {
            let results = ["published", "rejected"].into_iter();
            for (result, count) in results.zip(state.certificate.reloads) {
                counter(encoder, &[("binding", binding), ("result", result)], count)?;
            }
        }
        Ok(())
    })?;
    families.write(&families::REMARK, |encoder| {
        for (binding, state, _, _) in each(report) {
            let mut kinds: Vec<_> = state.certificate.notes.iter().map(|n| n.kind).collect();
            kinds.sort_unstable();
            kinds.dedup();
            for kind in kinds {
                gauge(encoder, &[("binding", binding), ("remark", kind)], 1.0)?;
            }
        }
        Ok(())
    })?;
    families.write(&families::ORIGIN_EXPIRATION, |encoder| {
        for (binding, sample) in used(report) {
            for (origin, state) in &sample.origins {
                if let Some(not_after) = state.not_after {
                    let labels = [("binding", binding), ("origin", origin)];
                    gauge(encoder, &labels, unix(not_after))?;
                }
            }
        }
        Ok(())
    })
}

fn process(families: &mut Families<'_>, report: &Report) -> fmt::Result {
    let config = &report.board.config;
    families.write(&families::BUILD, |encoder| {
        encoder.encode_info(&[
            ("version", env!("CARGO_PKG_VERSION")),
            ("tls", "rustls with aws-lc-rs"),
        ])
    })?;
    let successful = f64::from(u8::from(config.rejected.is_none()));
    families.gauge(&families::CONFIG_SUCCESS, successful)?;
    if let Some(since) = config.used_since {
        families.gauge(&families::CONFIG_TIME, unix(since))?;
    }
    families.write(&families::LOG_DROPPED, |encoder| {
        let streams = ["diagnostics", "access"].into_iter();
        for (stream, count) in streams.zip(report.process.dropped) {
            counter(encoder, &[("stream", stream)], count)?;
        }
        Ok(())
    })?;
    families.counter(&families::PANICS, report.process.panics as f64)?;
    families.write(&families::WORKER_UP, |encoder| {
        for (number, worker) in report.workers.iter().enumerate() {
            let number = number.to_string();
            let up = f64::from(u8::from(worker.up));
            gauge(encoder, &[("worker", number.as_str())], up)?;
        }
        Ok(())
    })?;
    families.write(&families::WORKER_BUSY, |encoder| {
        for (number, worker) in report.workers.iter().enumerate() {
            let number = number.to_string();
            encoder
                .encode_family(&[("worker", number.as_str())])?
                .encode_counter::<NoLabelSet, _, f64>(&worker.sample.busy_seconds, None)?;
        }
        Ok(())
    })?;
    let system = &report.system;
    families.counter(&families::CPU, system.cpu.as_secs_f64())?;
    families.gauge(&families::MEMORY, system.resident_bytes as f64)?;
    families.gauge(&families::OPEN_FDS, system.open_fds as f64)?;
    families.gauge(&families::MAX_FDS, system.max_fds as f64)?;
    if let Some(started) = system.started {
        families.gauge(&families::START_TIME, unix(started))?;
    }
    families.gauge(&families::CLOCK, unix(report.at))
}

/// Seconds since 1970, negative before.
pub fn unix(at: SystemTime) -> f64 {
    match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(error) => -Duration::as_secs_f64(&error.duration()),
    }
}
