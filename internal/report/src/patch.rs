//! Patches in git's format for a terminal: colours of our own, and control characters of the files by name.

use crate::visible::visible_bytes;

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const CYAN: &str = "\x1b[36m";
const RESET: &str = "\x1b[m";

/// Makes a patch ready for a terminal, chunk by chunk.
#[derive(Debug)]
pub struct PatchText {
    with_colours: bool,
    /// The beginning of a line whose end has not come yet.
    kept: Vec<u8>,
    /// Whether the lines are those of a hunk: there, every line begins with a blank, `+`, `-`, `\` or `@`.
    in_hunk: bool,
}

impl PatchText {
    /// Begins a patch.
    pub fn new(with_colours: bool) -> Self {
        Self { with_colours, kept: Vec::new(), in_hunk: false }
    }

    /// The text of all lines that this chunk completes.
    pub fn push(&mut self, chunk: &[u8]) -> String {
        let mut text = String::with_capacity(chunk.len());
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            self.kept.extend(part);
            if let Some(line) = self.kept.strip_suffix(b"\n").map(<[u8]>::to_vec) {
                text += &self.line(&line);
                text.push('\n');
                self.kept.clear();
            }
        }
        text
    }

    /// The text of an incomplete last line.
    pub fn end(mut self) -> String {
        let line = std::mem::take(&mut self.kept);
        self.line(&line)
    }

    fn line(&mut self, line: &[u8]) -> String {
        let colour = match line.first() {
            Some(b'@') => {
                self.in_hunk = true;
                CYAN
            }
            Some(b'+') if self.in_hunk => GREEN,
            Some(b'-') if self.in_hunk => RED,
            Some(b' ' | b'\\') | None if self.in_hunk => "",
            // Of the header of a file.
            _ => {
                self.in_hunk = false;
                BOLD
            }
        };
        let text = visible_bytes(line);
        if self.with_colours && !colour.is_empty() && !text.is_empty() {
            format!("{colour}{text}{RESET}")
        } else {
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &[u8] = b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@ fn\n-- old\n++ n\xc3\xa9w\x1b[8m\n same\ndiff --git a/y b/y\n";

    #[test]
    fn lines_have_the_colour_of_their_kind() {
        let mut patch = PatchText::new(true);
        let expected = "\x1b[1mdiff --git a/x b/x\x1b[m\n\x1b[1m--- a/x\x1b[m\n\x1b[1m+++ b/x\x1b[m\n\
            \x1b[36m@@ -1,2 +1,2 @@ fn\x1b[m\n\x1b[31m-- old\x1b[m\n\x1b[32m++ néw^[[8m\x1b[m\n same\n\
            \x1b[1mdiff --git a/y b/y\x1b[m\n";
        assert_eq!(patch.push(PATCH), expected);
        assert_eq!(patch.end(), "");
    }

    #[test]
    fn chunks_may_end_anywhere() {
        let whole = PatchText::new(true).push(PATCH);
        let mut patch = PatchText::new(true);
        let bytes: String = PATCH.iter().map(|byte| patch.push(&[*byte])).collect();
        assert_eq!(bytes, whole);
        assert_eq!(patch.push(b"\xc3\xa9 without end"), "");
        assert_eq!(patch.end(), "\x1b[1mé without end\x1b[m");
    }

    #[test]
    fn without_colours_only_control_characters_change() {
        let text = PatchText::new(false).push(PATCH);
        assert_eq!(text, String::from_utf8_lossy(PATCH).replace('\x1b', "^["));
    }
}
