//! The closed chunks of a log, shared by its writer and its compressors: which ones to compress, and which ones to remove.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::files::{self, Name};
use crate::{Error, Limits};

/// Number of chunks beyond which the oldest is removed, since more files would make listings slow. Only output with many
/// holes, or output that compresses extremely well, reaches this before [`Limits::kept_bytes`].
const MAX_CHUNKS: usize = 4096;

/// A chunk that is no longer written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Closed {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Bytes on disk, including the marks.
    pub(crate) disk_bytes: u64,
    pub(crate) gz: bool,
    /// Whether a compressor works on it.
    pub(crate) busy: bool,
}

#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) dir: PathBuf,
    limits: Limits,
    /// Oldest first.
    closed: VecDeque<Closed>,
    /// Whether the log was dropped, so that another writer may have the directory.
    pub(crate) abandoned: bool,
}

impl Catalog {
    pub(crate) fn new(dir: &Path, limits: Limits, closed: VecDeque<Closed>) -> Self {
        Self { dir: dir.to_owned(), limits, closed, abandoned: false }
    }

    /// Adds a closed chunk, and removes the oldest ones beyond the limits.
    pub(crate) fn close(&mut self, chunk: Closed) -> Result<(), Error> {
        self.closed.push_back(chunk);
        self.trim()
    }

    /// Offset of the first byte of the closed chunks.
    pub(crate) fn start(&self) -> Option<u64> {
        self.closed.front().map(|chunk| chunk.start)
    }

    /// Number of the oldest chunks that do not belong to the part that is kept uncompressed.
    fn n_old(&self) -> usize {
        let mut room = self.limits.live_bytes.saturating_sub(self.limits.chunk_bytes);
        let mut n_live = 0;
        for chunk in self.closed.iter().rev() {
            if chunk.gz || chunk.disk_bytes > room {
                break;
            }
            room -= chunk.disk_bytes;
            n_live += 1;
        }
        self.closed.len() - n_live
    }

    fn waiting(&self) -> impl Iterator<Item = &Closed> {
        self.closed.iter().take(self.n_old()).filter(|chunk| !chunk.gz)
    }

    /// Bytes that wait for a compressor.
    pub(crate) fn pending_bytes(&self) -> u64 {
        self.waiting().map(|chunk| chunk.disk_bytes).sum()
    }

    /// The next chunk to compress; it is marked as busy.
    pub(crate) fn take_pending(&mut self) -> Option<Closed> {
        let start = self.waiting().find(|chunk| !chunk.busy)?.start;
        let chunk = self.find(start)?;
        chunk.busy = true;
        Some(*chunk)
    }

    pub(crate) fn find(&mut self, start: u64) -> Option<&mut Closed> {
        let at = self.closed.binary_search_by_key(&start, |chunk| chunk.start).ok()?;
        self.closed.get_mut(at)
    }

    /// Removes the oldest chunks beyond the limits. The bytes of a chunk are removed before its marks.
    pub(crate) fn trim(&mut self) -> Result<(), Error> {
        let old = self.closed.iter().take(self.n_old());
        let mut n_bytes: u64 = old.map(|chunk| chunk.disk_bytes).sum();
        while n_bytes > self.limits.kept_bytes || self.closed.len() > MAX_CHUNKS {
            let Some(Closed { start, end, disk_bytes, .. }) = self.closed.front().copied() else {
                break;
            };
            for name in [Name::Raw { start }, Name::Gz { start, end }, Name::Marks { start }] {
                files::remove(&name.path(&self.dir))?;
            }
            self.closed.pop_front();
            n_bytes = n_bytes.saturating_sub(disk_bytes);
        }
        Ok(())
    }
}
