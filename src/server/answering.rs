//! An answer in the making, as hyper waits for it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::CONNECTION;
use http::{HeaderValue, Response, StatusCode};
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
    }
}

impl<F> Answering<F> {
    /// `answer` on a connection, after which no other follows if what came there was ambiguous.
    pub fn on(activity: &Arc<Activity>, answer: F) -> Self {
        let activity = Some(Arc::clone(activity));
        Self { answer, activity }
    }

    /// `answer` on a stream of its own.
    pub fn alone(answer: F) -> Self {
        let activity = None;
        Self { answer, activity }
    }
}

impl<F: Future<Output = Response<B>>, B> Future for Answering<F> {
    type Output = Result<Response<B>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.answer.poll(cx));
        let ambiguous = this.activity.as_ref().is_some_and(|one| one.is_ambiguous());
        // A switch of protocols lets nothing follow anyway.
        if ambiguous && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        Poll::Ready(Ok(response))
    }
}
