//! Environment variables: the one rule for those of sheds, sessions, workers and commands.

use crate::Rejection;

/// The largest environment in bytes, counted as the kernel does: `NAME=VALUE` and a NUL byte for each variable.
pub const MAX_ENV_BYTES: usize = 256 << 10;

/// Checks variables: a name is not empty and contains neither `=` nor a NUL byte, a value contains no NUL byte,
/// and all of them together have at most [`MAX_ENV_BYTES`].
pub fn check<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<(), Rejection> {
    let mut n_bytes = 0_usize;
    for (name, value) in variables {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Rejection::Invalid(format!(
                "invalid environment variable name {name:?}; expected a name without '=' and NUL bytes"
            )));
        }
        if value.contains('\0') {
            return Err(Rejection::Invalid(format!(
                "invalid value of environment variable {name:?}; expected text without NUL bytes"
            )));
        }
        n_bytes = n_bytes.saturating_add(name.len() + value.len() + 2);
    }
    if n_bytes > MAX_ENV_BYTES {
        return Err(Rejection::TooLarge(format!("the environment exceeds {MAX_ENV_BYTES} bytes")));
    }
    Ok(())
}

/// Checks the variables of a whole shed: as [`check`], and a name is an identifier (`[A-Za-z_][A-Za-z0-9_]*`), because every
/// login shell in the shed gets them.
pub fn check_shed<'a>(
    variables: impl IntoIterator<Item = (&'a str, &'a str)> + Clone,
) -> Result<(), Rejection> {
    for (name, _) in variables.clone() {
        let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(part) {
            return Err(Rejection::Invalid(format!(
                "invalid environment variable name {name:?}; expected letters, digits and '_', beginning with a letter or '_'"
            )));
        }
    }
    check(variables)
}

/// Variables that describe a caller's terminal.
const OF_TERMINAL: &[&str] = &["TERM", "COLORTERM"];
/// The longest value of a variable that describes a caller, in bytes.
const MAX_CALLER_VALUE_BYTES: usize = 256;
/// The longest name of a variable of the locale, in bytes.
const MAX_LOCALE_NAME_BYTES: usize = 35;

/// Whether a variable describes the caller: the locale or the terminal, with a value as [`is_plain`] has it. These are the
/// only ones that every way in passes on. A caller who joins something that exists, such as a session, decides no others:
/// `LD_PRELOAD`, `HOME` or `TMUX_TMPDIR` would run the caller's code as the shed's user.
pub fn describes_caller(name: &str, value: &str) -> bool {
    (is_locale(name) || OF_TERMINAL.contains(&name)) && is_plain(value)
}

/// Whether a variable belongs to the locale: `LANG` or `LC_*`.
pub fn is_locale(name: &str) -> bool {
    let category = name.strip_prefix("LC_").is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
    });
    name == "LANG" || category && name.len() <= MAX_LOCALE_NAME_BYTES
}

/// Whether a value may describe a caller: at most 256 bytes without control characters.
pub fn is_plain(value: &str) -> bool {
    value.len() <= MAX_CALLER_VALUE_BYTES && !value.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_locale_and_terminal_describe_a_caller() {
        for (name, value) in [
            ("LANG", "de_DE.UTF-8"),
            ("LC_ALL", "C"),
            ("LC_TERMINAL_VERSION", "3.5"),
            ("TERM", "xterm"),
            ("COLORTERM", "truecolor"),
        ] {
            assert!(describes_caller(name, value), "{name}");
        }
        let long = "x".repeat(257);
        let long_name = format!("LC_{}", "A".repeat(33));
        for (name, value) in [
            ("PATH", "/tmp"),
            ("HOME", "/workspace"),
            ("LD_PRELOAD", "x"),
            ("TMUX_TMPDIR", "/workspace"),
            ("SSH_AUTH_SOCK", "/tmp/agent"),
            ("LANGUAGE", "de"),
            ("LC_", "C"),
            ("LC_a=b", "C"),
            (long_name.as_str(), "C"),
            ("LANG", "a\0b"),
            ("TERM", &long),
        ] {
            assert!(!describes_caller(name, value), "{name}");
        }
    }

    #[test]
    fn names_and_values_that_execve_cannot_pass_are_rejected() {
        for good in [("A_1", "x\n=y"), ("a.b-c", ""), ("a b", ""), ("_", "é")] {
            assert_eq!(check([good]), Ok(()), "{good:?}");
        }
        for bad in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0")] {
            assert!(matches!(check([bad]), Err(Rejection::Invalid(_))), "{bad:?}");
        }
    }

    #[test]
    fn names_of_a_sheds_variables_are_identifiers() {
        for good in ["A_1", "_", "a"] {
            assert_eq!(check_shed([(good, "x")]), Ok(()), "{good:?}");
        }
        for bad in ["", "1A", "A.B", "A-B", "A B", "A=B", "É"] {
            assert!(matches!(check_shed([(bad, "x")]), Err(Rejection::Invalid(_))), "{bad:?}");
        }
    }

    #[test]
    fn the_limit_counts_all_variables_together() {
        let half = "x".repeat(MAX_ENV_BYTES / 2 - 3);
        assert_eq!(check([("A", half.as_str()), ("B", half.as_str())]), Ok(()));
        let over = format!("{half}x");
        let over = check([("A", half.as_str()), ("B", over.as_str())]);
        assert!(matches!(over, Err(Rejection::TooLarge(_))));
    }
}
