//! `mtlsd fetch`: one request through a binding, without a daemon.

mod failure;
mod upload;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::runtime::{Builder, LocalOptions};

use crate::app::{Answer, Once, OnceError};
use crate::cli::fetch::Fetch;
use crate::printable::Screen;
use crate::proxy::Failed;

use super::given::given;
use super::target::Target;
use super::usage::UsageError;
use super::{Exit, keylog};
use failure::FetchError;
use upload::{Failure, Upload};

/// Makes the request, and prints its answer.
pub fn fetch(mut arguments: Fetch) -> Exit {
    let speaks = !arguments.silent || arguments.show_error;
    match run(&mut arguments, speaks) {
        Ok(()) => Exit::Success,
        Err(error) => {
            if speaks {
                error.print();
            }
            error.exit()
        }
    }
}

fn run(arguments: &mut Fetch, speaks: bool) -> Result<(), FetchError> {
    let broken = Failure::default();
    let target = Target::new(arguments.binding.as_deref(), arguments.url.as_deref())?;
    let Some(url) = &target.url else {
        return Err(UsageError::new(
            "no URL to fetch",
            "write mtlsd fetch BINDING URL, for example mtlsd fetch payments /v1/me",
        )
        .into());
    };
    let head = head(arguments, url)?;
    let once = load(arguments, &target, speaks)?;
    if let Some(complaint) = once.complaint().filter(|_| speaks) {
        eprintln!("mtlsd: {complaint}; it is presented all the same");
    }
    let body = Upload::of(arguments.data.take(), &broken)
        .map_err(|(path, error)| FetchError::Read(path, error))?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(FetchError::Runtime)?;
    let request = head.map(|()| body);
    let done = runtime.block_on(async {
        let fetching = exchange(&once, request, arguments, speaks);
        match arguments.max_time {
            Some(longest) => tokio::time::timeout(longest, fetching)
                .await
                .unwrap_or(Err(FetchError::TooSlow(longest))),
            None => fetching.await,
        }
    });
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    match broken.take() {
        Some(error) => Err(FetchError::Upload(error)),
        None => done,
    }
}

fn load(arguments: &Fetch, target: &Target, speaks: bool) -> Result<Once, FetchError> {
    let given = given(&arguments.source)?;
    keylog::start(arguments.keylog.as_deref(), speaks)?;
    let draft = given.read().map_err(OnceError::from)?;
    let name = target.binding(&draft)?;
    Ok(Once::load(draft, &name)?)
}

async fn exchange(
    once: &Once,
    request: Request<Upload>,
    arguments: &Fetch,
    speaks: bool,
) -> Result<(), FetchError> {
    let Answer {
        response,
        failure,
        complaint,
    } = once.send(request).await?;
    if let Some(failure) = failure {
        return Err(explained(failure, response.into_body()).await);
    }
    let failed = arguments.fail && response.status().as_u16() >= 400;
    if let Some(complaint) = complaint.as_ref().filter(|_| speaks) {
        eprintln!("{}", complaint.to_string().trim_end());
    }
    let failure = || match &complaint {
        Some(_) => FetchError::Complaint,
        None => FetchError::Status(response.status()),
    };
    let with_head = arguments.include || arguments.head;
    // A file that is there already is not emptied for nothing.
    if failed && !with_head {
        return Err(failure());
    }
    let mut output = Output::open(arguments.output.as_deref())?;
    if with_head {
        output.write(&head_text(&response))?;
    }
    match failed {
        true => Err(failure()),
        false => pass_on(response.into_body(), &mut output).await,
    }
}

/// The failure, with the text of mtlsd's own answer.
async fn explained(failure: Failed, body: Incoming) -> FetchError {
    let text = match body.collect().await {
        Ok(text) => String::from_utf8_lossy(&text.to_bytes()).into_owned(),
        Err(error) => return FetchError::BrokenOff(error),
    };
    match text.is_empty() {
        // An answer to HEAD has no text.
        true => FetchError::Forward(failure.error, format!("mtlsd: {}", failure.detail)),
        false => FetchError::Forward(failure.error, text),
    }
}

