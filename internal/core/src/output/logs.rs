//! The logs of workers' output: a directory for each worker under the server's data. One writer appends, many read.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use shed_output::{Compressor, Limits, Log, Reader};
use tokio::sync::watch;

use crate::Error;

/// The compressor pauses this many times as long as it worked. At full speed it would take the processor from the workers;
/// an uncompressed chunk is as safe and only larger.
const REST: u32 = 9;

/// The logs of a server. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    kept_bytes: u64,
    /// Open logs. The lock is held for single look-ups.
    open: Mutex<HashMap<String, Arc<Cell>>>,
    /// A bell for each log that has a writer or a reader.
    bells: Mutex<HashMap<String, watch::Sender<Mark>>>,
    /// The last known end of each log.
    ends: Mutex<HashMap<String, u64>>,
    /// The compressor's queue; its thread ends with this sender.
    compress: Sender<Due>,
}

/// A log with a writer.
#[derive(Debug)]
pub(crate) struct Cell {
    worker: String,
    log: Mutex<Log>,
    /// Its state; changes wake readers.
    mark: watch::Sender<Mark>,
    /// Whether it is in the compressor's queue.
    is_queued: AtomicBool,
    /// Whether its writer is gone: it is closed when the compressor is done.
    is_over: AtomicBool,
    /// Whether its worker is being deleted: nothing more is stored.
    is_discarded: AtomicBool,
}

/// A log with chunks to compress.
#[derive(Debug)]
struct Due {
    compressor: Compressor,
    cell: Weak<Cell>,
    logs: Weak<Inner>,
}

impl Due {
    /// Nothing is left to compress.
    fn done(&self) {
        let (Some(cell), Some(inner)) = (self.cell.upgrade(), self.logs.upgrade()) else {
            return;
        };
        cell.is_queued.store(false, Ordering::Release);
        if cell.is_over.load(Ordering::Acquire) {
            Logs { inner }.drop_cell(&cell.worker);
        }
    }
}

/// Starts the compressor's thread, which takes one chunk of each log in turn.
fn start_compressor() -> Sender<Due> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || compress(&receiver));
    sender
}

fn compress(new: &Receiver<Due>) {
    let mut queue = VecDeque::new();
    loop {
        if queue.is_empty() {
            match new.recv() {
                Ok(due) => queue.push_back(due),
                Err(_) => return,
            }
        }
        queue.extend(new.try_iter());
        let Some(due) = queue.pop_front() else {
            continue;
        };
        let start = Instant::now();
        // A failed log is tried again when it grows.
        if matches!(due.compressor.compress_one(), Ok(true)) {
            queue.push_back(due);
        } else {
            due.done();
        }
        std::thread::sleep(start.elapsed() * REST);
    }
}

/// The state of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The offset after the last byte.
    pub(crate) end: u64,
    /// The epoch of the last byte.
    pub(crate) epoch: u64,
    /// Counts what was written beside bytes: sizes and exits.
    pub(crate) n_notes: u64,
}

