//! Locks between operations of ours. They are held on files that are never removed, and end with the process.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use shed_link::git::FailureKind;

use super::failure::Failure;
use super::interrupt::Interrupt;
use super::repository::Repository;

/// How long to wait for another operation of the same session, such as a checkpoint of a very large tree.
const SESSION_LIMIT: Duration = Duration::from_secs(30);
/// How long to wait for the other sessions of a repository. Each holds the lock for as long as git takes to record a worktree
/// or to save one to the trash.
const REPOSITORY_LIMIT: Duration = Duration::from_secs(300);
/// The pause between two attempts to take a lock.
const PAUSE: Duration = Duration::from_millis(10);

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "the lock is released when it closes")] File);

impl Lock {
    /// Locks what the worktrees of a repository share: its list of worktrees, its branches and its configuration. git does not
    /// wait for another git that changes them. An interrupt ends the wait.
    pub(crate) fn of_repository(
        repository: &Repository,
        interrupt: Option<&Interrupt>,
    ) -> Result<Self, Failure> {
        let directory = repository.common_dir.join("shed");
        fs::create_dir_all(&directory).map_err(|error| failed(&error))?;
        let busy = "other sessions of the repository are still created or removed; try again";
        take(&directory.join("lock"), REPOSITORY_LIMIT, busy, interrupt).map(Self)
    }
}

/// Locks a file of a session, which other operations of the session may hold for a while.
pub(crate) fn take_session(path: &Path) -> Result<File, Failure> {
    let busy = "another operation on this session's files is still running";
    take(path, SESSION_LIMIT, busy, None)
}

fn take(
    path: &Path,
    limit: Duration,
    busy: &str,
    interrupt: Option<&Interrupt>,
) -> Result<File, Failure> {
    let options = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .to_owned();
    let file = options.open(path).map_err(|error| failed(&error))?;
    let deadline = Instant::now() + limit;
    loop {
        interrupt.map_or(Ok(()), Interrupt::check)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => {
                thread::sleep(PAUSE);
            }
            Err(Errno::WOULDBLOCK | Errno::INTR) => {
                return Err(Failure::new(FailureKind::Busy, busy));
            }
            Err(error) => return Err(failed(&error.into())),
        }
    }
}

fn failed(error: &io::Error) -> Failure {
    Failure::io("cannot lock the repository", error)
}
