//! Finds the binding a request is for, and the origin it may reach. The rules stand in the README
//! under "How a request finds its binding"; what they do not cover is refused, never guessed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::config::{Allowed, Authority, AuthorityRef, Binding, Domain, HTTPS, HostPrefix};
use crate::error::ForwardError;

/// The listener that a connection came in by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entrance {
    /// The own listener of the binding with this index.
    Own(usize),
    /// The listener of all bindings.
    Shared,
    /// One that is no longer configured.
    Closed,
}

/// Where a connection arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// By which listener.
    pub entrance: Entrance,
    /// The address and port it was accepted on; `None` on a unix socket.
    pub local: Option<(IpAddr, u16)>,
}

/// What a request names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked<'a> {
    /// An absolute URL (RFC 9112 section 3.2.2).
    Url {
        /// Whether its scheme is https.
        https: bool,
        /// Its authority.
        authority: AuthorityRef<'a>,
    },
    /// A `Host` field; HTTP/1.0 has none.
    Host(Option<AuthorityRef<'a>>),
}

/// Where a request goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// The index of the binding.
    pub binding: usize,
    /// The origin.
    pub target: Arc<Authority>,
    /// What in the binding covers that origin.
    pub by: By,
}

/// What in a binding covers an origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// Its `origin`: the base path applies.
    Origin,
    /// The origin's authority or an exact entry of `allow`.
    Name,
    /// A wildcard of `allow`, or the leave to reach any public origin: whoever controls the domain's DNS chooses the address.
    Wildcard,
}

/// All bindings, arranged for finding one.
pub struct Routes {
    bindings: Vec<Destinations>,
    prefixes: HashMap<HostPrefix, usize>,
    exact: HashMap<Authority, usize>,
    // Deepest first.
    wildcards: Vec<(Domain, usize)>,
    // The one binding that may reach any public origin, where there is one and no other: of two,
    // neither has a better claim to a URL on the shared listener.
    anywhere: Option<usize>,
}

/// What a binding is called and where it leads.
struct Destinations {
    name: String,
    hosts: Vec<HostPrefix>,
    origin: Option<(Arc<Authority>, String)>,
    exact: Vec<Arc<Authority>>,
    wildcards: Vec<Domain>,
    anywhere: bool,
}

impl Routes {
    /// Arranges `bindings`; indices are theirs.
    pub fn new(bindings: &[Binding]) -> Self {
        let mut prefixes = HashMap::new();
        let mut exact = HashMap::new();
        let mut wildcards = Vec::new();
        let bindings: Vec<_> = bindings.iter().map(Destinations::new).collect();
        for (at, binding) in bindings.iter().enumerate() {
            prefixes.extend(binding.hosts.iter().map(|host| (host.clone(), at)));
            let named = binding
                .origin
                .iter()
                .map(|(origin, _)| origin)
                .chain(&binding.exact);
            for authority in named {
                exact.entry(Authority::clone(authority)).or_insert(at);
            }
            wildcards.extend(binding.wildcards.iter().map(|domain| (domain.clone(), at)));
        }
        wildcards.sort_by_key(|(domain, _)| std::cmp::Reverse(domain.depth()));
        let mut anywhere = (0..bindings.len()).filter(|at| bindings[*at].anywhere);
        let anywhere = anywhere.next().filter(|_| anywhere.next().is_none());
        Self {
            bindings,
            prefixes,
            exact,
            wildcards,
            anywhere,
        }
    }

    /// Where the request goes that arrived at `at` and names `asked`.
    ///
    /// # Errors
    ///
    /// [`ForwardError::Misdirected`], which says what there is.
    pub fn find(&self, at: Arrival, asked: Asked<'_>) -> Result<Route, ForwardError> {
        match at.entrance {
            Entrance::Own(binding) => self.find_own(binding, at, asked),
            Entrance::Shared => self.find_shared(at, asked),
            Entrance::Closed => Err(ForwardError::Misdirected(
                "this listener is no longer in the configuration".to_owned(),
            )),
        }
    }

