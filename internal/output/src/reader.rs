//! The reading side: any number of [`Reader`]s, on any thread, while one writer appends, compresses and removes.
//!
//! A reader holds no lock and no open file. It lists the directory, and lists it again when a chunk was compressed or removed
//! meanwhile. A chunk, or the rest of one, that cannot be read counts as missing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::read::GzDecoder;

use crate::Error;
use crate::files::{self, Name, Parts};
use crate::marks::{Exit, Marks, Size, State, What};
use crate::recover::read_marks;

/// Largest size of a page, in bytes.
pub const MAX_PAGE_BYTES: usize = 256 << 10;

/// How often a reader lists the directory when files change meanwhile. A chunk has fewer forms than this.
const MAX_LISTINGS: usize = 8;

/// How far back [`Reader::tail_lines`] searches for lines, in bytes.
const MAX_TAIL_SCAN: u64 = 8 << 20;

/// Consecutive output of one epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Absolute offset of the first byte.
    pub start: u64,
    /// Offset after the last byte, at which to continue. Equal to `start` at the end of the output.
    pub end: u64,
    /// Output from `start` to `end`.
    pub bytes: Vec<u8>,
    /// Number of missing bytes between the requested offset and `start`.
    pub gap_before: u64,
    /// Epoch of the bytes; `None` if the marks are lost.
    pub epoch: Option<u64>,
}

/// A summary of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Offset of the first stored byte.
    pub start: u64,
    /// Offset of the next byte.
    pub end: u64,
    /// The last epoch; absent if none was begun.
    pub epoch: Option<u64>,
    /// Absolute offset at which the last epoch began.
    pub base: u64,
    /// Size of the terminal; absent if none was recorded.
    pub size: Option<Size>,
    /// How the command of the last epoch ended; absent while it runs.
    pub exit: Option<Exit>,
    /// Time of the last write, in milliseconds since 1970, accurate to 50 ms.
    pub at_ms: u64,
    /// Bytes of output that are stored uncompressed.
    pub raw_bytes: u64,
    /// Bytes on disk of the compressed output.
    pub gz_bytes: u64,
}

/// Reads a log. Cheap to create; caches one decompressed chunk.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    view: Option<Arc<View>>,
    whole: Option<Arc<Whole>>,
}

/// The chunks of one listing, oldest first.
#[derive(Debug)]
struct View {
    chunks: Vec<Chunk>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chunk {
    start: u64,
    end: u64,
    gz: bool,
}

/// A compressed chunk's bytes and marks.
#[derive(Debug)]
struct Whole {
    start: u64,
    bytes: Vec<u8>,
    marks: Arc<Marks>,
}

/// Bytes of one chunk, and its marks.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) start: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) gap_before: u64,
    pub(crate) marks: Arc<Marks>,
}

