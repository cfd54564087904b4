//! The `TERM` of a program: the caller's if the image has its terminfo entry, otherwise a similar one.

use std::path::Path;

/// The directories of terminfo entries in various distributions.
const TERMINFO_DIRS: &[&str] = &[
    "/etc/terminfo",
    "/lib/terminfo",
    "/usr/share/terminfo",
    "/usr/lib/terminfo",
    "/usr/share/lib/terminfo",
];

/// The value for a program. `wanted` is the caller's; an empty or unsafe one counts as unknown.
pub(crate) fn choose(wanted: &str, home: &str) -> String {
    choose_with(wanted, |term| is_known(term, home))
}

fn choose_with(wanted: &str, known: impl Fn(&str) -> bool) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '.');
    let safe = !wanted.is_empty() && wanted.len() <= 64 && wanted.chars().all(plain);
    if safe && known(wanted) {
        return wanted.to_owned();
    }
    let relative = match wanted {
        _ if wanted.starts_with("tmux") => ["tmux-256color", "screen-256color", "screen"],
        _ if wanted.starts_with("screen") => ["screen-256color", "screen", "vt100"],
        _ => ["xterm-256color", "xterm", "vt100"],
    };
    let found = relative.iter().find(|term| known(term));
    // Without any terminfo programs have their own definition of xterm-256color, which works in most terminals.
    (*found.unwrap_or(&"xterm-256color")).to_owned()
}

fn is_known(term: &str, home: &str) -> bool {
    let Some(first) = term.chars().next() else {
        return false;
    };
    let own = format!("{home}/.terminfo");
    // Directories are named by the first letter, or by its code in hexadecimal as on macOS.
    let letters = [first.to_string(), format!("{:x}", u32::from(first))];
    let dirs = TERMINFO_DIRS.iter().copied().chain([own.as_str()]);
    dirs.into_iter()
        .any(|dir| letters.iter().any(|letter| Path::new(dir).join(letter).join(term).exists()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_terminal_is_kept_and_an_unknown_one_falls_back() {
        let debian =
            |term: &str| ["xterm", "xterm-256color", "xterm-kitty", "screen"].contains(&term);
        for (wanted, chosen) in [
            ("xterm-256color", "xterm-256color"),
            ("xterm-kitty", "xterm-kitty"),
            ("xterm-ghostty", "xterm-256color"),
            ("tmux-256color", "screen"),
            ("", "xterm-256color"),
            ("../../etc/passwd", "xterm-256color"),
        ] {
            assert_eq!(choose_with(wanted, debian), chosen, "{wanted}");
        }
        assert_eq!(choose_with("xterm-ghostty", |_| false), "xterm-256color");
    }
}
