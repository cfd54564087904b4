//! The door's settings and the state that its handlers share.

use std::sync::Arc;
use std::time::Duration;

use shed_api::server::HostKey;
use shed_core::App;

use crate::limits::Limits;
use crate::metrics::Metrics;

/// Settings of the door.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Host names by which the server may be addressed over TCP, in addition to IP addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Public host key of the SSH door, if there is one.
    pub host_key: Option<HostKey>,
    /// Port of the SSH door, if there is one.
    pub ssh_port: Option<u16>,
    /// Port of the first HTTP listener, if there is one.
    pub http_port: Option<u16>,
    /// Uid of the owner of the unix socket, whose requests need no token.
    pub owner_uid: u32,
    /// Intervals and time limits.
    pub timing: Timing,
}

/// Intervals and time limits. The defaults suit people and networks; tests set shorter ones.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Interval of heartbeats on an idle event stream.
    pub heartbeat: Duration,
    /// Interval of pings on a WebSocket. Our clients give up after 2.5 times this without a message.
    pub ping: Duration,
    /// How long a client may take to send a request's head, or to begin the next request on an idle connection.
    pub head: Duration,
    /// How long a client may pause while it sends a request's body.
    pub body: Duration,
    /// How long requests may continue after the server began to shut down.
    pub drain: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(15),
            ping: Duration::from_secs(5),
            head: Duration::from_secs(30),
            body: Duration::from_secs(30),
            drain: Duration::from_secs(5),
        }
    }
}

/// The door. Clones share its state.
#[derive(Clone)]
pub struct Http {
    pub(crate) state: Arc<State>,
}

/// The state that all handlers share.
pub(crate) struct State {
    pub(crate) app: App,
    pub(crate) options: Options,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) routes: axum::Router,
}
