//! A model of the screen that a worker's output draws, for previews and for new viewers.

use std::num::NonZeroU16;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::cast::unfinished;
use crate::marks::Size;
use crate::modes::Modes;
use crate::plain::{CAN, ESCAPE, Plain, Seen};
use crate::render::row_ansi;

/// Largest number of columns. A wider terminal is drawn with this width. A cell needs 32 bytes on each of two screens.
pub const MAX_COLS: u16 = 500;

/// Largest number of rows.
pub const MAX_ROWS: u16 = 200;

/// Smallest number of columns, so that a wide character fits. The smallest number of rows is 1.
const MIN_COLS: u16 = 2;

/// Lines above the screen that reappear when it grows, as in tmux.
const SCROLLBACK_ROWS: usize = 100;

/// Longest part of an incomplete sequence that is kept, in bytes. A longer one is a string that no screen shows.
const MAX_UNFINISHED: usize = 256;

/// Cells that sequences may touch for each byte of output, since a few bytes can touch every cell. Programs that clear the
/// screen also draw it and need a fraction; a program that only clears it costs no more than ordinary text.
const CREDIT_PER_BYTE: u64 = 1024;

/// The most credit that can be saved, in screens, which allows many short bursts of clearing.
const MAX_CREDIT: u64 = 64;

/// Costs of sequences, in screens: clearing and scrolling; beginning the alternate screen; a reset, which allocates rows.
const ROWS_COST: u64 = 1;
const ALTERNATE_COST: u64 = 2;
const RESET_COST: u64 = 8;

/// The variation selector that requests the wide form of the character before it (U+FE0F).
const WIDEN: &[u8] = b"\xef\xb8\x8f";

/// Number of failures after which the model is not restarted: the output is probably made to break it, and each failure is
/// reported in the server's log.
const MAX_FAULTS: u64 = 8;

/// Resets any terminal (RIS).
pub const RESET: &[u8] = b"\x1bc";

/// A headless terminal.
pub struct Screen {
    parser: vt100::Parser,
    plain: Plain,
    /// An incomplete sequence or character.
    unfinished: Vec<u8>,
    /// An incomplete character, which was not passed to the model yet.
    held: Vec<u8>,
    /// Scroll regions of the main and the alternate screen, counted from 1; `None` for the whole screen.
    regions: [Option<(u16, u16)>; 2],
    /// Modes that the model does not have.
    modes: Modes,
    n_faults: u64,
    /// Lines that are kept above the screen.
    max_above: usize,
    /// Number of cells that sequences may touch now; output adds to it.
    credit: u64,
    /// Bytes that have not been added to the credit yet.
    n_uncredited: u64,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("size", &self.size()).finish_non_exhaustive()
    }
}

impl Screen {
    /// A blank screen. A size out of bounds is clamped.
    pub fn new(cols: u16, rows: u16) -> Self {
        Self::with_above(cols, rows, SCROLLBACK_ROWS)
    }

    /// A blank screen that keeps at most `max_above` lines that scroll off it.
    pub fn with_above(cols: u16, rows: u16, max_above: usize) -> Self {
        Self {
            parser: fresh(cols, rows, max_above),
            max_above,
            plain: Plain::default(),
            unfinished: Vec::new(),
            held: Vec::new(),
            regions: [None; 2],
            modes: Modes::default(),
            n_faults: 0,
            credit: u64::MAX,
            n_uncredited: 0,
        }
    }

    /// Size of the screen, within bounds.
    pub fn size(&self) -> Size {
        let (rows, cols) = self.parser.screen().size();
        Size { cols: cols.get(), rows: rows.get() }
    }

