//! The server's end of a link socket: listen, and check who called.

use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::net::sockopt::socket_peercred;
use shed_api::ShedName;
use shed_engine::local::{Peer, PeerCheck, link_dir};
use shed_link::{Conn, LINK_SOCKET};
use tokio::net::{UnixListener, UnixStream};

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
        let listener = UnixListener::bind(&short).map_err(failed())?;
        let (engine, shed) = (Arc::clone(&self.engine), shed.clone());
        Ok(Box::new(LinkListener { listener, engine, shed }))
    }

    fn forget(&self, shed: &ShedName) -> Result<(), Error> {
        let dir = link_dir(&self.links_dir, shed);
        std::fs::remove_dir_all(&dir).map_err(Error::io(format!("cannot remove {}", dir.display())))
    }
}

struct LinkListener {
    listener: UnixListener,
    engine: Arc<dyn PeerCheck>,
    shed: ShedName,
}

impl Listener for LinkListener {
    fn accept(&mut self) -> Pending<'_, Box<dyn Caller>> {
        Box::pin(async move {
            let (socket, _) = self.listener.accept().await.map_err(Error::io("link"))?;
            let (engine, shed) = (Arc::clone(&self.engine), self.shed.clone());
            Ok(Box::new(LinkCaller { socket, engine, shed }) as Box<dyn Caller>)
        })
    }
}

struct LinkCaller {
    socket: UnixStream,
    engine: Arc<dyn PeerCheck>,
    shed: ShedName,
}

impl Caller for LinkCaller {
    fn admit(self: Box<Self>) -> Near<Option<Wire>> {
        Box::pin(async move {
            let Self { socket, engine, shed } = *self;
            let cred =
                socket_peercred(&socket).map_err(|error| Error::io("link peer")(error.into()))?;
            let pid = u32::try_from(cred.pid.as_raw_nonzero().get()).unwrap_or_default();
            let peer = Peer { pid, uid: cred.uid.as_raw() };
            let admitted = engine.is_peer(&shed, peer).await?;
            Ok(admitted.then(|| super::wire(Conn::new(socket))))
        })
    }
}
