//! The final check of host mounts: none may contain the engine's own socket.
//!
//! The rules are in `shed-model` (`MountPolicy`). This check comes in addition, because whoever can talk to the engine is root
//! on the host.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use shed_api::shed::Mount;
use shed_engine::EngineError;

/// Where container engines usually listen, in addition to the socket in use.
const SOCKETS: &[&str] = &[
    "/var/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/var/run/docker/containerd/containerd.sock",
    "/run/podman/podman.sock",
];

/// Checks that no mount is an engine's socket, contains one, or lies below one. `socket` is that of the engine in use.
pub(crate) fn check(mounts: &[Mount], socket: Option<&str>) -> Result<(), EngineError> {
    for mount in mounts {
        let mut sockets = socket.iter().chain(SOCKETS);
        if let Some(found) =
            sockets.find(|socket| reaches(Path::new(&mount.source), Path::new(socket)))
        {
            let text =
                format!("mount source {:?} contains the engine's socket {found}", mount.source);
            return Err(EngineError::Failed(text));
        }
    }
    Ok(())
}

fn reaches(source: &Path, socket: &Path) -> bool {
    let (source, socket) = (real(source), real(socket));
    socket.starts_with(&source) || source.starts_with(&socket) || same_file(&source, &socket)
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Whether two paths are hard links to the same file.
fn same_file(a: &Path, b: &Path) -> bool {
    let (Ok(a), Ok(b)) = (a.metadata(), b.metadata()) else {
        return false;
    };
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn every_path_to_the_socket_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("run/deep")).unwrap();
        std::fs::create_dir(root.join("data")).unwrap();
        let socket = root.join("run/deep/engine.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        std::os::unix::fs::symlink(&socket, root.join("data/link")).unwrap();
        std::os::unix::fs::symlink(root.join("run"), root.join("data/dir")).unwrap();
        std::fs::hard_link(&socket, root.join("data/second")).unwrap();
        let refused = |source: &str| {
            let source = root.join(source).to_str().unwrap().to_owned();
            let mount = Mount { source, target: "/mnt".to_owned(), read_only: true };
            check(&[mount], socket.to_str()).is_err()
        };
        for bad in
            ["run", "run/deep", "run/deep/engine.sock", "data/link", "data/dir", "data/second"]
        {
            assert!(refused(bad), "{bad}");
        }
        assert!(!refused("data"));
        let root = Mount { source: "/".to_owned(), target: "/mnt".to_owned(), read_only: true };
        assert!(check(&[root], None).is_err());
    }
}
