//! Output: data goes to stdout, as text or as JSON; messages go to stderr.

use std::io::Write as _;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::globals::Globals;

/// Prints data: as JSON with `--json`, else as `text` shows it.
pub(crate) fn print<T: Serialize>(
    globals: &Globals,
    data: &T,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    print_text(&if globals.json { serde_json::to_string_pretty(data)? + "\n" } else { text() })
}

/// Prints text to stdout. A reader that went away is not an error.
pub(crate) fn print_text(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Prints a message for the user.
pub(crate) fn say(text: &str) {
    // A command does not fail because its messages cannot be shown.
    writeln!(std::io::stderr(), "{text}").ok();
}

/// Day and minute in UTC for a table, `-` if it never happened.
pub(crate) fn time_cell(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| at.format("%Y-%m-%d %H:%M").to_string())
}

/// The sheds that a key or token is limited to, for a table. An empty list means no limit.
pub(crate) fn sheds_cell(sheds: &[String]) -> String {
    if sheds.is_empty() { "all".to_owned() } else { sheds.join(",") }
}
