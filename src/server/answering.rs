//! The response to one request, as hyper awaits it, and what is said in it about the connection.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use pin_project_lite::pin_project;

use super::activity::Activity;

pin_project! {
    // An async block would hold what it awaits twice, as its capture and as what it waits for, and
    // hyper moves this about: 8.8 KB for each request in place of 1.8.
    pub struct Answering<F> {
        #[pin]
        answer: F,
        // Of a connection on which messages follow each other.
        activity: Option<Arc<Activity>>,
        form: Form,
    }
}

/// What decides about the connection after a request of HTTP/1.
#[derive(Clone, Copy)]
pub struct Form {
    http10: bool,
    connect: bool,
}

impl Form {
    /// That of `request`.
    pub fn of<B>(request: &Request<B>) -> Self {
        Self {
            http10: request.version() == Version::HTTP_10,
            connect: request.method() == Method::CONNECT,
        }
    }
}

impl<F> Answering<F> {
    /// `answer` to a request of this form on a connection that carries one request after the other.
    pub fn on(activity: &Arc<Activity>, form: Form, answer: F) -> Self {
        Self {
            answer,
            activity: Some(Arc::clone(activity)),
            form,
        }
    }

    /// `answer` on a stream of its own.
    pub fn alone(answer: F) -> Self {
        Self {
            answer,
            activity: None,
            form: Form {
                http10: false,
                connect: false,
            },
        }
    }
}

impl<F: Future<Output = Response<B>>, B: Body> Future for Answering<F> {
    type Output = Result<Response<B>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.answer.poll(cx));
        if let Some(activity) = this.activity {
            let Form { http10, connect } = *this.form;
            let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS
                || (connect && response.status().is_success());
            if switches {
                // That lets nothing follow anyway.
                activity.switch();
            } else if activity.is_last() || (http10 && ends_with_connection(&response)) {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            if http10 && response.headers().contains_key(CONNECTION) {
                // In a response that it takes for one of HTTP/1.1, hyper adds `keep-alive` to the
                // `close`.
                *response.version_mut() = Version::HTTP_10;
            }
        }
        Poll::Ready(Ok(response))
    }
}

/// Whether only the end of the connection can end the body, as there are no chunks in HTTP/1.0.
fn ends_with_connection<B: Body>(response: &Response<B>) -> bool {
    let body = response.body();
    !body.is_end_stream()
        && body.size_hint().exact().is_none()
        && !response.headers().contains_key(CONTENT_LENGTH)
}
