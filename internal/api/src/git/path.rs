//! Quotes file names, which are bytes, as text that can be displayed and sent back. The form is git's own.

use std::fmt::Write as _;

/// A name as text: unchanged if it is plain UTF-8, else in double quotes with C escapes, as git prints it.
pub fn quote_path(path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok(text) if !text.is_empty() && text.chars().all(is_plain) => text.to_owned(),
        _ => quoted(path),
    }
}

/// The name of a quoted text; `None` if the text is in quotes and not well-formed.
pub fn unquote_path(text: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    let text = text.as_ref();
    let [b'"', inner @ .., b'"'] = text else {
        return (text.first() != Some(&b'"')).then(|| text.to_vec());
    };
    let mut path = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let [byte, after @ ..] = rest {
        rest = after;
        match byte {
            b'"' => return None,
            b'\\' => {
                let (byte, after) = unescape(after)?;
                path.push(byte);
                rest = after;
            }
            byte => path.push(*byte),
        }
    }
    Some(path)
}

/// Parses the escape sequence after a backslash: the byte, and the rest of the text.
fn unescape(text: &[u8]) -> Option<(u8, &[u8])> {
    let byte = match text {
        [high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7', rest @ ..] => {
            return Some(((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'), rest));
        }
        [b'a', ..] => 0x07,
        [b'b', ..] => 0x08,
        [b't', ..] => b'\t',
        [b'n', ..] => b'\n',
        [b'v', ..] => 0x0b,
        [b'f', ..] => 0x0c,
        [b'r', ..] => b'\r',
        [byte @ (b'"' | b'\\'), ..] => *byte,
        _ => return None,
    };
    Some((byte, &text[1..]))
}

/// Whether a character needs no escape: it controls no terminal, changes no text direction, and is not part of the quoting.
fn is_plain(c: char) -> bool {
    c != '"'
        && c != '\\'
        && !crate::name::printable(c.encode_utf8(&mut [0; 4])).contains('\u{fffd}')
}

fn quoted(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len() + 2);
    text.push('"');
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\t' => text.push_str("\\t"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '"' | '\\' => text.extend(['\\', c]),
                c if is_plain(c) => text.push(c),
                c => escape(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text.push('"');
    text
}

fn escape(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(text, "\\{byte:03o}").expect("writing to a string does not fail");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_are_unchanged() {
        for name in ["a", "src/ä b.rs", "-x", "#(id)", "it's"] {
            assert_eq!(quote_path(name.as_bytes()), name);
        }
    }

    #[test]
    fn other_names_are_quoted_as_git_does() {
        assert_eq!(quote_path(b"a\nb"), r#""a\nb""#);
        assert_eq!(quote_path(b"a\"b\\"), r#""a\"b\\""#);
        assert_eq!(quote_path(b"\xff\x1b"), r#""\377\033""#);
        assert_eq!(quote_path("\u{202e}x".as_bytes()), r#""\342\200\256x""#);
    }

    #[test]
    fn broken_quotes_are_refused() {
        for text in ["\"", "\"a", "\"a\\\"", "\"\\9\"", "\"a\"b\"", "\"\\477\""] {
            assert_eq!(unquote_path(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_name_survives_quoting(path in prop::collection::vec(any::<u8>(), 0..40)) {
            let text = quote_path(&path);
            prop_assert_eq!(&crate::name::printable(&text), &text);
            prop_assert_eq!(unquote_path(&text), Some(path));
        }
    }
}