/// Writes each piece when it comes.
async fn pass_on(mut body: Incoming, output: &mut Output) -> Result<(), FetchError> {
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame.map_err(FetchError::BrokenOff)?.into_data() {
            output.write(&piece)?;
        }
    }
    Ok(())
}

/// Where the answer goes.
struct Output {
    name: String,
    writer: Box<dyn Write>,
    // What a terminal would obey is escaped, unless the answer goes to a file or a program.
    screen: Option<Screen>,
}

impl Output {
    fn open(path: Option<&Path>) -> Result<Self, FetchError> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            return Ok(Self {
                name: "stdout".to_owned(),
                writer: Box::new(io::stdout()),
                screen: io::stdout().is_terminal().then(Screen::default),
            });
        };
        let name = path.display().to_string();
        match File::create(path) {
            Ok(file) => Ok(Self {
                name,
                writer: Box::new(file),
                screen: None,
            }),
            Err(error) => Err(FetchError::Write(name, error)),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        let shown = self.screen.as_mut().map(|screen| screen.show(bytes));
        let bytes = shown.as_ref().map_or(bytes, |shown| shown.as_bytes());
        let written = self.writer.write_all(bytes);
        written
            .and_then(|()| self.writer.flush())
            .map_err(|error| FetchError::Write(self.name.clone(), error))
    }
}

/// The head of the answer as HTTP/1.1 writes it.
fn head_text(response: &Response<Incoming>) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    for (name, value) in response.headers() {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// The request's head.
fn head(arguments: &Fetch, url: &str) -> Result<Request<()>, FetchError> {
    let mut request = Request::new(());
    *request.method_mut() = method(arguments)?;
    *request.uri_mut() = uri(url)?;
    let is_path = request.uri().authority().is_none();
    let headers = request.headers_mut();
    for field in &arguments.header {
        let (name, value) = header_field(field)?;
        headers.append(name, value);
    }
    // What a client of the binding's own port would say.
    if is_path {
        or_default(headers, HOST, "localhost");
    }
    or_default(headers, ACCEPT, "*/*");
    or_default(
        headers,
        USER_AGENT,
        concat!("mtlsd/", env!("CARGO_PKG_VERSION")),
    );
    if arguments.data.is_some() {
        or_default(headers, CONTENT_TYPE, "application/x-www-form-urlencoded");
    }
    Ok(request)
}

fn or_default(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers
        .entry(name)
        .or_insert(HeaderValue::from_static(value));
}

fn method(arguments: &Fetch) -> Result<Method, FetchError> {
    let Some(text) = &arguments.request else {
        return Ok(match (arguments.head, &arguments.data) {
            (true, _) => Method::HEAD,
            (false, Some(_)) => Method::POST,
            (false, None) => Method::GET,
        });
    };
    match Method::from_bytes(text.as_bytes()) {
        Ok(Method::CONNECT) => Err(usage("a tunnel is nothing to fetch".to_owned())),
        Ok(method) => Ok(method),
        Err(_) => Err(usage(format!("--request: `{text}` is no method"))),
    }
}

fn uri(text: &str) -> Result<Uri, FetchError> {
    let uri = text
        .parse::<Uri>()
        .map_err(|error| usage(format!("`{text}` is no URL: {error}")))?;
    let is_path = text.starts_with('/');
    match is_path || matches!(uri.scheme_str(), Some("http" | "https")) {
        true => Ok(uri),
        false => Err(usage(format!(
            "`{text}` is neither a path nor an https:// URL"
        ))),
    }
}

/// Reads `Name: value`.
fn header_field(text: &str) -> Result<(HeaderName, HeaderValue), FetchError> {
    let read = text.split_once(':').and_then(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_str(value.trim()).ok()?))
    });
    read.ok_or_else(|| usage(format!("--header: `{text}` is not `Name: value`")))
}

fn usage(message: String) -> FetchError {
    UsageError::bare(message).into()
}
