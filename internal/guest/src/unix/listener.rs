//! The server's end of a link socket: listen, and check who called.

use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::net::sockopt::socket_peercred;
use shed_api::ShedName;
use shed_engine::local::{Peer, PeerCheck, link_dir};
use shed_link::LINK_SOCKET;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use super::{ShedThread, wire};
use crate::Error;
use crate::transport::{Caller, Listener, Near, Pending, Transport, Wire};

/// Reaches containers by a unix socket in a directory per shed.
pub struct UnixTransport {
    links_dir: PathBuf,
    engine: Arc<dyn PeerCheck>,
}

impl UnixTransport {
    /// Sockets go to directories under `links_dir` (0700); the engine that started a container checks who called.
    pub fn new(links_dir: PathBuf, engine: Arc<dyn PeerCheck>) -> Self {
        Self { links_dir, engine }
    }
}

impl Transport for UnixTransport {
    /// Makes the directory and a new socket in it; shed-init notices the new socket and connects.
    fn listen(&self, shed: &ShedName) -> Result<Box<dyn Listener>, Error> {
        let dir = link_dir(&self.links_dir, shed);
        let failed = || Error::io(format!("cannot listen in {}", dir.display()));
        std::fs::create_dir_all(&dir).map_err(failed())?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd =
            rustix::fs::open(&dir, flags, Mode::empty()).map_err(|error| failed()(error.into()))?;
        // Entered by shed-init, listed by nobody. The parent is the server's alone.
        let mode = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(&dir, mode).map_err(failed())?;
        // The socket of an earlier server, if there is one.
        rustix::fs::unlinkat(&fd, LINK_SOCKET, AtFlags::empty()).ok();
        // A socket's path is at most 108 bytes and a data directory may be deeper: go through the descriptor.
        let short = format!("/proc/self/fd/{}/{LINK_SOCKET}", fd.as_raw_fd());
        let listener = StdUnixListener::bind(&short).map_err(failed())?;
        let owner = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&short, owner).map_err(failed())?;
        let thread = ShedThread::start(shed)?;
        let (callers, accepted) = mpsc::channel(1);
        let acceptor = thread.clone();
        thread.spawn(async move { accept_all(&acceptor, listener, callers).await });
        let (engine, shed) = (Arc::clone(&self.engine), shed.clone());
        Ok(Box::new(LinkListener { accepted, engine, shed }))
    }

    fn forget(&self, shed: &ShedName) -> Result<(), Error> {
        let dir = link_dir(&self.links_dir, shed);
        std::fs::remove_dir_all(&dir).map_err(Error::io(format!("cannot remove {}", dir.display())))
    }
}

/// Accepts connections until nobody wants them any more.
async fn accept_all(
    thread: &ShedThread,
    listener: StdUnixListener,
    callers: mpsc::Sender<Result<Accepted, Error>>,
) {
    let listener = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => return drop(callers.send(Err(Error::io("link")(error))).await),
    };
    while let Ok(permit) = callers.reserve().await {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = callers.closed() => return,
        };
        let accepted = accepted.and_then(|(socket, _)| Accepted::new(thread, socket.into_std()?));
        permit.send(accepted.map_err(Error::io("link")));
    }
}

/// A connection on the thread of its shed. Nothing of it is read before it is admitted, and it is closed if it is not.
struct Accepted {
    peer: Peer,
    admit: oneshot::Sender<()>,
    wire: Wire,
}

impl Accepted {
    fn new(thread: &ShedThread, socket: StdUnixStream) -> std::io::Result<Self> {
        let cred = socket_peercred(&socket)?;
        let pid = u32::try_from(cred.pid.as_raw_nonzero().get()).unwrap_or_default();
        let peer = Peer { pid, uid: cred.uid.as_raw() };
        let (admit, admitted) = oneshot::channel();
        Ok(Self { peer, admit, wire: wire::start(thread, socket, admitted) })
    }
}

struct LinkListener {
    accepted: mpsc::Receiver<Result<Accepted, Error>>,
    engine: Arc<dyn PeerCheck>,
    shed: ShedName,
}

impl Listener for LinkListener {
    fn accept(&mut self) -> Pending<'_, Box<dyn Caller>> {
        Box::pin(async move {
            let ended = || Error::io("link")(std::io::ErrorKind::BrokenPipe.into());
            let accepted = self.accepted.recv().await.ok_or_else(ended)??;
            let (engine, shed) = (Arc::clone(&self.engine), self.shed.clone());
            Ok(Box::new(LinkCaller { accepted, engine, shed }) as Box<dyn Caller>)
        })
    }
}

struct LinkCaller {
    accepted: Accepted,
    engine: Arc<dyn PeerCheck>,
    shed: ShedName,
}

impl Caller for LinkCaller {
    fn admit(self: Box<Self>) -> Near<Option<Wire>> {
        Box::pin(async move {
            let Self { accepted: Accepted { peer, admit, wire }, engine, shed } = *self;
            let is_admitted = engine.is_peer(&shed, peer).await? && admit.send(()).is_ok();
            Ok(is_admitted.then_some(wire))
        })
    }
}
