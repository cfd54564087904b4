//! Where the cursor is, as far as that is known without a screen: enough to tell which texts are on one line, and which line is
//! drawn again.

use crate::plain::Jump;

/// The cursor's place. Rows are counted from where the output begins until a sequence names one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    row: i64,
    col: u32,
    /// Whether `row` is a row of the screen, counted from 0.
    is_absolute: bool,
}

impl Place {
    /// The line, whatever the column.
    pub(crate) fn line(self) -> Self {
        Self { col: 0, ..self }
    }

    /// A byte of text was printed. Each character counts as one column.
    pub(crate) fn text(&mut self, byte: u8) {
        if byte & 0xc0 != 0x80 {
            self.col = self.col.saturating_add(1);
        }
    }

    pub(crate) fn tab(&mut self) {
        self.col = (self.col / 8).saturating_add(1).saturating_mul(8);
    }

    pub(crate) fn skip(&mut self, n: u16) {
        self.col = self.col.saturating_add(u32::from(n));
    }

    /// A line ended with this byte, or with a sequence that has it last.
    pub(crate) fn end_line(&mut self, byte: u8) {
        match byte {
            b'\r' => self.col = 0,
            b'E' => *self = Self { row: self.row + 1, col: 0, ..*self },
            b'M' => self.row = self.above(1),
            _ => self.row += 1,
        }
    }

    /// Moves to another place. Returns the number of columns if that is to the right on the same line.
    pub(crate) fn jump(&mut self, jump: Jump) -> Option<u16> {
        let before = *self;
        let zero = |n: u16| n.saturating_sub(1);
        match jump {
            Jump::Rows(n) if n < 0 => self.row = self.above(n.unsigned_abs()),
            Jump::Rows(n) => self.row += i64::from(n),
            Jump::Lines(n) => {
                self.jump(Jump::Rows(n));
                self.col = 0;
            }
            Jump::To(row, col) => {
                *self = Self {
                    row: i64::from(zero(row)),
                    col: u32::from(zero(col)),
                    is_absolute: true,
                };
            }
            Jump::Row(row) => {
                *self = Self { row: i64::from(zero(row)), is_absolute: true, ..*self };
            }
            Jump::Column(col) => self.col = u32::from(zero(col)),
        }
        let right = self.col.checked_sub(before.col)?;
        (self.line() == before.line()).then(|| u16::try_from(right).unwrap_or(u16::MAX))
    }

    /// The row that many rows above; not above the screen.
    fn above(self, n: u32) -> i64 {
        let row = self.row - i64::from(n);
        if self.is_absolute { row.max(0) } else { row }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_moves_to_the_right_stay_on_the_line() {
        let mut place = Place::default();
        assert_eq!(place.jump(Jump::To(3, 1)), None, "the row before is not known");
        place.text(b'a');
        assert_eq!(place.jump(Jump::To(3, 5)), Some(3));
        assert_eq!(place.jump(Jump::Column(9)), Some(4));
        assert_eq!(place.jump(Jump::Column(2)), None);
        assert_eq!(place.jump(Jump::Row(3)), Some(0));
        assert_eq!(place.jump(Jump::Rows(1)), None);
        assert_eq!(place.jump(Jump::Rows(-99)), None);
        assert_eq!(place.line(), Place { is_absolute: true, ..Place::default() });
    }

    #[test]
    fn a_redraw_returns_to_the_same_lines() {
        let mut place = Place::default();
        let first = place.line();
        for byte in *b"\r\n\r\n" {
            place.end_line(byte);
        }
        assert_ne!(place.line(), first);
        place.jump(Jump::Lines(-2));
        assert_eq!(place.line(), first);
    }
}
