//! The chunk that is being written.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use crate::Error;
use crate::files::{self, Name};
use crate::marks::{Codec, Mark, State, What};
use crate::recover::read_marks;

/// Shortest time between two time marks, in milliseconds. Twenty per second make a smooth recording.
const TIME_STEP_MS: u64 = 50;

/// The chunk that is being written: a file of bytes and a file of marks.
#[derive(Debug)]
pub(crate) struct Live {
    /// Absolute offset of the first byte.
    pub(crate) start: u64,
    pub(crate) n_bytes: u64,
    data: File,
    marks: File,
    /// Length of the complete records. Bytes beyond are an incomplete one.
    pub(crate) marks_bytes: u64,
    codec: Codec,
    /// Time of the last mark, in milliseconds since 1970.
    at_ms: u64,
    /// Whether the file of marks ends with an incomplete record.
    marks_torn: bool,
    /// Whether anything was written since the last sync.
    pub(crate) changed: bool,
}

impl Live {
    /// Creates a chunk. The file of marks is created first: a chunk exists once its file of bytes exists.
    pub(crate) fn begin(dir: &Path, start: u64, state: State, at_ms: u64) -> Result<Self, Error> {
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
                // Opening the log would remove this file as well, since the chunk does not exist.
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

    /// Continues an existing chunk.
    pub(crate) fn resume(
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

    /// Absolute offset after the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.n_bytes
    }

    /// Whether bytes that came at `at_ms` need a new time mark.
    pub(crate) fn is_time_due(&self, at_ms: u64) -> bool {
        at_ms < self.at_ms || at_ms - self.at_ms >= TIME_STEP_MS
    }

    /// Appends a mark. An incomplete record of a failed call is removed first.
    pub(crate) fn mark(&mut self, dir: &Path, mark: &Mark) -> Result<(), Error> {
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

    /// Replaces all marks by one with the current state, in a chunk without bytes.
    pub(crate) fn restart_marks(
        &mut self,
        dir: &Path,
        state: State,
        at_ms: u64,
    ) -> Result<(), Error> {
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

    /// Syncs both files to disk.
    pub(crate) fn sync(&mut self, dir: &Path) -> Result<(), Error> {
        if self.changed {
            for file in [&self.data, &self.marks] {
                file.sync_data().map_err(|source| Error::io("sync", dir, source))?;
            }
            self.changed = false;
        }
        Ok(())
    }

    /// Writes all of `bytes`. After an error, [`Live::end`] includes the bytes that were written.
    pub(crate) fn write(&mut self, dir: &Path, mut bytes: &[u8]) -> Result<(), Error> {
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
