//! The local terminal: raw while a remote one is shown in it, and always restored.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use shed_api::stream::Tty;

use crate::failure::Failure;

/// The settings to put back; `None` while the terminal is as it was.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Whether a person sits at both ends.
pub(crate) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Columns of the terminal, or 80.
pub(crate) fn width() -> usize {
    tcgetwinsize(std::io::stderr()).map_or(80, |size| usize::from(size.ws_col)).max(1)
}

/// The terminal as the server wants to know it.
pub(crate) fn tty() -> Tty {
    let (cols, rows) = size();
    Tty { cols, rows, term: std::env::var("TERM").unwrap_or_default() }
}

/// Columns and rows; 80 and 24 without a terminal.
pub(crate) fn size() -> (u16, u16) {
    let size = tcgetwinsize(std::io::stdout()).or_else(|_| tcgetwinsize(std::io::stdin()));
    size.map_or((80, 24), |size| (size.ws_col, size.ws_row))
}

/// What of the local environment a remote terminal should have.
pub(crate) fn environment() -> std::collections::BTreeMap<String, String> {
    let wanted = |name: &str| name == "COLORTERM" || name == "LANG" || name.starts_with("LC_");
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| wanted(name))
        .collect()
}

/// The terminal is raw as long as this lives.
#[derive(Debug)]
pub(crate) struct Raw;

impl Raw {
    /// Makes the terminal raw. A panic or a signal that ends the program restores it, too.
    pub(crate) fn enter() -> Result<Self, Failure> {
        let failed = |error: rustix::io::Errno| Failure::io("the terminal")(error.into());
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

/// Puts the terminal's settings back, if they were changed.
pub(crate) fn restore() {
    if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // A terminal that is gone needs no settings.
        tcsetattr(std::io::stdin(), OptionalActions::Now, &before).ok();
    }
}

/// What a connection that broke in the middle may have left switched on in the terminal: alternate screen, mouse,
/// bracketed paste, focus reports, a hidden cursor, colours.
pub(crate) const RESET: &str = "\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1004l\x1b[?2004l\x1b[>4m\x1b[?25h\x1b[0m";
