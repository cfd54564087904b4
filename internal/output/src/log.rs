//! The writing side: one [`Log`] for a worker's output.
//!
//! ```text
//!  0         2 MB       4 MB         …          live part          end
//!  ├─ START-END.gz ─┼─ START-END.gz ─┼─ START.log ─┼─ START.log ─┼─ START.log
//!                                       closed        closed        written
//! ```
//!
//! A full chunk is closed by beginning the next: that is two small files, whatever the size of the output. A jump
//! forward begins a chunk too, so a hole is where one chunk ends and the next does not start.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::catalog::{Catalog, Closed};
use crate::compress::{Compressor, lock};
use crate::files::{self, Name};
use crate::marks::{Codec, Exit, Mark, Size, State, What};
use crate::recover::{read_marks, recover};
use crate::{Error, MAX_OFFSET, Reader};

/// At most one time in this many milliseconds: twenty a second make a recording smooth.
const TIME_STEP_MS: u64 = 50;

/// A chunk with more marks than this is closed, so that reading it stays cheap. A chunk of slow, even output has a
/// quarter of it.
const MAX_MARKS_BYTES: u64 = 256 << 10;

/// A chunk ends with a line where one ends in this last part of it.
const LINE_WINDOW: usize = 4 << 10;

/// Smaller chunks would be mostly file names.
const MIN_CHUNK_BYTES: u64 = 64;

/// What a log keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The size of a file, in bytes of output.
    pub chunk_bytes: u64,
    /// The newest output that is kept as it came, in bytes.
    pub live_bytes: u64,
    /// What older output may take on disk, in bytes, compressed or waiting for it. The oldest goes first.
    pub kept_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { chunk_bytes: 2 << 20, live_bytes: 10 << 20, kept_bytes: 100 << 20 }
    }
}

/// What became of appended bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The absolute offset of the first byte that was new.
    pub start: u64,
    /// How many bytes at the front were there already.
    pub skipped: usize,
    /// How many bytes before `start` are missing for ever.
    pub gap: u64,
}

/// A worker's output, as its one writer has it. Dropping it ends the work of its [`Compressor`]s.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    limits: Limits,
    /// Held, never read.
    _lock: File,
    catalog: Arc<Mutex<Catalog>>,
    live: Live,
    state: State,
    /// Starts of chunks that were closed since the last sync.
    unsynced: Vec<u64>,
    /// Files were made since the last sync.
    dir_changed: bool,
}

/// The chunk that is written.
#[derive(Debug)]
struct Live {
    start: u64,
    n_bytes: u64,
    data: File,
    marks: File,
    /// Whole records; what is beyond was torn.
    marks_bytes: u64,
    codec: Codec,
    /// The last mark's time.
    at_ms: u64,
    marks_torn: bool,
    changed: bool,
}

impl Log {
    /// Opens the log in `dir`, which is made if need be, and puts right what a crash left behind.
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

    /// The first offset that is still kept.
    pub fn start(&self) -> u64 {
        lock(&self.catalog).start().unwrap_or(self.live.start)
    }

    /// The offset of the next byte.
    pub fn end(&self) -> u64 {
        self.live.end()
    }

    /// The epoch that is written, if one was begun.
    pub fn epoch(&self) -> Option<u64> {
        self.state.epoch
    }

    /// How many bytes of `epoch` are here, lost ones counted: where its collector resumes. `None` for one that another
    /// has followed, of which nothing more is taken.
    pub fn epoch_end(&self, epoch: u64) -> Option<u64> {
        match self.state.epoch {
            Some(current) if epoch < current => None,
            Some(current) if epoch == current => Some(self.end() - self.state.base),
            _ => Some(0),
        }
    }

    /// Bytes on disk that wait to be compressed. Who appends faster than they shrink should wait when this grows: what
    /// waits counts in [`Limits::kept_bytes`], uncompressed.
    pub fn pending(&self) -> u64 {
        lock(&self.catalog).pending_bytes()
    }

