//! The writing end of a worker's spool. A thread of its own appends what the command prints to files, so that a slow, stuck
//! or full disk costs output in the spool but never affects the pane.
//!
//! ```text
//! runner ──▶ queue (1 MiB) ──▶ thread ──▶ SPOOL/ID/EPOCH/00000000000000000000, 00000000000004194304, …
//! ```
//!
//! When the queue is full the runner waits for the thread, for at most a tenth of the time. That is enough for a thread that
//! only has to be scheduled. After that the oldest bytes in the queue are dropped, and a gap record counts them.

mod credit;
mod directory;
mod files;
mod queue;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shed_link::Status;

use crate::clock::unix_ms;
use crate::spool_record::{Body, encode};
use files::Files;
use queue::{Queue, Waiting};

pub(super) use directory::SpoolDirectory;

/// How much output a spool keeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// A segment with this many bytes is followed by a new one.
    pub(super) segment_bytes: u64,
    /// The most segments, including the one that is being written. Above it the oldest is deleted.
    pub(super) n_segments: usize,
    /// The most bytes that wait in memory for the disk.
    pub(super) queue_bytes: usize,
}

/// The limits of a worker: 64 MiB of output that the server has not stored, which lasts for a minute of its restart at
/// 1 MB/s, and 1 MiB in memory.
pub(super) const LIMITS: Limits =
    Limits { segment_bytes: 4 << 20, n_segments: 16, queue_bytes: 1 << 20 };

/// While more output keeps coming it is written at this interval rather than at once: each write wakes two threads and the
/// collector, which takes time from the pane. Output after a pause is written at once.
const BATCH_PAUSE: Duration = Duration::from_millis(2);
/// The pause after a failed write.
const RETRY: Duration = Duration::from_millis(250);
/// How long the disk may take at the end to store all waiting output, and then once more to store the last record alone.
const FINISH_LIMIT: Duration = Duration::from_secs(2);

/// What the runner and the writing thread share.
#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Signalled when there is something to write, or nothing more will come.
    work: Condvar,
    /// Signalled when a record was written or a write failed.
    room: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The spool of a running command.
#[derive(Debug)]
pub(super) struct Spool {
    shared: Arc<Shared>,
    limits: Limits,
}

impl Spool {
    /// Starts a spool in a new directory. Fails when the disk has no space for the first records.
    pub(super) fn create(directory: &OwnedFd, limits: Limits) -> io::Result<Self> {
        let mut files = Files::new(directory.try_clone()?, limits);
        files.begin()?;
        Ok(Self::start(files, limits))
    }

    fn start(files: Files, limits: Limits) -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        // The thread is not joined, since one that is stuck in a write must not block the runner.
        std::thread::spawn(move || write_until_closed(&theirs, files, limits));
        Self { shared, limits }
    }

    /// Appends what the command printed.
    pub(super) fn output(&self, bytes: &[u8]) {
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
        queue.push_output(unix_ms(), bytes);
        queue.drop_oldest(limit);
        self.wake(&queue);
    }

    /// Records that the command runs as this process.
    pub(super) fn started(&self, pid: u32) {
        let mut queue = self.shared.lock();
        queue.push(Waiting::Other(encode(unix_ms(), &Body::Started(pid))));
        self.wake(&queue);
    }

    /// Records that the terminal has this size from now on.
    pub(super) fn size(&self, cols: u16, rows: u16) {
        let mut queue = self.shared.lock();
        queue.push_size(encode(unix_ms(), &Body::Resize(cols, rows)));
        self.wake(&queue);
    }

    fn wake(&self, queue: &Queue) {
        if queue.is_idle {
            self.shared.work.notify_one();
        }
    }

    /// Records the exit status, as [`Spool::finish`].
    pub(super) fn exited(&self, status: Status) {
        self.finish(&Body::Exit(status));
    }

    /// Appends the last record and waits until everything is written. If that takes too long, waiting output is dropped so
    /// that the last record can be written.
    pub(super) fn finish(&self, end: &Body) {
        let mut queue = self.shared.lock();
        queue.push(Waiting::Other(encode(unix_ms(), end)));
        queue.is_closed = true;
        for is_last in [false, true] {
            if is_last {
                // A gap and a last record are so short that they mostly fit into the last block even on a full disk.
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
        let Some((record, n_output)) = queue.take(unix_ms()) else {
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
