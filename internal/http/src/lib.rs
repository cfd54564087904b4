//! The HTTP door: REST, event streams, and terminals over WebSocket, for three kinds of callers.
//!
//! The owner of the unix socket needs no token, whoever comes over TCP does, and the SSH door passes in connections of
//! people it has already checked. Everything else is the same for all three. The routes are in `router`, one file per
//! noun under `routes`; what they mean is decided in `shed-core`. Nothing here knows a container, tmux or SSH.

mod auth;
mod extract;
mod guard;
mod limits;
mod metrics;
mod openapi;
mod router;
mod routes;
mod serve;
mod streams;
mod tls;
mod watching;

use std::sync::Arc;
use std::time::Duration;

use shed_api::server::HostKey;
use shed_core::{App, Duplex, Person};

pub use openapi::document;
pub use serve::{BindError, Listen, Listener};
pub use tls::{Tls, TlsError};

/// What the door needs to know besides the App.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Host names by which the server may be addressed over TCP, beside its own addresses.
    pub hosts: Vec<String>,
    /// The SSH door's public host key, if there is one.
    pub host_key: Option<HostKey>,
    /// The SSH door's port, if there is one.
    pub ssh_port: Option<u16>,
    /// The first HTTP listener's port, if there is one.
    pub http_port: Option<u16>,
    /// Users who are the owner of the unix socket: their requests need no token.
    pub owner_uid: u32,
    /// How long things may take.
    pub timing: Timing,
}

/// How long things may take. The defaults are for people and networks; tests are in a hurry.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How often an idle event stream says that it is alive.
    pub heartbeat: Duration,
    /// How often an idle WebSocket's caller is asked whether it is there. Callers give up after two and a half times this.
    pub ping: Duration,
    /// How long a client may take to send a request's head, or to begin the next one on an idle connection.
    pub head: Duration,
    /// How long a client may pause in the middle of a request's body.
    pub body: Duration,
    /// How long requests may go on when the server goes away.
    pub drain: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(15),
            ping: Duration::from_secs(20),
            head: Duration::from_secs(30),
            body: Duration::from_secs(30),
            drain: Duration::from_secs(5),
        }
    }
}

/// The door. Clones are the same door.
#[derive(Clone)]
pub struct Http {
    state: Arc<State>,
}

/// What every handler can reach.
pub(crate) struct State {
    pub(crate) app: App,
    pub(crate) options: Options,
    pub(crate) limits: limits::Limits,
    pub(crate) metrics: metrics::Metrics,
    pub(crate) routes: axum::Router,
}

impl Http {
    /// Makes the door; nothing listens yet.
    pub fn new(app: App, options: Options) -> Self {
        let state = Arc::new_cyclic(|state| State {
            app,
            options,
            limits: limits::Limits::default(),
            metrics: metrics::Metrics::default(),
            routes: router::router(state.clone()),
        });
        Self { state }
    }

    /// Serves one connection of somebody another door has checked. Ends with the connection or the server.
    pub async fn serve_person(&self, person: Person, stream: Box<dyn Duplex>) {
        serve::serve_connection(&self.state, stream, auth::Peer::Known(person)).await;
    }
}
