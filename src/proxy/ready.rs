//! A request that may go to its origin, and the answer that comes back.

use std::rc::Rc;

use http::header::CONNECTION;
use http::{HeaderValue, StatusCode, Version, response};

use crate::body::Stage;
use crate::error::ForwardError;
use crate::head::{self, Fields, Reach};
use crate::server::Client;
use crate::upstream::Outbound;

use super::record::Record;
use super::relay::Relayed;
use super::{Passed, Service, complaint, framing};

/// A request that is ready for its origin.
pub struct Ready {
    pub service: Rc<Service>,
    pub outbound: Outbound,
    /// Whether its path got the origin's base path in front.
    pub prefixed: bool,
    /// The protocols that it offers to switch to.
    pub offered: Option<HeaderValue>,
    /// What the origin reads in `Host`, where that is not its authority.
    pub host: Option<HeaderValue>,
}

impl Ready {
    /// Sends the request, and makes of the origin's answer the one to the client.
    pub async fn forward(
        &mut self,
        client: &Client,
        record: &mut Record,
    ) -> Result<Passed, ForwardError> {
        let service = &*self.service;
        let mut inbound = service
            .upstream
            .send(
                &mut self.outbound,
                record.began(),
                &client.alarm,
                &record.trace,
            )
            .await?;

        if inbound.response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let origin = hyper::upgrade::on(&mut inbound.response);
            let (mut head, _) = inbound.response.into_parts();
            let offered = self.offered.as_ref();
            let protocol = offered.and_then(|offered| head::accepted(&head.headers, offered));
            let protocol = protocol.ok_or(ForwardError::Upgrade)?;
            self.rewrite(&mut head)?;
            head::switch(&mut head.headers, protocol);
            return Ok(Passed::Switch(head, origin, inbound.lease));
        }
        let (mut head, mut incoming) = inbound.response.into_parts();
        let last = self.rewrite(&mut head)?;
        let ahead = match head.status.is_client_error() {
            true => {
                let looking = complaint::look(&mut head, &mut incoming, &inbound.lease, record);
                Box::pin(looking).await
            }
            false => None,
        };
        // hyper speaks to the client as the client does.
        head.version = Version::HTTP_11;
        let upload = &self.outbound.upload;
        // An early response: the client is told now what will become of its connection.
        let closes = record.version != Version::HTTP_2
            && !matches!(upload.stage(), Stage::Finished)
            && (last || upload.is_held_back() || record.version == Version::HTTP_10);
        if closes {
            head.headers
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let relayed = Relayed {
            ahead,
            lease: inbound.lease,
            upload: self.outbound.upload.share(),
            last,
            closes,
            http10: record.version == Version::HTTP_10,
            silence: service.body_timeout,
        };
        Ok(Passed::Answer(head, incoming, relayed))
    }

    /// Makes the origin's head the client's. Returns whether it is the last on its connection.
    ///
    /// # Errors
    ///
    /// Returns [`ForwardError::Response`] if it is not clear how its body is framed.
    fn rewrite(&self, head: &mut response::Parts) -> Result<bool, ForwardError> {
        let fields = Fields::of(&head.headers);
        framing::check(&mut head.headers, fields)?;
        let reach = Reach {
            target: &self.outbound.target,
            host: self.host.as_ref(),
            base_path: self.service.base_path(self.prefixed),
        };
        head::response(&mut head.headers, fields, &self.service.headers, reach);
        Ok(fields.is_last(head.version))
    }
}
