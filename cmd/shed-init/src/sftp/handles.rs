//! The open handles of a client. A handle's number is never reused, so that a stale handle cannot refer to another file.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::Dir;

use crate::sftp::reply::Status;

/// The most open handles: half of the usual limit of descriptors.
pub(super) const MAX_HANDLES: usize = 512;

/// An open file or directory.
pub(super) enum Handle {
    File(OwnedFd),
    Directory(Dir),
}

/// The open handles by their numbers.
pub(super) struct Handles {
    open: HashMap<u64, Handle>,
    next: u64,
}

impl Handles {
    pub(super) fn new() -> Self {
        Self { open: HashMap::new(), next: 0 }
    }

    /// Fails if no further handle may be opened. Checked before a file is created or truncated.
    pub(super) fn check_room(&self) -> Result<(), Status> {
        if self.open.len() < MAX_HANDLES { Ok(()) } else { Err(Status::Failure) }
    }

    /// Adds a handle and returns its name for the client.
    pub(super) fn add(&mut self, handle: Handle) -> [u8; 8] {
        let number = self.next;
        self.next += 1;
        self.open.insert(number, handle);
        number.to_be_bytes()
    }

    /// Closes a handle. Errors are reported, since network file systems report write errors only here.
    pub(super) fn close(&mut self, name: &[u8]) -> Result<(), Status> {
        let handle = number(name).and_then(|number| self.open.remove(&number));
        match handle.ok_or(Status::NoSuchFile)? {
            Handle::File(fd) => nix::unistd::close(fd)
                .map_err(|error| Status::from(std::io::Error::from_raw_os_error(error as i32))),
            Handle::Directory(_) => Ok(()),
        }
    }

    /// An open file.
    pub(super) fn file(&self, name: &[u8]) -> Result<BorrowedFd<'_>, Status> {
        match self.find(name) {
            Some(Handle::File(fd)) => Ok(fd.as_fd()),
            Some(Handle::Directory(_)) | None => Err(Status::Failure),
        }
    }

    /// An open directory.
    pub(super) fn directory(&mut self, name: &[u8]) -> Result<&mut Dir, Status> {
        match number(name).and_then(|number| self.open.get_mut(&number)) {
            Some(Handle::Directory(dir)) => Ok(dir),
            Some(Handle::File(_)) | None => Err(Status::Failure),
        }
    }

    /// An open file or directory.
    pub(super) fn either(&self, name: &[u8]) -> Result<BorrowedFd<'_>, Status> {
        match self.find(name) {
            Some(Handle::File(fd)) => Ok(fd.as_fd()),
            Some(Handle::Directory(dir)) => Ok(dir.fd()?),
            None => Err(Status::Failure),
        }
    }

    fn find(&self, name: &[u8]) -> Option<&Handle> {
        self.open.get(&number(name)?)
    }
}

fn number(name: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(name.try_into().ok()?))
}
