//! The log of the service, for messages about failures.

use std::process::Command;

use crate::paste::quote;
use crate::print::say;

use super::layout::Layout;
use super::unit;

/// How many lines a failure shows.
const N_LINES: usize = 15;

/// Prints the last lines of the log.
pub(crate) fn show(layout: &Layout) {
    let text = if unit::is_used(layout) {
        let output = Command::new("journalctl")
            .args(["-u", unit::NAME, "-n", &N_LINES.to_string(), "--no-pager", "-o", "cat"])
            .output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        std::fs::read(layout.log_file()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    // Without a log the failure itself is all there is to say.
    let lines = last_lines(&text.unwrap_or_default());
    if !lines.is_empty() {
        say(&format!("  the last lines of its log:\n{}", lines.trim_end()));
    }
}

/// A command to paste that shows the log.
pub(crate) fn paste(layout: &Layout) -> String {
    if unit::is_used(layout) {
        format!("journalctl -u {}", unit::NAME)
    } else {
        format!("tail -n 50 {}", quote(&layout.log_file().to_string_lossy()))
    }
}

/// The last lines, indented.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(N_LINES)..).unwrap_or_default();
    last.iter().flat_map(|line| ["    ", line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_indented() {
        assert_eq!(last_lines(""), "");
        assert_eq!(last_lines("a\nb\n"), "    a\n    b\n");
        let long = "x\n".repeat(N_LINES) + "last\n";
        assert_eq!(last_lines(&long).lines().count(), N_LINES);
        assert!(last_lines(&long).ends_with("    x\n    last\n"));
    }
}
