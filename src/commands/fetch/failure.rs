//! How `mtlsd fetch` fails, and the exit code that curl has for it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;

use crate::app::{OnceError, SendError};
use crate::error::{Failure, ForwardError};

use super::super::given::GivenError;
use super::super::usage::UsageError;
use super::super::{Exit, chain};
use crate::{printable, terminal};

/// Why there is no answer to print, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Given(#[from] GivenError),
    #[error(transparent)]
    Load(#[from] OnceError),
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("cannot read what is to be sent")]
    Upload(#[source] io::Error),
    #[error("cannot write to {0}")]
    Write(String, #[source] io::Error),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Send(#[from] SendError),
    /// mtlsd's own answer, and the text that explains it.
    #[error("{}", .1.trim_end())]
    Forward(ForwardError, String),
    #[error("the origin answered {0}")]
    Status(StatusCode),
    /// The origin complains about a certificate; the diagnosis has been printed.
    #[error("the origin rejected the client certificate")]
    Complaint,
    #[error("the answer broke off")]
    BrokenOff(#[source] hyper::Error),
    #[error("it took longer than {}", humantime::format_duration(*.0))]
    TooSlow(Duration),
}

impl FetchError {
    /// Prints it to stderr, if that was not done yet.
    pub fn print(&self) {
        match self {
            Self::Complaint => {}
            // These come as they are to be read, with several lines.
            Self::Forward(..) => eprintln!("{self}"),
            Self::Load(OnceError::Config(error)) => terminal::eprint_styled(&error.render()),
            Self::Given(_) | Self::Usage(_) => eprintln!("mtlsd: {self}"),
            error => eprintln!("mtlsd: {}", printable::escape(&chain(error))),
        }
    }

    /// How the process ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Given(error) => error.exit(),
            Self::Complaint => Exit::Curl(58),
            Self::Load(OnceError::Config(error)) if error.may_pass() => Exit::Failure,
            Self::Load(OnceError::Config(_)) => Exit::Config,
            Self::Load(OnceError::Unknown { .. }) | Self::Usage(_) => Exit::Usage,
            Self::Read(..) | Self::Upload(_) => Exit::Curl(26),
            Self::Write(..) => Exit::Curl(23),
            Self::Runtime(_) => Exit::Failure,
            Self::Send(SendError::System(_)) => Exit::Failure,
            Self::Send(SendError::BrokenOff(_)) => Exit::Curl(56),
            Self::Forward(error, _) => of(error),
            Self::Status(_) => Exit::Curl(22),
            Self::BrokenOff(_) => Exit::Curl(18),
            Self::TooSlow(_) => Exit::Curl(28),
        }
    }
}

fn of(error: &ForwardError) -> Exit {
    match error {
        ForwardError::Dns(..) => Exit::Curl(6),
        ForwardError::Dial(..) => Exit::Curl(7),
        ForwardError::ClientStalled(_)
        | ForwardError::OriginStalled(_)
        | ForwardError::Timeout(_)
        | ForwardError::TimeoutConnecting(..) => Exit::Curl(28),
        ForwardError::Handshake(failure) | ForwardError::Terminated(failure) => {
            let before = matches!(error, ForwardError::Handshake(_));
            match failure {
                Failure::Alert(number, _) if ABOUT_CERTIFICATES.contains(number) => Exit::Curl(58),
                Failure::Alert(..)
                | Failure::Tls(_)
                | Failure::NotTls(_)
                | Failure::Incompatible(_)
                | Failure::LateRequest => Exit::Curl(35),
                _ if before => Exit::Curl(35),
                Failure::Unresponsive(_) => Exit::Curl(28),
                Failure::Closed | Failure::Truncated => Exit::Curl(52),
                Failure::Io(_) => Exit::Curl(56),
            }
        }
        ForwardError::NotAsked | ForwardError::NoHttp2 => Exit::Curl(35),
        ForwardError::Certificate(_) => Exit::Curl(60),
        ForwardError::StreamReset(_) | ForwardError::Unprocessed(_) => Exit::Curl(92),
        ForwardError::Grpc
        | ForwardError::Protocol(_)
        | ForwardError::Response(_)
        | ForwardError::Upgrade => Exit::Curl(56),
        ForwardError::BadRequest(_) | ForwardError::Head(_) | ForwardError::Connect => Exit::Usage,
        // What has to change is the configuration.
        ForwardError::Forbidden(_)
        | ForwardError::Misdirected(_)
        | ForwardError::NotPublic(_)
        | ForwardError::ServerName(_) => Exit::Config,
        ForwardError::Exhausted(_) | ForwardError::NoConnection(_) | ForwardError::NoRequest(_) => {
            Exit::Failure
        }
    }
}

/// The alerts that speak of the peer's certificate, which is ours (RFC 8446 section 6.2):
/// bad_certificate to unknown_ca, but for illegal_parameter (47), and certificate_required.
const ABOUT_CERTIFICATES: [u8; 7] = [42, 43, 44, 45, 46, 48, 116];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Phase;

    #[test]
    fn exit_codes_are_those_of_curl_in_the_same_case() {
        let alert = |number| Failure::Alert(number, String::new());
        let host = || "a.example".to_owned();
        for (error, exit) in [
            (ForwardError::Dns(host(), host()), Exit::Curl(6)),
            (
                ForwardError::TimeoutConnecting(Duration::ZERO, Phase::Tcp),
                Exit::Curl(28),
            ),
            // handshake_failure, and a server that hangs up in the handshake.
            (ForwardError::Handshake(alert(40)), Exit::Curl(35)),
            (ForwardError::Handshake(Failure::Closed), Exit::Curl(35)),
            // unknown_ca in TLS 1.2, certificate_required in TLS 1.3.
            (ForwardError::Handshake(alert(48)), Exit::Curl(58)),
            (ForwardError::Terminated(alert(116)), Exit::Curl(58)),
            (ForwardError::Terminated(Failure::Closed), Exit::Curl(52)),
            (
                ForwardError::Terminated(Failure::Io(io::ErrorKind::ConnectionReset)),
                Exit::Curl(56),
            ),
            (ForwardError::Protocol(host()), Exit::Curl(56)),
            (ForwardError::NotPublic(host()), Exit::Config),
        ] {
            assert_eq!(of(&error), exit, "{error}");
        }
    }
}
