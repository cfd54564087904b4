//! Reading a session's active pane.

/// Drops control characters except line breaks and tabs.
pub(crate) fn without_controls(text: &str) -> String {
    let kept = |c: char| matches!(c, '\n' | '\t') || !c.is_control();
    text.chars().filter(|c| kept(*c)).collect()
}

/// The same, but keeps SGR sequences (`ESC [ … m`).
pub(crate) fn only_colours(text: &str) -> String {
    static SEQUENCE: std::sync::LazyLock<regex::Regex> = std::sync::LazyLock::new(|| {
        regex::Regex::new("\x1b\\[[0-9;:]*m").expect("a constant pattern")
    });
    let mut kept = String::with_capacity(text.len());
    let mut at = 0;
    for colour in SEQUENCE.find_iter(text) {
        kept += &without_controls(&text[at..colour.start()]);
        kept += colour.as_str();
        at = colour.end();
    }
    kept + &without_controls(&text[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captured_text_has_no_control_sequences() {
        assert_eq!(without_controls("a\x1b]52;c;eA==\x07b\r\n\tc\u{9b}"), "a]52;c;eA==b\n\tc");
        assert_eq!(
            only_colours("\x1b[31mred\x1b[0m\x1b[2J\x1b]0;t\x07"),
            "\x1b[31mred\x1b[0m[2J]0;t"
        );
    }
}
