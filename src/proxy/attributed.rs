//! Says which request a panic belongs to. The panic passes through: it costs the connection, or with
//! HTTP/2 the stream.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request};
use pin_project_lite::pin_project;

use crate::log;
use crate::route::Entrance;

use super::Proxy;

pin_project! {
    /// The response to a request, in the making.
    pub struct Attributed<F> {
        #[pin]
        response: F,
        proxy: Rc<Proxy>,
        listener: usize,
        method: Method,
        path: Option<PathAndQuery>,
        host: Option<HeaderValue>,
    }
}

/// What is known of a request before it is routed.
pub struct Label {
    listener: usize,
    method: Method,
    path: Option<PathAndQuery>,
    host: Option<HeaderValue>,
}

impl Label {
    /// That of `request`, which came to the listener with this number.
    pub fn of<B>(request: &Request<B>, listener: usize) -> Self {
        Self {
            listener,
            method: request.method().clone(),
            path: request.uri().path_and_query().cloned(),
            host: request.headers().get(HOST).cloned(),
        }
    }
}

impl<F> Attributed<F> {
    /// `response` to the request of this label.
    pub fn new(response: F, label: Label, proxy: Rc<Proxy>) -> Self {
        let Label {
            listener,
            method,
            path,
            host,
        } = label;
        Self {
            response,
            proxy,
            listener,
            method,
            path,
            host,
        }
    }
}

impl<F: Future> Future for Attributed<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let response = this.response;
        match catch_unwind(AssertUnwindSafe(|| response.poll(cx))) {
            Ok(polled) => polled,
            Err(panic) => {
                let binding = match this.proxy.entrances.get(this.listener) {
                    Some(Entrance::Own(binding)) => {
                        this.proxy.services.get(*binding).map(|one| one.name())
                    }
                    _ => None,
                };
                let path = this.path.as_ref().map_or("", PathAndQuery::path);
                let host = this.host.as_ref().and_then(|host| host.to_str().ok());
                report(binding, this.method, path, host);
                resume_unwind(panic)
            }
        }
    }
}

/// Logs that a request was lost to a panic; the hook has logged the panic itself.
pub fn report(binding: Option<&str>, method: &Method, path: &str, host: Option<&str>) {
    if let Some(suppressed) = log::once_a_minute(binding.unwrap_or_default(), "panic") {
        tracing::error!(
            binding,
            method = method.as_str(),
            path,
            host,
            suppressed,
            "panic while serving a request; its connection is closed"
        );
    }
}
