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

/// How often a directory is created that the collector removes while it is empty. It does so once for each epoch it deletes.
const MAX_TRIES: u32 = 100;

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
        let made = path.join(format!(".{}.{}", spec.epoch, std::process::id()));
        create_in(&path, &made).map_err(failed)?;
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

/// Creates a directory in the worker's directory, which is created too. The collector removes a worker's directory together
/// with its last epoch, maybe just before there is a new one in it.
fn create_in(worker: &Path, made: &Path) -> io::Result<()> {
    let try_create = || {
        match DirBuilder::new().recursive(true).mode(0o700).create(worker) {
            // It existed and was removed in between. Anything else in its place makes the next call fail.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => created?,
        }
        DirBuilder::new().mode(0o700).create(made)
    };
    let mut created = try_create();
    for _ in 1..MAX_TRIES {
        if !created.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            break;
        }
        created = try_create();
    }
    created
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_directory_that_is_removed_while_it_is_empty_is_created_again() {
        let dir = tempfile::tempdir().unwrap();
        let worker = dir.path().join("worker");
        let (is_done, n_left) = (AtomicBool::new(false), AtomicU32::new(0));
        std::thread::scope(|scope| {
            // What the collector does after it has deleted an epoch: once for each, so not for ever during one start.
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    if n_left.load(Ordering::Relaxed) > 0 && std::fs::remove_dir(&worker).is_ok() {
                        n_left.fetch_sub(1, Ordering::Relaxed);
                    }
                }
            });
            let created: io::Result<()> = (0..2_000).try_for_each(|n| {
                n_left.store(3, Ordering::Relaxed);
                let made = worker.join(n.to_string());
                create_in(&worker, &made)?;
                std::fs::remove_dir(&made)
            });
            is_done.store(true, Ordering::Relaxed);
            created.unwrap();
        });
    }
}
