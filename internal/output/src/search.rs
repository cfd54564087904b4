//! Search in the printed text of a log: without escape sequences, line by line.
//!
//! A line ends at a line break, at a carriage return (the following text overwrites it) and at a cursor movement to another
//! line or to the left. Cursor movements to the right count as blanks, since programs use them between words. A line that a
//! program draws again at the same place counts once.

use std::collections::HashSet;

use crate::place::Place;
use crate::plain::{Plain, Seen};
use crate::{Error, MAX_PAGE_BYTES, Reader};

/// The longest text to search for, in bytes.
pub const MAX_NEEDLE_BYTES: usize = 1 << 10;

/// Largest number of hits of one call.
pub const MAX_HITS: usize = 1000;

/// Size in bytes of the parts in which a longer line is searched, and of the longest line in a hit.
const MAX_LINE_BYTES: usize = 4 << 10;

/// Bytes that one call reads at most: a fraction of a second's work, so that no search blocks a thread for long.
const MAX_SCAN_BYTES: u64 = 32 << 20;

/// Largest number of blanks that one cursor movement counts as.
const MAX_BLANKS: u16 = 16;

/// A line that contains the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Absolute offset of the first match in the line.
    pub offset: u64,
    /// The line, at most 4 KiB of it. Control characters and bytes that are not UTF-8 are replaced by U+FFFD.
    pub line: String,
}

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The matching lines, oldest first.
    pub hits: Vec<Hit>,
    /// Offset at which to continue the search; `None` at the end of the log.
    pub next: Option<u64>,
}

impl Reader {
    /// Searches for `text`, case-sensitively, from the offset `from` on. Returns at most `max_hits` or [`MAX_HITS`] hits from
    /// at most 32 MiB of output; continue at [`Found::next`]. `from` should be 0 or such an offset: others may be inside a
    /// sequence.
    pub fn search(&self, text: &str, from: u64, max_hits: usize) -> Result<Found, Error> {
        if text.is_empty() || text.len() > MAX_NEEDLE_BYTES {
            return Err(Error::Needle { n_bytes: text.len() });
        }
        let max_hits = max_hits.clamp(1, MAX_HITS);
        let mut search = Search {
            needle: text.as_bytes(),
            line: Line::default(),
            place: Place::default(),
            drawn: HashSet::new(),
            hits: Vec::new(),
        };
        let mut plain = Plain::default();
        let mut epoch = None;
        let (mut at, mut n_scanned) = (from, 0);
        // Start of the current line.
        let mut resume = from;
        loop {
            let page = self.range(at, MAX_PAGE_BYTES)?;
            if page.bytes.is_empty() {
                search.end_line();
                return Ok(Found { hits: search.hits, next: None });
            }
            if page.gap_before > 0 || page.epoch != epoch {
                search.end_line();
                (plain, epoch, resume) = (Plain::default(), page.epoch, page.start);
                search.place = Place::default();
                search.drawn.clear();
            }
            for (offset, byte) in (page.start..).zip(&page.bytes) {
                match plain.next(*byte) {
                    Seen::Text => {
                        search.line.push(*byte, offset);
                        search.place.text(*byte);
                    }
                    Seen::Tab => {
                        search.line.push(b' ', offset);
                        search.place.tab();
                    }
                    Seen::Skip(n) => {
                        search.blanks(n, offset);
                        search.place.skip(n);
                    }
                    Seen::Break => {
                        search.end_line();
                        search.place.end_line(*byte);
                        resume = offset + 1;
                    }
                    Seen::Jump(jump) => {
                        let mut place = search.place;
                        if let Some(n) = place.jump(jump) {
                            search.blanks(n, offset);
                        } else {
                            search.end_line();
                            resume = offset + 1;
                        }
                        search.place = place;
                    }
                    Seen::Control
                    | Seen::Region(_)
                    | Seen::Alternate
                    | Seen::Rows
                    | Seen::Repeat(_) => {}
                }
                if search.line.bytes.len() >= MAX_LINE_BYTES {
                    resume = search.cut_line().unwrap_or(offset + 1);
                }
                if search.hits.len() >= max_hits {
                    return Ok(Found { hits: search.hits, next: Some(resume.max(from + 1)) });
                }
            }
            n_scanned += page.bytes.len() as u64;
            at = page.end;
            if n_scanned >= MAX_SCAN_BYTES {
                // An endless sequence must not stop the progress of the search.
                let is_near = resume > from && at - resume <= MAX_PAGE_BYTES as u64;
                let next = if is_near { resume } else { at };
                return Ok(Found { hits: search.hits, next: Some(next) });
            }
        }
    }
}

struct Search<'n> {
    needle: &'n [u8],
    line: Line,
    place: Place,
    /// The lines of the hits, with their places.
    drawn: HashSet<(Place, String)>,
    hits: Vec<Hit>,
}

impl Search<'_> {
    /// The cursor moved to the right.
    fn blanks(&mut self, n: u16, offset: u64) {
        for _ in 0..n.min(MAX_BLANKS) {
            self.line.push(b' ', offset);
        }
    }

    fn end_line(&mut self) {
        self.match_line();
        self.line.bytes.clear();
        self.line.runs.clear();
    }

    /// Searches the current part of a long line and keeps its end, which may contain the beginning of a match. Returns the
    /// offset of the kept part.
    fn cut_line(&mut self) -> Option<u64> {
        self.match_line();
        let kept = self.line.bytes.len() - (self.needle.len() - 1);
        let kept: Vec<(u8, u64)> = (kept..self.line.bytes.len())
            .map(|at| (self.line.bytes[at], self.line.offset(at)))
            .collect();
        self.line.bytes.clear();
        self.line.runs.clear();
        for (byte, offset) in &kept {
            self.line.push(*byte, *offset);
        }
        kept.first().map(|(_, offset)| *offset)
    }

    fn match_line(&mut self) {
        let line = &self.line.bytes;
        if let Some(at) = line.windows(self.needle.len()).position(|part| part == self.needle) {
            let text = String::from_utf8_lossy(line);
            let text = text.replace(char::is_control, "\u{fffd}");
            let line = text.trim_end().to_owned();
            if self.drawn.insert((self.place.line(), line.clone())) {
                self.hits.push(Hit { offset: self.line.offset(at), line });
            }
        }
    }
}

/// The text of a line, with the offsets of its bytes in the log.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    /// Positions in `bytes` at which offsets are not consecutive, with the offset there.
    runs: Vec<(usize, u64)>,
}

impl Line {
    fn push(&mut self, byte: u8, offset: u64) {
        let expected = self.runs.last().map(|(at, first)| first + (self.bytes.len() - at) as u64);
        if expected != Some(offset) {
            self.runs.push((self.bytes.len(), offset));
        }
        self.bytes.push(byte);
    }

    fn offset(&self, at: usize) -> u64 {
        let run = self.runs.partition_point(|(first, _)| *first <= at);
        let (first, offset) = self.runs[run.saturating_sub(1)];
        offset + (at - first) as u64
    }
}
