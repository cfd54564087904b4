//! A viewer's position in a worker's log, and what is sent next: the bytes that follow, or a redrawn screen. Blocks on the
//! disk; keeps no file open between calls.

use shed_output::{History, Reader, Size, history, unfinished_character};

use crate::Error;

/// A viewer that is further behind, in bytes, gets a redrawn screen instead of the output it missed.
pub(crate) const MAX_BEHIND: u64 = 1 << 20;
/// The most bytes of output in one message.
pub(crate) const MAX_OUTPUT_BYTES: usize = 64 << 10;
/// How many bytes of history a new viewer gets: what a person scrolls through.
pub(crate) const HISTORY_BYTES: u64 = 1 << 20;
/// The most lines of history.
pub(crate) const HISTORY_LINES: usize = 1_000;
/// How many bytes are drawn for a viewer that fell behind: drawing must be faster than the output.
pub(crate) const REFRESH_BYTES: u64 = 256 << 10;
/// The size of a terminal without any in the log.
pub(crate) const USUAL: Size = Size { cols: 80, rows: 24 };

/// A position in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The first byte that was not sent.
    pub(crate) offset: u64,
    /// The epoch of that byte.
    pub(crate) epoch: u64,
}

/// The result of reading on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Following {
    /// The position is no longer in the log, belongs to an earlier epoch, or is too far behind.
    Lost,
    /// What follows.
    Next(Next),
}

/// The output after a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Next {
    /// The bytes as text.
    pub(crate) text: String,
    /// The position after them.
    pub(crate) cursor: Cursor,
    /// The terminal's size at the log's end.
    pub(crate) size: Size,
    /// Whether more output follows.
    pub(crate) more: bool,
    /// The time of the last write in milliseconds since 1970.
    pub(crate) at_ms: u64,
}

/// Reads on from a position. With `is_over` no output follows, so an incomplete character at the end is sent as it is.
pub(crate) fn follow(reader: &Reader, cursor: Cursor, is_over: bool) -> Result<Following, Error> {
    let status = reader.status()?;
    let is_here = (status.start..=status.end).contains(&cursor.offset);
    if status.epoch.unwrap_or(0) != cursor.epoch
        || !is_here
        || cursor.offset < status.base
        || status.end - cursor.offset > MAX_BEHIND
    {
        return Ok(Following::Lost);
    }
    let page = reader.range(cursor.offset, MAX_OUTPUT_BYTES)?;
    let is_same = page.bytes.is_empty() || page.epoch.unwrap_or(0) == cursor.epoch;
    if page.gap_before > 0 || !is_same {
        return Ok(Following::Lost);
    }
    let is_all = page.end >= status.end;
    let (text, n_bytes) = text(&page.bytes, is_over && is_all);
    let cursor = Cursor { offset: cursor.offset + n_bytes as u64, ..cursor };
    let size = status.size.unwrap_or(USUAL);
    Ok(Following::Next(Next { text, cursor, size, more: !is_all, at_ms: status.at_ms }))
}

/// Draws the screen and its history, less of it with `refresh`: for a viewer that fell behind.
pub(crate) fn draw(reader: Option<&Reader>, refresh: bool) -> Result<History, Error> {
    let n_bytes = if refresh { REFRESH_BYTES } else { HISTORY_BYTES };
    if let Some(reader) = reader {
        return Ok(history(reader, USUAL, n_bytes, HISTORY_LINES)?);
    }
    // There is no output yet.
    let bytes = shed_output::RESET.to_vec();
    Ok(History { bytes, end: 0, epoch: None, size: USUAL, exit: None })
}

/// The bytes as text, without an incomplete character at their end unless they are the `last`, and the number of bytes used.
/// Invalid UTF-8 is replaced.
fn text(bytes: &[u8], last: bool) -> (String, usize) {
    let n_held = if last { 0 } else { unfinished_character(bytes) };
    let told = &bytes[..bytes.len() - n_held];
    (String::from_utf8_lossy(told).into_owned(), told.len())
}

#[cfg(test)]
mod tests {
    use shed_output::{Limits, Log};

    use super::*;

    fn log() -> (tempfile::TempDir, Log) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(&dir.path().join("log"), Limits::default()).unwrap();
        log.begin_epoch(1, 0).unwrap();
        (dir, log)
    }

    fn next(log: &Log, cursor: Cursor, is_over: bool) -> Next {
        match follow(&log.reader(), cursor, is_over).unwrap() {
            Following::Next(next) => next,
            Following::Lost => panic!("lost"),
        }
    }

    const START: Cursor = Cursor { offset: 0, epoch: 1 };

    #[test]
    fn half_a_character_waits_for_the_rest_or_the_end() {
        let (_dir, mut log) = log();
        log.append(1, 0, 0, b"a\xe2\x82").unwrap();
        let first = next(&log, START, false);
        assert_eq!((first.text.as_str(), first.cursor.offset, first.more), ("a", 1, false));
        assert_eq!(next(&log, first.cursor, false).text, "");
        assert_eq!(next(&log, first.cursor, true).text, "\u{fffd}");
        log.append(1, 3, 0, b"\xac\xff").unwrap();
        let second = next(&log, first.cursor, false);
        assert_eq!((second.text.as_str(), second.cursor.offset), ("€\u{fffd}", 5));
    }

    #[test]
    fn a_place_is_lost_when_it_is_far_behind_or_of_another_start() {
        let (_dir, mut log) = log();
        let many = vec![b'x'; usize::try_from(MAX_BEHIND).unwrap()];
        log.append(1, 0, 0, &many).unwrap();
        let page = next(&log, START, false);
        assert_eq!((page.text.len(), page.more), (MAX_OUTPUT_BYTES, true));
        let lost = |log: &Log, offset, epoch| {
            follow(&log.reader(), Cursor { offset, epoch }, false).unwrap() == Following::Lost
        };
        assert!(lost(&log, MAX_BEHIND + 1, 1) && lost(&log, MAX_BEHIND, 2));
        log.append(1, MAX_BEHIND, 0, b"y").unwrap();
        assert!(lost(&log, 0, 1) && !lost(&log, 1, 1));
        log.begin_epoch(2, 0).unwrap();
        assert!(lost(&log, MAX_BEHIND + 1, 1) && !lost(&log, MAX_BEHIND + 1, 2));
        // The bytes of the earlier epoch are not part of the new one.
        assert!(lost(&log, MAX_BEHIND, 2));
    }

    #[test]
    fn a_hole_is_not_skipped_in_silence() {
        let (_dir, mut log) = log();
        log.append(1, 0, 0, b"abc").unwrap();
        log.append(1, 10, 0, b"def").unwrap();
        let first = next(&log, START, false);
        assert_eq!((first.text.as_str(), first.more), ("abc", true));
        assert_eq!(follow(&log.reader(), first.cursor, false).unwrap(), Following::Lost);
        let all = draw(Some(&log.reader()), false).unwrap();
        assert_eq!(all.end, 13);
    }
}
