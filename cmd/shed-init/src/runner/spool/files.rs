//! The segment files of a spool.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, FallocateFlags, Mode, OFlags, fallocate, ftruncate, openat, renameat, unlinkat,
};
use rustix::io::Errno;

use super::Limits;
use crate::spool_record::{segment_name, segment_start};

/// The space that is reserved in a new spool: enough for the records of the start, the size and the exit.
const FIRST_BYTES: u64 = 4 << 10;
/// The file that becomes the next segment.
const SPARE: &str = "spare";
/// The space that is reserved in it, or as much as there is: on a full disk, output passes through it to a server that stores
/// it.
const SPARE_BYTES: [u64; 3] = [64 << 10, 16 << 10, 4 << 10];
/// The pause between two attempts to reserve it.
const SPARE_PAUSE: Duration = Duration::from_millis(100);

/// The segments of a spool, of which the last one is written.
#[derive(Debug)]
pub(super) struct Files {
    dir: OwnedFd,
    limits: Limits,
    current: Option<Segment>,
    /// The next segment, with reserved space; absent on a full disk and on file systems that cannot reserve any.
    spare: Option<OwnedFd>,
    /// When to reserve a spare; absent while there is one, or cannot be one.
    spare_due: Option<Instant>,
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
        Self { dir, limits, current: None, spare: None, spare_due: None, offset: 0 }
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
        self.reserve();
        Ok(())
    }

    /// Appends a complete record or nothing. `n_output` is the number of bytes by which it advances the offset.
    pub(super) fn append(&mut self, record: &[u8], n_output: u64) -> Result<(), Errno> {
        let is_full = |segment: &Segment| {
            segment.n_bytes >= self.limits.segment_bytes && segment.start < self.offset
        };
        if self.current.as_ref().is_none_or(is_full) {
            self.next()?;
            self.delete_oldest();
        }
        let Some(segment) = &mut self.current else {
            return Ok(());
        };
        if let Err(error) = write_whole(&segment.file, record) {
            // A partial record would make the rest of the file unreadable.
            let is_readable = ftruncate(&segment.file, segment.n_bytes).is_ok();
            // On a full disk the spare takes what comes next. The collector deletes the segment before it when its output is
            // stored; that makes room for another spare.
            let is_disk_full = matches!(error, Errno::NOSPC | Errno::DQUOT);
            let has_output = segment.start < self.offset;
            if !is_readable {
                self.current = None;
            } else if is_disk_full && has_output && self.spare.is_some() {
                self.next()?;
            }
            return Err(error);
        }
        segment.n_bytes += record.len() as u64;
        self.offset += n_output;
        if self.spare_due.is_some_and(|due| due <= Instant::now()) {
            self.reserve();
        }
        Ok(())
    }

    /// Goes on in the next segment: the spare, if there is one.
    fn next(&mut self) -> Result<(), Errno> {
        let name = segment_name(self.offset);
        let spare = self.spare.take();
        let spare = spare.filter(|_| renameat(&self.dir, SPARE, &self.dir, name.as_str()).is_ok());
        self.spare_due = Some(Instant::now());
        self.current = Some(match spare {
            Some(file) => Segment { file, start: self.offset, n_bytes: 0 },
            None => self.open()?,
        });
        Ok(())
    }

    fn reserve(&mut self) {
        let reserved = self.open_named(SPARE).and_then(|file| {
            let mut reserved = Err(Errno::NOSPC);
            for n_bytes in SPARE_BYTES {
                if matches!(reserved, Err(Errno::NOSPC | Errno::DQUOT)) {
                    reserved = fallocate(&file, FallocateFlags::KEEP_SIZE, 0, n_bytes);
                }
            }
            reserved.map(|()| file)
        });
        self.spare_due = None;
        match reserved {
            Ok(file) => self.spare = Some(file),
            Err(error) => {
                unlinkat(&self.dir, SPARE, AtFlags::empty()).ok();
                let can_reserve = !matches!(error, Errno::OPNOTSUPP | Errno::NOSYS);
                self.spare_due = can_reserve.then(|| Instant::now() + SPARE_PAUSE);
            }
        }
    }

    fn open(&self) -> Result<Segment, Errno> {
        let file = self.open_named(&segment_name(self.offset))?;
        Ok(Segment { file, start: self.offset, n_bytes: 0 })
    }

    fn open_named(&self, name: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::TRUNC
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC;
        openat(&self.dir, name, flags, Mode::from_raw_mode(0o600))
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
