//! A request on its way to an origin, and what comes back.

use std::sync::Arc;

use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::body::Upload;
use crate::config::Authority;
use crate::head::Kept;

use super::Lease;

/// A request that is ready for its origin.
pub struct Outbound {
    // Its head, until it goes out for the first time.
    head: Option<Parts>,
    kept: Kept,
    /// Its body.
    pub upload: Upload,
    /// The origin.
    pub target: Arc<Authority>,
    /// What there is to know about it.
    pub manner: Manner,
}

/// What there is to know about a request besides its head and its body.
#[derive(Clone, Copy)]
pub struct Manner {
    /// Whether the origin's addresses must be public.
    pub public_only: bool,
    /// Whether the origin is asked to switch protocols.
    pub upgrades: bool,
    /// Whether the client speaks HTTP/2.
    pub http2: bool,
    /// Whether it is a gRPC call.
    pub grpc: bool,
}

impl Outbound {
    /// A request that is ready for its origin.
    pub fn new(head: Parts, upload: Upload, target: Arc<Authority>, manner: Manner) -> Self {
        Self {
            kept: Kept::of(&head),
            head: Some(head),
            upload,
            target,
            manner,
        }
    }

    /// Its method.
    pub fn method(&self) -> &Method {
        self.kept.method()
    }

    /// The request, for one attempt.
    pub(super) fn request(&mut self) -> Request<Upload> {
        let head = self.head.take().unwrap_or_else(|| self.kept.restore());
        let mut request = Request::from_parts(head, self.upload.share());
        if let Some(gate) = self.upload.gate().cloned() {
            hyper::ext::on_informational(&mut request, move |informational| {
                if informational.status() == StatusCode::CONTINUE {
                    gate.open();
                }
            });
        }
        request
    }
}

/// An origin's answer.
pub struct Inbound {
    /// Its head, and its body that is still coming.
    pub response: Response<Incoming>,
    /// The connection it comes on.
    pub lease: Lease,
}
