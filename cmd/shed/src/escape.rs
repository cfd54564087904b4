//! What is typed at a remote terminal for this program instead of the remote one.

use std::str::FromStr;

/// The byte that a terminal sends for Ctrl-B, tmux's prefix key.
const CTRL_B: u8 = 2;
/// What a terminal sends before a paste, if the program asked for that; tmux does.
const PASTE_BEGIN: &[u8] = b"\x1b[200~";
/// What it sends after a paste.
const PASTE_END: &[u8] = b"\x1b[201~";

/// The character that begins an escape sequence at the beginning of a line; `None` if there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EscapeChar(Option<u8>);

impl EscapeChar {
    /// The sequence that detaches, for messages; `None` if there is none.
    pub(crate) fn detach(self) -> Option<String> {
        self.0.map(|byte| format!("{}.", char::from(byte)))
    }
}

impl Default for EscapeChar {
    fn default() -> Self {
        Self(Some(b'~'))
    }
}

impl FromStr for EscapeChar {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            b"none" => Ok(Self(None)),
            [byte] if byte.is_ascii_graphic() && *byte != b'.' => Ok(Self(Some(*byte))),
            _ => Err("expected none or a printable ASCII character other than \".\"".to_owned()),
        }
    }
}

// The option of commands with a remote terminal. No doc comment: clap would print it as the command's help.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct EscapeOption {
    /// Character that, followed by a dot at the beginning of a line, disconnects
    #[arg(long = "escape", value_name = "CHAR|none", default_value = "~")]
    pub(crate) escape: EscapeChar,
}

/// Finds the escape sequence `~.` at the beginning of a line, as ssh does; `~~` sends one `~`. A bracketed paste has none. In
/// a read-only session it finds Ctrl-B D as well, because no input reaches tmux.
#[derive(Debug)]
pub(crate) struct Escape {
    character: Option<u8>,
    read_only: bool,
    line_start: bool,
    /// Whether the escape character was typed, at the beginning of a line.
    begun: bool,
    ctrl_b: bool,
    in_paste: bool,
    /// The number of bytes of [`PASTE_BEGIN`] or, in a paste, [`PASTE_END`] that were typed last.
    n_bracket: usize,
}

impl Escape {
    /// Before anything is typed.
    pub(crate) fn new(character: EscapeChar, read_only: bool) -> Self {
        Self {
            character: character.0,
            read_only,
            line_start: true,
            begun: false,
            ctrl_b: false,
            in_paste: false,
            n_bracket: 0,
        }
    }

    /// The part of `bytes` to send, and whether the user detached.
    pub(crate) fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(bytes.len() + 1);
        for byte in bytes {
            self.follow_paste(*byte);
            let after_prefix = std::mem::replace(&mut self.ctrl_b, *byte == CTRL_B);
            if self.read_only && after_prefix && *byte == b'd' {
                return (passed, true);
            }
            if std::mem::take(&mut self.begun) {
                if *byte == b'.' {
                    return (passed, true);
                }
                passed.extend(self.character.filter(|character| character != byte));
                passed.push(*byte);
            } else if self.character == Some(*byte) && self.line_start && !self.in_paste {
                self.begun = true;
                continue;
            } else {
                passed.push(*byte);
            }
            self.line_start = matches!(byte, b'\r' | b'\n');
        }
        (passed, false)
    }

    /// Follows where a paste begins and ends.
    fn follow_paste(&mut self, byte: u8) {
        let bracket = if self.in_paste { PASTE_END } else { PASTE_BEGIN };
        // ESC occurs only at the beginning of a bracket.
        let n_bracket = if byte == bracket[self.n_bracket] { self.n_bracket } else { 0 };
        self.n_bracket = n_bracket + usize::from(byte == bracket[n_bracket]);
        if self.n_bracket == bracket.len() {
            self.in_paste = !self.in_paste;
            self.n_bracket = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter_with(escape: &str, chunks: &[&str]) -> (String, bool) {
        let mut escape = Escape::new(escape.parse().unwrap(), false);
        let mut passed = Vec::new();
        for chunk in chunks {
            let (some, detached) = escape.filter(chunk.as_bytes());
            passed.extend(some);
            if detached {
                return (String::from_utf8(passed).unwrap(), true);
            }
        }
        (String::from_utf8(passed).unwrap(), false)
    }

    fn filter(chunks: &[&str]) -> (String, bool) {
        filter_with("~", chunks)
    }

    #[test]
    fn tilde_dot_detaches_only_at_the_start_of_a_line() {
        assert_eq!(filter(&["~."]), (String::new(), true));
        assert_eq!(filter(&["ls\r", "~", "."]), ("ls\r".to_owned(), true));
        assert_eq!(filter(&["a~.b"]), ("a~.b".to_owned(), false));
        assert_eq!(filter(&["~~."]), ("~.".to_owned(), false));
        assert_eq!(filter(&["~x~."]), ("~x~.".to_owned(), false));
        assert_eq!(filter(&["cd ~/x\r~/y"]), ("cd ~/x\r~/y".to_owned(), false));
        // Ctrl-B D is tmux's own unless the session is read-only.
        assert_eq!(filter(&["\x02d"]), ("\x02d".to_owned(), false));
    }

    #[test]
    fn a_paste_is_passed_on_as_it_is() {
        let paste = "\x1b[200~~.\n~~\n~.\x1b[20~\x1b\x1b[201~";
        for n in 0..paste.len() {
            let (begin, rest) = paste.split_at(n);
            assert_eq!(filter(&[begin, rest]), (paste.to_owned(), false), "{n}");
            assert_eq!(filter(&[begin, rest, "\r~."]), (format!("{paste}\r"), true), "{n}");
        }
    }

    #[test]
    fn the_character_can_be_another_one_or_none() {
        assert_eq!(filter_with("%", &["~.\r%."]), ("~.\r".to_owned(), true));
        assert_eq!(filter_with("none", &["~.\r~~"]), ("~.\r~~".to_owned(), false));
        for bad in ["", "ab", ".", "\x1b", "é"] {
            assert!(bad.parse::<EscapeChar>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ctrl_b_d_detaches_when_read_only() {
        let mut escape = Escape::new("none".parse().unwrap(), true);
        assert!(!escape.filter(b"d\x02xd\x02").1);
        assert!(escape.filter(b"d").1);
    }
}
