//! The writing end of a worker's spool: what the command prints, appended to files by a thread of its own, so that a disk
//! that is slow, stuck or full costs output in the spool and never the pane.
//!
//! ```text
//! runner ──▶ queue (1 MiB) ──▶ thread ──▶ SPOOL/ID/EPOCH/00000000000000000000, 00000000000004194304, …
//! ```
//!
//! When the queue is full the runner waits for the thread, for a tenth of the time at most: enough for a thread that only
//! has to get its turn. After that the oldest bytes in the queue are dropped and a gap says how many.

use std::collections::VecDeque;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{
    AtFlags, FallocateFlags, FlockOperation, Mode, OFlags, fallocate, flock, ftruncate, openat,
    unlinkat,
};
use rustix::io::Errno;
use shed_link::control::SOCKET;
use shed_link::{Status, WorkerSpec};

use crate::record::{
    Body, HEADER_BYTES, LOCK, MAX_PAYLOAD_BYTES, encode, output_header, segment_name, segment_start,
};
use crate::unix_path;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// A segment that has so many bytes is followed by another.
    pub(crate) segment_bytes: u64,
    /// Segments of a spool, the one being written included. Past it the oldest is deleted.
    pub(crate) n_segments: usize,
    /// Bytes that wait in memory for the disk.
    pub(crate) queue_bytes: usize,
}

/// A worker's limits: 64 MiB of output that nobody fetched, enough for a minute of a server's restart at 1 MB/s, and 1 MiB
/// in memory.
pub(crate) const LIMITS: Limits =
    Limits { segment_bytes: 4 << 20, n_segments: 16, queue_bytes: 1 << 20 };

/// What a waiting record costs beside its payload. Single bytes from a slow program must not become many megabytes.
const RECORD_COST: usize = 64;
/// Bytes that follow each other within so many milliseconds become one record, with the time of the first.
const MERGE_MS: u64 = 20;
/// Changes of size that may wait.
const MAX_WAITING_RECORDS: usize = 4 << 10;
/// Waiting for the disk costs one part in so many of the time.
const CREDIT_SHARE: u32 = 10;
/// The longest wait for the disk at once.
const MAX_CREDIT: Duration = Duration::from_millis(200);
/// While more keeps coming, it is written so often and not at once: each write wakes two threads and the collector, and
/// they take the time of the pane. What comes after a pause is written at once.
const BATCH_PAUSE: Duration = Duration::from_millis(2);
/// Buffers that are kept for the next records. To free them in another thread than they come from splits the heap.
const MAX_SPARE_BUFFERS: usize = 24;
/// Room that a new spool is promised: that of the start, the size and the end.
const FIRST_BYTES: u64 = 4 << 10;
/// Between attempts to write to a disk that refused.
const RETRY: Duration = Duration::from_millis(250);
/// At the end the disk has so long to take what waits, and as long again to take the end alone.
const FINISH_LIMIT: Duration = Duration::from_secs(2);

/// The directory of a new epoch, and what of it the runner keeps.
#[derive(Debug)]
pub(crate) struct Home {
    /// Where the runner is asked.
    pub(crate) listener: UnixListener,
    /// Held as long as the runner lives: who can lock it knows that the runner is gone.
    pub(crate) lock: OwnedFd,
    dir: OwnedFd,
}

impl Home {
    /// Makes `SPOOL/ID/EPOCH`. It appears whole, with its lock held. One that is there already is an error.
    pub(crate) fn create(spec: &WorkerSpec) -> Result<Self, String> {
        let path = Path::new(&spec.spool).join(spec.id.to_string());
        let failed =
            |error: io::Error| format!("cannot make the spool in {}: {error}", path.display());
        if !path.is_absolute() {
            return Err(format!("the spool {:?} is no absolute path", spec.spool));
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
                // What is left of a failure is small and hidden.
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

    /// Begins to write. An error when the disk has no room for that.
    pub(crate) fn spool(&self, limits: Limits) -> io::Result<Spool> {
        let mut files = Files::new(self.dir.try_clone()?, limits);
        files.begin()?;
        Ok(Spool::start(files, limits))
    }
}

/// A record that waits for the disk.
#[derive(Debug)]
enum Waiting {
    /// Room for a header, then the bytes.
    Output {
        at_ms: u64,
        record: Vec<u8>,
    },
    Size(Vec<u8>),
    Other(Vec<u8>),
}

impl Waiting {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Output { record, .. } | Self::Size(record) | Self::Other(record) => record,
        }
    }

