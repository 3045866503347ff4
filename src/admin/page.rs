//! The page: a [`Status`] as HTML. Complete without JavaScript; with it, the page keeps itself up to
//! date. It is read-only, and everything that comes from outside is text.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::span::{bytes, duration, rate, relative, span};
use super::status::{Binding, Certificate, Health, Status};

/// What to show of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// Only bindings with this in their name, origin or subject.
    pub search: String,
    /// The page, from 1.
    pub page: usize,
    /// Whether only the content is wanted, for a page that updates itself.
    pub is_update: bool,
}

/// A page, and the Content-Security-Policy that it needs.
pub struct Page {
    /// The HTML.
    pub html: String,
    /// The value of `Content-Security-Policy`.
    pub policy: String,
}

impl View {
    /// Reads the query `q=SEARCH&page=NUMBER&part=content`.
    pub fn parse(query: &str) -> Self {
        let mut view = Self {
            search: String::new(),
            page: 1,
            is_update: false,
        };
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some(("q", value)) => view.search = decoded(value),
                Some(("page", value)) => view.page = value.parse().unwrap_or(1).max(1),
                Some(("part", "content")) => view.is_update = true,
                _ => {}
            }
        }
        view
    }

    fn shows(&self, binding: &Binding) -> bool {
        let wanted = self.search.to_lowercase();
        [
            Some(&binding.name),
            binding.origin.as_ref(),
            Some(&binding.certificate.subject),
        ]
        .into_iter()
        .flatten()
        .any(|text| text.to_lowercase().contains(&wanted))
    }

    fn link(&self, page: usize) -> String {
        format!("/?q={}&page={page}", encoded(&self.search))
    }
}

/// Renders the page.
pub fn render(status: &Status, view: &View) -> Page {
    if view.is_update {
        let html = html! {
            title { (title(status)) }
            main #content { (content(status, view)) }
        };
        return Page {
            html: html.into_string(),
            policy: "default-src 'none'".to_owned(),
        };
    }
    let nonce = nonce();
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    );
    let html = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title(status)) }
                link rel="icon" href="data:,";
                noscript { meta http-equiv="refresh" content="10"; }
                style nonce=(nonce) { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "mtlsd" }
                    @if status.bindings.len() > 1 || !view.search.is_empty() {
                        form role="search" action="/" {
                            label for="q" { "Search" }
                            input #q name="q" type="search" value=(view.search) autocomplete="off";
                            button { "Search" }
                        }
                    }
                }
                main #content { (content(status, view)) }
                script nonce=(nonce) { (PreEscaped(SCRIPT)) }
            }
        }
    };
    Page {
        html: html.into_string(),
        policy,
    }
}

/// The title tells trouble in a tab that is in the background.
fn title(status: &Status) -> String {
    let bad = |health: Health| {
        let bindings = status.bindings.iter();
        bindings.filter(|binding| binding.health == health).count()
    };
    match (bad(Health::Error), bad(Health::Warning)) {
        (0, 0) => "mtlsd".to_owned(),
        (0, warnings) => format!("({warnings} need attention) mtlsd"),
        (errors, _) => format!("({errors} failing) mtlsd"),
    }
}

fn content(status: &Status, view: &View) -> Markup {
    let mut shown: Vec<&Binding> = status.bindings.iter().filter(|b| view.shows(b)).collect();
    // Trouble first, then what expires first.
    shown.sort_by(|a, b| {
        let used = |binding: &Binding| binding.certificate.lifetime_used;
        (a.health.cmp(&b.health)).then(used(b).total_cmp(&used(a)))
    });
    let pages = shown.len().div_ceil(PER_PAGE).max(1);
    let page = view.page.min(pages);
    let start = (page - 1) * PER_PAGE;
    html! {
        (summary(status))
        @if let Some(rejected) = &status.config.rejected {
            div .banner role="alert" {
                strong { "The configuration on disk has been rejected for " (span(status.at - rejected.since)) "." }
                pre { (rejected.reason) }
                @if let Some(help) = &rejected.help { p { (help) } }
            }
        }
        @for (number, _) in status.workers.iter().enumerate().filter(|(_, worker)| !worker.up) {
            p .banner role="alert" { "Worker " (number) " does not answer." }
        }
        @if shown.is_empty() {
            p { "No binding matches \"" (view.search) "\". " a href="/" { "Show all" } }
        }
        @for binding in shown.iter().skip(start).take(PER_PAGE) {
            (card(binding, status.at))
        }
        @if pages > 1 {
            nav aria-label="Pages" {
                @if page > 1 { a href=(view.link(page - 1)) { "Previous" } }
                span { "Page " (page) " of " (pages) }
                @if page < pages { a href=(view.link(page + 1)) { "Next" } }
            }
        }
    }
}

