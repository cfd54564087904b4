//! Renders rows of a screen as text with SGR sequences and no other control sequences, so that any terminal or page can show
//! them anywhere.

use std::fmt::Write as _;

use vt100::{Cell, Color};

/// The attributes of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Style {
    foreground: Color,
    background: Color,
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
    inverse: bool,
}

impl Style {
    fn of(cell: &Cell) -> Self {
        Self {
            foreground: cell.fgcolor(),
            background: cell.bgcolor(),
            bold: cell.bold(),
            dim: cell.dim(),
            italic: cell.italic(),
            underline: cell.underline(),
            inverse: cell.inverse(),
        }
    }

    /// Whether a blank with this style is invisible.
    fn hides_blanks(self) -> bool {
        self.background == Color::Default && !self.inverse && !self.underline
    }

    fn write(self, out: &mut String) {
        out.push_str("\x1b[0");
        let flags = [
            (self.bold, ";1"),
            (self.dim, ";2"),
            (self.italic, ";3"),
            (self.underline, ";4"),
            (self.inverse, ";7"),
        ];
        flags.iter().filter(|(on, _)| *on).for_each(|(_, code)| out.push_str(code));
        write_color(out, self.foreground, 30);
        write_color(out, self.background, 40);
        out.push('m');
    }
}

/// `base` is 30 for the foreground, 40 for the background.
fn write_color(out: &mut String, color: Color, base: u16) {
    let written = match color {
        Color::Default => Ok(()),
        Color::Idx(index @ 0..=7) => write!(out, ";{}", base + u16::from(index)),
        Color::Idx(index @ 8..=15) => write!(out, ";{}", base + 60 + u16::from(index - 8)),
        Color::Idx(index) => write!(out, ";{};5;{index}", base + 8),
        Color::Rgb(red, green, blue) => write!(out, ";{};2;{red};{green};{blue}", base + 8),
    };
    written.expect("writing to a string does not fail");
}

/// One row without trailing blanks. It begins and ends with default attributes.
pub(crate) fn row_ansi(screen: &vt100::Screen, row: u16, cols: u16) -> String {
    let mut out = String::new();
    let mut now = Style::default();
    // Blanks are written only if something visible follows.
    let mut blanks = 0;
    for cell in (0..cols).filter_map(|col| screen.cell(row, col)) {
        if cell.is_wide_continuation() {
            continue;
        }
        let style = Style::of(cell);
        let text = cell.contents();
        if (text.is_empty() || text == " ") && style.hides_blanks() {
            blanks += 1;
            continue;
        }
        if blanks > 0 {
            if !now.hides_blanks() {
                now = Style::default();
                now.write(&mut out);
            }
            out.extend(std::iter::repeat_n(' ', blanks));
            blanks = 0;
        }
        if style != now {
            style.write(&mut out);
            now = style;
        }
        out.push_str(if text.is_empty() { " " } else { text });
    }
    if now != Style::default() {
        out.push_str("\x1b[0m");
    }
    out
}
