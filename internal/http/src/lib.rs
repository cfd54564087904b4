//! The HTTP door: REST, event streams, and terminals over WebSocket.
//!
//! There are three kinds of callers: the owner of the unix socket, who needs no token; clients over TCP, who do; and people
//! whom the SSH door has authenticated, whose connections it passes in. Everything else is the same for all three. `router`
//! lists the routes, with one file for each noun under `routes`; `shed-core` decides what they mean. Nothing here depends on
//! containers, tmux or SSH.

mod alias;
mod auth;
mod event_stream;
mod extract;
mod guard;
mod limits;
mod metrics;
mod openapi;
mod router;
mod routes;
mod serve;
mod state;
mod streams;
mod tls;
mod unauthenticated;
mod watching;

use std::sync::Arc;

use shed_core::{App, Duplex, Person};

pub use openapi::document;
pub use serve::{BindError, Listen, Listener};
pub(crate) use state::State;
pub use state::{Http, Options, Timing};
pub use tls::{Tls, TlsError};

impl Http {
    /// A door that does not listen yet.
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

    /// Serves one connection of a person whom another door has authenticated. Ends with the connection or the server.
    pub async fn serve_person(&self, person: Person, stream: Box<dyn Duplex>) {
        serve::serve_connection(&self.state, stream, auth::Peer::Known(person), None).await;
    }
}
