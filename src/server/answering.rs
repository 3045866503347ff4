//! The response to one request, as hyper awaits it, and what is said in it about the connection.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Response, StatusCode, Version};
use http_body::Body;
use pin_project_lite::pin_project;

use super::io::Activity;

pin_project! {
    // An async block would hold what it awaits twice, as its capture and as what it waits for, and
    // hyper moves this about: 8.8 KB for each request in place of 1.8.
    pub struct Answering<F> {
        #[pin]
        answer: F,
        // Of a connection on which messages follow each other.
        activity: Option<Arc<Activity>>,
        http10: bool,
    }
}

impl<F> Answering<F> {
    /// `answer` to a request of `version` on a connection that carries one request after the other.
    pub fn on(activity: &Arc<Activity>, version: Version, answer: F) -> Self {
        Self {
            answer,
            activity: Some(Arc::clone(activity)),
            http10: version == Version::HTTP_10,
        }
    }

    /// `answer` on a stream of its own.
    pub fn alone(answer: F) -> Self {
        Self {
            answer,
            activity: None,
            http10: false,
        }
    }
}

impl<F: Future<Output = Response<B>>, B: Body> Future for Answering<F> {
    type Output = Result<Response<B>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.answer.poll(cx));
        if let Some(activity) = this.activity {
            // A switch of protocols lets nothing follow anyway.
            let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            if !switches
                && (activity.is_last() || (*this.http10 && ends_with_connection(&response)))
            {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            if *this.http10 && response.headers().contains_key(CONNECTION) {
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
