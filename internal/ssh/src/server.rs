//! The SSH server: its options, listeners and accept loop.

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

/// The server's identification line. Clients recognize by it a server that takes the arguments of sftp's SYMLINK in OpenSSH's
/// order: `docs/decisions/0011-the-banner-of-openssh.md`.
const BANNER: &str = "SSH-2.0-OpenSSH_9.9 shed";
/// How long a handshake and a login may take, including the time to type a passphrase.
const LOGIN_LIMIT: Duration = Duration::from_secs(20);
/// Keys that a client may try on one connection. An agent may hold many.
const MAX_ATTEMPTS: usize = 20;
/// Idle time after which the server sends a keepalive request.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Unanswered keepalive requests after which the connection is closed.
const MAX_KEEPALIVES: usize = 3;
/// Largest packet of a client, in bytes. Larger ones gain nothing (measured).
const MAX_PACKET: u32 = 64 << 10;
/// Messages of all channels that wait for russh's loop. The echo of a keystroke waits behind them.
const OUTBOX: usize = 32;
/// Capacity of russh's channel queues, which are not read: see `inbox`.
const UNREAD: usize = 1;
/// The first pause after a failed accept, for example when no file descriptor is left; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Serves a client's `_api` channel as the person who owns the key. Returns at once.
pub type ApiPipe = Arc<dyn Fn(Person, Box<dyn Duplex>) + Send + Sync>;

/// Settings of the SSH server.
#[derive(Clone)]
pub struct Options {
    /// Serves channels of the user `_api`; when absent, that user is refused.
    pub api: Option<ApiPipe>,
    /// How long a handshake and a login may take.
    pub login_limit: Duration,
    /// Idle time after which the server sends a keepalive request. After three without an answer it closes the connection.
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

/// Why the server could not listen on an address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}")]
pub struct BindError {
    /// The configured address and port.
    pub address: SocketAddr,
    /// The system's error.
    pub error: std::io::Error,
}

/// The state that all connections share.
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

    /// Listens on another address; with port 0 on any free port. Returns the address that was bound.
    pub async fn bind(&mut self, address: SocketAddr) -> Result<SocketAddr, BindError> {
        let failed = |error| BindError { address, error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        self.listeners.push(listener);
        Ok(bound)
    }

    /// Serves until the App stops. Open connections are then closed; the App waits for their tasks.
    pub async fn run(self) {
        let tasks = self.door.app.tasks();
        let accept = |listener| tasks.spawn(accept_all(Arc::clone(&self.door), listener));
        let accepting: Vec<_> = self.listeners.into_iter().map(accept).collect();
        for one in accepting {
            // Only a panic is an error here, and it has been reported.
            one.await.ok();
        }
    }
}

/// Accepts connections of one listener until the server stops.
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
                    tracing::warn!(%client, "too many connections; a new one was closed");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(pause).await;
                pause = LONGEST_PAUSE.min(pause * 2);
            }
        }
    }
}

fn config(host_key: &HostKey, options: &Options) -> Config {
    Config {
        server_id: SshId::Standard(BANNER.into()),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        // A delay would protect passwords, which are not offered; `gate` delays addresses that fail too often.
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
        // Has no effect: `socket` sets it itself.
        nodelay: true,
        ..Config::default()
    }
}
