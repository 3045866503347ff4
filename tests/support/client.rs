//! A client that sends exactly what it is told and sees exactly what comes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer, taken apart.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// A connection that is kept from one request to the next.
pub struct Client<S = TcpStream> {
    stream: S,
    read: Vec<u8>,
}

/// A GET on a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> Answer {
    send(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    )
}

/// Sends these bytes on a connection of its own, and reads one answer.
pub fn send(address: SocketAddr, bytes: &str) -> Answer {
    let mut client = Client::connect(address);
    client.write(bytes.as_bytes());
    client
        .answer()
        .unwrap_or_else(|error| panic!("no answer to {bytes:?}: {error}"))
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        Self::over(stream)
    }

    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
        self.answer()
    }
}

impl<S: Read + Write> Client<S> {
    pub fn over(stream: S) -> Self {
        Self {
            stream,
            read: Vec::new(),
        }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Reads up to the end of a head, and the body that it announces.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let head = self.until(b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&head).into_owned();
        let status = head
            .get(9..12)
            .and_then(|status| status.parse().ok())
            .unwrap_or_default();
        let field = |name: &str| {
            let lower = head.to_ascii_lowercase();
            lower
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned))
        };
        let body = if status < 200 || status == 204 || status == 304 {
            Vec::new()
        } else if let Some(length) = field("content-length").and_then(|length| length.parse().ok())
        {
            self.exactly(length)?
        } else if field("transfer-encoding").is_some() {
            self.chunks()?
        } else {
            self.rest()?
        };
        Ok(Answer {
            status,
            head,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    /// Reads up to the end of a head.
    pub fn head(&mut self) -> io::Result<String> {
        let head = self.until(b"\r\n\r\n")?;
        Ok(String::from_utf8_lossy(&head).into_owned())
    }

    /// Everything up to the end of the connection.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.read);
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n")?;
            let size = String::from_utf8_lossy(&line);
            let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
            if size == 0 {
                self.until(b"\r\n")?;
                return Ok(body);
            }
            body.extend(self.exactly(size)?);
            self.exactly(2)?;
        }
    }

    fn until(&mut self, mark: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self
                .read
                .windows(mark.len())
                .position(|window| window == mark)
            {
                return Ok(self.read.drain(..at + mark.len()).collect());
            }
            self.more()?;
        }
    }

    /// The next bytes, whatever they mean.
    pub fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.read.len() < length {
            self.more()?;
        }
        Ok(self.read.drain(..length).collect())
    }

    fn more(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.read.extend_from_slice(&piece[..count]);
                Ok(())
            }
        }
    }
}