    /// Bytes of output in it.
    fn n_output(&self) -> usize {
        match self {
            Self::Output { record, .. } => record.len() - HEADER_BYTES,
            Self::Size(_) | Self::Other(_) => 0,
        }
    }

    fn cost(&self) -> usize {
        self.bytes().len() + RECORD_COST
    }
}

/// What the runner and the writing thread share.
#[derive(Debug, Default)]
struct Queue {
    records: VecDeque<Waiting>,
    /// What the records cost, the one that is being written included.
    cost: usize,
    /// Bytes of output that were dropped in front of the first record.
    lost: u64,
    /// Buffers of records that are written.
    spare: Vec<Vec<u8>>,
    /// How long may be waited for the disk.
    credit: Credit,
    /// The thread waits for work.
    is_idle: bool,
    /// The disk refused the last attempt.
    is_failing: bool,
    /// Nothing more will come.
    is_closed: bool,
    /// Everything is on the disk, and the thread has ended.
    is_done: bool,
}

impl Queue {
    fn push_output(&mut self, at_ms: u64, mut bytes: &[u8]) {
        if let Some(Waiting::Output { at_ms: since, record }) = self.records.back_mut()
            && at_ms.saturating_sub(*since) <= MERGE_MS
        {
            let room = MAX_PAYLOAD_BYTES - (record.len() - HEADER_BYTES);
            let (fits, rest) = bytes.split_at(bytes.len().min(room));
            record.extend_from_slice(fits);
            self.cost += fits.len();
            bytes = rest;
        }
        for chunk in bytes.chunks(MAX_PAYLOAD_BYTES) {
            let mut record = self.spare.pop().unwrap_or_default();
            record.extend_from_slice(&[0; HEADER_BYTES]);
            record.extend_from_slice(chunk);
            self.push(Waiting::Output { at_ms, record });
        }
    }

    fn push(&mut self, record: Waiting) {
        self.cost += record.cost();
        self.records.push_back(record);
    }

    fn push_size(&mut self, record: Vec<u8>) {
        let newest = self.records.iter().rposition(|it| matches!(it, Waiting::Size(_)));
        match newest {
            // Nothing was printed with that size, or there are too many of them.
            Some(at)
                if at + 1 == self.records.len() || self.records.len() >= MAX_WAITING_RECORDS =>
            {
                self.records[at] = Waiting::Size(record);
            }
            _ => self.push(Waiting::Size(record)),
        }
    }

    /// Keeps a written record's buffer.
    fn recycle(&mut self, record: Waiting) {
        if let Waiting::Output { mut record, .. } = record
            && self.spare.len() < MAX_SPARE_BUFFERS
        {
            record.clear();
            self.spare.push(record);
        }
    }

    /// Drops the oldest output until the records cost at most `limit`.
    fn drop_oldest(&mut self, limit: usize) {
        while self.cost > limit {
            let oldest = self.records.iter().position(|it| matches!(it, Waiting::Output { .. }));
            let Some(record) = oldest.and_then(|at| self.records.remove(at)) else {
                return;
            };
            self.cost -= record.cost();
            self.lost += record.n_output() as u64;
            self.recycle(record);
        }
    }

    /// The next to be written. Its cost counts until it is.
    fn take(&mut self) -> Option<(Waiting, u64)> {
        if self.lost > 0 {
            let n_lost = std::mem::take(&mut self.lost);
            let gap = Waiting::Other(encode(now_ms(), &Body::Gap(n_lost)));
            self.cost += gap.cost();
            return Some((gap, n_lost));
        }
        let mut record = self.records.pop_front()?;
        let n_output = record.n_output();
        if let Waiting::Output { at_ms, record } = &mut record {
            record[..HEADER_BYTES].copy_from_slice(&output_header(*at_ms, n_output));
        }
        Some((record, n_output as u64))
    }

