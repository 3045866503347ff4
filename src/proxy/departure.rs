//! Decides where a request goes, whether it may, and what of it goes there.

use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts;
use http::{Extensions, Method, Version};
use http_body::Body;
use hyper::body::Incoming;

use crate::body::Upload;
use crate::config::HostHeader;
use crate::error::{ForwardError, HeadError};
use crate::head::{self, Fields};
use crate::route::{Arrival, Asked, By, Entrance, Route};
use crate::upstream::{Manner, Outbound};

use super::forwards::{self, Reply};
use super::guard::{self, Page};
use super::message::{Message, Tunnel};
use super::ready::Ready;
use super::record::Record;
use super::{From, Proxy, Service};

/// What is to be done about a request.
pub enum Departure {
    /// Send it. Boxed, because hyper moves about what holds this.
    Request(Box<Ready>),
    /// Open this tunnel, in which plain HTTP is spoken.
    Tunnel(Rc<Tunnel>),
    /// Respond to it here.
    Reply(Reply),
}

/// Where a request goes that was let through.
struct Admitted {
    arrival: Arrival,
    route: Route,
    page: Page,
}

impl Proxy {
    /// Finds out where a request goes, whether it may, and what of it goes there.
    pub(super) fn depart(
        &self,
        from: &From,
        mut head: Parts,
        body: &mut Option<Incoming>,
        most_fields: usize,
        record: &mut Record,
    ) -> Result<Departure, ForwardError> {
        if let Some(error) = head.extensions.remove::<HeadError>() {
            if let Some(Entrance::Own(binding)) = self.entrances.get(&from.listener) {
                record.service = self.services.get(*binding).cloned();
            }
            return Err(ForwardError::Head(error));
        }
        if head.headers.len() > most_fields {
            let error = HeadError::too_many_fields(most_fields);
            return Err(ForwardError::Head(error));
        }
        let fields = Fields::of(&head.headers);
        let message = Message::of(&head, fields)?;
        let http2 = head.version == Version::HTTP_2;
        // HTTP/2 has no connection that a tunnel could take over.
        let tunnel = match head.method == Method::CONNECT {
            true if http2 => return Err(ForwardError::Connect),
            true => Some(message.tunnel().ok_or(ForwardError::Connect)?),
            false => None,
        };
        let Admitted {
            arrival,
            route,
            page,
        } = self.admit(from, &head, fields, &message, record)?;
        let service = Rc::clone(&self.services[route.binding]);
        if let Some(tunnel) = tunnel {
            return Ok(Departure::Tunnel(Rc::new(tunnel)));
        }
        record.in_flight = Some(service.enter()?);

        let prefixed = route.by == By::Origin;
        let base_path = service.base_path(prefixed);
        let host = head::host(&service.headers, &route.target, message.text);
        let offered = head::offered(&head.headers, fields, head.version, &service.upgrades);
        let sender = head::Sender {
            peer: from.peer.map(|peer| peer.ip()),
            // Most policies do not repeat what the client said, and so need no copy of it.
            asked: message
                .text
                .filter(|_| service.headers.repeats_host())
                .map(str::to_owned),
            // HTTP/2 frames every body, whose length may be unknown.
            chunked: message.chunked || (http2 && !body.as_ref().is_none_or(Body::is_end_stream)),
            upgrade: offered.clone(),
            page: own_page(&page, fields, &message, &service, base_path),
        };
        if let Page::Listed(origin) = page {
            record.page = Some(origin);
        }
        if fields.references && service.headers.rewrite_location {
            head::resolve(&mut head.headers, &host, base_path, |https, authority| {
                self.leads_to(&route, arrival, Asked::Url { https, authority })
            });
        }
        if let Some(reply) = forwards::spend(&mut head) {
            return Ok(Departure::Reply(reply));
        }
        if http2 {
            head::join_cookies(&mut head.headers);
        }
        let expects = head::expects_continue(&head.headers, fields, head.version);
        head.uri = head::target(&head.uri, base_path);
        head.version = Version::HTTP_11;
        // The case of field names is in there.
        if !service.headers.preserve_case {
            head.extensions = Extensions::new();
        }
        let policy = &service.headers;
        head::request(&mut head.headers, fields, policy, host.clone(), &sender);
        let upload = match body.take() {
            Some(incoming) => Upload::new(incoming, expects, record.began()),
            None => Upload::Empty,
        };
        record.passed = upload.passed();
        let manner = Manner {
            public_only: route.by == By::Wildcard,
            upgrades: offered.is_some(),
            http2,
            grpc: record.grpc,
        };
        let is_target = host == *route.target.header();
        let outbound = Outbound::new(head, upload, route.target, manner);
        Ok(Departure::Request(Box::new(Ready {
            service,
            outbound,
            prefixed,
            offered,
            host: (!is_target).then_some(host),
        })))
    }

    /// Finds the binding and the origin of a request, and applies the guards.
    fn admit(
        &self,
        from: &From,
        head: &Parts,
        fields: Fields,
        message: &Message<'_>,
        record: &mut Record,
    ) -> Result<Admitted, ForwardError> {
        let asked = message.inside(from.tunnel.as_deref())?;
        let entrance = self.entrances.get(&from.listener).copied();
        let arrival = Arrival {
            entrance: entrance.unwrap_or(Entrance::Closed),
            local: from.local,
        };
        // Web pages reach TCP ports only.
        let guarded = from.local.is_some();
        let route = match self.routes.find(arrival, asked) {
            Ok(route) => route,
            Err(error) => {
                record.host = message.text.map(Into::into);
                return Err(match guarded {
                    true => guard::conceal(error, &head.headers, fields, message),
                    false => error,
                });
            }
        };
        let service = &self.services[route.binding];
        record.service = Some(Rc::clone(service));
        record.target = Some(Arc::clone(&route.target));
        let (allowed, name) = (&service.web_origins, &service.name);
        let page = match guarded {
            true => guard::browser(&head.headers, fields, message, allowed, name)?,
            false => Page::Unknown,
        };
        record.log_accepted(from.local, message.text);
        Ok(Admitted {
            arrival,
            route,
            page,
        })
    }

    /// Returns the base path of a URL, if it leads where a request goes that took `route`.
    fn leads_to(&self, route: &Route, at: Arrival, url: Asked<'_>) -> Option<&str> {
        let other = self.routes.find(at, url).ok()?;
        let same = other.binding == route.binding && other.target == route.target;
        same.then(|| self.services[route.binding].base_path(other.by == By::Origin))
    }
}

/// Returns the page of mtlsd's own that a request names, where the origin is to read its own name
/// in place of that: not where it reads in `Host` what the client calls mtlsd.
fn own_page(
    page: &Page,
    fields: Fields,
    message: &Message<'_>,
    service: &Service,
    base_path: &str,
) -> Option<head::OwnPage> {
    let preserves = service.headers.host == HostHeader::Preserve;
    if *page != Page::Own || !fields.page || preserves {
        return None;
    }
    Some(head::OwnPage {
        authority: message.text?.to_owned(),
        base_path: base_path.to_owned(),
    })
}
