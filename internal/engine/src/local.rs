//! For engines whose containers share the server's kernel: they see the server's directories, and the kernel tells who
//! called on a socket.

use std::path::{Path, PathBuf};

use shed_api::ShedName;

use crate::EngineFuture;

/// Directories of the server's host that an engine mounts into each container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostDirs {
    /// Holds a link directory per shed, see [`link_dir`]; 0700.
    pub links_dir: PathBuf,
    /// Holds shed-init.
    pub program_dir: PathBuf,
}

/// The link directory of a shed, which holds the socket that its shed-init connects to.
pub fn link_dir(links_dir: &Path, shed: &ShedName) -> PathBuf {
    links_dir.join(shed.as_str())
}

/// Who connected to a socket, as the kernel reports it, in the server's own numbering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Process id; 0 if it is outside the server's view.
    pub pid: u32,
    /// User id.
    pub uid: u32,
}

/// Checks who connected to a shed's link. The engine that started the container knows.
pub trait PeerCheck: Send + Sync + 'static {
    /// Whether this is the shed-init of that shed.
    fn is_peer<'a>(&'a self, shed: &'a ShedName, peer: Peer) -> EngineFuture<'a, bool>;
}
