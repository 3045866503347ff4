//! Every metric there is: its name, its kind, and what it says. Names are an interface:
//! `docs/metrics.md`, the alert rules and the dashboard are held against this list.

use prometheus_client::metrics::MetricType;

/// One metric family.
pub struct Family {
    /// Its name; for a counter without `_total`, which the encoder adds.
    pub name: &'static str,
    /// Counter, gauge, histogram or info.
    pub kind: MetricType,
    /// What it says, without a full stop.
    pub help: &'static str,
}

impl Family {
    /// The name under which samples appear.
    pub fn sample_name(&self) -> String {
        match self.kind {
            MetricType::Counter => format!("{}_total", self.name),
            MetricType::Info => format!("{}_info", self.name),
            _ => self.name.to_owned(),
        }
    }
}

macro_rules! families {
    ($($constant:ident = $kind:ident $name:literal: $help:literal;)*) => {
        $(pub const $constant: Family = Family {
            name: $name,
            kind: MetricType::$kind,
            help: $help,
        };)*
        /// All of them.
        pub const ALL: &[&Family] = &[$(&$constant),*];
    };
}

families! {
    BUILD = Info "mtlsd_build": "Version of mtlsd and of its TLS library";
    REQUESTS = Counter "mtlsd_requests": "Requests whose response has ended, by status code";
    DURATION = Histogram "mtlsd_request_duration_seconds": "From the end of a request's head to the end of its response";
    REQUEST_BYTES = Counter "mtlsd_request_body_bytes": "Bytes of request bodies passed to origins";
    RESPONSE_BYTES = Counter "mtlsd_response_body_bytes": "Bytes of response bodies passed to clients";
    IN_FLIGHT = Gauge "mtlsd_requests_in_flight": "Requests in flight";
    IN_FLIGHT_LIMIT = Gauge "mtlsd_requests_in_flight_limit": "max_requests_in_flight of the binding";
    ERRORS = Counter "mtlsd_request_errors": "Requests that failed at mtlsd, by RFC 9209 error type and cause";
    REFUSED = Counter "mtlsd_requests_refused": "Requests refused before their binding was known, by RFC 9209 error type";
    RETRIES = Counter "mtlsd_retries": "Requests sent to the origin once more, by reason";
    CLIENTS = Gauge "mtlsd_client_connections": "Open client connections";
    CUTOFFS = Counter "mtlsd_client_cutoffs": "Client connections closed over what the client did, by reason";
    CONNECTIONS = Gauge "mtlsd_connections": "Connections to origins, by protocol and state";
    CONNECTIONS_OUTDATED = Gauge "mtlsd_connections_outdated": "Connections to origins that still use a certificate which has been replaced";
    CONNECTIONS_LIMIT = Gauge "mtlsd_connections_limit": "max_connections of the binding";
    WAITERS = Gauge "mtlsd_connection_waiters": "Requests that wait for a connection to the origin";
    OPENED = Counter "mtlsd_connections_opened": "Connections to origins that were opened";
    CLOSED = Counter "mtlsd_connections_closed": "Connections to origins that were closed, by reason";
    HANDSHAKES = Counter "mtlsd_handshakes": "TLS handshakes with origins, by result";
    HANDSHAKE_FAILURES = Counter "mtlsd_handshake_failures": "Failed TLS handshakes, by the side that ended them and the reason";
    CERTIFICATE_REQUESTED = Counter "mtlsd_certificate_requested": "TLS handshakes, by whether the origin asked for a client certificate";
    CONNECT_DURATION = Histogram "mtlsd_connect_duration_seconds": "Time spent connecting to origins, by phase";
    NOT_BEFORE = Gauge "mtlsd_certificate_not_before_timestamp_seconds": "Start of the validity of the presented chain, in Unix seconds";
    EXPIRATION = Gauge "mtlsd_certificate_expiration_timestamp_seconds": "End of the validity of the presented chain, in Unix seconds: the earliest of its certificates";
    CERTIFICATE = Info "mtlsd_certificate": "Subject, issuer and serial number of the presented certificate";
    GENERATION = Gauge "mtlsd_certificate_generation": "How often the binding's certificate was loaded since the start";
    PUBLISHED = Gauge "mtlsd_certificate_published_timestamp_seconds": "When the certificate in use was loaded, in Unix seconds";
    RELOADS = Counter "mtlsd_certificate_reloads": "Loads of changed certificate files, by result";
    REJECTED = Gauge "mtlsd_certificate_rejected": "1 while the files on disk are rejected and the former certificate stays in use";
    LAST_REJECTION = Gauge "mtlsd_certificate_last_rejection_timestamp_seconds": "When certificate files were last rejected, in Unix seconds";
    REMARK = Gauge "mtlsd_certificate_remark": "1 for each thing that will be a problem with the certificate in use";
    CA_EXPIRATION = Gauge "mtlsd_ca_expiration_timestamp_seconds": "When the first CA certificate of a ca file expires, in Unix seconds";
    CRL_NEXT_UPDATE = Gauge "mtlsd_crl_next_update_timestamp_seconds": "When the first CRL of a crl file is out of date, in Unix seconds";
    ORIGIN_EXPIRATION = Gauge "mtlsd_origin_certificate_expiration_timestamp_seconds": "When the origin's own certificate expires, in Unix seconds, as last seen";
    CONFIG_SUCCESS = Gauge "mtlsd_config_last_reload_successful": "1 when the configuration files as they are now are in use";
    CONFIG_TIME = Gauge "mtlsd_config_last_reload_success_timestamp_seconds": "When the configuration in use was loaded, in Unix seconds";
    LOG_DROPPED = Counter "mtlsd_log_lines_dropped": "Log lines that could not be written, by stream";
    PANICS = Counter "mtlsd_panics": "Panics that were caught";
    WORKER_UP = Gauge "mtlsd_worker_up": "1 when the worker answered this scrape in time";
    WORKER_BUSY = Counter "mtlsd_worker_busy_seconds": "Time a worker thread was not waiting";
    CPU = Counter "process_cpu_seconds": "User and system CPU time";
    MEMORY = Gauge "process_resident_memory_bytes": "Resident memory";
    OPEN_FDS = Gauge "process_open_fds": "Open file descriptors";
    MAX_FDS = Gauge "process_max_fds": "Limit of open file descriptors";
    START_TIME = Gauge "process_start_time_seconds": "Start of the process, in Unix seconds";
    CLOCK = Gauge "process_clock_time_seconds": "The clock of this machine, in Unix seconds";
}
