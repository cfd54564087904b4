//! The version of tmux.

/// The oldest supported version (major, minor): the first whose formats can print the length of a field.
pub const OLDEST: (u32, u32) = (3, 2);

/// Parses the output of `tmux -V` (`tmux 3.3a`, `tmux next-3.6`) into a version such as `3.3a`; `None` for other output.
pub fn parse(output: &str) -> Option<String> {
    let version = output.trim().strip_prefix("tmux ")?;
    let plain = version.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
    (plain && !version.is_empty()).then(|| version.to_owned())
}

/// Whether a version is supported. A version without numbers counts as newer.
pub fn is_supported(version: &str) -> bool {
    let digits = version.trim_start_matches(|c: char| !c.is_ascii_digit());
    let mut parts = digits.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= OLDEST,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_parsed_and_compared() {
        assert_eq!(parse("tmux 3.3a\n").as_deref(), Some("3.3a"));
        assert_eq!(parse("tmux next-3.6\n").as_deref(), Some("next-3.6"));
        assert_eq!(parse("sh: tmux: not found"), None);
        assert!(is_supported("3.3a") && is_supported("next-3.6") && is_supported("3.2"));
        assert!(!is_supported("3.1c") && !is_supported("2.9"));
    }
}
