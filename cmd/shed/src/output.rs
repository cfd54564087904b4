//! All printing: data goes to standard output, messages to standard error.

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;

use crate::failure::Failure;

/// Prints data to standard output and messages to standard error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    json: bool,
}

impl Out {
    /// Prints data as JSON if `json`, else as tables and text.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether data is printed as JSON.
    pub(crate) fn is_json(self) -> bool {
        self.json
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
        if text.is_empty() { Ok(()) } else { self.raw(text.as_bytes()) }
    }

    /// Prints a line of data.
    pub(crate) fn line(self, text: &str) -> Result<(), Failure> {
        self.raw(format!("{text}\n").as_bytes())
    }

    /// Prints bytes of data. A closed pipe ends the command without a message.
    #[expect(clippy::unused_self, reason = "all printing goes through the printer")]
    pub(crate) fn raw(self, bytes: &[u8]) -> Result<(), Failure> {
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
        writeln!(std::io::stderr(), "{text}").ok();
    }

    /// Shows progress on a terminal: a line that the next one replaces. Prints nothing elsewhere.
    #[expect(clippy::unused_self, reason = "all printing goes through the printer")]
    pub(crate) fn progress(self, text: &str) {
        if std::io::stderr().is_terminal() {
            let width = crate::terminal::width().saturating_sub(1).max(20);
            let text: String = text.chars().take(width).collect();
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