    fn find_own(&self, index: usize, at: Arrival, asked: Asked<'_>) -> Result<Route, ForwardError> {
        let binding = &self.bindings[index];
        let host = match asked {
            Asked::Url { https, authority } => {
                let port = url_port(https, &authority);
                if let Some((target, by)) = binding.reach(&authority, port) {
                    return Ok(route(index, target, by));
                }
                if !at.is_named_by(https, &authority) && !binding.is_called(&authority) {
                    return match binding.anywhere {
                        true => Ok(to_anywhere(index, &authority, port)),
                        false => Err(binding.foreign(&authority)),
                    };
                }
                authority
            }
            Asked::Host(None) => return binding.to_origin(index),
            Asked::Host(Some(host)) => host,
        };
        let port = at.host_port(&host);
        if let Some((origin, _)) = &binding.origin
            && origin.matches(&host, port)
        {
            return Ok(route(index, Arc::clone(origin), By::Origin));
        }
        if let Some(target) = binding
            .exact
            .iter()
            .find(|target| target.matches(&host, port))
        {
            return Ok(route(index, Arc::clone(target), By::Name));
        }
        // A page of another site that rebinds its name to this address sends that name here:
        // only names that cannot be somebody else's are let through. On a unix socket there are
        // no such pages, and people write any word in place of a host.
        let own = host.is_loopback()
            || at.is_address(&host)
            || binding.is_called(&host)
            || (at.local.is_none() && !host.host().contains('.'));
        match own {
            true => binding.to_origin(index),
            false => Err(binding.foreign(&host)),
        }
    }

    fn find_shared(&self, at: Arrival, asked: Asked<'_>) -> Result<Route, ForwardError> {
        let host = match asked {
            Asked::Url { https, authority } => {
                let port = url_port(https, &authority);
                if let Some(route) = self.claim(&authority, port) {
                    return Ok(route);
                }
                authority
            }
            Asked::Host(None) => return Err(self.nameless("a request without a Host field")),
            Asked::Host(Some(host)) => host,
        };
        let port = at.host_port(&host);
        let folded = HostPrefix::fold(host.host());
        // A name that leads nowhere may still be the first label of an origin's own name.
        let mut rejected = None;
        for (index, rest) in self.named(&folded, host.host()) {
            let binding = &self.bindings[index];
            if rest.is_empty() || rest.eq_ignore_ascii_case("localhost") {
                return binding.to_origin(index);
            }
            let Some(rest) = AuthorityRef::parse(rest) else {
                continue;
            };
            match binding.reach(&rest, port) {
                Some((target, By::Name)) => return Ok(route(index, target, By::Name)),
                // An origin-form Host is never admitted by a wildcard: any page could have a name
                // below it.
                _ => rejected = rejected.or_else(|| Some(binding.foreign(&rest))),
            }
        }
        match (asked, self.claim(&host, port)) {
            (Asked::Host(_), Some(route)) if route.by == By::Name => Ok(self.with_base_path(route)),
            (Asked::Url { https, authority }, _)
                if rejected.is_none() && !at.is_named_by(https, &authority) =>
            {
                let port = url_port(https, &authority);
                let anywhere = self
                    .anywhere
                    .map(|index| to_anywhere(index, &authority, port));
                anywhere.ok_or_else(|| self.nameless(&format!("\"{}\"", host.host())))
            }
            _ => Err(rejected.unwrap_or_else(|| self.nameless(&format!("\"{}\"", host.host())))),
        }
    }

    /// The bindings that `host` begins with the names of, by whole labels, the longest name first,
    /// and what of `host` is behind each. `folded` is `host` as names are compared.
    fn named<'a>(
        &'a self,
        folded: &'a str,
        host: &'a str,
    ) -> impl Iterator<Item = (usize, &'a str)> {
        let dots = folded.rmatch_indices('.').map(|(at, _)| at);
        let ends = std::iter::once(folded.len()).chain(dots);
        ends.filter_map(move |end| {
            let index = self.prefixes.get(&folded[..end])?;
            Some((*index, host[end..].strip_prefix('.').unwrap_or_default()))
        })
    }

    /// The one binding that an authority belongs to.
    fn claim(&self, authority: &AuthorityRef<'_>, port: u16) -> Option<Route> {
        let owned = authority.with_port(port);
        if let Some(binding) = self.exact.get(&owned) {
            return Some(route(*binding, Arc::new(owned), By::Name));
        }
        let (_, binding) = self
            .wildcards
            .iter()
            .find(|(domain, _)| domain.covers(authority, port))?;
        Some(route(*binding, Arc::new(owned), By::Wildcard))
    }

    /// An origin-form request for the origin itself gets the origin's base path.
    fn with_base_path(&self, route: Route) -> Route {
        match &self.bindings[route.binding].origin {
            Some((origin, _)) if **origin == *route.target => Route {
                by: By::Origin,
                ..route
            },
            _ => route,
        }
    }

    fn nameless(&self, asked: &str) -> ForwardError {
        let mut names: Vec<_> = self.prefixes.keys().map(HostPrefix::as_str).collect();
        names.sort_unstable();
        ForwardError::Misdirected(format!(
            "{asked} names no binding. The bindings here: {}. Say which with the Host field, as in \
             \"Host: {}\"",
            names.join(", "),
            names.first().copied().unwrap_or_default(),
        ))
    }
}

