//! A spool that the server follows: the position in it, and the items to send next.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, open};
use shed_link::spool::{Epoch, Item, encode_output};

use super::segments::{is_abandoned, starts};
use crate::spool_record::{Body, HEADER_BYTES, Header, MAX_PAYLOAD_BYTES, segment_name};

/// The most bytes that are read from a spool in one turn: the largest record.
const READ_BYTES: usize = HEADER_BYTES + MAX_PAYLOAD_BYTES;

/// The result of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// There may be more to send.
    More,
    /// Everything that exists was sent.
    Quiet,
    /// Everything was sent, including the last item.
    Ended,
}

/// A followed spool.
#[derive(Debug)]
pub(super) struct Feed {
    epoch: Epoch,
    dir: PathBuf,
    /// The first offset that the server wants.
    from: u64,
    /// The current segment and the position in it.
    segment: Option<Position>,
    /// The segment's file, open only while there is something to read.
    file: Option<File>,
    /// The offset in the output at that position.
    offset: u64,
    has_ended: bool,
    /// Whether to check for a next segment and for the runner's lock at the end of the file.
    may_be_complete: bool,
}

#[derive(Debug, Clone, Copy)]
struct Position {
    /// The offset at which the segment begins, which is its name.
    start: u64,
    /// The position in the file, in bytes.
    at: u64,
}

/// What was found at the position.
enum Found {
    /// A record of this length, which was handled.
    Record(usize),
    /// A record that is too long for the rest of this turn.
    TooLong,
    /// The last record.
    End,
    /// No complete record.
    Nothing,
}

impl Feed {
    /// Follows the spool in a directory, starting at an offset.
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

    /// To be called when there may be a next segment or the runner may have ended.
    pub(super) fn recheck(&mut self) {
        self.may_be_complete = true;
    }

    /// Appends items with at most [`MAX_PAYLOAD_BYTES`] bytes of output.
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
                    // The segment is read once more if it is complete, to find what was appended just before the next
                    // segment began or the runner ended.
                    let may_be = std::mem::take(&mut self.may_be_complete);
                    is_complete =
                        may_be && (self.next_start().is_some() || is_abandoned(&self.dir));
                    if !is_complete {
                        self.file = None;
                        return Turn::Quiet;
                    }
                    // The following segments may be complete too.
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

    /// Goes to the segment that contains the first wanted offset, or to the first segment after it.
    fn enter_first(&mut self, out: &mut Vec<u8>) {
        let starts = starts(&self.dir);
        let before = starts.iter().rev().find(|start| **start <= self.from);
        if let Some(start) = before.or(starts.first()) {
            self.enter(*start, out);
        }
    }

    fn next_start(&self) -> Option<u64> {
        let current = self.segment.map(|position| position.start);
        starts(&self.dir).into_iter().find(|start| current.is_none_or(|current| *start > current))
    }

    /// Goes to a segment. Output between the position and the segment is lost: it was deleted before it was read, or is
    /// unreadable.
    fn enter(&mut self, start: u64, out: &mut Vec<u8>) {
        let position = if self.segment.is_some() { self.offset } else { 0 };
        self.from = self.from.max(position);
        self.gap(self.from, start, out);
        self.segment = Some(Position { start, at: 0 });
        self.offset = start;
        self.file = None;
    }

    fn gap(&self, from: u64, to: u64, out: &mut Vec<u8>) {
        if from < to {
            Item::Gap { of: self.epoch, offset: from, n_bytes: to - from }.encode(out);
        }
    }

    /// Reads the record at the position if it has at most `room` bytes, and appends what the server wants of it.
    fn record(&mut self, room: usize, out: &mut Vec<u8>) -> Found {
        let Some(position) = self.segment else {
            return Found::Nothing;
        };
        if self.file.is_none() {
            self.file = self.open(position.start);
        }
        let Some(file) = &self.file else {
            return Found::Nothing;
        };
        let mut head = [0; HEADER_BYTES];
        if file.read_exact_at(&mut head, position.at).is_err() {
            return Found::Nothing;
        }
        let Ok(header) = Header::parse(&head) else {
            return Found::Nothing;
        };
        if HEADER_BYTES + header.n_bytes > room {
            return Found::TooLong;
        }
        let mut payload = vec![0; header.n_bytes];
        if file.read_exact_at(&mut payload, position.at + HEADER_BYTES as u64).is_err() {
            return Found::Nothing;
        }
        let Ok(body) = header.body(&payload) else {
            return Found::Nothing;
        };
        let after =
            Position { at: position.at + (HEADER_BYTES + header.n_bytes) as u64, ..position };
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
