//! What the demonstration shows, step by step.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::error::Failure;
use crate::tls;

use super::pki::Pki;

/// The demonstration's part that is seen.
pub struct Story {
    pub pki: Pki,
    pub port: u16,
    pub admin: u16,
    pub origin: SocketAddr,
    pub once: bool,
}

/// What was to be seen was not seen.
#[derive(Debug, thiserror::Error)]
pub enum StoryError {
    /// The request through mtlsd failed.
    #[error("the request through mtlsd was not answered: {0}")]
    Request(String),
    /// The origin let somebody in without a certificate, or the wrong thing went wrong.
    #[error("a call without a certificate should have been refused in the handshake, and was {0}")]
    NotRefused(String),
    /// The rotation did not reach the origin.
    #[error("the origin still saw serial {0} long after the files were replaced by {1}")]
    NotRotated(String, String),
    /// The files could not be replaced.
    #[error("cannot replace the client's files")]
    Replace(#[source] io::Error),
    /// It was ended before it was over.
    #[error("interrupted")]
    Interrupted,
}

impl Story {
    /// Tells it: once, or until the process ends.
    pub fn tell(&self) -> Result<(), StoryError> {
        println!("1. Through mtlsd, which presents the certificate:\n");
        println!("    $ curl http://localhost:{}/hello", self.port);
        let first = self.request()?;
        println!("    {}\n", first.text);
        println!("2. Straight to the origin, without a certificate:\n");
        println!(
            "    $ curl --cacert {} https://localhost:{}/hello",
            self.pki.ca_path().display(),
            self.origin.port()
        );
        println!("    {}\n", self.refusal()?);
        println!("3. Now the certificate is replaced on disk, and nobody tells mtlsd:\n");
        let mut serial = first.serial;
        serial = self.rotate(&serial)?;
        if self.once {
            println!("\nAll three went as they should.");
            return Ok(());
        }
        println!(
            "\nIt goes on like this every {} s. Try it yourself, in another terminal:\n",
            PERIOD.as_secs()
        );
        println!("    curl http://localhost:{}/hello", self.port);
        println!(
            "    curl -H 'Sec-Fetch-Site: cross-site' http://localhost:{}/",
            self.port
        );
        println!(
            "    curl -x http://localhost:{0} http://localhost:{1}/through-http_proxy",
            self.port,
            self.origin.port()
        );
        println!("\nWatch it in a browser: http://localhost:{}/", self.admin);
        println!("\nCtrl-C ends it and removes every file.\n");
        loop {
            std::thread::sleep(PERIOD);
            serial = self.rotate(&serial)?;
        }
    }

    /// Replaces the certificate and waits until the origin sees the new one.
    fn rotate(&self, before: &str) -> Result<String, StoryError> {
        let serial = self.pki.rotate().map_err(StoryError::Replace)?;
        let replaced = Instant::now();
        loop {
            let seen = self.request()?;
            if seen.serial == serial {
                println!(
                    "    serial {before} -> {serial}, seen by the origin {} ms after the files changed",
                    replaced.elapsed().as_millis()
                );
                return Ok(serial);
            }
            if replaced.elapsed() > PATIENCE {
                return Err(StoryError::NotRotated(seen.serial, serial));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A plain HTTP request, as any program would send it.
    fn request(&self) -> Result<Seen, StoryError> {
        let failed = |error: io::Error| StoryError::Request(error.to_string());
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let request = format!(
            "GET /hello HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n\r\n",
            self.port
        );
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(failed)?;
        let (head, text) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(StoryError::Request(answer));
        }
        let serial = head
            .lines()
            .find_map(|line| line.strip_prefix("x-client-serial: "));
        Ok(Seen {
            serial: serial.unwrap_or_default().to_owned(),
            text: text.trim_end().to_owned(),
        })
    }

    /// What the origin says to somebody without a certificate.
    fn refusal(&self) -> Result<String, StoryError> {
        match tls::call_without_certificate(self.origin, "localhost", self.pki.ca()) {
            Err(Failure::Alert(number, name)) => Ok(format!(
                "refused in the TLS handshake: alert {number}, {name}"
            )),
            Err(other) => Err(StoryError::NotRefused(other.to_string())),
            Ok(()) => Err(StoryError::NotRefused("let in".to_owned())),
        }
    }
}

/// What came back.
struct Seen {
    serial: String,
    text: String,
}

const PERIOD: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(10);
