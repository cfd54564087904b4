//! The directory of a new spool.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use shed_link::WorkerSpec;
use shed_link::control::SOCKET;

use crate::spool_record::LOCK;
use crate::unix_path;

/// The directory of a new epoch and the files in it that the runner keeps open.
#[derive(Debug)]
pub(in crate::runner) struct SpoolDirectory {
    /// The control socket.
    pub(in crate::runner) listener: UnixListener,
    /// Locked as long as the runner lives. A process that can lock the file knows that the runner has ended.
    pub(in crate::runner) lock: OwnedFd,
    /// The directory itself.
    pub(in crate::runner) dir: OwnedFd,
}

impl SpoolDirectory {
    /// Creates `SPOOL/ID/EPOCH`. It appears complete, with its lock held. An existing directory is an error.
    pub(in crate::runner) fn create(spec: &WorkerSpec) -> Result<Self, String> {
        let path = Path::new(&spec.spool).join(spec.id.to_string());
        let failed =
            |error: io::Error| format!("cannot create the spool in {}: {error}", path.display());
        if !path.is_absolute() {
            return Err(format!(
                "invalid spool directory {:?}; expected an absolute path",
                spec.spool
            ));
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(failed)?;
        let made = path.join(format!(".{}.{}", spec.epoch, std::process::id()));
        DirBuilder::new().mode(0o700).create(&made).map_err(failed)?;
        Self::fill(&made)
            .and_then(|home| {
                std::fs::rename(&made, path.join(spec.epoch.to_string()))?;
                Ok(home)
            })
            .map_err(|error| {
                // If this fails too, what is left is small and hidden.
                std::fs::remove_dir_all(&made).ok();
                failed(error)
            })
    }

    fn fill(path: &Path) -> io::Result<Self> {
        let dir = rustix::fs::open(
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let lock = openat(&dir, LOCK, flags, Mode::from_raw_mode(0o600))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let listener = unix_path::bind_in(&dir, SOCKET)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, lock, dir })
    }
}
