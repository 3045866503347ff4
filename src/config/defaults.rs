//! What a key means when it is left out. `config/mtlsd.toml` shows every one of these.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::{Details, LogFormat, LogLevel, LogSettings, Protocol, Retry};

pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
pub const BODY_TIMEOUT: Duration = Duration::from_secs(60);
// Under the 75 s and 65 s after which nginx and Apache-like origins hang up, so that it is
// mostly mtlsd that closes first and no request meets a closing connection.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(55);
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
pub const CLIENT_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
pub const MAX_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
pub const MAX_REQUESTS_IN_FLIGHT: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
pub const MAX_CONNECTION_AGE: Duration = Duration::from_secs(3600);
pub const MAX_HEADER_SIZE: NonZeroUsize = NonZeroUsize::new(64 * 1024).expect("not zero");
pub const MAX_HEADER_FIELDS: NonZeroUsize = NonZeroUsize::new(1000).expect("not zero");
pub const PROTOCOL: Protocol = Protocol::Auto;
pub const RETRY: Retry = Retry::Safe;
pub const DETAILS: Details = Details::Full;
pub const REQUIRE_REQUEST: bool = false;
pub const POST_QUANTUM: bool = true;
pub const VIA: bool = true;
pub const FORWARDED: bool = false;
pub const REWRITE_LOCATION: bool = true;
pub const REWRITE_COOKIES: bool = false;
pub const ALLOW_PRIVATE: bool = false;
pub const EXPOSE: bool = false;
pub const LOG: LogSettings = LogSettings {
    level: LogLevel::Info,
    format: LogFormat::Auto,
    access: true,
};

/// The CPUs this process may use.
pub fn workers() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
