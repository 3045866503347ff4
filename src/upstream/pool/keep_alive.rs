//! What an HTTP/1.1 origin says of how long it keeps a connection: `Keep-Alive: timeout=5, max=99`.

use std::time::Duration;

use http::HeaderMap;

/// What the responses on one connection have said.
#[derive(Clone, Copy, Default, Debug)]
pub struct KeepAlive {
    timeout: Option<Duration>,
    most: Option<u32>,
    served: u32,
    counts_down: bool,
}

impl KeepAlive {
    /// Notes what one more response says.
    pub fn note(&mut self, headers: &HeaderMap) {
        self.served = self.served.saturating_add(1);
        if !headers.contains_key(NAME) {
            return;
        }
        let values = headers.get_all(NAME).iter();
        let values = values.filter_map(|value| value.to_str().ok());
        for parameter in values.flat_map(|value| value.split(',')) {
            let Some((name, value)) = parameter.split_once('=') else {
                continue;
            };
            let Ok(value) = value.trim().trim_matches('"').parse::<u32>() else {
                continue;
            };
            let name = name.trim();
            if name.eq_ignore_ascii_case("timeout") {
                self.timeout = Some(Duration::from_secs(value.into()));
            } else if name.eq_ignore_ascii_case("max") {
                self.counts_down |= self.most.is_some_and(|before| value < before);
                self.most = Some(value);
            }
        }
    }

    /// How long the connection may be idle; `None` where the origin does not say, zero where it takes
    /// no further request.
    pub fn idle(&self) -> Option<Duration> {
        let over = match self.most {
            // Apache counts down what is left.
            Some(left) if self.counts_down => left == 0,
            // Node says with each response how many there may be in all.
            Some(most) => most <= self.served,
            None => false,
        };
        match over {
            true => Some(Duration::ZERO),
            // What is sent at the last moment would meet the origin closing the connection.
            false => self
                .timeout
                .map(|timeout| timeout - MARGIN.min(timeout / 2)),
        }
    }
}

const NAME: &str = "keep-alive";
/// A connection is used for this much less than the origin keeps it.
const MARGIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_for_less_than_its_origin_says() {
        const NONE: Option<u64> = None;
        for (responses, idle) in [
            (&[""][..], NONE),
            (&["timeout=5"], Some(4000)),
            (&["timeout=1"], Some(500)),
            (&["timeout=0"], Some(0)),
            (&["Timeout = \"15\""], Some(14_000)),
            (&["timeout=5", "timeout=60"], Some(59_000)),
            (&["timeout=5, max=1000"], Some(4000)),
            (&["max=2"], NONE),
            (&["max=1"], Some(0)),
            (&["max=0"], Some(0)),
            // The number of all requests.
            (&["max=3", "max=3"], NONE),
            (&["max=3", "max=3", "max=3"], Some(0)),
            // The number of requests that are left.
            (&["max=3", "max=2", "max=1"], NONE),
            (&["max=3", "max=2", "max=1", "max=0"], Some(0)),
            (&["timeout=x, max=-1, nothing"], NONE),
            (&["timeout=99999999999"], NONE),
        ] {
            let mut keep_alive = KeepAlive::default();
            for value in responses {
                let mut headers = HeaderMap::new();
                if !value.is_empty() {
                    headers.insert(NAME, value.parse().unwrap());
                }
                keep_alive.note(&headers);
            }
            let idle = idle.map(Duration::from_millis);
            assert_eq!(keep_alive.idle(), idle, "{responses:?}");
        }
    }
}