fn summary(status: &Status) -> Markup {
    let clients: usize = status.workers.iter().map(|w| w.client_connections).sum();
    let process = &status.process;
    html! {
        p .summary {
            @if status.ready { "Serving " } @else { strong { "Draining. " } }
            (status.bindings.len()) @if status.bindings.len() == 1 { " binding" } @else { " bindings" }
            " · up " (span(status.at - status.started))
            " · version " (status.mtlsd)
            " · " (status.workers.len()) @if status.workers.len() == 1 { " worker" } @else { " workers" }
            " · " (clients) " client connections"
            " · " (bytes(process.resident_bytes)) " of memory"
            " · " (process.open_fds) " of " (process.max_fds) " descriptors"
            @if process.log_lines_dropped > 0 {
                " · " strong { (process.log_lines_dropped) " log lines dropped" }
            }
            @if !status.config.files.is_empty() {
                " · configuration " code { (status.config.files.join(", ")) }
                @if let Some(since) = status.config.used_since {
                    " in use for " (span(status.at - since))
                }
            }
        }
    }
}

fn card(binding: &Binding, now: f64) -> Markup {
    let (class, word) = match binding.health {
        Health::Ok => ("ok", "OK"),
        Health::Warning => ("warning", "Needs attention"),
        Health::Error => ("error", "Failing"),
    };
    let id = format!("binding-{}", binding.name);
    html! {
        section class={ "card " (class) } aria-labelledby=(id) {
            h2 id=(id) { (binding.name) " " span .health { (word) } }
            p {
                code { (binding.listen.join(" ")) }
                @if let Some(origin) = &binding.origin { " → " code { (origin) } }
            }
            @if let Some(rejected) = &binding.certificate.rejected {
                div .banner role="alert" {
                    strong { "Newer files have been rejected for " (span(now - rejected.since)) ": " }
                    (rejected.reason)
                    @if let Some(help) = &rejected.help { p { (help) } }
                    p { "In use: serial " code { (binding.certificate.serial) } "." }
                }
            }
            @if other_problems(binding).next().is_some() {
                ul .problems { @for problem in other_problems(binding) { li { (problem) } } }
            }
            (lifetime(&binding.certificate, now))
            (traffic(binding))
            (failure(binding, now))
            (details(binding, now))
        }
    }
}

/// What is wrong, but for what the banner says.
fn other_problems(binding: &Binding) -> impl Iterator<Item = &String> {
    let rejected = binding.certificate.rejected.as_ref();
    let problems = binding.problems.iter();
    problems.filter(move |problem| !rejected.is_some_and(|one| problem.ends_with(&one.reason)))
}

/// The certificate's lifetime as a bar, with the marks of renewal.
fn lifetime(certificate: &Certificate, now: f64) -> Markup {
    let used = certificate.lifetime_used;
    let class = match used {
        u if u < 0.8 => "calm",
        u if u < 0.95 => "late",
        _ => "over",
    };
    let text = if certificate.expires_in_seconds <= 0.0 {
        format!("expired {}", relative(certificate.expires_in_seconds))
    } else if used < 0.0 {
        format!("valid {}", relative(certificate.not_before - now))
    } else {
        format!(
            "expires {} ({:.0} % of its lifetime used)",
            relative(certificate.expires_in_seconds),
            used * 100.0
        )
    };
    let width = (used * 100.0).clamp(0.0, 100.0);
    html! {
        p .lifetime {
            span title=(date(certificate.not_after)) { (text) }
            ", serial " code .serial { (certificate.serial) }
            ", generation " span .generation { (certificate.generation) }
        }
        svg .bar class=(class) viewBox="0 0 100 4" preserveAspectRatio="none" role="img" aria-label=(text) {
            rect .whole width="100" height="4" {}
            rect .used width=(format!("{width:.2}")) height="4" {}
            // Renewal is usual at two thirds, and late at four fifths.
            rect .mark x="66.6" width="0.3" height="4" {}
            rect .mark x="80" width="0.3" height="4" {}
        }
    }
}

fn traffic(binding: &Binding) -> Markup {
    let requests = &binding.requests;
    let connections = &binding.connections;
    html! {
        dl .figures {
            div { dt { "Requests/s" } dd { (rate(requests.per_second)) } }
            div { dt { "p50" } dd { (requests.p50_seconds.map_or("–".to_owned(), duration)) } }
            div { dt { "p99" } dd { (requests.p99_seconds.map_or("–".to_owned(), duration)) } }
            div { dt { "In flight" } dd { (requests.in_flight) " / " (requests.in_flight_limit) } }
            div { dt { "Connections" } dd {
                (connections.active) " active, " (connections.idle) " idle / " (connections.limit)
            } }
            @if connections.waiting > 0 { div { dt { "Waiting" } dd { (connections.waiting) } } }
            @if connections.outdated > 0 {
                div { dt { "On the former certificate" } dd { (connections.outdated) } }
            }
            div .wide { dt { "Last five minutes" } dd { (chart(&requests.chart)) } }
        }
    }
}

