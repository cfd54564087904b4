//! A spool's directory, for its readers.

use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;

use crate::spool_record::{LOCK, segment_name, segment_start};

/// The offsets at which the segments of a spool begin, in order; empty if the directory cannot be read.
pub(super) fn starts(dir: &Path) -> Vec<u64> {
    let mut starts: Vec<u64> = super::names(dir).filter_map(|name| segment_start(&name)).collect();
    starts.sort_unstable();
    starts
}

/// Deletes the segments that end at or before an offset. The newest one is never deleted, since it may be being written.
pub(super) fn delete_before(dir: &Path, offset: u64) {
    let starts = starts(dir);
    for pair in starts.windows(2) {
        if pair[1] <= offset {
            // Fails when the runner has deleted it.
            std::fs::remove_file(dir.join(segment_name(pair[0]))).ok();
        }
    }
}

/// Whether the runner of a spool has ended. `false` if that cannot be determined.
pub(crate) fn is_abandoned(dir: &Path) -> bool {
    // Opened for reading, so that closing it does not look like the end of a writer to inotify.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match open(dir.join(LOCK), flags, Mode::empty()) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockShared) != Err(Errno::WOULDBLOCK),
        Err(Errno::NOENT | Errno::NOTDIR) => true,
        // For example, no descriptor is left.
        Err(_) => false,
    }
}