impl Logs {
    pub(crate) fn new(dir: PathBuf, kept_bytes: u64) -> Self {
        let inner = Inner {
            dir,
            kept_bytes,
            open: Mutex::default(),
            bells: Mutex::default(),
            ends: Mutex::default(),
            compress: start_compressor(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A shed's directory.
    pub(crate) fn shed_dir(&self, shed: &str) -> PathBuf {
        self.inner.dir.join(shed)
    }

    /// A worker's directory. Ids are hexadecimal, so they are plain file names.
    pub(crate) fn dir(&self, shed: &str, worker: &str) -> PathBuf {
        self.shed_dir(shed).join(worker)
    }

    /// The writer of a log, created if missing. Blocks on the disk.
    pub(crate) fn open(
        &self,
        shed: &str,
        worker: &str,
        kept_bytes: Option<u64>,
    ) -> Result<Arc<Cell>, Error> {
        let mut open = self.inner.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = open.get(worker) {
            cell.is_over.store(false, Ordering::Release);
            return Ok(Arc::clone(cell));
        }
        let limits = Limits::within(kept_bytes.unwrap_or(self.inner.kept_bytes));
        let log = Log::open(&self.dir(shed, worker), limits)?;
        let (end, epoch) = (log.end(), log.epoch().unwrap_or(0));
        self.note_end(worker, end);
        let mark = self.bell(worker);
        // Wake readers that found no log before.
        mark.send_modify(|mark| *mark = Mark { end, epoch, n_notes: mark.n_notes + 1 });
        let cell = Cell {
            worker: worker.to_owned(),
            log: Mutex::new(log),
            mark,
            is_queued: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            is_discarded: AtomicBool::new(false),
        };
        let cell = Arc::new(cell);
        open.insert(worker.to_owned(), Arc::clone(&cell));
        Ok(cell)
    }

    /// Closes the log of a worker that has exited, once its chunks are compressed.
    pub(crate) fn close(&self, worker: &str) {
        let mut open = self.inner.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = open.get(worker) {
            let log = cell.log.lock().unwrap_or_else(PoisonError::into_inner);
            if log.pending() > 0 {
                cell.is_over.store(true, Ordering::Release);
                return self.compress(cell, &log);
            }
        }
        open.remove(worker);
        self.forget_bells(&open);
    }

    /// Forgets the log of a worker whose shed was deleted. Its directory is not touched.
    pub(crate) fn forget(&self, worker: &str) {
        self.drop_cell(worker);
        self.inner.ends.lock().unwrap_or_else(PoisonError::into_inner).remove(worker);
    }

    /// Closes the log of a worker that no longer exists.
    pub(crate) fn drop_cell(&self, worker: &str) {
        let mut open = self.inner.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(worker);
        self.forget_bells(&open);
    }

    /// Puts a log into the compressor's queue.
    fn compress(&self, cell: &Arc<Cell>, log: &Log) {
        if !cell.is_queued.swap(true, Ordering::AcqRel) {
            let logs = Arc::downgrade(&self.inner);
            let due = Due { compressor: log.compressor(), cell: Arc::downgrade(cell), logs };
            // The thread lives as long as this sender.
            self.inner.compress.send(due).ok();
        }
    }

    /// Changes when a log is written, over all epochs of its worker. Read a log once before waiting: one without a writer
    /// has no state here yet.
    pub(crate) fn mark(&self, worker: &str) -> watch::Receiver<Mark> {
        let open = self.inner.open.lock().unwrap_or_else(PoisonError::into_inner);
        self.forget_bells(&open);
        self.bell(worker).subscribe()
    }

    /// Drops bells without writer and readers. The caller holds the lock on the logs.
    fn forget_bells(&self, open: &HashMap<String, Arc<Cell>>) {
        let mut bells = self.inner.bells.lock().unwrap_or_else(PoisonError::into_inner);
        bells.retain(|worker, bell| bell.receiver_count() > 0 || open.contains_key(worker));
    }

    fn bell(&self, worker: &str) -> watch::Sender<Mark> {
        let mut bells = self.inner.bells.lock().unwrap_or_else(PoisonError::into_inner);
        bells.entry(worker.to_owned()).or_default().clone()
    }

    /// A reader of a log, with or without writer. Blocks on the disk. An error if nothing was ever written.
    pub(crate) fn reader(&self, shed: &str, worker: &str) -> Result<Reader, Error> {
        Ok(Reader::open(&self.dir(shed, worker))?)
    }

    /// Removes the log of a worker that no longer exists. Blocks on the disk. A missing log is not an error.
    pub(crate) fn remove(&self, shed: &str, worker: &str) -> Result<(), Error> {
        self.forget(worker);
        remove_dir(&self.dir(shed, worker))
    }

    /// Removes the log of a worker that is being deleted and may still print. What it prints from now on counts as stored
    /// and is dropped, so that its end can be reported without space on the disk. Blocks on the disk.
    pub(crate) fn discard(&self, shed: &str, worker: &str) -> Result<(), Error> {
        let cell = {
            let open = self.inner.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.get(worker).cloned()
        };
        let Some(cell) = cell else {
            return self.remove(shed, worker);
        };
        let _log = cell.log.lock().unwrap_or_else(PoisonError::into_inner);
        cell.is_discarded.store(true, Ordering::Release);
        remove_dir(&self.dir(shed, worker))
    }

    /// The same as [`Self::reader`]; `None` if nothing was ever written.
    pub(crate) fn find_reader(&self, shed: &str, worker: &str) -> Result<Option<Reader>, Error> {
        if self.dir(shed, worker).is_dir() {
            return self.reader(shed, worker).map(Some);
        }
        Ok(None)
    }

    /// The last known end of a log. Does not read the disk.
    pub(crate) fn end(&self, worker: &str) -> u64 {
        let ends = self.inner.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.get(worker).copied().unwrap_or(0)
    }

    /// The same for several workers, in their order, as of one moment.
    pub(crate) fn ends<'a>(&self, workers: impl Iterator<Item = &'a str>) -> Vec<u64> {
        let ends = self.inner.ends.lock().unwrap_or_else(PoisonError::into_inner);
        workers.map(|worker| ends.get(worker).copied().unwrap_or(0)).collect()
    }

    fn note_end(&self, worker: &str, end: u64) {
        let mut ends = self.inner.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.insert(worker.to_owned(), end);
    }

    /// Reads the ends of a shed's logs. Blocks on the disk; called once, in the background.
    pub(crate) fn load_ends(&self, shed: &str, workers: &[String]) {
        for worker in workers {
            let status = self.reader(shed, worker).and_then(|reader| Ok(reader.status()?));
            if let Ok(status) = status {
                let mut ends = self.inner.ends.lock().unwrap_or_else(PoisonError::into_inner);
                ends.entry(worker.clone()).or_insert(status.end);
            }
        }
    }

    /// Writes to a log and wakes its readers. Blocks on the disk.
    pub(crate) fn write<T: Default>(
        &self,
        cell: &Arc<Cell>,
        write: impl FnOnce(&mut Log) -> Result<T, shed_output::Error>,
        is_note: bool,
    ) -> Result<T, Error> {
        let mut log = cell.log.lock().unwrap_or_else(PoisonError::into_inner);
        if cell.is_discarded.load(Ordering::Acquire) {
            return Ok(T::default());
        }
        let written = write(&mut log);
        let (end, epoch, pending) = (log.end(), log.epoch().unwrap_or(0), log.pending());
        if pending > 0 {
            self.compress(cell, &log);
        }
        drop(log);
        self.note_end(&cell.worker, end);
        cell.mark.send_if_modified(|mark| {
            let n_notes = mark.n_notes + u64::from(is_note);
            let after = Mark { end, epoch, n_notes };
            std::mem::replace(mark, after) != after
        });
        Ok(written?)
    }

    /// The offset from which a collector continues an epoch. `None` if the log has nothing of it.
    pub(crate) fn epoch_end(cell: &Cell, epoch: u64) -> Option<u64> {
        cell.log.lock().unwrap_or_else(PoisonError::into_inner).epoch_end(epoch)
    }
}

fn remove_dir(dir: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(Error::io(format!("cannot remove {}", dir.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discarded_log_takes_output_and_stores_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::new(dir.path().to_owned(), 1 << 20);
        let cell = logs.open("a", "w", None).unwrap();
        logs.write(&cell, |log| log.begin_epoch(1, 1), true).unwrap();
        logs.write(&cell, |log| log.append(1, 0, 2, b"one").map(drop), false).unwrap();
        assert!(logs.dir("a", "w").exists());
        logs.discard("a", "w").unwrap();
        // The collector goes on, also after it began again.
        let cell = logs.open("a", "w", None).unwrap();
        logs.write(&cell, |log| log.append(1, 3, 2, b"two").map(drop), false).unwrap();
        logs.write(&cell, |log| log.exit(1, 3, shed_output::Exit::Code(0)), true).unwrap();
        logs.write(&cell, Log::sync, false).unwrap();
        assert!(!logs.dir("a", "w").exists());
        // Another worker has its log; one without a log is no error.
        let other = logs.open("a", "x", None).unwrap();
        logs.write(&other, |log| log.begin_epoch(1, 1), true).unwrap();
        logs.close("x");
        logs.discard("a", "x").unwrap();
        logs.discard("a", "y").unwrap();
        assert_eq!(std::fs::read_dir(logs.shed_dir("a")).unwrap().count(), 0);
    }
}
