//! Parses terminal output byte by byte: which bytes are text, and where sequences are complete.
//!
//! The states are those of a VT500 parser, as far as they distinguish text from control sequences. The screen interprets the
//! sequences.

/// The meaning of a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Part of the text.
    Text,
    /// A tab.
    Tab,
    /// The end of a line: a line break, a carriage return, or the end of a sequence like them.
    Break,
    /// The end of a sequence that moves the cursor elsewhere.
    Jump(Jump),
    /// The end of a sequence that moves the cursor to the right.
    Skip(u16),
    /// The end of a sequence that sets the rows that scroll, or of one that resets the terminal (`None`).
    Region(Option<(u16, u16)>),
    /// The end of a sequence that begins a fresh alternate screen.
    Alternate,
    /// The end of a sequence that clears or moves many rows.
    Rows,
    /// The end of a sequence that repeats the last character this many times.
    Repeat(u16),
    /// Part of a sequence, or a control character.
    Control,
}

/// Where a sequence moves the cursor. Rows and columns are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Jump {
    /// Up or down, in the same column.
    Rows(i32),
    /// Up or down, to the first column.
    Lines(i32),
    /// To a row and a column.
    To(u16, u16),
    /// To a row, in the same column.
    Row(u16),
    /// To a column, in the same row.
    Column(u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    #[default]
    Ground,
    Escape,
    /// After an escape and an intermediate byte.
    EscapeMore,
    Csi,
    /// OSC; a bell ends it.
    Command,
    /// DCS, SOS, PM, APC.
    String,
    /// Inside a character, with the number of bytes that are still missing.
    Character(u8),
}

/// The state of the parser.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Plain {
    at: At,
    /// A CSI sequence's first two parameters.
    params: [u16; 2],
    n_params: usize,
    /// Whether it has a prefix or an intermediate byte, so that its last byte alone does not determine its meaning.
    private: bool,
    /// The parameter being parsed.
    param: u16,
    /// Whether a parameter was [`ALTERNATE`].
    is_alternate: bool,
}

/// The mode that saves the cursor and clears the alternate screen for a full-screen program.
const ALTERNATE: u16 = 1049;

const BELL: u8 = 0x07;
/// Ends any sequence without effect.
pub(crate) const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;
pub(crate) const ESCAPE: u8 = 0x1b;

impl Plain {
    /// Whether the bytes so far end neither inside a sequence nor inside a character.
    pub(crate) fn is_whole(&self) -> bool {
        self.at == At::Ground
    }

    /// Whether the bytes so far end inside a character.
    pub(crate) fn is_in_character(&self) -> bool {
        matches!(self.at, At::Character(_))
    }

    pub(crate) fn next(&mut self, byte: u8) -> Seen {
        match (self.at, byte) {
            (_, ESCAPE) => self.go(At::Escape),
            (_, CAN | SUB) | (At::Command, BELL) => self.go(At::Ground),
            (At::Character(more), 0x80..=0xbf) => {
                self.at = if more > 1 { At::Character(more - 1) } else { At::Ground };
                Seen::Text
            }
            (At::Ground | At::Character(_), _) => self.ground(byte),
            // Control characters take effect inside a sequence as well.
            (At::Escape | At::EscapeMore | At::Csi, 0x0a..=0x0d) => Seen::Break,
            (At::Escape, b'[') => {
                *self = Self::default();
                self.go(At::Csi)
            }
            (At::Escape, b']') => self.go(At::Command),
            (At::Escape, b'P' | b'X' | b'^' | b'_') => self.go(At::String),
            (At::Escape | At::EscapeMore, 0x20..=0x2f) => self.go(At::EscapeMore),
            (At::Escape, b'c') => {
                self.at = At::Ground;
                Seen::Region(None)
            }
            (At::Escape, b'D' | b'E' | b'M') => {
                self.at = At::Ground;
                Seen::Break
            }
            (At::Escape | At::EscapeMore, 0x30..=0x7e) => self.go(At::Ground),
            (At::Csi, _) => self.csi(byte),
            _ => Seen::Control,
        }
    }

    fn go(&mut self, at: At) -> Seen {
        self.at = at;
        Seen::Control
    }

