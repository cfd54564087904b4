//! Searching the text of a log, as it was printed: without escape sequences, line by line.
//!
//! A line ends at a line break, at a carriage return (what follows overwrites it) and where the cursor is put elsewhere.
//! Cursor movements to the right count as blanks, since programs print words with them.

use crate::plain::{Plain, Seen};
use crate::{Error, MAX_PAGE_BYTES, Reader};

/// The longest text to search for, in bytes.
pub const MAX_NEEDLE_BYTES: usize = 1 << 10;

/// The most hits of one call.
pub const MAX_HITS: usize = 1000;

/// A longer line is searched in parts of this size, which is also the most that a hit shows.
const MAX_LINE_BYTES: usize = 4 << 10;

/// What one call reads: a fraction of a second's work, so that nobody's search holds a thread for long.
const MAX_SCAN_BYTES: u64 = 32 << 20;

/// More blanks than this from one sequence say no more.
const MAX_BLANKS: u16 = 16;

/// A line with the text in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The absolute offset of the text's first byte. A line is told once, with the first place in it.
    pub offset: u64,
    /// The line, at most 4 KiB of it; control characters and bytes that are no UTF-8 are U+FFFD.
    pub line: String,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Oldest first.
    pub hits: Vec<Hit>,
    /// Where to search on; `None` when the end was reached.
    pub next: Option<u64>,
}

impl Reader {
    /// Searches for `text`, exactly so, from the offset `from` on: at most `max_hits` or [`MAX_HITS`] hits, in at most
    /// 32 MiB of output; [`Found::next`] goes on. `from` should be 0 or such a `next`; elsewhere it may be in the middle
    /// of a sequence.
    pub fn search(&self, text: &str, from: u64, max_hits: usize) -> Result<Found, Error> {
        if text.is_empty() || text.len() > MAX_NEEDLE_BYTES {
            return Err(Error::Needle { n_bytes: text.len() });
        }
        let max_hits = max_hits.clamp(1, MAX_HITS);
        let mut search =
            Search { needle: text.as_bytes(), line: Line::default(), hits: Vec::new() };
        let mut plain = Plain::default();
        let mut epoch = None;
        let (mut at, mut n_scanned) = (from, 0);
        // Where the line at hand began.
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
            }
            for (offset, byte) in (page.start..).zip(&page.bytes) {
                match plain.next(*byte) {
                    Seen::Text => search.line.push(*byte, offset),
                    Seen::Tab => search.line.push(b' ', offset),
                    Seen::Skip(n) => {
                        for _ in 0..n.min(MAX_BLANKS) {
                            search.line.push(b' ', offset);
                        }
                    }
                    Seen::Break => {
                        search.end_line();
                        resume = offset + 1;
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
                // A sequence without an end must not hold the search for ever.
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
    hits: Vec<Hit>,
}

impl Search<'_> {
    fn end_line(&mut self) {
        self.look();
        self.line.bytes.clear();
        self.line.runs.clear();
    }

    /// Keeps what may be the beginning of the text; the offset of that.
    fn cut_line(&mut self) -> Option<u64> {
        self.look();
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

    fn look(&mut self) {
        let line = &self.line.bytes;
        if let Some(at) = line.windows(self.needle.len()).position(|part| part == self.needle) {
            let text = String::from_utf8_lossy(line);
            let text = text.replace(char::is_control, "\u{fffd}");
            self.hits.push(Hit { offset: self.line.offset(at), line: text.trim_end().to_owned() });
        }
    }
}

/// The text of a line, and where its bytes are in the log.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    /// Places at which offsets do not go on one by one.
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
