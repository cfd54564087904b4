//! The only printer: standard output is data, standard error is talk.

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;

use crate::failure::Failure;

/// Where everything goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    json: bool,
}

impl Out {
    /// Data as JSON, or as tables and text.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether data is JSON.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Data: JSON if that was asked for, else what `text` makes of it.
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

    /// A line of data.
    pub(crate) fn line(self, text: &str) -> Result<(), Failure> {
        self.raw(format!("{text}\n").as_bytes())
    }

    /// Bytes of data. A reader that has seen enough ends the command, and nothing is said about it.
    #[expect(clippy::unused_self, reason = "printing goes through the printer")]
    pub(crate) fn raw(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::unread()),
            result => result.map_err(Failure::io("standard output")),
        }
    }

    /// Bytes that a process in a shed printed as errors.
    #[expect(clippy::unused_self, reason = "printing goes through the printer")]
    pub(crate) fn raw_error(self, bytes: &[u8]) {
        let mut stderr = std::io::stderr().lock();
        // There is nowhere left to say it.
        stderr.write_all(bytes).and_then(|()| stderr.flush()).ok();
    }

    /// A line for people.
    #[expect(clippy::unused_self, reason = "printing goes through the printer")]
    pub(crate) fn say(self, text: &str) {
        // Nobody listens when this fails.
        writeln!(std::io::stderr(), "{text}").ok();
    }

    /// A line for people that the next one replaces, on a terminal; nothing elsewhere.
    #[expect(clippy::unused_self, reason = "printing goes through the printer")]
    pub(crate) fn progress(self, text: &str) {
        if std::io::stderr().is_terminal() {
            let width = crate::terminal::width().saturating_sub(1).max(20);
            let text: String = text.chars().take(width).collect();
            write!(std::io::stderr(), "\r\x1b[K{text}").ok();
        }
    }

    /// Removes the last progress line.
    #[expect(clippy::unused_self, reason = "printing goes through the printer")]
    pub(crate) fn end_progress(self) {
        if std::io::stderr().is_terminal() {
            write!(std::io::stderr(), "\r\x1b[K").ok();
        }
    }

    /// A failure, with its hint.
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