    fn ground(&mut self, byte: u8) -> Seen {
        self.at = match byte {
            0xc2..=0xdf => At::Character(1),
            0xe0..=0xef => At::Character(2),
            0xf0..=0xf4 => At::Character(3),
            _ => At::Ground,
        };
        match byte {
            b'\t' => Seen::Tab,
            0x0a..=0x0d => Seen::Break,
            0x00..=0x1f | 0x7f => Seen::Control,
            _ => Seen::Text,
        }
    }

    fn csi(&mut self, byte: u8) -> Seen {
        match byte {
            b'0'..=b'9' => {
                self.param = self.param.saturating_mul(10).saturating_add(u16::from(byte - b'0'));
            }
            b';' | b':' => self.end_param(),
            0x20..=0x2f | 0x3c..=0x3f => self.private = true,
            0x40..=0x7e => {
                self.at = At::Ground;
                self.end_param();
                let [first, second] = self.params;
                return match byte {
                    b'h' if self.private && self.is_alternate => Seen::Alternate,
                    // With a prefix it is a selective erase.
                    b'J' => Seen::Rows,
                    _ if self.private => Seen::Control,
                    b'C' => Seen::Skip(first.max(1)),
                    b'r' => Seen::Region(Some((first, second))),
                    b'L' | b'M' | b'S' | b'T' => Seen::Rows,
                    b'b' => Seen::Repeat(first.max(1)),
                    _ => jump(byte, first, second).map_or(Seen::Control, Seen::Jump),
                };
            }
            _ => {}
        }
        Seen::Control
    }

    fn end_param(&mut self) {
        let param = std::mem::take(&mut self.param);
        self.is_alternate |= param == ALTERNATE;
        if let Some(place) = self.params.get_mut(self.n_params) {
            *place = param;
        }
        self.n_params = self.n_params.saturating_add(1);
    }
}

/// Where a CSI sequence with this last byte and these parameters moves the cursor.
fn jump(last: u8, first: u16, second: u16) -> Option<Jump> {
    let n = first.max(1);
    let rows = i32::from(n);
    Some(match last {
        b'A' => Jump::Rows(-rows),
        b'B' => Jump::Rows(rows),
        b'F' => Jump::Lines(-rows),
        b'E' => Jump::Lines(rows),
        b'H' | b'f' => Jump::To(n, second.max(1)),
        b'd' => Jump::Row(n),
        b'G' | b'`' => Jump::Column(n),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> String {
        let mut plain = Plain::default();
        let mut out = Vec::new();
        for byte in bytes {
            match plain.next(*byte) {
                Seen::Text => out.push(*byte),
                Seen::Break | Seen::Jump(_) => out.push(b'|'),
                Seen::Skip(n) => out.extend(std::iter::repeat_n(b'.', usize::from(n))),
                Seen::Tab => out.push(b' '),
                _ => {}
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn sequences_are_not_text() {
        for (bytes, expected) in [
            (&b"a\x1b[1;31mb\x1b[0mc"[..], "abc"),
            (b"\x1b]0;title\x07x\x1b]8;;http://x\x1b\\y", "xy"),
            (b"\x1bP1$r0\nq\x1b\\z", "z"),
            (b"a\x1b[2Cb\x1b[5;1Hc\nd", "a..b|c|d"),
            (b"\x1b(Ba\x1b=b\x1b[?25lc\x1b[>4;1md", "abcd"),
            (b"\x1b[12\x18x\x1b]never\x1b[mended", "xended"),
            ("g\u{fc}n \u{1f980}\x07".as_bytes(), "g\u{fc}n \u{1f980}"),
        ] {
            assert_eq!(text(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn an_incomplete_character_or_sequence_is_detected() {
        let whole = |bytes: &[u8]| {
            let mut plain = Plain::default();
            for byte in bytes {
                plain.next(*byte);
            }
            plain.is_whole()
        };
        for bytes in [&b"\x1b"[..], b"\x1b[1;", b"\x1b]0;x", b"\x1bPq", b"\xf0\x9f", b"\x1b("] {
            assert!(!whole(bytes), "{bytes:?}");
        }
        for bytes in [&b""[..], b"x", b"\x1b[m", b"\x1b]0;x\x07", b"\xff", b"\xc3x", b"\xc3\xbc"] {
            assert!(whole(bytes), "{bytes:?}");
        }
    }
}