    /// Draws `bytes`, which may end anywhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        // The model drops text after a character that arrives in two parts, so such a character is joined.
        let joined;
        let n_held = self.held.len();
        let bytes = if n_held == 0 {
            bytes
        } else {
            joined = [&std::mem::take(&mut self.held), bytes].concat();
            &joined
        };
        let mut drawn = 0;
        for (index, byte) in bytes.iter().enumerate().skip(n_held) {
            let seen = self.plain.next(*byte);
            if self.plain.is_whole() && !self.unfinished.is_empty() {
                self.unfinished.push(*byte);
                self.modes.take(&self.unfinished);
            }
            self.note_unfinished(*byte);
            self.n_uncredited += 1;
            let ready = &bytes[drawn..=index];
            let is_done = match seen {
                Seen::Text if ready.ends_with(WIDEN) => self.widen(ready),
                Seen::Region(None) => {
                    self.costly(ready, RESET_COST, |regions| *regions = [None; 2])
                }
                Seen::Alternate => self.costly(ready, ALTERNATE_COST, |regions| regions[1] = None),
                Seen::Rows => self.costly(ready, ROWS_COST, |_| {}),
                Seen::Repeat(n) => self.repeat(ready, n),
                Seen::Region(Some(_)) => {
                    // Everything before it must be drawn to know which of the two screens it applies to.
                    self.draw(ready);
                    true
                }
                Seen::Text
                | Seen::Tab
                | Seen::Break
                | Seen::Jump(_)
                | Seen::Skip(_)
                | Seen::Control => false,
            };
            if is_done {
                drawn = index + 1;
            }
            if let Seen::Region(Some(region)) = seen {
                self.set_region(region);
            }
        }
        let rest = &bytes[drawn..];
        let n_held = if self.plain.is_in_character() { unfinished(rest) } else { 0 };
        let (now, held) = rest.split_at(rest.len() - n_held);
        self.held = held.to_vec();
        self.draw(now);
    }

    fn note_unfinished(&mut self, byte: u8) {
        if self.plain.is_whole() || byte == ESCAPE {
            self.unfinished.clear();
        }
        // Control characters inside a sequence take effect at once or are ignored.
        let is_part = byte == ESCAPE || !byte.is_ascii_control();
        if !self.plain.is_whole() && is_part && self.unfinished.len() < MAX_UNFINISHED {
            self.unfinished.push(byte);
        }
    }

    /// Resizes the screen, within bounds. Lines are cut, not wrapped.
    pub fn resize(&mut self, cols: u16, rows: u16) {
        let (cols, rows) = clamp(cols, rows);
        if self.parser.screen().size() == (rows, cols) {
            return;
        }
        self.regions = [None; 2];
        self.guard(|parser| parser.set_size(rows, cols));
    }

    /// Notes that bytes are missing: an incomplete sequence is dropped.
    pub fn skip(&mut self) {
        self.feed(&[CAN]);
    }

    /// The rows as plain text, without trailing blanks.
    pub fn rows_text(&self) -> Vec<String> {
        let rows = self.parser.screen().rows(0, self.size().cols);
        rows.map(|row| row.trim_end().to_owned()).collect()
    }

    /// The rows with colours as SGR sequences, without trailing blanks. Each begins and ends with default attributes.
    pub fn rows_ansi(&self) -> Vec<String> {
        let Size { cols, rows } = self.size();
        (0..rows).map(|row| row_ansi(self.parser.screen(), row, cols)).collect()
    }

    /// The cursor's row and column, counted from 0.
    pub fn cursor(&self) -> (u16, u16) {
        self.parser.screen().cursor_position()
    }

    /// Whether the alternate screen is shown, as full-screen programs do.
    pub fn is_alternate(&self) -> bool {
        self.parser.screen().alternate_screen()
    }

    /// How often the terminal model failed and was restarted. After eight failures it stays blank.
    pub fn n_faults(&self) -> u64 {
        self.n_faults
    }

    /// Bytes that draw this screen on a reset terminal of its size: both screens, cursor, colours, scroll regions, modes, and
    /// an incomplete sequence. Send [`RESET`] first to reset a terminal.
    pub fn snapshot(&self) -> Vec<u8> {
        let screen = self.parser.screen();
        let mut out = Vec::new();
        if screen.alternate_screen() {
            // The main screen appears when a program leaves the alternate one.
            Self::draw_one(self.main().screen(), self.regions[0], &mut out);
            self.modes.keys(false, &mut out);
            out.extend_from_slice(b"\x1b[?1049h");
        }
        Self::draw_one(screen, self.regions[usize::from(screen.alternate_screen())], &mut out);
        self.modes.keys(screen.alternate_screen(), &mut out);
        out.extend_from_slice(screen.input_mode_formatted().as_bytes());
        self.modes.others(&mut out);
        out.extend_from_slice(&self.unfinished);
        out
    }

    /// The lines that scrolled off the main screen, oldest first, in the form of [`Screen::rows_ansi`].
    pub fn above_ansi(&self) -> Vec<String> {
        let mut main = self.main();
        let cols = self.size().cols;
        let n_above = main.screen().scrollback_len();
        let line = |above: usize| {
            main.screen_mut().set_scrollback(above);
            row_ansi(main.screen(), 0, cols)
        };
        (1..=n_above).rev().map(line).collect()
    }

    /// The rows of the main screen, even while the alternate one is shown.
    pub(crate) fn main_rows_ansi(&self) -> Vec<String> {
        let Size { cols, rows } = self.size();
        let main = self.main();
        (0..rows).map(|row| row_ansi(main.screen(), row, cols)).collect()
    }

    /// A copy that shows the main screen.
    fn main(&self) -> vt100::Parser {
        let Size { cols, rows } = self.size();
        let mut main = fresh(cols, rows, self.max_above);
        *main.screen_mut() = self.parser.screen().clone();
        main.process(b"\x1b[?47l");
        main
    }

    fn draw_one(screen: &vt100::Screen, region: Option<(u16, u16)>, out: &mut Vec<u8>) {
        out.extend_from_slice(screen.contents_formatted().as_bytes());
        if let Some((top, bottom)) = region {
            // Setting the region moves the cursor, so the cursor is saved and restored.
            out.extend_from_slice(format!("\x1b7\x1b[{top};{bottom}r\x1b8").as_bytes());
        }
    }

    /// Draws `ready`, which ends with [`WIDEN`]. The selector itself is dropped after a narrow character at the end of a row,
    /// where the model would lose count of the cells.
    fn widen(&mut self, ready: &[u8]) -> bool {
        let (before, mark) = ready.split_at(ready.len() - WIDEN.len());
        self.draw(before);
        let (row, col) = self.cursor();
        let last = self.parser.screen().cell(row, col.saturating_sub(1));
        if col < self.size().cols || last.is_some_and(vt100::Cell::is_wide_continuation) {
            self.draw(mark);
        }
        true
    }

    /// Draws `ready`, which ends with a sequence that touches each cell `times` times and changes the regions by `act`. The
    /// sequence itself is dropped if the credit does not suffice.
    fn costly(
        &mut self,
        ready: &[u8],
        times: u64,
        act: impl FnOnce(&mut [Option<(u16, u16)>; 2]),
    ) -> bool {
        let Size { cols, rows } = self.size();
        let n_cells = u64::from(cols) * u64::from(rows);
        let earned = std::mem::take(&mut self.n_uncredited).saturating_mul(CREDIT_PER_BYTE);
        self.credit = self.credit.saturating_add(earned).min(n_cells * MAX_CREDIT);
        if let Some(rest) = self.credit.checked_sub(n_cells * times) {
            self.credit = rest;
            self.draw(ready);
            act(&mut self.regions);
        } else {
            self.cancel(ready);
        }
        true
    }

    /// Draws what is ready, which ends with a sequence that repeats a character: not more often than fits a row.
    fn repeat(&mut self, ready: &[u8], n: u16) -> bool {
        let cols = self.size().cols;
        if n > cols {
            self.cancel(ready);
            self.draw(format!("\x1b[{cols}b").as_bytes());
        }
        n > cols
    }

    /// Draws what is ready but for the sequence at its end.
    fn cancel(&mut self, ready: &[u8]) {
        self.draw(&ready[..ready.len() - 1]);
        self.draw(&[CAN]);
    }

    fn set_region(&mut self, (top, bottom): (u16, u16)) {
        let rows = self.size().rows;
        let (top, bottom) = (top.max(1), if bottom == 0 { rows } else { bottom.min(rows) });
        let is_part = top < bottom && (top, bottom) != (1, rows);
        let which = usize::from(self.is_alternate());
        self.regions[which] = is_part.then_some((top, bottom));
    }

    fn draw(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.guard(|parser| parser.process(bytes));
        }
    }

    /// What a shed prints must not end the server: a model that fails is begun anew.
    fn guard(&mut self, act: impl FnOnce(&mut vt100::Parser)) {
        if self.n_faults >= MAX_FAULTS {
            return;
        }
        if catch_unwind(AssertUnwindSafe(|| act(&mut self.parser))).is_err() {
            let size = self.size();
            self.parser = fresh(size.cols, size.rows, self.max_above);
            self.regions = [None; 2];
            self.n_faults += 1;
        }
    }
}

fn clamp(cols: u16, rows: u16) -> (NonZeroU16, NonZeroU16) {
    let within = |number: u16, least: u16, most: u16| {
        NonZeroU16::new(number.clamp(least, most)).expect("not less than one")
    };
    (within(cols, MIN_COLS, MAX_COLS), within(rows, 1, MAX_ROWS))
}

fn fresh(cols: u16, rows: u16, max_above: usize) -> vt100::Parser {
    let (cols, rows) = clamp(cols, rows);
    vt100::Parser::new(rows, cols, max_above)
}