impl Arrival {
    /// The port that a `Host` field means: 443 unless it names another. 80 is what clients that
    /// speak http mean by nothing, and the listener's own port is how they came here.
    fn host_port(&self, host: &AuthorityRef<'_>) -> u16 {
        match host.port() {
            None | Some(80) => HTTPS,
            Some(port) if self.local.is_some_and(|(_, own)| own == port) => HTTPS,
            Some(port) => port,
        }
    }

    /// Whether an absolute URL with this authority means mtlsd itself. A unix socket has no port to
    /// compare, but nobody who means it says https.
    fn is_named_by(&self, https: bool, authority: &AuthorityRef<'_>) -> bool {
        match self.local {
            None => !https && authority.is_loopback(),
            Some((_, port)) => {
                authority.port().unwrap_or(80) == port
                    && (authority.is_loopback() || self.is_address(authority))
            }
        }
    }

    fn is_address(&self, authority: &AuthorityRef<'_>) -> bool {
        match (self.local, authority.ip()) {
            // A listener for both families sees IPv4 clients by mapped addresses; nobody else
            // writes them.
            (Some((own, _)), Some(ip)) => own.to_canonical() == ip,
            _ => false,
        }
    }
}

impl Destinations {
    fn new(binding: &Binding) -> Self {
        let mut exact = Vec::new();
        let mut wildcards = Vec::new();
        let mut anywhere = false;
        for allowed in &binding.allow {
            match allowed {
                Allowed::Exact(authority) => exact.push(Arc::clone(authority)),
                Allowed::Below(domain) => wildcards.push(domain.clone()),
                Allowed::Public => anywhere = true,
            }
        }
        let origin = binding.origin.as_ref();
        Self {
            name: binding.name.to_string(),
            hosts: binding.hosts.clone(),
            origin: origin.map(|origin| (Arc::clone(&origin.authority), origin.to_string())),
            exact,
            wildcards,
            anywhere,
        }
    }

    /// The origin that an authority names, when this binding may reach it.
    fn reach(&self, authority: &AuthorityRef<'_>, port: u16) -> Option<(Arc<Authority>, By)> {
        let named = self
            .origin
            .iter()
            .map(|(origin, _)| origin)
            .chain(&self.exact);
        for target in named {
            if target.matches(authority, port) {
                return Some((Arc::clone(target), By::Name));
            }
        }
        let covered = self
            .wildcards
            .iter()
            .any(|domain| domain.covers(authority, port));
        covered.then(|| (Arc::new(authority.with_port(port)), By::Wildcard))
    }

    /// Whether a host is one of this binding's names, alone or below `.localhost`.
    fn is_called(&self, host: &AuthorityRef<'_>) -> bool {
        self.hosts.iter().any(|name| {
            name.strip_from(host.host())
                .is_some_and(|rest| rest.is_empty() || rest.eq_ignore_ascii_case("localhost"))
        })
    }

    fn to_origin(&self, index: usize) -> Result<Route, ForwardError> {
        match &self.origin {
            Some((origin, _)) => Ok(route(index, Arc::clone(origin), By::Origin)),
            None => Err(ForwardError::Misdirected(format!(
                "binding \"{}\" has no `origin`: ask it for an absolute URL, as with curl -x, or \
                 add the origin to [bindings.{}]",
                self.name, self.name
            ))),
        }
    }

    fn foreign(&self, asked: &AuthorityRef<'_>) -> ForwardError {
        let leads = match &self.origin {
            Some((_, url)) => format!("it leads to {url}"),
            None if self.anywhere => "it reaches public origins by whole URLs only".to_owned(),
            None => "it has no `origin`".to_owned(),
        };
        ForwardError::Misdirected(format!(
            "binding \"{name}\" does not go by \"{host}\" and may not reach it; {leads}. If this is \
             a name that clients call mtlsd by, add host = [\"{host}\"] to [bindings.{name}]; if it \
             is an origin for this certificate, add allow = [\"{host}\"]",
            name = self.name,
            host = asked.host(),
        ))
    }
}

fn route(binding: usize, target: Arc<Authority>, by: By) -> Route {
    Route {
        binding,
        target,
        by,
    }
}

/// The way of a binding that may reach every public origin. As with a wildcard, it is somebody
/// else's DNS that chooses the address.
fn to_anywhere(binding: usize, authority: &AuthorityRef<'_>, port: u16) -> Route {
    route(binding, Arc::new(authority.with_port(port)), By::Wildcard)
}

/// The port that an absolute URL means. With http, 443 stands for 80 and for nothing: the client
/// was told to say http because mtlsd adds the TLS.
fn url_port(https: bool, authority: &AuthorityRef<'_>) -> u16 {
    match (https, authority.port()) {
        (_, None) | (false, Some(80)) => HTTPS,
        (_, Some(port)) => port,
    }
}

#[cfg(test)]
mod tests;
