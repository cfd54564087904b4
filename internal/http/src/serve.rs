//! Listeners and connections: accept loops with limits, which a server on a network needs.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::socket_peercred;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tower_service::Service as _;

use crate::auth::Peer;
use crate::tls::Tls;
use crate::unauthenticated::{PendingConnection, Unauthenticated};
use crate::{Http, State};

/// Open connections over TCP. Each needs some tens of kilobytes.
const MAX_CONNECTIONS: usize = 2_048;
/// Open connections of one address. Loopback is exempt, since all local users and tunnels share it.
const MAX_PER_ADDRESS: usize = 512;
/// Open connections over the unix socket.
const MAX_LOCAL: usize = 4_096;
/// How long a TLS handshake may take.
const TLS_LIMIT: Duration = Duration::from_secs(10);
/// How long sent bytes may stay unacknowledged before the connection is closed.
const SEND_LIMIT: Duration = Duration::from_secs(60);
/// During shutdown, the time that a client has to finish sending a request's head or to read a response.
const LINGER: Duration = Duration::from_millis(500);
/// Pause after a failed accept, for example when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The longest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// Where to listen.
#[derive(Clone)]
pub enum Listen {
    /// On a unix socket, mode 0600, at this path.
    Unix(PathBuf),
    /// On an address and port, with TLS if given.
    Tcp(SocketAddr, Option<Tls>),
}

/// A bound listener that does not serve yet.
pub struct Listener {
    kind: Kind,
}

enum Kind {
    /// With the path and the inode of the socket file, to recognise it later.
    Unix(UnixListener, PathBuf, Option<u64>),
    Tcp(TcpListener, Option<Tls>),
}

/// Why the server could not listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process or file has the address or path.
    #[error("{place} is in use: {error}")]
    InUse {
        /// The configured address or path.
        place: String,
        /// The system's error.
        error: std::io::Error,
    },
    /// Another server answers on the unix socket at this path.
    #[error("a server already answers at {0}")]
    Answered(PathBuf),
    /// A system call failed for another reason.
    #[error("cannot listen on {place}: {error}")]
    Io {
        /// The configured address or path.
        place: String,
        /// The system's error.
        error: std::io::Error,
    },
}

impl Listener {
    /// Binds a listener. Serving is a second step, so that all failures to bind are reported before anything serves.
    pub async fn bind(listen: Listen) -> Result<Self, BindError> {
        let kind = match listen {
            Listen::Unix(path) => {
                let listener = bind_unix(&path).await?;
                let inode = inode(&path);
                Kind::Unix(listener, path, inode)
            }
            Listen::Tcp(address, tls) => {
                let place = address.to_string();
                let bound = TcpListener::bind(address).await;
                let bound = bound.map_err(|error| match error.kind() {
                    std::io::ErrorKind::AddrInUse => BindError::InUse { place, error },
                    _ => BindError::Io { place, error },
                })?;
                Kind::Tcp(bound, tls)
            }
        };
        Ok(Self { kind })
    }

    /// The address of a TCP listener, with the port that was bound.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp(listener, _) => listener.local_addr().ok(),
            Kind::Unix(..) => None,
        }
    }
}