    /// The disk did not take it.
    fn put_back(&mut self, record: Waiting, n_output: u64, limit: usize) {
        if record.n_output() as u64 == n_output {
            self.records.push_front(record);
        } else {
            // A gap is made anew.
            self.cost -= record.cost();
            self.lost += n_output;
        }
        self.drop_oldest(limit);
    }
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Something waits to be written, or the end.
    work: Condvar,
    /// Something was written, or refused.
    room: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The spool of a command that runs.
#[derive(Debug)]
pub(crate) struct Spool {
    shared: Arc<Shared>,
    limits: Limits,
}

impl Spool {
    fn start(files: Files, limits: Limits) -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        // A thread that is stuck in a write must not keep the runner: nobody joins it.
        std::thread::spawn(move || write_until_closed(&theirs, files, limits));
        Self { shared, limits }
    }

    /// Appends what the command printed.
    pub(crate) fn output(&self, bytes: &[u8]) {
        let limit = self.limits.queue_bytes;
        let mut queue = self.shared.lock();
        if queue.cost + bytes.len() > limit && !queue.is_failing {
            let start = Instant::now();
            let is_full = |queue: &mut Queue| {
                queue.cost + bytes.len() > limit && !queue.is_failing && !queue.is_done
            };
            let credit = queue.credit.available(start);
            let waited = self.shared.room.wait_timeout_while(queue, credit, is_full);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            queue.credit.spend(start.elapsed());
        }
        queue.push_output(now_ms(), bytes);
        queue.drop_oldest(limit);
        self.wake(&queue);
    }

    /// The command runs as this process.
    pub(crate) fn started(&self, pid: u32) {
        let mut queue = self.shared.lock();
        queue.push(Waiting::Other(encode(now_ms(), &Body::Started(pid))));
        self.wake(&queue);
    }

    /// The terminal has this size from now on.
    pub(crate) fn size(&self, cols: u16, rows: u16) {
        let mut queue = self.shared.lock();
        queue.push_size(encode(now_ms(), &Body::Resize(cols, rows)));
        self.wake(&queue);
    }

    fn wake(&self, queue: &Queue) {
        if queue.is_idle {
            self.shared.work.notify_one();
        }
    }

    /// How the command ended.
    pub(crate) fn exited(&self, status: Status) {
        self.finish(&Body::Exit(status));
    }

    /// Writes the last record and waits for the disk. When it takes too long, output is given up for the end's sake.
    pub(crate) fn finish(&self, end: &Body) {
        let mut queue = self.shared.lock();
        queue.push(Waiting::Other(encode(now_ms(), end)));
        queue.is_closed = true;
        for is_last in [false, true] {
            if is_last {
                // A gap and an end are so short that they fit into what the last block of a full disk has left.
                queue.drop_oldest(0);
            }
            self.shared.work.notify_one();
            let waited =
                self.shared.room.wait_timeout_while(queue, FINISH_LIMIT, |queue| !queue.is_done);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            if queue.is_done {
                return;
            }
        }
    }
}

