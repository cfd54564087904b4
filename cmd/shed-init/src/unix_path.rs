//! Unix sockets at paths of any length. A socket's address holds 108 bytes. A longer path is reached through a descriptor of
//! its directory.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// The longest path that fits into an address, without the terminating NUL byte.
const MAX_PATH_BYTES: usize = 107;

/// Connects to the socket at a path.
pub(crate) fn connect(path: &Path) -> std::io::Result<OwnedFd> {
    if path.as_os_str().len() <= MAX_PATH_BYTES {
        return UnixStream::connect(path).map(OwnedFd::from);
    }
    let (dir, name) = parts(path)?;
    let dir = open_dir(dir)?;
    UnixStream::connect(through(&dir, name)).map(OwnedFd::from)
}

/// Listens on a new socket in a directory.
pub(crate) fn bind_in(dir: &OwnedFd, name: &str) -> std::io::Result<UnixListener> {
    UnixListener::bind(through(dir, Path::new(name)))
}

/// Opens a directory with `O_PATH`: the descriptor only serves to address entries.
pub(crate) fn open_dir(path: &Path) -> std::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn through(dir: &OwnedFd, name: &Path) -> PathBuf {
    Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name)
}

fn parts(path: &Path) -> std::io::Result<(&Path, &Path)> {
    match (path.parent(), path.file_name()) {
        (Some(dir), Some(name)) => Ok((dir, Path::new(name))),
        _ => Err(std::io::ErrorKind::InvalidInput.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_at_long_paths_are_bound_and_reached() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        let path = deep.join("ctl");
        assert!(path.as_os_str().len() > MAX_PATH_BYTES);
        assert!(connect(&path).is_err());
        let listener = bind_in(&open_dir(&deep).unwrap(), "ctl").unwrap();
        connect(&path).unwrap();
        listener.accept().unwrap();
    }
}
