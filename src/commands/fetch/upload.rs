//! What `mtlsd fetch` sends as the body of its request.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc::{Receiver, channel};

/// The body: nothing, a text, or what is read piece by piece while it is sent.
pub enum Upload {
    Empty,
    Text(Bytes),
    Read(Reading),
}

/// What a thread of its own reads, because reading a file or a terminal cannot be waited for in
/// any other way.
pub struct Reading {
    pieces: Receiver<io::Result<Bytes>>,
    // Bytes still to come, where that is known.
    left: Option<u64>,
    failure: Failure,
}

/// Why the body could not be read to its end; the connection only says that it was broken off.
#[derive(Clone, Default)]
pub struct Failure(Rc<Cell<Option<io::Error>>>);

impl Failure {
    pub fn take(&self) -> Option<io::Error> {
        self.0.take()
    }
}

impl Upload {
    /// The body that `data` stands for: a text, `@FILE` or `@-`. What goes wrong while it is sent
    /// is put into `failure`.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, which is named.
    pub fn of(data: Option<String>, failure: &Failure) -> Result<Self, (PathBuf, io::Error)> {
        let Some(data) = data else {
            return Ok(Self::Empty);
        };
        match data.strip_prefix('@') {
            None => Ok(Self::Text(Bytes::from(data))),
            Some("-") => Ok(Self::Read(Reading::start(io::stdin(), None, failure))),
            Some(path) => {
                let failed = |error| (PathBuf::from(path), error);
                let (file, length) = open(Path::new(path)).map_err(failed)?;
                Ok(Self::Read(Reading::start(file, length, failure)))
            }
        }
    }
}

/// The file, and its length if it has one.
fn open(path: &Path) -> io::Result<(File, Option<u64>)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok((file, metadata.is_file().then_some(metadata.len())))
}

impl Reading {
    fn start(mut from: impl Read + Send + 'static, length: Option<u64>, failure: &Failure) -> Self {
        let (send, pieces) = channel(1);
        // It ends with the file, with the request, or with the process.
        std::thread::spawn(move || {
            let mut buffer = vec![0; PIECE];
            loop {
                let piece = match from.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(count) => Ok(Bytes::copy_from_slice(&buffer[..count])),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let last = piece.is_err();
                if send.blocking_send(piece).is_err() || last {
                    return;
                }
            }
        });
        Self {
            pieces,
            left: length,
            failure: failure.clone(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.pieces.poll_recv(cx).map(|piece| {
            Some(match piece? {
                Ok(piece) => {
                    let count = piece.len() as u64;
                    self.left = self.left.map(|left| left.saturating_sub(count));
                    Ok(Frame::data(piece))
                }
                Err(error) => {
                    let kind = error.kind();
                    self.failure.0.set(Some(error));
                    Err(kind.into())
                }
            })
        })
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Text(text) if text.is_empty() => Poll::Ready(None),
            Self::Text(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            Self::Read(reading) => reading.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Text(text) => text.is_empty(),
            Self::Read(reading) => reading.left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Text(text) => SizeHint::with_exact(text.len() as u64),
            Self::Read(reading) => reading.left.map_or(SizeHint::new(), SizeHint::with_exact),
        }
    }
}

const PIECE: usize = 64 * 1024;