fn write_until_closed(shared: &Shared, mut files: Files, limits: Limits) {
    let mut queue = shared.lock();
    let mut wrote_at = None;
    loop {
        let Some((record, n_output)) = queue.take() else {
            if queue.is_closed {
                queue.is_done = true;
                shared.room.notify_one();
                return;
            }
            if wrote_at.is_some_and(|at: Instant| at.elapsed() < BATCH_PAUSE) {
                drop(queue);
                std::thread::sleep(BATCH_PAUSE);
                queue = shared.lock();
                wrote_at = None;
                continue;
            }
            queue.spare = Vec::new();
            queue.is_idle = true;
            queue = shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.is_idle = false;
            continue;
        };
        drop(queue);
        let written = files.append(record.bytes(), n_output);
        queue = shared.lock();
        queue.is_failing = written.is_err();
        if written.is_ok() {
            wrote_at = Some(Instant::now());
            queue.cost -= record.cost();
            queue.recycle(record);
            shared.room.notify_one();
        } else {
            queue.put_back(record, n_output, limits.queue_bytes);
            shared.room.notify_one();
            let waited = shared.work.wait_timeout(queue, RETRY);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// How long may be waited for the disk: a share of the time that has passed, saved up to [`MAX_CREDIT`].
#[derive(Debug)]
struct Credit {
    left: Duration,
    since: Instant,
}

impl Default for Credit {
    fn default() -> Self {
        Self::new(Instant::now())
    }
}

impl Credit {
    fn new(now: Instant) -> Self {
        Self { left: MAX_CREDIT, since: now }
    }

    fn available(&mut self, now: Instant) -> Duration {
        let earned = now.saturating_duration_since(self.since) / CREDIT_SHARE;
        self.since = now;
        self.left = MAX_CREDIT.min(self.left + earned);
        self.left
    }

    fn spend(&mut self, spent: Duration) {
        self.left = self.left.saturating_sub(spent);
    }
}

/// The segments of a spool.
#[derive(Debug)]
struct Files {
    dir: OwnedFd,
    limits: Limits,
    current: Option<Segment>,
    /// Where the output stands, lost bytes included.
    offset: u64,
}

#[derive(Debug)]
struct Segment {
    file: OwnedFd,
    start: u64,
    /// Its whole records.
    n_bytes: u64,
}

impl Files {
    fn new(dir: OwnedFd, limits: Limits) -> Self {
        Self { dir, limits, current: None, offset: 0 }
    }

    /// Opens the first segment, with room for the first records: nobody would hear of a command whose start the disk does
    /// not take.
    fn begin(&mut self) -> Result<(), Errno> {
        let segment = self.open()?;
        match fallocate(&segment.file, FallocateFlags::KEEP_SIZE, 0, FIRST_BYTES) {
            // Not every file system can promise.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error),
        }
        self.current = Some(segment);
        Ok(())
    }

    /// Appends a whole record or nothing.
    fn append(&mut self, record: &[u8], n_output: u64) -> Result<(), Errno> {
        let is_full = |segment: &Segment| {
            segment.n_bytes >= self.limits.segment_bytes && segment.start < self.offset
        };
        if self.current.as_ref().is_none_or(is_full) {
            self.current = Some(self.open()?);
            self.delete_oldest();
        }
        let Some(segment) = &mut self.current else {
            return Ok(());
        };
        if let Err(error) = write_whole(&segment.file, record) {
            // A piece of a record would make the rest of the file unreadable.
            if ftruncate(&segment.file, segment.n_bytes).is_err() {
                self.current = None;
            }
            return Err(error);
        }
        segment.n_bytes += record.len() as u64;
        self.offset += n_output;
        Ok(())
    }

    fn open(&self) -> Result<Segment, Errno> {
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::TRUNC
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC;
        let name = segment_name(self.offset);
        let file = openat(&self.dir, name.as_str(), flags, Mode::from_raw_mode(0o600))?;
        Ok(Segment { file, start: self.offset, n_bytes: 0 })
    }

    /// The collector deletes what the server has stored; what is left may still be too much.
    fn delete_oldest(&self) {
        let mut starts: Vec<u64> = rustix::fs::Dir::read_from(&self.dir)
            .into_iter()
            .flatten()
            .filter_map(|entry| segment_start(entry.ok()?.file_name().to_str().ok()?))
            .collect();
        starts.sort_unstable();
        let n_old = starts.len().saturating_sub(self.limits.n_segments);
        for start in &starts[..n_old] {
            // The collector may have been faster.
            unlinkat(&self.dir, segment_name(*start).as_str(), AtFlags::empty()).ok();
        }
    }
}

fn write_whole(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(n_written) => bytes = &bytes[n_written..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
