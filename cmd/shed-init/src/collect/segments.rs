//! A spool's directory as its readers see it.

use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;

use crate::record::{LOCK, segment_name, segment_start};

/// Where the segments of a spool begin, in order. None when it cannot be read.
pub(super) fn starts(dir: &Path) -> Vec<u64> {
    let mut starts: Vec<u64> = super::names(dir).filter_map(|name| segment_start(&name)).collect();
    starts.sort_unstable();
    starts
}

/// Deletes the segments that lie wholly before an offset. The newest one is never deleted: it is being written.
pub(super) fn delete_before(dir: &Path, offset: u64) {
    let starts = starts(dir);
    for pair in starts.windows(2) {
        if pair[1] <= offset {
            // The runner may have been faster.
            std::fs::remove_file(dir.join(segment_name(pair[0]))).ok();
        }
    }
}

/// Whether no runner writes to a spool any more.
pub(crate) fn is_abandoned(dir: &Path) -> bool {
    // Opened for reading: to close it is no news for whoever watches for the end of writers.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match open(dir.join(LOCK), flags, Mode::empty()) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockShared) != Err(Errno::WOULDBLOCK),
        Err(Errno::NOENT | Errno::NOTDIR) => true,
        // No descriptor left, say: not known.
        Err(_) => false,
    }
}