/// Binds a unix socket. A socket file that a dead server left is removed; one that answers is in use.
async fn bind_unix(path: &Path) -> Result<UnixListener, BindError> {
    let place = path.display().to_string();
    let failed = |error| BindError::Io { place: place.clone(), error };
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            let error = std::io::Error::other("the file is not a socket");
            return Err(BindError::InUse { place, error });
        }
        if tokio::net::UnixStream::connect(path).await.is_ok() {
            return Err(BindError::Answered(path.to_owned()));
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

impl Http {
    /// Serves a listener until the server shuts down. A socket file is removed at the end.
    pub async fn serve(self, listener: Listener) {
        match listener.kind {
            Kind::Unix(listener, path, own) => {
                serve_unix(&self.state, &listener).await;
                // Another server may have replaced the file meanwhile.
                if own.is_some() && inode(&path) == own {
                    std::fs::remove_file(&path).ok();
                }
            }
            Kind::Tcp(listener, tls) => serve_tcp(&self.state, &listener, tls).await,
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::symlink_metadata(path).ok().map(|metadata| metadata.ino())
}

/// The next connection, once a permit is free; `None` when the server shuts down.
async fn admit<T, F: Future<Output = std::io::Result<T>>>(
    state: &State,
    permits: &Arc<Semaphore>,
    accept: impl Fn() -> F,
) -> Option<(OwnedSemaphorePermit, T)> {
    let stop = state.app.stopping();
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    loop {
        tokio::select! {
            accepted = accept() => match accepted {
                Ok(connection) => return Some((permit, connection)),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            () = stop.cancelled() => return None,
        }
    }
}

async fn serve_unix(state: &Arc<State>, listener: &UnixListener) {
    let permits = Arc::new(Semaphore::new(MAX_LOCAL));
    while let Some((permit, (socket, _))) = admit(state, &permits, || listener.accept()).await {
        let Ok(cred) = socket_peercred(&socket) else {
            continue;
        };
        let peer = Peer::Local { uid: cred.uid.as_raw() };
        let state = Arc::clone(state);
        state.app.tasks().spawn(async move {
            serve_connection(&state, socket, peer, None).await;
            drop(permit);
        });
    }
}

async fn serve_tcp(state: &Arc<State>, listener: &TcpListener, tls: Option<Tls>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (addresses, unauthenticated) = (Addresses::default(), Unauthenticated::default());
    loop {
        if permits.available_permits() == 0 {
            // A client with a token authenticates at once; idle connections must not keep it out.
            unauthenticated.close_oldest();
        }
        let accepted = admit(state, &permits, || listener.accept()).await;
        let Some((permit, (socket, from))) = accepted else {
            return;
        };
        let Some(address_permit) = addresses.admit(from.ip(), permit) else {
            continue;
        };
        socket.set_nodelay(true).ok();
        let limit_ms = u32::try_from(SEND_LIMIT.as_millis()).unwrap_or(u32::MAX);
        rustix::net::sockopt::set_tcp_user_timeout(&socket, limit_ms).ok();
        let (state, tls, pending) = (Arc::clone(state), tls.clone(), unauthenticated.enter());
        state.app.tasks().spawn(async move {
            tokio::select! {
                () = serve_network(&state, socket, from, tls, &pending) => {}
                () = pending.closed() => {}
            }
            drop(address_permit);
        });
    }
}

async fn serve_network(
    state: &Arc<State>,
    socket: TcpStream,
    from: SocketAddr,
    tls: Option<Tls>,
    pending: &PendingConnection,
) {
    let peer = Peer::Network(from);
    let Some(tls) = tls else {
        return serve_connection(state, socket, peer, Some(pending)).await;
    };
    let handshake = tokio::time::timeout(TLS_LIMIT, tls.acceptor.accept(socket));
    let stop = state.app.stopping();
    let accepted = tokio::select! {
        accepted = handshake => accepted,
        () = stop.cancelled() => return,
    };
    if let Ok(Ok(socket)) = accepted {
        serve_connection(state, socket, peer, Some(pending)).await;
    }
}

/// Keeps a connection counted as open. Held by the extensions of its requests and by the WebSocket it was upgraded to.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    _held: mpsc::Sender<Infallible>,
}

/// Serves one connection until it, including a WebSocket it was upgraded to, or the server ends.
pub(crate) async fn serve_connection(
    state: &Arc<State>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    pending: Option<&PendingConnection>,
) {
    let (held, mut released) = mpsc::channel(1);
    serve_requests(state, stream, peer, pending.cloned(), Held { _held: held }).await;
    // Nothing is ever sent: this returns when the last `Held` is dropped.
    released.recv().await;
}

async fn serve_requests(
    state: &Arc<State>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    pending: Option<PendingConnection>,
    held: Held,
) {
    let routes = state.routes.clone();
    let n_answering = Arc::new(watch::Sender::new(0_usize));
    let mut answering = n_answering.subscribe();
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request.extensions_mut().insert(held.clone());
        if let Some(pending) = &pending {
            request.extensions_mut().insert(pending.clone());
        }
        let answering = Answering::new(&n_answering);
        let answer = routes.clone().call(request);
        async move {
            let answer = answer.await;
            drop(answering);
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(state.options.timing.head)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let stop = state.app.stopping();
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let cut = async {
                // The guard ensures that every request is answered in time.
                answering.wait_for(|n_answering| *n_answering == 0).await.ok();
                tokio::time::sleep(LINGER).await;
            };
            tokio::select! {
                ended = &mut connection => ended,
                () = cut => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// A request that is being answered. It is counted until this is dropped.
struct Answering {
    n_answering: Arc<watch::Sender<usize>>,
}

impl Answering {
    fn new(n_answering: &Arc<watch::Sender<usize>>) -> Self {
        n_answering.send_modify(|n_answering| *n_answering += 1);
        Self { n_answering: Arc::clone(n_answering) }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.n_answering.send_modify(|n_answering| *n_answering -= 1);
    }
}

/// Number of open connections by address.
#[derive(Debug, Clone, Default)]
struct Addresses {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// An admitted connection of an address; dropping it releases its permit.
struct AddressPermit {
    addresses: Addresses,
    address: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Addresses {
    fn admit(&self, address: IpAddr, permit: OwnedSemaphorePermit) -> Option<AddressPermit> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let n_open = open.entry(address).or_default();
        if *n_open >= MAX_PER_ADDRESS && !address.is_loopback() {
            return None;
        }
        *n_open += 1;
        Some(AddressPermit { addresses: self.clone(), address, _permit: permit })
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let mut open = self.addresses.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n_open) = open.get_mut(&self.address) {
            *n_open -= 1;
            if *n_open == 0 {
                open.remove(&self.address);
            }
        }
    }
}
