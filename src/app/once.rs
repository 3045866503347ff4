//! One request without a daemon: no listener, no reloading, no signals. From the client's
//! connection on, its way is that of every other request, so that it gets the same answer.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use crate::config::{self, Binding, ConfigError, Draft, HostPrefix};
use crate::diagnosis::Report;
use crate::lifecycle::Drainer;
use crate::proxy::{Current, Failed, From, Proxy, Service};
use crate::reload::Reloader;
use crate::route::{Entrance, Routes};
use crate::server::{self, Accepted, Ends, Socket, Terms};
use crate::tls::{Generation, LoadError};
use crate::upstream::{House, Published, Slots, Upstream};

use super::listeners::own_settings;
use super::{Demand, identities};

/// A binding that is there for one request.
pub struct Once {
    binding: Binding,
    reloader: Reloader,
}

/// What came back.
pub struct Answer {
    /// The answer, whose body is still coming.
    pub response: Response<Incoming>,
    /// Why it is mtlsd's own and not the origin's.
    pub failure: Option<Failed>,
    /// What it says about certificates, where it is the origin's and complains about one.
    pub complaint: Option<Report>,
}

/// What is known of a request beyond its answer.
#[derive(Default)]
struct Noted {
    failure: Option<Failed>,
    complaint: Option<Report>,
}

/// Why there is no such binding.
#[derive(Debug, thiserror::Error)]
pub enum OnceError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It has no binding of this name, but others.
    #[error("there is no binding \"{name}\", but {}{}", known.join(", "), did_you_mean(name, known))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The system refused something.
    #[error("cannot connect to ourselves")]
    System(#[from] io::Error),
    /// The connection to ourselves ended early.
    #[error("the request was broken off")]
    BrokenOff(#[from] hyper::Error),
}

impl Once {
    /// Opens the files of the binding called `name`, and of no other.
    ///
    /// # Errors
    ///
    /// When the configuration or one of these files is wrong, or there is no such binding.
    pub fn load(draft: Draft, name: &str) -> Result<Self, OnceError> {
        let demand = |binding: &Binding| match is_called(binding, name) {
            true => Demand::Loaded,
            false => Demand::Nothing,
        };
        let (config, reloaders) = identities(draft, SystemTime::now(), demand).result?;
        let known = config.bindings.iter().map(|one| one.name.to_string());
        let known = known.collect();
        let all = config.bindings.into_iter().zip(reloaders);
        let found = all.filter_map(|(binding, reloader)| Some((binding, reloader?)));
        match found.into_iter().next() {
            Some((binding, reloader)) => Ok(Self { binding, reloader }),
            None => Err(OnceError::Unknown {
                name: name.to_owned(),
                known,
            }),
        }
    }

    /// The binding.
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// What it presents.
    pub fn generation(&self) -> &Arc<Generation> {
        self.reloader.current()
    }

    /// Why its certificate is not valid at this moment, if it is not. It is presented all the same.
    pub fn complaint(&self) -> Option<LoadError> {
        self.reloader.check_validity(SystemTime::now()).err()
    }

    /// Sends `request` as a client of the binding's own unix socket would. Needs a runtime that
    /// runs tasks on the calling thread.
    ///
    /// # Errors
    ///
    /// When no answer comes, not even one of ours: mostly because of the request's own body.
    pub async fn send<B>(&self, request: Request<B>) -> Result<Answer, SendError>
    where
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (ours, theirs) = UnixStream::pair()?;
        for end in [&ours, &theirs] {
            end.set_nonblocking(true)?;
        }
        let noted = self.serve(Socket::new(Accepted::unix(theirs))?);
        let ours = tokio::net::UnixStream::from_std(ours)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(ours)).await?;
        tokio::task::spawn_local(connection);
        let response = sender.send_request(request).await?;
        let Noted { failure, complaint } = noted.take();
        Ok(Answer {
            response,
            failure,
            complaint,
        })
    }

    /// Serves what comes by `socket`. Returns where what is known of a request is put.
    fn serve(&self, socket: Socket) -> Rc<RefCell<Noted>> {
        let published = Published {
            generation: Arc::clone(self.reloader.current()),
            slots: Slots::new(self.binding.limits.connections.get(), 1),
        };
        let upstream = Upstream::new(&self.binding, published, 0, Rc::new(Nobody), Rc::default());
        let service = Service::new(&self.binding, upstream, Arc::default(), None);
        let routes = Routes::new(std::slice::from_ref(&self.binding));
        let entrances = BTreeMap::from([(0, Entrance::Own(0))]);
        let proxy = Proxy::new(Arc::new(routes), vec![service], entrances, None);
        let current = Current::new(proxy);
        let from = From {
            listener: 0,
            local: None,
            peer: None,
            tunnel: None,
        };
        let known = Rc::new(RefCell::default());
        let noted = Rc::clone(&known);
        let (drainer, drain) = Drainer::new();
        let terms = Terms {
            ends: Ends::default(),
            settings: own_settings(&self.binding),
            drain,
        };
        tokio::task::spawn_local(async move {
            server::serve(socket, Rc::new(terms), move |client, request| {
                let answer = current.answer(from.clone(), client, request);
                let noted = Rc::clone(&noted);
                async move {
                    let mut response = answer.await;
                    let extensions = response.extensions_mut();
                    noted.replace(Noted {
                        failure: extensions.remove(),
                        complaint: extensions.remove(),
                    });
                    response
                }
            })
            .await;
            drop(drainer);
        });
        known
    }
}

/// Whether `name` is one of the binding's, compared as in a `Host`.
fn is_called(binding: &Binding, name: &str) -> bool {
    let prefix = HostPrefix::parse(name);
    binding.name.as_str() == name || prefix.is_some_and(|prefix| binding.hosts.contains(&prefix))
}

fn did_you_mean(name: &str, known: &[String]) -> String {
    let known: Vec<_> = known.iter().map(String::as_str).collect();
    config::nearest(name, &known)
        .filter(|_| known.len() > 1)
        .map_or(String::new(), |near| format!("; did you mean {near}?"))
}

/// The rest of the process: there is none.
struct Nobody;

impl House for Nobody {
    fn give_up_one(&self, _worker: usize) {}

    // The files were read a moment ago.
    fn suspect(&self) -> oneshot::Receiver<u64> {
        oneshot::channel().1
    }
}
