//! The local terminal: in raw mode while it shows a remote one, and restored afterwards.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use shed_api::stream::Tty;

use crate::failure::Failure;

/// The settings to restore; `None` while the terminal is not in raw mode.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Whether standard input and standard output are terminals.
pub(crate) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Columns of the terminal on standard error; 80 without one.
pub(crate) fn width() -> usize {
    tcgetwinsize(std::io::stderr()).map_or(80, |size| usize::from(size.ws_col)).max(1)
}

/// Size and type of the terminal, for the server.
pub(crate) fn tty() -> Tty {
    let (cols, rows) = size();
    Tty { cols, rows, term: std::env::var("TERM").unwrap_or_default(), ..Tty::default() }
}

/// Columns and rows; 80 and 24 without a terminal.
pub(crate) fn size() -> (u16, u16) {
    let size = tcgetwinsize(std::io::stdout()).or_else(|_| tcgetwinsize(std::io::stdin()));
    size.map_or((80, 24), |size| (size.ws_col, size.ws_row))
}

/// The local environment variables to pass to a remote terminal: colours and locale.
pub(crate) fn environment() -> std::collections::BTreeMap<String, String> {
    let is_passed = |name: &str| name == "COLORTERM" || name == "LANG" || name.starts_with("LC_");
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| is_passed(name))
        .collect()
}

/// Keeps the terminal in raw mode until it is dropped.
#[derive(Debug)]
pub(crate) struct Raw;

impl Raw {
    /// Switches the terminal to raw mode.
    pub(crate) fn enter() -> Result<Self, Failure> {
        let failed = |error: rustix::io::Errno| Failure::io("terminal")(error.into());
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal's settings if they were changed.
fn restore() {
    if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // Fails only when the terminal has gone.
        tcsetattr(std::io::stdin(), OptionalActions::Now, &before).ok();
    }
}

/// Switches off the modes that a lost connection may have left on: alternate screen, mouse, bracketed paste, focus
/// reports, hidden cursor, colours.
pub(crate) const RESET: &str = "\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1004l\x1b[?2004l\x1b[>4m\x1b[?25h\x1b[0m";