impl Piece {
    pub(crate) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl View {
    fn start(&self) -> u64 {
        self.chunks.first().map_or(0, |chunk| chunk.start)
    }

    fn end(&self) -> u64 {
        self.chunks.last().map_or(0, |chunk| chunk.end)
    }

    /// Whether `offset` is in a chunk of this listing that will not grow.
    fn is_settled(&self, offset: u64) -> bool {
        self.chunks.last().is_some_and(|chunk| offset < chunk.start) && offset >= self.start()
    }
}

impl Reader {
    /// A reader of the log in `dir`.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let reader = Self::new(dir);
        reader.list_chunks()?;
        Ok(reader)
    }

    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), cache: Mutex::default() }
    }

    /// The output from `from` on: at most `max_bytes` or [`MAX_PAGE_BYTES`], of one epoch, without a hole.
    ///
    /// Missing bytes at `from` are skipped and counted in [`Page::gap_before`]. An offset beyond the end is treated as the
    /// end.
    pub fn range(&self, from: u64, max_bytes: usize) -> Result<Page, Error> {
        let max_bytes = max_bytes.clamp(1, MAX_PAGE_BYTES);
        let piece = self.piece(from, max_bytes)?;
        let epoch = piece.marks.at(piece.start).and_then(|(state, _)| state.epoch);
        let mut page = Page {
            start: piece.start,
            end: piece.start,
            gap_before: piece.gap_before,
            epoch,
            bytes: Vec::new(),
        };
        let mut next = Some(piece);
        while let Some(piece) = next {
            let same = piece.marks.at(piece.start).is_none_or(|(state, _)| state.epoch == epoch);
            if piece.start != page.end || !same {
                break;
            }
            let border = epoch_after(&piece.marks, piece.start).unwrap_or(u64::MAX);
            let until = piece.end().min(border);
            let n_bytes = usize::try_from(until - piece.start).unwrap_or(usize::MAX);
            page.bytes.extend_from_slice(&piece.bytes[..n_bytes]);
            page.end = until;
            let room = max_bytes - page.bytes.len();
            let more = until == piece.end() && n_bytes > 0 && room > 0;
            next = if more { Some(self.piece(page.end, room)?) } else { None };
        }
        Ok(page)
    }

    /// The last output, together at most `max_bytes` or [`MAX_PAGE_BYTES`]: a page for each part without a hole or a new
    /// epoch, oldest first.
    pub fn tail(&self, max_bytes: usize) -> Result<Vec<Page>, Error> {
        let max_bytes = max_bytes.clamp(1, MAX_PAGE_BYTES);
        let view = self.list_chunks()?;
        let mut at = view.end().saturating_sub(max_bytes as u64).max(view.start());
        let mut pages = Vec::new();
        let mut room = max_bytes;
        while room > 0 {
            let page = self.range(at, room)?;
            if page.bytes.is_empty() {
                break;
            }
            (at, room) = (page.end, room - page.bytes.len());
            pages.push(page);
        }
        Ok(pages)
    }

    /// The offset at which the last `n` lines begin, or as many as are in the last 8 MiB. An incomplete last line counts.
    pub fn tail_lines(&self, n: usize) -> Result<u64, Error> {
        let view = self.list_chunks()?;
        let (first, end) = (view.start(), view.end());
        let first = first.max(end.saturating_sub(MAX_TAIL_SCAN));
        if n == 0 {
            return Ok(end);
        }
        let mut n_ends = 0;
        let mut until = end;
        while until > first {
            let from = until.saturating_sub(MAX_PAGE_BYTES as u64).max(first);
            for (start, bytes) in self.pieces(from, until)?.iter().rev() {
                for (index, _) in bytes.iter().enumerate().rev().filter(|(_, it)| **it == b'\n') {
                    let after = start + index as u64 + 1;
                    // No line follows the end of the last line.
                    n_ends += usize::from(after != end);
                    if n_ends == n && after != end {
                        return Ok(after);
                    }
                }
            }
            until = from;
        }
        Ok(first)
    }

    /// A summary of the log, without reading its output.
    pub fn status(&self) -> Result<Status, Error> {
        let view = self.list_chunks()?;
        let mut known = None;
        for chunk in view.chunks.iter().rev() {
            known = read_marks(&self.dir, chunk.start, chunk.end)?.last();
            if known.is_some() {
                break;
            }
        }
        let (state, at_ms) = known.unwrap_or((State::default(), 0));
        let mut gz_bytes = 0;
        for chunk in view.chunks.iter().filter(|chunk| chunk.gz) {
            let path = Name::Gz { start: chunk.start, end: chunk.end }.path(&self.dir);
            gz_bytes += files::length(&path).or_else(|error| {
                // Removed since it was listed.
                if error.is_missing() { Ok(0) } else { Err(error) }
            })?;
        }
        let raw = view.chunks.iter().filter(|chunk| !chunk.gz);
        Ok(Status {
            start: view.start(),
            end: view.end(),
            epoch: state.epoch,
            base: state.base,
            size: state.size,
            exit: state.exit,
            at_ms,
            raw_bytes: raw.map(|chunk| chunk.end - chunk.start).sum(),
            gz_bytes,
        })
    }

    /// The offset of the first stored byte, and the end.
    pub(crate) fn bounds(&self) -> Result<(u64, u64), Error> {
        let view = self.list_chunks()?;
        Ok((view.start(), view.end()))
    }

    /// All stored bytes from `from` to `until`, with their offsets.
    fn pieces(&self, from: u64, until: u64) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        let mut found = Vec::new();
        let mut at = from;
        while at < until {
            let room = usize::try_from(until - at).unwrap_or(usize::MAX).min(MAX_PAGE_BYTES);
            let mut piece = self.piece(at, room)?;
            if piece.bytes.is_empty() || piece.start >= until {
                break;
            }
            let n_bytes = usize::try_from(until - piece.start).unwrap_or(usize::MAX);
            piece.bytes.truncate(n_bytes);
            at = piece.end();
            found.push((piece.start, piece.bytes));
        }
        Ok(found)
    }

    /// The first bytes at or after `from`, from one chunk. At the end of the log, an empty piece.
    pub(crate) fn piece(&self, from: u64, max_bytes: usize) -> Result<Piece, Error> {
        let mut last = None;
        for attempt in 0..MAX_LISTINGS {
            let known = self.cache().view.clone();
            let view = match known.filter(|view| attempt == 0 && view.is_settled(from)) {
                Some(view) => view,
                None => self.list_chunks()?,
            };
            match self.piece_of(&view, from, max_bytes) {
                Err(error) if error.is_missing() => last = Some(error),
                other => return other,
            }
        }
        Err(last.expect("at least one attempt"))
    }

    fn piece_of(&self, view: &View, from: u64, max_bytes: usize) -> Result<Piece, Error> {
        let from = from.min(view.end());
        let first = view.chunks.partition_point(|chunk| chunk.end <= from);
        for chunk in &view.chunks[first..] {
            let start = chunk.start.max(from);
            let (bytes, marks) = self.read(*chunk, start, max_bytes)?;
            if !bytes.is_empty() {
                return Ok(Piece { start, bytes, gap_before: start - from, marks });
            }
        }
        let end = view.end();
        let marks = match view.chunks.last() {
            Some(chunk) => read_marks(&self.dir, chunk.start, chunk.end)?,
            None => Marks::decode(0, 0, &[]),
        };
        let marks = Arc::new(marks);
        Ok(Piece { start: end, bytes: Vec::new(), gap_before: end - from, marks })
    }

    /// At most `max_bytes` of `chunk` from `start` on.
    fn read(
        &self,
        chunk: Chunk,
        start: u64,
        max_bytes: usize,
    ) -> Result<(Vec<u8>, Arc<Marks>), Error> {
        let skip = start - chunk.start;
        if chunk.gz {
            let whole = self.whole(chunk)?;
            let rest = usize::try_from(skip).ok().and_then(|skip| whole.bytes.get(skip..));
            let rest = rest.unwrap_or_default();
            let bytes = rest[..rest.len().min(max_bytes)].to_vec();
            return Ok((bytes, Arc::clone(&whole.marks)));
        }
        let path = Name::Raw { start: chunk.start }.path(&self.dir);
        let file = File::open(&path).map_err(|source| Error::io("open", &path, source))?;
        let n_bytes = usize::try_from(chunk.end - start).unwrap_or(usize::MAX).min(max_bytes);
        let mut bytes = vec![0; n_bytes];
        let read = file.read_exact_at(&mut bytes, skip);
        read.map_err(|source| Error::io("read", &path, source))?;
        Ok((bytes, Arc::new(read_marks(&self.dir, chunk.start, chunk.end)?)))
    }

    fn whole(&self, chunk: Chunk) -> Result<Arc<Whole>, Error> {
        let known = self.cache().whole.clone().filter(|whole| whole.start == chunk.start);
        if let Some(whole) = known {
            return Ok(whole);
        }
        let path = Name::Gz { start: chunk.start, end: chunk.end }.path(&self.dir);
        let file = File::open(&path).map_err(|source| Error::io("open", &path, source))?;
        let mut bytes = Vec::new();
        // Bytes before the damage of a damaged file are used.
        drop(GzDecoder::new(file).take(chunk.end - chunk.start).read_to_end(&mut bytes));
        let marks = Arc::new(read_marks(&self.dir, chunk.start, chunk.end)?);
        let whole = Arc::new(Whole { start: chunk.start, bytes, marks });
        self.cache().whole = Some(Arc::clone(&whole));
        Ok(whole)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists the chunks.
    ///
    /// Listing a directory is not atomic. A chunk that is compressed meanwhile may be missed in both forms; its marks exist
    /// throughout, so the directory is listed again for marks without bytes. A chunk's forms have a fixed order (begun,
    /// uncompressed, compressed, removed), so this ends soon. And of two chunks begun meanwhile only the second may be listed,
    /// which looks like a hole; another listing has both.
    fn list_chunks(&self) -> Result<Arc<View>, Error> {
        let mut listed = files::list(&self.dir)?;
        let newest = listed.keys().next_back().copied().unwrap_or(0);
        let mut ends: BTreeMap<u64, (u64, bool)> = BTreeMap::new();
        for attempt in 0..MAX_LISTINGS {
            for (start, parts) in &listed {
                if let Some(end) = self.end_of(*start, *parts)? {
                    ends.insert(*start, (end, !parts.raw));
                }
            }
            let is_clear = listed.keys().all(|start| ends.contains_key(start));
            if is_clear && (attempt > 0 || !has_hole(&ends)) {
                break;
            }
            listed = files::list(&self.dir)?;
            listed.retain(|start, _| *start <= newest && !ends.contains_key(start));
        }
        let mut chunks: Vec<Chunk> = Vec::new();
        for (start, (end, gz)) in ends {
            if let Some(before) = chunks.last_mut() {
                before.end = before.end.min(start);
            }
            chunks.push(Chunk { start, end, gz });
        }
        let view = Arc::new(View { chunks });
        self.cache().view = Some(Arc::clone(&view));
        Ok(view)
    }

    /// Current end of the chunk at `start`; `None` if it exists in neither form. If it exists in both, the uncompressed form
    /// is used, which is cheaper to read.
    fn end_of(&self, start: u64, parts: Parts) -> Result<Option<u64>, Error> {
        if !parts.raw {
            return Ok(parts.gz);
        }
        match files::length(&Name::Raw { start }.path(&self.dir)) {
            Ok(n_bytes) => Ok(Some(start + n_bytes)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Whether any chunk does not begin where the previous one ends.
fn has_hole(ends: &BTreeMap<u64, (u64, bool)>) -> bool {
    ends.values().zip(ends.keys().skip(1)).any(|((end, _), next)| end != next)
}

/// The offset at which the next epoch after `offset` begins.
fn epoch_after(marks: &Marks, offset: u64) -> Option<u64> {
    let mut later = marks.list.iter().filter(|mark| mark.offset > offset);
    later.find(|mark| matches!(mark.what, What::Epoch(_))).map(|mark| mark.offset)
}
