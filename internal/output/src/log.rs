//! The writing side: one [`Log`] for a worker's output.
//!
//! ```text
//!  0         2 MB       4 MB         …          live part          end
//!  ├─ START-END.gz ─┼─ START-END.gz ─┼─ START.log ─┼─ START.log ─┼─ START.log
//!                                       closed        closed        written
//! ```
//!
//! When a chunk is full, the next one is begun; this creates two small files, whatever the size of the output. A jump of the
//! offset begins a chunk too, so a hole is where a chunk ends and the next one does not start.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::catalog::{Catalog, Closed};
use crate::compress::{Compressor, lock};
use crate::files::{self, Name};
use crate::live::Live;
use crate::marks::{Exit, Mark, Size, State, What};
use crate::recover::recover;
use crate::{Error, MAX_OFFSET, Reader};

/// Size of a chunk's marks, in bytes, at which the chunk is closed, so that reading it stays cheap. A chunk of slow, even
/// output has a quarter of it.
const MAX_MARKS_BYTES: u64 = 256 << 10;

/// A chunk ends at the end of a line if there is one in its last part of this size, in bytes.
const LINE_WINDOW: usize = 4 << 10;

/// Smallest size of a chunk, in bytes. Smaller ones would need more space for file names than for data.
const MIN_CHUNK_BYTES: u64 = 64;

/// Smallest size of a chunk of a log with a small limit, in bytes: a block of most file systems.
const SMALL_CHUNK_BYTES: u64 = 4 << 10;

/// Size limits of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Size of a chunk, in bytes of output.
    pub chunk_bytes: u64,
    /// Size of the newest output that is kept uncompressed, in bytes.
    pub live_bytes: u64,
    /// Size of older output on disk, in bytes, compressed or not yet. The oldest is removed first.
    pub kept_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { chunk_bytes: 2 << 20, live_bytes: 10 << 20, kept_bytes: 100 << 20 }
    }
}

impl Limits {
    /// Limits with which a log takes at most about `total` bytes on disk.
    pub fn within(total: u64) -> Self {
        let most = Self::default();
        let chunk_bytes = (total / 8).clamp(SMALL_CHUNK_BYTES, most.chunk_bytes);
        let live_bytes = (total / 2).clamp(chunk_bytes, most.live_bytes);
        Self { chunk_bytes, live_bytes, kept_bytes: total.saturating_sub(live_bytes) }
    }
}

/// The result of appending bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Absolute offset of the first new byte.
    pub start: u64,
    /// Number of bytes at the front that were stored already.
    pub skipped: usize,
    /// Number of bytes directly before `start` that are permanently missing.
    pub gap: u64,
}

/// The writer of a worker's output log; there is only one at a time. Dropping it stops its [`Compressor`]s.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    limits: Limits,
    /// Holds the lock of the directory.
    _lock: File,
    catalog: Arc<Mutex<Catalog>>,
    live: Live,
    state: State,
    /// Starts of the chunks that were closed since the last sync.
    unsynced: Vec<u64>,
    /// Whether files were created since the last sync.
    dir_changed: bool,
}

