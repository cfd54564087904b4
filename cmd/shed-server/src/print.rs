//! Output: data goes to stdout, as text or as JSON; messages go to stderr. What they hold may come from a shed: on a terminal it
//! is made visible, so that the terminal does not act on it.

use std::borrow::Cow;
use std::io::{IsTerminal as _, Write as _};

use chrono::{DateTime, Utc};
use serde::Serialize;
use shed_report::{visible, visible_json};

use crate::globals::Globals;

/// Prints data: as JSON with `--json`, else as `text` shows it.
pub(crate) fn print<T: Serialize>(
    globals: &Globals,
    data: &T,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    if globals.json {
        let json = serde_json::to_string_pretty(data)? + "\n";
        let on_terminal = std::io::stdout().is_terminal();
        return write(&if on_terminal {
            visible_json(&json)
        } else {
            Cow::Borrowed(json.as_str())
        });
    }
    print_text(&text())
}

/// Prints text to stdout. A reader that went away is not an error.
pub(crate) fn print_text(text: &str) -> anyhow::Result<()> {
    let on_terminal = std::io::stdout().is_terminal();
    write(&if on_terminal { visible(text) } else { Cow::Borrowed(text) })
}

fn write(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Prints a message for the user.
pub(crate) fn say(text: &str) {
    // A command does not fail because its messages cannot be shown.
    let on_terminal = std::io::stderr().is_terminal();
    let text = if on_terminal { visible(text) } else { Cow::Borrowed(text) };
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