/// Requests in each interval as bars, failures in another color at their foot.
fn chart(points: &[(u64, u64)]) -> Markup {
    let most = points
        .iter()
        .map(|(requests, _)| *requests)
        .max()
        .unwrap_or(0);
    let failed: u64 = points.iter().map(|(_, failed)| failed).sum();
    let total: u64 = points.iter().map(|(requests, _)| requests).sum();
    let label = format!("{total} requests in the last five minutes, {failed} of them failed");
    let height = |count: u64| (count * 20).div_ceil(most.max(1));
    let first = super::history::POINTS.saturating_sub(points.len());
    html! {
        svg .chart viewBox="0 0 60 20" preserveAspectRatio="none" role="img" aria-label=(label) {
            @for (at, (requests, failed)) in points.iter().enumerate() {
                @let (tall, bad) = (height(*requests), height(*failed));
                rect .requests x=(first + at) y=(20 - tall) width="0.8" height=(tall) {}
                rect .failed x=(first + at) y=(20 - bad) width="0.8" height=(bad) {}
            }
        }
    }
}

fn failure(binding: &Binding, now: f64) -> Markup {
    html! {
        @if let Some(failure) = &binding.last_failure {
            p .failure {
                strong { "Last failed request, " (relative(failure.at - now)) ": " }
                (failure.message) " (" code { (failure.error) } ", " code { (failure.cause) } ")"
            }
            @if let Some(step) = &failure.next_step { p .next { "Next step: " (step) } }
        }
    }
}

fn details(binding: &Binding, now: f64) -> Markup {
    let certificate = &binding.certificate;
    html! {
        details id={ "details-" (binding.name) } {
            summary { "Certificate, rotations, origin" }
            table {
                tr { th scope="row" { "Subject" } td { (certificate.subject) } }
                tr { th scope="row" { "Issuer" } td { (certificate.issuer) } }
                tr { th scope="row" { "Valid" } td {
                    (moment(certificate.not_before, now)) " to " (moment(certificate.not_after, now))
                } }
                tr { th scope="row" { "Source" } td { code { (certificate.source) } } }
                @for rotation in certificate.rotations.iter().rev() {
                    tr { th scope="row" { "Generation " (rotation.generation) } td {
                        "serial " code { (rotation.serial) } ", " (moment(rotation.at, now))
                    } }
                }
                @for origin in &binding.origins {
                    tr { th scope="row" { (origin.origin) } td {
                        (origin.asks)
                        @if let Some(not_after) = origin.not_after {
                            "; its own certificate expires " (relative(not_after - now))
                        }
                    } }
                }
                @if let Some(expires) = certificate.ca_expires {
                    tr { th scope="row" { "CA file" } td { "expires " (relative(expires - now)) } }
                }
                @if let Some(expires) = certificate.crl_expires {
                    tr { th scope="row" { "CRL file" } td { "next update due " (relative(expires - now)) } }
                }
                tr { th scope="row" { "Responses" } td {
                    @for (code, count) in &binding.requests.by_code { (code) ": " (count) " " }
                } }
                tr { th scope="row" { "Handshakes" } td {
                    @for (result, count) in &binding.handshakes.by_result { (count) " " (result) " " }
                } }
                tr { th scope="row" { "Try it" } td { code { (binding.curl) } } }
            }
        }
    }
}

/// A moment, in words and with its date.
fn moment(at: f64, now: f64) -> Markup {
    let date = date(at);
    html! { time datetime=(date) title=(date) { (relative(at - now)) } }
}

/// A moment as RFC 3339 writes it.
fn date(at: f64) -> String {
    let seconds = std::time::Duration::try_from_secs_f64(at).unwrap_or_default();
    // Beyond the year 9999 there is no such date.
    let latest = std::time::Duration::from_secs(253_402_300_799);
    let moment = std::time::SystemTime::UNIX_EPOCH + seconds.min(latest);
    humantime::format_rfc3339_seconds(moment).to_string()
}

fn nonce() -> String {
    let mut bytes = [0; 16];
    // Without random bytes the page has no script and no style, which is better than a known nonce.
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(_) => data_encoding::BASE64.encode(&bytes),
        Err(_) => String::new(),
    }
}

/// Undoes percent-encoding and `+` of a query value.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let pair: Vec<u8> = rest.by_ref().take(2).collect();
                let hex = std::str::from_utf8(&pair).unwrap_or_default();
                bytes.extend(u8::from_str_radix(hex, 16));
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn encoded(value: &str) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// Bindings on one page.
const PER_PAGE: usize = 100;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_written() {
        let view = View::parse("q=a%20b%2Bc+d&page=3");
        assert_eq!((view.search.as_str(), view.page), ("a b+c d", 3));
        assert_eq!(view.link(2), "/?q=a%20b%2Bc%20d&page=2");
        assert_eq!(View::parse("page=x&q=%zz%").page, 1);
    }

    #[test]
    fn dates_that_cannot_be_written_are_the_nearest_that_can() {
        assert_eq!(date(0.0), "1970-01-01T00:00:00Z");
        assert_eq!(date(-5.0), "1970-01-01T00:00:00Z");
        assert_eq!(date(1e18), "9999-12-31T23:59:59Z");
        assert_eq!(date(f64::NAN), "1970-01-01T00:00:00Z");
    }
}
