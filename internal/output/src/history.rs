//! The history for a new viewer: the lines above the screen and the screen, as bytes for any terminal; and the offset at
//! which the log continues without a gap or a repeated byte.

use std::collections::VecDeque;

use crate::cast::unfinished;
use crate::replay::boundary;
use crate::walk::{Event, Walk};
use crate::{Error, Exit, RESET, Reader, Screen, Size};

/// Largest size of a history, in bytes. If necessary, the oldest lines are left out; a screen alone is smaller.
pub const MAX_HISTORY_BYTES: usize = 2 << 20;

/// The state of a terminal at one offset of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Resets a terminal, then draws the lines and the screen. Does not end inside a character.
    pub bytes: Vec<u8>,
    /// Offset of the next byte to send.
    pub end: u64,
    /// Epoch whose output the screen shows.
    pub epoch: Option<u64>,
    /// Size of the terminal.
    pub size: Size,
    /// How the command of that epoch ended; absent while it runs.
    pub exit: Option<Exit>,
}

/// A screen that can be drawn on further.
#[derive(Debug)]
pub struct Redrawn {
    /// The screen at offset `end`.
    pub screen: Screen,
    /// Offset of the next byte to draw.
    pub end: u64,
    /// Epoch whose output the screen shows.
    pub epoch: Option<u64>,
}

/// Draws the last `max_bytes` of a log on a new screen. `usual` is its size if the log has none.
pub fn redraw(reader: &Reader, usual: Size, max_bytes: u64) -> Result<Redrawn, Error> {
    let Drawing { screen, end, epoch, .. } = Drawing::new(reader, usual, max_bytes, 0)?;
    Ok(Redrawn { screen, end, epoch })
}

/// Draws the last `max_bytes` of a log: the screen, and at most `max_lines` lines above it, which include output of earlier
/// epochs. `usual` is the size if the log has none.
pub fn history(
    reader: &Reader,
    usual: Size,
    max_bytes: u64,
    max_lines: usize,
) -> Result<History, Error> {
    let drawing = Drawing::new(reader, usual, max_bytes, max_lines)?;
    let Drawing { past, screen, last, mut end, epoch, exit } = drawing;
    let mut bytes = draw(past, &screen, max_lines);
    // An incomplete character is sent later with its rest, unless the command has ended.
    let n_unfinished = if exit.is_none() { unfinished(&last) } else { 0 };
    let rest = &last[last.len() - n_unfinished..];
    if n_unfinished > 0 && bytes.ends_with(rest) {
        bytes.truncate(bytes.len() - n_unfinished);
        end -= n_unfinished as u64;
    }
    Ok(History { bytes, end, epoch, size: screen.size(), exit })
}

struct Drawing {
    /// Lines drawn by earlier epochs.
    past: VecDeque<String>,
    screen: Screen,
    /// The last bytes, at most one character.
    last: Vec<u8>,
    end: u64,
    epoch: Option<u64>,
    exit: Option<Exit>,
}

impl Drawing {
    fn new(reader: &Reader, usual: Size, max_bytes: u64, max_lines: usize) -> Result<Self, Error> {
        let (start, end) = reader.bounds()?;
        let from = boundary(reader, start, end.saturating_sub(max_bytes).max(start))?;
        let mut walk = Walk::new(reader, from, end)?;
        let (state, _) = walk.first();
        let size = state.size.unwrap_or(usual);
        let mut drawing = Self {
            past: VecDeque::new(),
            screen: Screen::with_above(size.cols, size.rows, max_lines),
            last: Vec::new(),
            end: from,
            epoch: state.epoch,
            exit: state.exit,
        };
        while let Some((_, event)) = walk.step()? {
            drawing.take(event, max_lines);
        }
        Ok(drawing)
    }

    fn take(&mut self, event: Event, max_lines: usize) {
        match event {
            Event::Bytes { offset, bytes } => {
                self.end = offset + bytes.len() as u64;
                self.last.extend_from_slice(&bytes[bytes.len().saturating_sub(MAX_CHARACTER)..]);
                self.last.drain(..self.last.len().saturating_sub(MAX_CHARACTER));
                self.screen.feed(&bytes);
            }
            Event::Resize(size) => self.screen.resize(size.cols, size.rows),
            Event::Epoch(next) => {
                keep(&mut self.past, &self.screen, max_lines);
                let size = self.screen.size();
                self.screen = Screen::with_above(size.cols, size.rows, max_lines);
                (self.epoch, self.exit) = (Some(next), None);
                self.last.clear();
            }
            Event::Gap(n_bytes) => {
                self.end += n_bytes;
                self.screen.skip();
                self.last.clear();
            }
            Event::Exit(how) => self.exit = Some(how),
        }
    }
}

/// The longest character in bytes.
const MAX_CHARACTER: usize = 4;

/// Number of bytes at the end of `bytes` that begin an incomplete character.
pub fn unfinished_character(bytes: &[u8]) -> usize {
    unfinished(bytes)
}

/// Appends everything that an epoch drew to the lines above.
fn keep(past: &mut VecDeque<String>, screen: &Screen, max_lines: usize) {
    past.extend(screen.above_ansi());
    let mut rows = screen.main_rows_ansi();
    while rows.last().is_some_and(String::is_empty) {
        rows.pop();
    }
    past.extend(rows);
    past.drain(..past.len().saturating_sub(max_lines));
}

