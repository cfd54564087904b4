//! Modes of a terminal that the model of the screen does not have, and that a new viewer's terminal needs: reports of focus,
//! and how keys are reported.

use std::fmt::Write as _;

/// The most entries of a stack of keyboard modes; terminals have as few.
const MAX_ENTRIES: usize = 16;
/// The private mode that reports focus.
const FOCUS: &str = "1004";
/// The alternate screens.
const ALTERNATE: [&str; 3] = ["47", "1047", "1049"];

/// The modes that a program has set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Modes {
    focus: bool,
    /// xterm's `modifyOtherKeys`.
    other_keys: u16,
    /// Whether the alternate screen is shown.
    is_alternate: bool,
    /// Flags of the kitty keyboard protocol on the main and the alternate screen; the last ones hold.
    keys: [Vec<u16>; 2],
}

impl Modes {
    /// Notes a complete sequence, from the escape to its last byte.
    pub(crate) fn take(&mut self, sequence: &[u8]) {
        if sequence == b"\x1bc" {
            *self = Self::default();
        }
        let Some(body) =
            sequence.strip_prefix(b"\x1b[").and_then(|it| std::str::from_utf8(it).ok())
        else {
            return;
        };
        let keys = &mut self.keys[usize::from(self.is_alternate)];
        let numbers = |text: &str| -> Vec<Option<u16>> {
            text.split(';').map(|number| number.parse().ok()).collect()
        };
        if let Some(set) = body.strip_prefix('?').and_then(|it| it.strip_suffix('h')) {
            self.focus |= set.split(';').any(|mode| mode == FOCUS);
            self.is_alternate |= set.split(';').any(|mode| ALTERNATE.contains(&mode));
        } else if let Some(unset) = body.strip_prefix('?').and_then(|it| it.strip_suffix('l')) {
            self.focus &= !unset.split(';').any(|mode| mode == FOCUS);
            self.is_alternate &= !unset.split(';').any(|mode| ALTERNATE.contains(&mode));
        } else if let Some(pushed) = body.strip_prefix('>').and_then(|it| it.strip_suffix('u')) {
            if keys.len() >= MAX_ENTRIES {
                keys.remove(0);
            }
            keys.push(numbers(pushed).first().copied().flatten().unwrap_or(0));
        } else if let Some(popped) = body.strip_prefix('<').and_then(|it| it.strip_suffix('u')) {
            let n = numbers(popped).first().copied().flatten().unwrap_or(1).max(1);
            keys.truncate(keys.len().saturating_sub(usize::from(n)));
        } else if let Some(set) = body.strip_prefix('=').and_then(|it| it.strip_suffix('u')) {
            let given = numbers(set);
            let flags = given.first().copied().flatten().unwrap_or(0);
            let before = keys.pop().unwrap_or(0);
            keys.push(match given.get(1).copied().flatten() {
                Some(2) => before | flags,
                Some(3) => before & !flags,
                _ => flags,
            });
        } else if let Some(set) = body.strip_prefix('>').and_then(|it| it.strip_suffix('m')) {
            let given = numbers(set);
            if given.first() == Some(&Some(4)) {
                self.other_keys = given.get(1).copied().flatten().unwrap_or(0);
            }
        }
    }

    /// The sequences that set the keyboard modes of one of the screens, on a terminal that shows it.
    pub(crate) fn keys(&self, is_alternate: bool, out: &mut Vec<u8>) {
        let mut text = String::new();
        for flags in &self.keys[usize::from(is_alternate)] {
            // Writing to a string does not fail.
            write!(text, "\x1b[>{flags}u").ok();
        }
        out.extend_from_slice(text.as_bytes());
    }

    /// The sequences that set the other modes.
    pub(crate) fn others(&self, out: &mut Vec<u8>) {
        if self.focus {
            out.extend_from_slice(format!("\x1b[?{FOCUS}h").as_bytes());
        }
        if self.other_keys > 0 {
            out.extend_from_slice(format!("\x1b[>4;{}m", self.other_keys).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_set_and_unset() {
        let set = |sequences: &[&str]| {
            let mut modes = Modes::default();
            for sequence in sequences {
                modes.take(sequence.as_bytes());
            }
            let mut out = Vec::new();
            modes.keys(false, &mut out);
            modes.others(&mut out);
            String::from_utf8(out).unwrap()
        };
        for (sequences, expected) in [
            (&["\x1b[?1004h"][..], "\x1b[?1004h"),
            (&["\x1b[?2004;1004h", "\x1b[?1004l"], ""),
            (&["\x1b[>1u", "\x1b[>5u", "\x1b[<u"], "\x1b[>1u"),
            (&["\x1b[>1u", "\x1b[=4;2u"], "\x1b[>5u"),
            (&["\x1b[=5u", "\x1b[=1;3u"], "\x1b[>4u"),
            (&["\x1b[>7u", "\x1b[<9u"], ""),
            (&["\x1b[>4;2m"], "\x1b[>4;2m"),
            (&["\x1b[>4;2m", "\x1b[>4m"], ""),
            (&["\x1b[4;2m", "\x1b[1u", "\x1b[1004h", "\x1b]1004h"], ""),
        ] {
            assert_eq!(set(sequences), expected, "{sequences:?}");
        }
        let mut many = Modes::default();
        many.take(b"\x1b[?1049h");
        for _ in 0..100 {
            many.take(b"\x1b[>1u");
        }
        assert_eq!((many.keys[0].len(), many.keys[1].len()), (0, MAX_ENTRIES));
        many.take(b"\x1bc");
        assert_eq!(many, Modes::default());
    }
}
