//! Recovery of a log's directory when it is opened, whenever the previous writer died.
//!
//! A compressed chunk gets its name only when it is complete, so an uncompressed file of the same chunk is removed. Files of
//! unfinished compressions and marks without bytes are removed. The last uncompressed chunk is continued after its last
//! complete mark. Nothing else is removed: a chunk that is short or lost appears as a gap.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;

use crate::Error;
use crate::catalog::Closed;
use crate::files::{self, Name};
use crate::marks::{Marks, State};

/// The content of a log's directory.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The closed chunks, oldest first.
    pub(crate) closed: VecDeque<Closed>,
    /// Start and length of the chunk to continue.
    pub(crate) live: Option<(u64, u64)>,
    /// The state at the end.
    pub(crate) state: State,
    /// The last known time, in milliseconds since 1970.
    pub(crate) at_ms: u64,
}

/// Cleans up `dir` and returns its content.
pub(crate) fn recover(dir: &Path) -> Result<Found, Error> {
    let mut found = Found::default();
    for (start, parts) in files::list(dir)? {
        let path = |name: Name| name.path(dir);
        if parts.unfinished {
            files::remove(&path(Name::Unfinished { start }))?;
        }
        let marks_bytes = || {
            if parts.marks { files::length(&path(Name::Marks { start })) } else { Ok(0) }
        };
        if let Some(end) = parts.gz {
            if parts.raw {
                files::remove(&path(Name::Raw { start }))?;
            }
            let disk_bytes = files::length(&path(Name::Gz { start, end }))? + marks_bytes()?;
            found.closed.push_back(Closed { start, end, disk_bytes, gz: true, busy: false });
        } else if parts.raw {
            let n_bytes = files::length(&path(Name::Raw { start }))?;
            let disk_bytes = n_bytes + marks_bytes()?;
            let end = start + n_bytes;
            found.closed.push_back(Closed { start, end, disk_bytes, gz: false, busy: false });
        } else if parts.marks {
            files::remove(&path(Name::Marks { start }))?;
        }
    }
    for chunk in found.closed.iter().rev() {
        if let Some((state, at_ms)) = read_marks(dir, chunk.start, chunk.end)?.last() {
            (found.state, found.at_ms) = (state, at_ms);
            break;
        }
    }
    if let Some(last) = found.closed.back().copied().filter(|chunk| !chunk.gz) {
        found.live = Some((last.start, last.end - last.start));
        found.closed.pop_back();
    }
    Ok(found)
}

/// The marks of the chunk from `start` to `end`; empty if they are lost.
pub(crate) fn read_marks(dir: &Path, start: u64, end: u64) -> Result<Marks, Error> {
    let path = Name::Marks { start }.path(dir);
    match fs::read(&path).map_err(|source| Error::io("read", &path, source)) {
        Ok(bytes) => Ok(Marks::decode(start, end, &bytes)),
        Err(error) if error.is_missing() => Ok(Marks::decode(start, end, &[])),
        Err(error) => Err(error),
    }
}
