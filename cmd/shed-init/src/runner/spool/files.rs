//! The segment files of a spool.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, fallocate, ftruncate, openat, unlinkat};
use rustix::io::Errno;

use super::Limits;
use crate::spool_record::{segment_name, segment_start};

/// The space that is reserved in a new spool: enough for the records of the start, the size and the exit.
const FIRST_BYTES: u64 = 4 << 10;

/// The segments of a spool, of which the last one is written.
#[derive(Debug)]
pub(super) struct Files {
    dir: OwnedFd,
    limits: Limits,
    current: Option<Segment>,
    /// The number of bytes printed so far, lost bytes included.
    offset: u64,
}

#[derive(Debug)]
struct Segment {
    file: OwnedFd,
    start: u64,
    /// The length of its complete records.
    n_bytes: u64,
}

impl Files {
    pub(super) fn new(dir: OwnedFd, limits: Limits) -> Self {
        Self { dir, limits, current: None, offset: 0 }
    }

    /// Opens the first segment and reserves space for the first records, so that a command is not started whose start
    /// could not be recorded.
    pub(super) fn begin(&mut self) -> Result<(), Errno> {
        let segment = self.open()?;
        match fallocate(&segment.file, FallocateFlags::KEEP_SIZE, 0, FIRST_BYTES) {
            // Not every file system can reserve space.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error),
        }
        self.current = Some(segment);
        Ok(())
    }

    /// Appends a complete record or nothing. `n_output` is the number of bytes by which it advances the offset.
    pub(super) fn append(&mut self, record: &[u8], n_output: u64) -> Result<(), Errno> {
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
            // A partial record would make the rest of the file unreadable.
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

    /// Deletes the oldest segments above the limit. The collector deletes those that the server has stored.
    fn delete_oldest(&self) {
        let mut starts: Vec<u64> = rustix::fs::Dir::read_from(&self.dir)
            .into_iter()
            .flatten()
            .filter_map(|entry| segment_start(entry.ok()?.file_name().to_str().ok()?))
            .collect();
        starts.sort_unstable();
        let n_old = starts.len().saturating_sub(self.limits.n_segments);
        for start in &starts[..n_old] {
            // Fails when the collector has deleted it.
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