    /// Compresses this log's old chunks, on any thread.
    pub fn compressor(&self) -> Compressor {
        Compressor::new(Arc::clone(&self.catalog))
    }

    /// Reads this log.
    pub fn reader(&self) -> Reader {
        Reader::new(&self.dir)
    }

    /// The worker's command was started: bytes of `epoch` follow, counted from 0. Its base, on disk when this returns.
    /// Begun already, it changes nothing.
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

    /// Takes `bytes`, which `epoch`'s command wrote at `offset` of its output and which came at `at_ms`.
    ///
    /// Bytes that are here already are skipped; bytes beyond the end leave a gap before them, which no bytes at all do
    /// too. After an error the log holds what [`Log::end`] says, and the same call may be made again.
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

    /// The terminal of `epoch` has `cols` columns and `rows` rows from here on.
    pub fn resize(&mut self, epoch: u64, at_ms: u64, cols: u16, rows: u16) -> Result<(), Error> {
        self.check_epoch(epoch)?;
        let size = Size { cols: cols.max(1), rows: rows.max(1) };
        if self.state.size == Some(size) {
            return Ok(());
        }
        self.put(at_ms, What::Resize(size))
    }

    /// The command of `epoch` ended so. Told again, it changes nothing.
    pub fn exit(&mut self, epoch: u64, at_ms: u64, exit: Exit) -> Result<(), Error> {
        self.check_epoch(epoch)?;
        if self.state.exit == Some(exit) {
            return Ok(());
        }
        self.put(at_ms, What::Exit(exit))
    }

    /// What was appended survives a power failure when this returns.
    pub fn sync(&mut self) -> Result<(), Error> {
        while let Some(start) = self.unsynced.first().copied() {
            for name in [Name::Raw { start }, Name::Marks { start }] {
                sync_file(&name.path(&self.dir))?;
            }
            self.unsynced.remove(0);
        }
        if self.live.changed {
            for file in [&self.live.data, &self.live.marks] {
                file.sync_data().map_err(|source| Error::io("sync", &self.dir, source))?;
            }
            self.live.changed = false;
        }
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

    /// Goes on in a new chunk at `start`, which is the end or beyond it.
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
        // What is gone needs no sync, so the list is no longer than the catalog.
        let kept = catalog.start().unwrap_or(start);
        if self.unsynced.first().is_some_and(|start| *start < kept) {
            self.unsynced.retain(|start| *start >= kept);
        }
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        lock(&self.catalog).over = true;
    }
}

impl Live {
    /// A new chunk. Its marks are there first: a chunk is there when its bytes have a file.
    fn begin(dir: &Path, start: u64, state: State, at_ms: u64) -> Result<Self, Error> {
        let path = Name::Marks { start }.path(dir);
        let mut codec = Codec::new(start);
        let first = codec.encode(&Mark { offset: start, at_ms, what: What::State(state) });
        let made = files::create(&path).and_then(|mut marks| {
            marks.write_all(&first).map_err(|source| Error::io("write", &path, source))?;
            Ok((marks, files::create(&Name::Raw { start }.path(dir))?))
        });
        let (marks, data) = match made {
            Ok(files) => files,
            Err(error) => {
                // Without its bytes it says nothing; opening the log would remove it too.
                drop(files::remove(&path));
                return Err(error);
            }
        };
        Ok(Self {
            start,
            n_bytes: 0,
            data,
            marks,
            marks_bytes: first.len() as u64,
            codec,
            at_ms,
            marks_torn: false,
            changed: true,
        })
    }