fn draw(mut past: VecDeque<String>, screen: &Screen, max_lines: usize) -> Vec<u8> {
    past.extend(screen.above_ansi());
    past.drain(..past.len().saturating_sub(max_lines));
    let snapshot = screen.snapshot();
    let rows = usize::from(screen.size().rows);
    let fixed = RESET.len() + snapshot.len() + 2 * rows;
    let mut room = MAX_HISTORY_BYTES.saturating_sub(fixed);
    let mut n_kept = 0;
    for line in past.iter().rev() {
        let Some(left) = room.checked_sub(line.len() + LINE_END.len()) else {
            break;
        };
        (room, n_kept) = (left, n_kept + 1);
    }
    let mut bytes = RESET.to_vec();
    for line in past.iter().skip(past.len() - n_kept) {
        bytes.extend_from_slice(line.as_bytes());
        bytes.extend_from_slice(LINE_END);
    }
    if n_kept > 0 {
        // Scroll the lines off the screen, which is cleared before it is drawn.
        bytes.extend(LINE_END.repeat(rows - 1));
    }
    bytes.extend(snapshot);
    bytes
}

const LINE_END: &[u8] = b"\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Log};

    fn log() -> (tempfile::TempDir, Log) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(&dir.path().join("log"), Limits::default()).unwrap();
        log.begin_epoch(1, 0).unwrap();
        log.resize(1, 0, 20, 4).unwrap();
        (dir, log)
    }

    fn past(log: &Log, max_bytes: u64) -> History {
        history(&log.reader(), Size { cols: 80, rows: 24 }, max_bytes, 100).unwrap()
    }

    /// What a terminal of the history's size shows, with what is above.
    fn shown(history: &History, later: &[u8]) -> Vec<String> {
        let mut screen = Screen::with_above(history.size.cols, history.size.rows, 100);
        screen.feed(b"left over");
        screen.feed(&history.bytes);
        screen.feed(later);
        [screen.above_ansi(), screen.rows_ansi()].concat()
    }

    #[test]
    fn lines_above_and_screen_are_each_there_once() {
        let (_dir, mut log) = log();
        let lines: Vec<String> = (0..10).map(|n| format!("line {n}\r\n")).collect();
        let text = lines.concat();
        log.append(1, 0, 0, text.as_bytes()).unwrap();
        let history = past(&log, 1 << 20);
        let mut expected: Vec<String> = (0..10).map(|n| format!("line {n}")).collect();
        expected.push(String::new());
        assert_eq!(shown(&history, b""), expected);
        assert_eq!((history.end, history.epoch), (text.len() as u64, Some(1)));
        assert_eq!(history.size, Size { cols: 20, rows: 4 });
    }

    #[test]
    fn a_character_and_a_sequence_that_are_cut_go_on() {
        let (_dir, mut log) = log();
        log.append(1, 0, 0, b"a\x1b[3").unwrap();
        let history = past(&log, 1 << 20);
        assert_eq!(history.end, 4);
        assert_eq!(shown(&history, b"1mred")[0], "a\x1b[0;31mred\x1b[0m");
        log.append(1, 4, 0, b"1m\xe2\x82").unwrap();
        let history = past(&log, 1 << 20);
        assert_eq!(history.end, 6, "the incomplete character is not sent yet");
        assert!(std::str::from_utf8(&history.bytes).is_ok());
        assert_eq!(shown(&history, "€".as_bytes())[0], "a\x1b[0;31m€\x1b[0m");
    }

    #[test]
    fn former_runs_are_above_and_full_screens_are_not() {
        let (_dir, mut log) = log();
        log.append(1, 0, 0, b"first\x1b[?1049h\x1b[Hfull").unwrap();
        log.begin_epoch(2, 1).unwrap();
        log.append(2, 0, 1, b"second\r\n\x1b[?1049h\x1b[2;1Hmenu").unwrap();
        log.exit(2, 2, Exit::Code(3)).unwrap();
        let history = past(&log, 1 << 20);
        assert_eq!((history.epoch, history.exit), (Some(2), Some(Exit::Code(3))));
        let mut screen = Screen::with_above(20, 4, 100);
        screen.feed(&history.bytes);
        assert!(screen.is_alternate());
        assert_eq!(screen.rows_text()[1], "menu");
        screen.feed(b"\x1b[?1049l");
        assert_eq!(screen.above_ansi(), ["first"]);
        assert_eq!(screen.rows_text()[0], "second");
    }

    #[test]
    fn a_history_has_a_largest_size_and_an_empty_one() {
        let (_dir, mut log) = log();
        let empty = past(&log, 1 << 20);
        assert_eq!((empty.end, shown(&empty, b"")), (0, vec![String::new(); 4]));
        log.resize(1, 0, 500, 10).unwrap();
        // Each cell with a colour of its own.
        let cell = |n: usize| format!("\x1b[38;2;{};{};{}m#", n % 256, (n / 256) % 256, n % 7);
        let text: String = (0..400_000).map(cell).collect();
        log.append(1, 0, 0, text.as_bytes()).unwrap();
        let full = history(&log.reader(), Size { cols: 80, rows: 24 }, 16 << 20, 2_000).unwrap();
        assert!(full.bytes.len() <= MAX_HISTORY_BYTES, "{}", full.bytes.len());
        assert!(full.bytes.len() > MAX_HISTORY_BYTES / 2, "{}", full.bytes.len());
    }
}
