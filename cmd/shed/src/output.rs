//! All printing: data goes to standard output, messages to standard error.
//!
//! What they hold may come from a shed. On a terminal it is made visible, so that the terminal does not act on it; elsewhere it
//! is printed as it is. The exceptions are the terminals and commands of a shed, whose bytes are for the terminal: `raw`.

use std::borrow::Cow;
use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;
use shed_report::{PatchText, visible, visible_json, visible_with_colours};

use crate::failure::Failure;
use crate::pager;

/// Prints data to standard output and messages to standard error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    json: bool,
    /// Whether standard output is a terminal, possibly below a pager.
    terminal: bool,
}

impl Out {
    /// Prints data as JSON if `json`, else as tables and text.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, terminal: std::io::stdout().is_terminal() }
    }

    /// Whether data is printed as JSON.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Whether data is printed as text to a terminal.
    pub(crate) fn is_text_on_terminal(self) -> bool {
        self.terminal && !self.json
    }

    /// Prints data: as JSON with `--json`, else as `text` formats it.
    pub(crate) fn data<T: Serialize>(
        self,
        data: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.json {
            let json = serde_json::to_string_pretty(data)
                .map_err(|error| Failure::new(error.to_string()))?;
            return self.line(&json);
        }
        let text = text();
        if text.is_empty() { Ok(()) } else { self.raw(self.shown(&text).as_bytes()) }
    }

    /// Prints text of a screen: on a terminal with its colours, and no other escape sequences.
    pub(crate) fn screen(self, text: &str) -> Result<(), Failure> {
        let shown = if self.terminal {
            Cow::Owned(visible_with_colours(text))
        } else {
            Cow::Borrowed(text)
        };
        self.raw(shown.as_bytes())
    }

    /// Prints a line of data.
    pub(crate) fn line(self, text: &str) -> Result<(), Failure> {
        self.raw(format!("{}\n", self.shown(text)).as_bytes())
    }

    /// How a patch is printed to a terminal; `None` if its bytes are printed as they are.
    pub(crate) fn patch(self) -> Option<PatchText> {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        self.terminal.then(|| PatchText::new(!is_dumb && !is_set("NO_COLOR")))
    }

    /// Data as it may be printed to standard output.
    pub(crate) fn shown(self, text: &str) -> Cow<'_, str> {
        match self.terminal {
            false => Cow::Borrowed(text),
            true if self.json => visible_json(text),
            true => visible(text),
        }
    }

    /// Prints bytes as they are. A closed pipe ends the command without a message.
    #[expect(clippy::unused_self, reason = "all printing goes through the printer")]
    pub(crate) fn raw(self, bytes: &[u8]) -> Result<(), Failure> {
        pager::before_data();
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                Err(Failure::broken_pipe())
            }
            result => result.map_err(Failure::io("standard output")),
        }
    }

    /// Passes on bytes that a process in a shed wrote to its standard error.
    #[expect(clippy::unused_self, reason = "all printing goes through the printer")]
    pub(crate) fn raw_error(self, bytes: &[u8]) {
        let mut stderr = std::io::stderr().lock();
        // A failure here cannot be reported anywhere.
        stderr.write_all(bytes).and_then(|()| stderr.flush()).ok();
    }

    /// Prints a message to standard error.
    #[expect(clippy::unused_self, reason = "all printing goes through the printer")]
    pub(crate) fn say(self, text: &str) {
        // A failure here cannot be reported anywhere.
        writeln!(std::io::stderr(), "{}", shown_message(text)).ok();
    }

    /// Prints a message on a line of its own while the terminal is in raw mode.
    #[expect(clippy::unused_self, reason = "all printing goes through the printer")]
    pub(crate) fn say_in_raw_mode(self, text: &str) {
        write!(std::io::stderr(), "\r\n{}\r\n", shown_message(text)).ok();
    }

    /// Shows progress on a terminal: a line that the next one replaces. Prints nothing elsewhere.
    #[expect(clippy::unused_self, reason = "all printing goes through the printer")]
    pub(crate) fn progress(self, text: &str) {
        if std::io::stderr().is_terminal() {
            let width = crate::terminal::width().saturating_sub(1).max(20);
            let text: String = shown_message(text).chars().take(width).collect();
            write!(std::io::stderr(), "\r\x1b[K{text}").ok();
        }
    }

    /// Erases the progress line.
    #[expect(clippy::unused_self, reason = "all printing goes through the printer")]
    pub(crate) fn end_progress(self) {
        if std::io::stderr().is_terminal() {
            write!(std::io::stderr(), "\r\x1b[K").ok();
        }
    }

    /// Prints a failure with its hint.
    pub(crate) fn failure(self, failure: &Failure) {
        if failure.text.is_empty() {
            return;
        }
        self.say(&format!("shed: {}", failure.text));
        if let Some(hint) = &failure.hint {
            self.say(&format!("  try: {hint}"));
        }
    }
}

/// A message as it may be printed to standard error.
fn shown_message(text: &str) -> Cow<'_, str> {
    if std::io::stderr().is_terminal() { visible(text) } else { Cow::Borrowed(text) }
}