impl Log {
    /// Opens the log in `dir`, which is created if it does not exist, and recovers it after a crash.
    pub fn open(dir: &Path, limits: Limits) -> Result<Self, Error> {
        let chunk_bytes = limits.chunk_bytes.max(MIN_CHUNK_BYTES);
        let live_bytes = limits.live_bytes.max(chunk_bytes);
        let limits = Limits { chunk_bytes, live_bytes, ..limits };
        files::make_dir(dir)?;
        let path = dir.join("lock");
        let lock = files::append_to(&path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { dir: dir.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", &path, source)),
        }
        let found = recover(dir)?;
        let live = if let Some((start, n_bytes)) = found.live {
            Live::resume(dir, start, n_bytes, found.state, found.at_ms)?
        } else {
            let start = found.closed.back().map_or(0, |chunk| chunk.end);
            Live::begin(dir, start, found.state, found.at_ms)?
        };
        let mut catalog = Catalog::new(dir, limits, found.closed);
        catalog.trim()?;
        Ok(Self {
            dir: dir.to_owned(),
            limits,
            _lock: lock,
            catalog: Arc::new(Mutex::new(catalog)),
            live,
            state: found.state,
            unsynced: Vec::new(),
            dir_changed: true,
        })
    }

    /// Offset of the first stored byte.
    pub fn start(&self) -> u64 {
        lock(&self.catalog).start().unwrap_or(self.live.start)
    }

    /// Offset of the next byte to append.
    pub fn end(&self) -> u64 {
        self.live.end()
    }

    /// The current epoch, if one was begun.
    pub fn epoch(&self) -> Option<u64> {
        self.state.epoch
    }

    /// Number of bytes of `epoch` so far, including lost ones: the offset at which its collector resumes. `None` for an epoch
    /// that another one has followed, for which no more bytes are accepted.
    pub fn epoch_end(&self, epoch: u64) -> Option<u64> {
        match self.state.epoch {
            Some(current) if epoch < current => None,
            Some(current) if epoch == current => Some(self.end() - self.state.base),
            _ => Some(0),
        }
    }

    /// Bytes on disk that wait to be compressed. They count towards [`Limits::kept_bytes`] uncompressed, so the caller should
    /// pause when this grows.
    pub fn pending(&self) -> u64 {
        lock(&self.catalog).pending_bytes()
    }

    /// A compressor of this log's old chunks, for any thread.
    pub fn compressor(&self) -> Compressor {
        Compressor::new(Arc::clone(&self.catalog))
    }

    /// A reader of this log.
    pub fn reader(&self) -> Reader {
        Reader::new(&self.dir)
    }

    /// Begins an epoch: the worker's command was started, and its bytes count from 0. Returns the base of the epoch, which is
    /// on disk by then. Does nothing if the epoch was begun already.
    pub fn begin_epoch(&mut self, epoch: u64, at_ms: u64) -> Result<u64, Error> {
        if epoch > MAX_OFFSET {
            return Err(Error::TooLarge { what: "epoch", value: epoch });
        }
        match self.state.epoch {
            Some(current) if epoch < current => return Err(Error::OldEpoch { epoch, current }),
            Some(current) if epoch == current => {}
            _ => {
                self.put(at_ms, What::Epoch(epoch))?;
                self.sync()?;
            }
        }
        Ok(self.state.base)
    }

    /// Appends `bytes`, which the command of `epoch` wrote at `offset` of its output and which arrived at `at_ms`.
    ///
    /// Bytes that are stored already are skipped. An `offset` beyond the end leaves a gap, also if `bytes` is empty. After an
    /// error the log is valid up to [`Log::end`], and the same call may be repeated.
    pub fn append(
        &mut self,
        epoch: u64,
        offset: u64,
        at_ms: u64,
        bytes: &[u8],
    ) -> Result<Appended, Error> {
        self.check_epoch(epoch)?;
        let n_bytes = bytes.len() as u64;
        let start = self.state.base.saturating_add(offset);
        if start.saturating_add(n_bytes) > MAX_OFFSET {
            return Err(Error::TooLarge { what: "offset", value: offset });
        }
        let end = self.end();
        let skipped = usize::try_from(end.saturating_sub(start).min(n_bytes))
            .expect("not more than the bytes there are");
        let appended = Appended { start: start.max(end), skipped, gap: start.saturating_sub(end) };
        if appended.gap > 0 {
            self.begin_chunk(start, at_ms)?;
        }
        let mut rest = &bytes[skipped..];
        if !rest.is_empty() && self.live.is_time_due(at_ms) {
            self.put(at_ms, What::Time)?;
        }
        while !rest.is_empty() {
            let room = self.limits.chunk_bytes.saturating_sub(self.live.n_bytes);
            let Some(now) = cut(rest, usize::try_from(room).unwrap_or(usize::MAX)) else {
                self.begin_chunk(self.end(), at_ms)?;
                continue;
            };
            self.live.write(&self.dir, &rest[..now])?;
            rest = &rest[now..];
            if !rest.is_empty() {
                self.begin_chunk(self.end(), at_ms)?;
            }
        }
        Ok(appended)
    }

    /// Records that the terminal of `epoch` has a new size.
    pub fn resize(&mut self, epoch: u64, at_ms: u64, cols: u16, rows: u16) -> Result<(), Error> {
        self.check_epoch(epoch)?;
        let size = Size { cols: cols.max(1), rows: rows.max(1) };
        if self.state.size == Some(size) {
            return Ok(());
        }
        self.put(at_ms, What::Resize(size))
    }

    /// Records how the command of `epoch` ended. Does nothing if that is recorded already.
    pub fn exit(&mut self, epoch: u64, at_ms: u64, exit: Exit) -> Result<(), Error> {
        self.check_epoch(epoch)?;
        if self.state.exit == Some(exit) {
            return Ok(());
        }
        self.put(at_ms, What::Exit(exit))
    }

    /// Syncs everything appended so far to disk.
    pub fn sync(&mut self) -> Result<(), Error> {
        while let Some(start) = self.unsynced.first().copied() {
            for name in [Name::Raw { start }, Name::Marks { start }] {
                sync_file(&name.path(&self.dir))?;
            }
            self.unsynced.remove(0);
        }
        self.live.sync(&self.dir)?;
        if self.dir_changed {
            files::sync_dir(&self.dir)?;
            self.dir_changed = false;
        }
        Ok(())
    }

    fn check_epoch(&self, epoch: u64) -> Result<(), Error> {
        match self.state.epoch {
            Some(current) if epoch == current => Ok(()),
            Some(current) if epoch < current => Err(Error::OldEpoch { epoch, current }),
            _ => Err(Error::UnknownEpoch { epoch }),
        }
    }

    fn put(&mut self, at_ms: u64, what: What) -> Result<(), Error> {
        if self.live.marks_bytes >= MAX_MARKS_BYTES {
            if self.live.n_bytes > 0 {
                self.begin_chunk(self.end(), at_ms)?;
            } else {
                self.live.restart_marks(&self.dir, self.state, at_ms)?;
            }
        }
        let mark = Mark { offset: self.end(), at_ms, what };
        self.live.mark(&self.dir, &mark)?;
        self.state.apply(&mark);
        Ok(())
    }

    /// Begins a new chunk at `start`, which is the end of the log or beyond it.
    fn begin_chunk(&mut self, start: u64, at_ms: u64) -> Result<(), Error> {
        if start == self.live.start {
            return Ok(());
        }
        let next = Live::begin(&self.dir, start, self.state, at_ms)?;
        let old = std::mem::replace(&mut self.live, next);
        self.dir_changed = true;
        if old.changed {
            self.unsynced.push(old.start);
        }
        let closed = Closed {
            start: old.start,
            end: old.end(),
            disk_bytes: old.n_bytes + old.marks_bytes,
            gz: false,
            busy: false,
        };
        let mut catalog = lock(&self.catalog);
        catalog.close(closed)?;
        // Removed chunks need no sync, so the list is never longer than the catalog.
        let kept = catalog.start().unwrap_or(start);
        if self.unsynced.first().is_some_and(|start| *start < kept) {
            self.unsynced.retain(|start| *start >= kept);
        }
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        lock(&self.catalog).abandoned = true;
    }
}

/// Number of `bytes` that go into a chunk with `room` bytes left: all, or up to the end of a line near its end. `None` if the
/// chunk is full.
fn cut(bytes: &[u8], room: usize) -> Option<usize> {
    if bytes.len() <= room {
        return Some(bytes.len());
    }
    let window = &bytes[room.saturating_sub(LINE_WINDOW)..room];
    let after_line =
        window.iter().rposition(|byte| *byte == b'\n').map(|at| room - window.len() + at + 1);
    Some(after_line.unwrap_or(room)).filter(|now| *now > 0)
}

/// Syncs a file. A missing one was compressed, which includes a sync, or removed.
fn sync_file(path: &Path) -> Result<(), Error> {
    let synced = File::open(path).and_then(|file| file.sync_data());
    match synced {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("sync", path, source))
        }
        _ => Ok(()),
    }
}
