//! Text that a terminal must not interpret: control characters are replaced by what they are called.
//!
//! Text of a shed may contain anything. A terminal that gets it unchanged can be made to set its title, to hide lines, or to
//! answer as if its user typed.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal may act on this character, or show the characters around it in another order.
fn controls(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Appends a control character as `less` and `cat -v` show it: `^[`, `^?`, `<U+009B>`.
fn name(c: char, text: &mut String) {
    match u8::try_from(c) {
        Ok(byte) if byte.is_ascii() => text.extend(['^', char::from(byte ^ 0x40)]),
        _ => {
            // A string takes whatever is written to it.
            write!(text, "<U+{:04X}>", u32::from(c)).ok();
        }
    }
}

fn replaced(
    text: &str,
    is_kept: impl Fn(char) -> bool,
    name: fn(char, &mut String),
) -> Cow<'_, str> {
    let is_replaced = |c: char| controls(c) && !is_kept(c);
    if !text.contains(is_replaced) {
        return Cow::Borrowed(text);
    }
    let mut visible = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_replaced(c) { name(c, &mut visible) } else { visible.push(c) }
    }
    Cow::Owned(visible)
}

/// Text for a terminal: control characters except line feeds and tabs as `^[` or `<U+009B>`.
pub fn visible(text: &str) -> Cow<'_, str> {
    replaced(text, |c| matches!(c, '\n' | '\t'), name)
}

/// As [`visible`], for JSON, which stays the same JSON: characters that it may hold unescaped are escaped.
pub fn visible_json(json: &str) -> Cow<'_, str> {
    replaced(
        json,
        |c| matches!(c, '\n' | '\t'),
        |c, text| {
            write!(text, "\\u{:04x}", u32::from(c)).ok();
        },
    )
}

/// A cell of a table, on one line: every control character as `^J` or `<U+009B>`.
pub(crate) fn cell(text: &str) -> Cow<'_, str> {
    replaced(text, |_| false, name)
}

/// As [`visible`], for bytes: those that are not UTF-8 as `<E9>`.
pub fn visible_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text += &visible(chunk.valid());
        for byte in chunk.invalid() {
            write!(text, "<{byte:02X}>").ok();
        }
    }
    text
}

/// As [`visible`], but colours and other attributes of characters (SGR sequences) are kept.
pub fn visible_with_colours(text: &str) -> String {
    let mut visible_text = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\x1b[") {
        let after = &rest[at + 2..];
        let parameters = after.find(|c: char| !matches!(c, '0'..='9' | ';' | ':'));
        let end = parameters.filter(|end| after[*end..].starts_with('m'));
        let length = at + 2 + end.map_or(0, |end| end + 1);
        let (before, sequence) = rest[..length].split_at(at);
        visible_text += &visible(before);
        visible_text += &if end.is_some() { Cow::Borrowed(sequence) } else { visible(sequence) };
        rest = &rest[length..];
    }
    visible_text + &visible(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_named() {
        assert_eq!(visible("a\tb\nc é"), "a\tb\nc é");
        assert_eq!(visible("\x1b]0;x\x07\r\x7f\u{9b}\u{202e}"), "^[]0;x^G^M^?<U+009B><U+202E>");
        assert_eq!(cell("a\n\tb"), "a^J^Ib");
        assert_eq!(visible_bytes(b"caf\xe9 \x1b[8m \x9b\xc3\xa9\n"), "caf<E9> ^[[8m <9B>é\n");
    }

    #[test]
    fn json_stays_the_same_json() {
        let json = serde_json::to_string("\x1b\u{9b}\u{202e}\x7f é").unwrap();
        let shown = visible_json(&json);
        assert!(!shown.contains(controls), "{shown:?}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), "\x1b\u{9b}\u{202e}\x7f é");
    }

    #[test]
    fn colours_are_kept_and_nothing_else() {
        let text = "\x1b[1;31mred\x1b[0m\x1b[2J\x1b[38:5:1mx\x1b]0;t\x07\x1b[";
        let shown = visible_with_colours(text);
        assert_eq!(shown, "\x1b[1;31mred\x1b[0m^[[2J\x1b[38:5:1mx^[]0;t^G^[[");
    }
}
