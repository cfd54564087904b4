//! The scrollback of a log: its last lines as drawn, to be shown in a new terminal.

use std::num::NonZeroU16;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::render::row_ansi;
use crate::replay::boundary;
use crate::screen::{MAX_COLS, MAX_ROWS};
use crate::walk::{Event, Walk};
use crate::{Error, Reader};

/// Size of the terminal if the log has none: columns, rows.
const DEFAULT_SIZE: (u16, u16) = (80, 24);

/// The last lines, at most `max_lines`, that the last `max_bytes` of a log drew, as text with colours. As in a terminal's
/// scrollback, output on the alternate screen is not included.
pub fn scrollback(reader: &Reader, max_bytes: u64, max_lines: usize) -> Result<Vec<u8>, Error> {
    let (start, end) = reader.bounds()?;
    let from = boundary(reader, start, end.saturating_sub(max_bytes).max(start))?;
    let mut walk = Walk::new(reader, from, end)?;
    let (state, _) = walk.first();
    let (cols, rows) = state.size.map_or(DEFAULT_SIZE, |size| (size.cols, size.rows));
    let (rows, cols) = clamp(cols, rows);
    let mut parser = vt100::Parser::new(rows, cols, max_lines);
    while let Some((_, event)) = walk.step()? {
        let drawn = match event {
            Event::Bytes { bytes, .. } => guard(&mut parser, |parser| parser.process(&bytes)),
            Event::Resize(size) => {
                let (rows, cols) = clamp(size.cols, size.rows);
                guard(&mut parser, |parser| parser.screen_mut().set_size(rows, cols))
            }
            // The next epoch begins below the previous one.
            Event::Epoch(_) => guard(&mut parser, |parser| parser.process(LEAVE)),
            Event::Gap(_) => guard(&mut parser, |parser| parser.process(b"\x18")),
            Event::Exit(_) => true,
        };
        if !drawn {
            // The terminal model failed. Earlier lines are lost; later output is drawn.
            let (rows, cols) = parser.screen().size();
            parser = vt100::Parser::new(rows, cols, max_lines);
        }
    }
    guard(&mut parser, |parser| parser.process(LEAVE));
    let mut lines = lines(&mut parser);
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    let skipped = lines.len().saturating_sub(max_lines);
    Ok(lines.iter().skip(skipped).flat_map(|line| format!("{line}\r\n").into_bytes()).collect())
}

/// Leaves the alternate screen, resets colours, and begins a line.
const LEAVE: &[u8] = b"\x18\x1b[?1049l\x1b[0m\r\n";

fn clamp(cols: u16, rows: u16) -> (NonZeroU16, NonZeroU16) {
    let within = |n: u16, most: u16| NonZeroU16::new(n.clamp(2, most)).expect("at least two");
    (within(rows, MAX_ROWS), within(cols, MAX_COLS))
}

/// Runs `draw`; false if the model panicked.
fn guard(parser: &mut vt100::Parser, draw: impl FnOnce(&mut vt100::Parser)) -> bool {
    catch_unwind(AssertUnwindSafe(|| draw(parser))).is_ok()
}

/// All lines that the model holds, oldest first.
fn lines(parser: &mut vt100::Parser) -> Vec<String> {
    let (rows, cols) = parser.screen().size();
    let n_above = parser.screen().scrollback_len();
    let mut lines = Vec::with_capacity(n_above + usize::from(rows.get()));
    for above in (1..=n_above).rev() {
        parser.screen_mut().set_scrollback(above);
        lines.push(row_ansi(parser.screen(), 0, cols.get()));
    }
    parser.screen_mut().set_scrollback(0);
    lines.extend((0..rows.get()).map(|row| row_ansi(parser.screen(), row, cols.get())));
    lines
}

#[cfg(test)]
mod tests {
    use crate::{Limits, Log};

    use super::*;

    #[test]
    fn lines_come_back_without_full_screens() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(&dir.path().join("log"), Limits::default()).unwrap();
        log.begin_epoch(1, 0).unwrap();
        log.resize(1, 0, 20, 4).unwrap();
        let line = |text: String, n: u32| text + "line " + &n.to_string() + "\r\n";
        let mut text = (0..10).fold(String::new(), line);
        text += "\x1b[31mred\x1b[0m\x1b[?1049h\x1b[2Jfull screen\x1b[?1049l\r\nafter";
        log.append(1, 0, 0, text.as_bytes()).unwrap();
        log.begin_epoch(2, 9).unwrap();
        log.append(2, 0, 9, b"again").unwrap();
        let shown = scrollback(&log.reader(), 1 << 20, 100).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.contains("31mred"), "{shown:?}");
        let plain = shown.replace("\x1b[0;31m", "").replace("\x1b[0m", "").replace("\x1b[m", "");
        let lines: Vec<&str> = plain.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 13, "{shown:?}");
        assert_eq!(&lines[9..], ["line 9", "red", "after", "again"]);
        let few = scrollback(&log.reader(), 1 << 20, 3).unwrap();
        assert_eq!(String::from_utf8(few).unwrap().lines().count(), 3);
    }
}
