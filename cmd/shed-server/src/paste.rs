//! Command lines for people to paste into a shell.

/// This program as it was called: a name to be found in `PATH`, or a path.
pub(crate) fn program() -> String {
    let called = std::env::args_os().next().map(|word| quote(&word.to_string_lossy()));
    called.unwrap_or_else(|| "shed-server".to_owned())
}

/// A word that a POSIX shell reads back as `text`.
pub(crate) fn quote(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+:=@%,".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_shell_would_change_is_quoted() {
        for (text, quoted) in [
            ("/srv/a-b_c.d", "/srv/a-b_c.d"),
            ("", "''"),
            ("a b", "'a b'"),
            ("$HOME", "'$HOME'"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(quote(text), quoted);
        }
    }
}