    /// Goes on with a chunk that is there.
    fn resume(
        dir: &Path,
        start: u64,
        n_bytes: u64,
        state: State,
        at_ms: u64,
    ) -> Result<Self, Error> {
        let found = read_marks(dir, start, start + n_bytes)?;
        let data = files::append_to(&Name::Raw { start }.path(dir))?;
        let path = Name::Marks { start }.path(dir);
        let marks = files::append_to(&path)?;
        let marks_bytes = found.n_bytes as u64;
        marks.set_len(marks_bytes).map_err(|source| Error::io("cut", &path, source))?;
        let codec = found.codec;
        let mut live = Self {
            start,
            n_bytes,
            data,
            marks,
            marks_bytes,
            codec,
            at_ms,
            marks_torn: false,
            changed: true,
        };
        if found.list.is_empty() {
            let lost = Mark { offset: start, at_ms, what: What::State(state) };
            live.mark(dir, &lost)?;
        }
        Ok(live)
    }

    fn end(&self) -> u64 {
        self.start + self.n_bytes
    }

    fn is_time_due(&self, at_ms: u64) -> bool {
        at_ms < self.at_ms || at_ms - self.at_ms >= TIME_STEP_MS
    }

    fn mark(&mut self, dir: &Path, mark: &Mark) -> Result<(), Error> {
        let failed =
            |source| Error::io("write", &Name::Marks { start: self.start }.path(dir), source);
        if self.marks_torn {
            self.marks.set_len(self.marks_bytes).map_err(failed)?;
            self.marks_torn = false;
        }
        let mut codec = self.codec;
        let record = codec.encode(mark);
        self.changed = true;
        if let Err(source) = self.marks.write_all(&record) {
            self.marks_torn = self.marks.set_len(self.marks_bytes).is_err();
            return Err(failed(source));
        }
        self.codec = codec;
        self.marks_bytes += record.len() as u64;
        self.at_ms = mark.at_ms;
        Ok(())
    }

    /// Puts one mark in the place of all there are, in a chunk without bytes.
    fn restart_marks(&mut self, dir: &Path, state: State, at_ms: u64) -> Result<(), Error> {
        let path = Name::Marks { start: self.start }.path(dir);
        let unfinished = Name::Unfinished { start: self.start }.path(dir);
        let failed = |source| Error::io("write", &path, source);
        let mut codec = Codec::new(self.start);
        let first = codec.encode(&Mark { offset: self.start, at_ms, what: What::State(state) });
        let mut marks = files::create(&unfinished)?;
        marks.write_all(&first).and_then(|()| marks.sync_data()).map_err(failed)?;
        fs::rename(&unfinished, &path).map_err(failed)?;
        (self.marks, self.codec, self.at_ms) = (marks, codec, at_ms);
        (self.marks_bytes, self.marks_torn) = (first.len() as u64, false);
        Ok(())
    }

    /// Writes all of `bytes`; after an error [`Live::end`] counts those that were written.
    fn write(&mut self, dir: &Path, mut bytes: &[u8]) -> Result<(), Error> {
        self.changed = true;
        while !bytes.is_empty() {
            let written = match self.data.write(bytes) {
                Ok(0) => Err(io::ErrorKind::StorageFull.into()),
                Err(source) if source.kind() == io::ErrorKind::Interrupted => continue,
                other => other,
            };
            let path = || Name::Raw { start: self.start }.path(dir);
            let n_bytes = written.map_err(|source| Error::io("write", &path(), source))?;
            self.n_bytes += n_bytes as u64;
            bytes = &bytes[n_bytes..];
        }
        Ok(())
    }
}

/// How many of `bytes` go into a chunk with `room`: all, or up to the end of a line near its end. `None` for a chunk
/// that is full.
fn cut(bytes: &[u8], room: usize) -> Option<usize> {
    if bytes.len() <= room {
        return Some(bytes.len());
    }
    let window = &bytes[room.saturating_sub(LINE_WINDOW)..room];
    let after_line =
        window.iter().rposition(|byte| *byte == b'\n').map(|at| room - window.len() + at + 1);
    Some(after_line.unwrap_or(room)).filter(|now| *now > 0)
}

/// A file that is gone was compressed, which syncs, or was too old.
fn sync_file(path: &Path) -> Result<(), Error> {
    let synced = File::open(path).and_then(|file| file.sync_data());
    match synced {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("sync", path, source))
        }
        _ => Ok(()),
    }
}
