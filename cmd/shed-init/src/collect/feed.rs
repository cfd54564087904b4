//! One spool that is followed: where we are in it, and what is sent next.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, open};
use shed_link::spool::{Epoch, Item, encode_output};

use super::segments::{is_abandoned, starts};
use crate::record::{Body, HEADER_BYTES, Header, MAX_PAYLOAD_BYTES, segment_name};

/// How much is read of a spool in a turn: the largest record, whole.
const READ_BYTES: usize = HEADER_BYTES + MAX_PAYLOAD_BYTES;

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// There may be more.
    More,
    /// Everything that is there was sent.
    Quiet,
    /// Everything was sent, the end too.
    Ended,
}

/// A spool that is followed.
#[derive(Debug)]
pub(super) struct Feed {
    epoch: Epoch,
    dir: PathBuf,
    /// The first offset that is wanted.
    from: u64,
    /// The segment that is read, and where in it; open only while there is something to read.
    segment: Option<Place>,
    file: Option<File>,
    /// Where in the output we are.
    offset: u64,
    has_ended: bool,
    /// Whether to look for a next segment and for the runner when the file has nothing more.
    may_be_complete: bool,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    start: u64,
    at: u64,
}

/// What was at our place in the segment.
enum Found {
    /// A record, with so many bytes sent.
    Record(usize),
    /// One that is too long for this turn.
    TooLong,
    /// The last record.
    End,
    /// No whole record yet, or never.
    Nothing,
}

impl Feed {
    /// Follows the spool in a directory from an offset on.
    pub(super) fn new(epoch: Epoch, dir: PathBuf, from: u64) -> Self {
        Self {
            epoch,
            dir,
            from,
            segment: None,
            file: None,
            offset: 0,
            has_ended: false,
            may_be_complete: true,
        }
    }

    /// Something other than the file that is read may have changed: there may be a next one, or no runner.
    pub(super) fn look_around(&mut self) {
        self.may_be_complete = true;
    }

    /// Appends items with at most [`MAX_PAYLOAD_BYTES`] of output.
    pub(super) fn turn(&mut self, out: &mut Vec<u8>) -> Turn {
        if self.has_ended {
            return Turn::Ended;
        }
        let mut n_read = 0;
        let mut is_complete = false;
        loop {
            if self.segment.is_none() {
                self.enter_first(out);
            }
            match self.record(READ_BYTES - n_read, out) {
                Found::Record(n_bytes) => n_read += n_bytes,
                Found::TooLong => return Turn::More,
                Found::End => return self.end(),
                Found::Nothing if is_complete => {
                    let Some(start) = self.next_start() else {
                        Item::Lost { of: self.epoch, offset: self.offset.max(self.from) }
                            .encode(out);
                        return self.end();
                    };
                    self.enter(start, out);
                    is_complete = false;
                }
                Found::Nothing => {
                    // What was appended just before the next segment, or before the runner went, is found when the
                    // segment is read once more.
                    let may_be = std::mem::take(&mut self.may_be_complete);
                    is_complete =
                        may_be && (self.next_start().is_some() || is_abandoned(&self.dir));
                    if !is_complete {
                        self.file = None;
                        return Turn::Quiet;
                    }
                    // Its successors may be complete too.
                    self.may_be_complete = true;
                }
            }
        }
    }

    fn end(&mut self) -> Turn {
        self.has_ended = true;
        self.file = None;
        Turn::Ended
    }

    /// Goes to the segment with the wanted offset, or the first one after it.
    fn enter_first(&mut self, out: &mut Vec<u8>) {
        let starts = starts(&self.dir);
        let before = starts.iter().rev().find(|start| **start <= self.from);
        if let Some(start) = before.or(starts.first()) {
            self.enter(*start, out);
        }
    }

    fn next_start(&self) -> Option<u64> {
        let current = self.segment.map(|place| place.start);
        starts(&self.dir).into_iter().find(|start| current.is_none_or(|current| *start > current))
    }

    /// Goes to a segment. What lies between is lost: deleted before it was read, or broken.
    fn enter(&mut self, start: u64, out: &mut Vec<u8>) {
        let position = if self.segment.is_some() { self.offset } else { 0 };
        self.from = self.from.max(position);
        self.gap(self.from, start, out);
        self.segment = Some(Place { start, at: 0 });
        self.offset = start;
        self.file = None;
    }

    fn gap(&self, from: u64, to: u64, out: &mut Vec<u8>) {
        if from < to {
            Item::Gap { of: self.epoch, offset: from, n_bytes: to - from }.encode(out);
        }
    }

    /// Reads the record at our place, if it has at most `room` bytes, and sends what is wanted of it.
    fn record(&mut self, room: usize, out: &mut Vec<u8>) -> Found {
        let Some(place) = self.segment else {
            return Found::Nothing;
        };
        if self.file.is_none() {
            self.file = self.open(place.start);
        }
        let Some(file) = &self.file else {
            return Found::Nothing;
        };
        let mut head = [0; HEADER_BYTES];
        if file.read_exact_at(&mut head, place.at).is_err() {
            return Found::Nothing;
        }
        let Ok(header) = Header::parse(&head) else {
            return Found::Nothing;
        };
        if HEADER_BYTES + header.n_bytes > room {
            return Found::TooLong;
        }
        let mut payload = vec![0; header.n_bytes];
        if file.read_exact_at(&mut payload, place.at + HEADER_BYTES as u64).is_err() {
            return Found::Nothing;
        }
        let Ok(body) = header.body(&payload) else {
            return Found::Nothing;
        };
        let after = Place { at: place.at + (HEADER_BYTES + header.n_bytes) as u64, ..place };
        let n_output = match body {
            Body::Output => payload.len() as u64,
            Body::Gap(n_bytes) => n_bytes,
            _ => 0,
        };
        let Some(end) = self.offset.checked_add(n_output) else {
            return Found::Nothing;
        };
        let wanted = usize::try_from(self.from.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let is_wanted = self.offset >= self.from;
        let (of, offset, at_ms) = (self.epoch, self.offset, header.at_ms);
        match body {
            Body::Output => {
                if let Some(bytes) = payload.get(wanted..).filter(|bytes| !bytes.is_empty()) {
                    encode_output(out, of, offset.max(self.from), at_ms, bytes);
                }
            }
            Body::Gap(_) => self.gap(offset.max(self.from), end, out),
            Body::Started(pid) if is_wanted => {
                Item::Started { of, offset, at_ms, pid }.encode(out);
            }
            Body::Resize(cols, rows) if is_wanted => {
                Item::Resize { of, offset, at_ms, cols, rows }.encode(out);
            }
            Body::Exit(status) => {
                Item::Exit { of, offset: offset.max(self.from), at_ms, status }.encode(out);
            }
            Body::Refused(ref refusal) => {
                Item::Refused { of, at_ms, refusal: refusal.clone() }.encode(out);
            }
            Body::Started(_) | Body::Resize(..) | Body::Unknown => {}
        }
        self.offset = end;
        self.segment = Some(after);
        match body {
            Body::Exit(_) | Body::Refused(_) => Found::End,
            _ => Found::Record(HEADER_BYTES + header.n_bytes),
        }
    }

    fn open(&self, start: u64) -> Option<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = open(self.dir.join(segment_name(start)), flags, Mode::empty()).ok()?;
        Some(File::from(file))
    }
}
