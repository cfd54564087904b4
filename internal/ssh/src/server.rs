//! The server as a value: made, bound, run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::server::Config;
use russh::{Limits, MethodKind, MethodSet, SshId};
use shed_core::{App, Duplex, Person};
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::gate::Gate;
use crate::host_key::HostKey;
use crate::{algorithms, connection, inbox};

/// How long a handshake and a login may take, with somebody who types a passphrase.
const LOGIN_LIMIT: Duration = Duration::from_secs(20);
/// Keys tried on one connection. An agent may hold many.
const MAX_ATTEMPTS: usize = 20;
/// Silence after which a client is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Unanswered questions after which it is not.
const MAX_KEEPALIVES: usize = 3;
/// The most bytes in a client's packet. Larger ones gain nothing (measured).
const MAX_PACKET: u32 = 64 << 10;
/// Messages of all channels on their way to russh's loop: what a keystroke's echo waits behind.
const OUTBOX: usize = 32;
/// russh's queue for what we do not read there: see `inbox`.
const UNREAD: usize = 1;
/// The first pause after a failed accept (no descriptor left); it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Gets the bytes of a client's `_api` channel, as the person whose key it is. Returns at once.
pub type ApiPipe = Arc<dyn Fn(Person, Box<dyn Duplex>) + Send + Sync>;

/// What can be chosen.
#[derive(Clone)]
pub struct Options {
    /// What `_api` leads to; without it that user is refused.
    pub api: Option<ApiPipe>,
    /// How long a handshake and a login may take.
    pub login_limit: Duration,
    /// Silence after which a client is asked whether it is there. After three questions without an answer it is not.
    pub keepalive: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { api: None, login_limit: LOGIN_LIMIT, keepalive: KEEPALIVE }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { api, login_limit, keepalive } = self;
        f.debug_struct("Options")
            .field("api", &api.is_some())
            .field("login_limit", login_limit)
            .field("keepalive", keepalive)
            .finish()
    }
}

/// Why an address could not be listened at.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {address}: {error}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The system's reason.
    pub error: std::io::Error,
}

/// What all connections share.
pub(crate) struct Door {
    pub(crate) app: App,
    pub(crate) config: Arc<Config>,
    pub(crate) options: Options,
    gate: Arc<Gate>,
}

/// An SSH server.
pub struct SshServer {
    door: Arc<Door>,
    listeners: Vec<TcpListener>,
}

impl SshServer {
    /// A server that does not listen yet.
    pub fn new(app: App, host_key: &HostKey, options: Options) -> Self {
        let config = Arc::new(config(host_key, &options));
        let door = Door { app, config, options, gate: Arc::default() };
        Self { door: Arc::new(door), listeners: Vec::new() }
    }

    /// Listens at one more address; with port 0 at any port. Returns the address it got.
    pub async fn bind(&mut self, address: SocketAddr) -> Result<SocketAddr, BindError> {
        let failed = |error| BindError { address, error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        self.listeners.push(listener);
        Ok(bound)
    }

    /// Serves until the App stops. Open connections are then told so; the App waits for their tasks.
    pub async fn run(self) {
        let tasks = self.door.app.tasks();
        let accept = |listener| tasks.spawn(accept_all(Arc::clone(&self.door), listener));
        let accepting: Vec<_> = self.listeners.into_iter().map(accept).collect();
        for one in accepting {
            // Only a panic is an error here, and it has been told.
            one.await.ok();
        }
    }
}

/// Accepts for ever; one per listener. Ends with the server.
async fn accept_all(door: Arc<Door>, listener: TcpListener) {
    let stop = door.app.stopping();
    let mut pause = FIRST_PAUSE;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, client)) => {
                pause = FIRST_PAUSE;
                if let Some(visit) = door.gate.enter(client.ip()) {
                    let serving = connection::serve(Arc::clone(&door), stream, visit);
                    door.app.tasks().spawn(serving);
                } else {
                    tracing::warn!(%client, "too many connections; this one was closed");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                sleep(pause).await;
                pause = LONGEST_PAUSE.min(pause * 2);
            }
        }
    }
}

fn config(host_key: &HostKey, options: &Options) -> Config {
    Config {
        server_id: SshId::Standard("SSH-2.0-shed".into()),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        // Waiting protects passwords, and there are none; `gate` slows down whoever fails too often.
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![host_key.private()],
        limits: Limits::default(),
        window_size: inbox::WINDOW,
        maximum_packet_size: MAX_PACKET,
        channel_buffer_size: UNREAD,
        event_buffer_size: OUTBOX,
        preferred: algorithms::offered(),
        max_auth_attempts: MAX_ATTEMPTS,
        inactivity_timeout: None,
        keepalive_interval: Some(options.keepalive),
        keepalive_max: MAX_KEEPALIVES,
        // The socket is ours; see `socket`.
        nodelay: true,
        ..Config::default()
    }
}
