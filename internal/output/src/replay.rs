//! Redraws the last part of a log on a screen.

use crate::plain::{ESCAPE, Plain};
use crate::walk::{Event, Walk};
use crate::{Error, Reader, Screen};

/// How far before the wanted offset the search for a boundary begins, in bytes: longer than any sequence except images.
const LEAD_BYTES: u64 = 64 << 10;

/// Draws at most the last `max_bytes` of a log on a new screen.
///
/// `cols` and `rows` are its size if the log has none. The drawing begins outside sequences and characters, each epoch begins
/// with an empty screen, and recorded resizes are applied. Modes that were set before this part are not restored.
pub fn replay(reader: &Reader, cols: u16, rows: u16, max_bytes: u64) -> Result<Screen, Error> {
    let (start, end) = reader.bounds()?;
    let from = boundary(reader, start, end.saturating_sub(max_bytes).max(start))?;
    let mut walk = Walk::new(reader, from, end)?;
    let (state, _) = walk.first();
    let (cols, rows) = state.size.map_or((cols, rows), |size| (size.cols, size.rows));
    let mut screen = Screen::new(cols, rows);
    while let Some((_, event)) = walk.step()? {
        match event {
            Event::Bytes { bytes, .. } => screen.feed(&bytes),
            Event::Resize(size) => screen.resize(size.cols, size.rows),
            Event::Epoch(_) => {
                let size = screen.size();
                screen = Screen::new(size.cols, size.rows);
            }
            Event::Gap(_) => screen.skip(),
            Event::Exit(_) => {}
        }
    }
    Ok(screen)
}

/// The first offset from `wanted` on that is neither inside a sequence nor inside a character.
///
/// An escape always begins a sequence, so the parser is synchronised from the first one on.
pub(crate) fn boundary(reader: &Reader, start: u64, wanted: u64) -> Result<u64, Error> {
    if wanted == start {
        return Ok(start);
    }
    let lead = wanted.saturating_sub(LEAD_BYTES).max(start);
    let mut walk = Walk::new(reader, lead, wanted.saturating_add(LEAD_BYTES))?;
    let mut plain = Plain::default();
    let mut in_step = lead == start;
    // A character may have begun before the part that was read.
    let mut may_be_rest = !in_step;
    while let Some((_, event)) = walk.step()? {
        match event {
            Event::Bytes { offset, bytes } => {
                for (offset, byte) in (offset..).zip(bytes) {
                    may_be_rest &= byte & 0xc0 == 0x80;
                    if offset >= wanted && plain.is_whole() && !may_be_rest {
                        return Ok(offset);
                    }
                    in_step |= byte == ESCAPE;
                    plain.next(byte);
                }
            }
            Event::Gap(_) | Event::Epoch(_) => (plain, may_be_rest) = (Plain::default(), false),
            Event::Resize(_) | Event::Exit(_) => {}
        }
    }
    // Apparently one long string, or the end of the log, where nothing is left to draw.
    Ok(if in_step { wanted.saturating_add(LEAD_BYTES) } else { wanted })
}
