//! The pager: `$SHED_PAGER`, `$PAGER`, else `less -FRX`. It gets what a command prints to a terminal as data.
//!
//! It starts with the first byte, so that what ssh asks before is not asked under it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use tokio::signal::unix::{SignalKind, signal};

use crate::output::Out;

/// The pager of this program; it has one standard output.
static PAGER: Mutex<State> = Mutex::new(State::Off);

/// Options of `less`: end at once if the text fits the screen, pass colours on, leave the text on the screen.
const LESS_OPTIONS: &str = "FRX";

enum State {
    /// Data goes to standard output.
    Off,
    /// To be started with the first data.
    Wanted(Out),
    /// It reads what is written to standard output.
    Running(Child),
}

// The options of commands that page. No doc comment: clap would print it as the command's help.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Paging {
    /// Print without a pager
    #[arg(long)]
    no_pager: bool,
}

impl Paging {
    /// Shows what is printed from now on in the pager, if standard output is a terminal and takes text.
    pub(crate) fn begin(self, out: Out) {
        if !self.no_pager && out.is_text_on_terminal() {
            *PAGER.lock().unwrap_or_else(PoisonError::into_inner) = State::Wanted(out);
        }
    }
}

/// Starts the pager if one is wanted. Call it before data is written.
pub(crate) fn before_data() {
    let mut state = PAGER.lock().unwrap_or_else(PoisonError::into_inner);
    if let State::Wanted(out) = *state {
        *state = start(out).map_or(State::Off, State::Running);
    }
}

/// Ends the data and waits until the user has left the pager. Whether there was one.
pub(crate) fn end() -> bool {
    let mut state = PAGER.lock().unwrap_or_else(PoisonError::into_inner);
    let State::Running(mut pager) = std::mem::replace(&mut *state, State::Off) else {
        return false;
    };
    // Closes the pipe to it: nothing else has that open.
    if let Ok(null) = std::fs::File::options().write(true).open("/dev/null") {
        rustix::stdio::dup2_stdout(null).ok();
    }
    pager.wait().ok();
    true
}

fn start(out: Out) -> Option<Child> {
    let variables = ["SHED_PAGER", "PAGER"].map(std::env::var_os);
    let chosen = variables.into_iter().flatten().next();
    let words = match &chosen {
        Some(line) => words(line),
        None => vec!["less".into()],
    };
    let (program, arguments) = words.split_first()?;
    if program == "cat" && arguments.is_empty() {
        return None;
    }
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped());
    if std::env::var_os("LESS").is_none() || chosen.is_none() {
        command.env("LESS", LESS_OPTIONS);
    }
    let mut pager = match command.spawn() {
        Ok(pager) => pager,
        Err(error) => {
            // A machine need not have `less`.
            if chosen.is_some() {
                out.say(&format!("shed: cannot start the pager {}: {error}", program.display()));
            }
            return None;
        }
    };
    // Ctrl-C is the pager's. Once somebody has listened for it, it does not end this program.
    drop(signal(SignalKind::interrupt()));
    let input = pager.stdin.take()?;
    rustix::stdio::dup2_stdout(input).ok()?;
    Some(pager)
}

/// The words of a variable, separated by blanks. No shell interprets them.
fn words(line: &OsStr) -> Vec<OsString> {
    let parts = line.as_bytes().split(u8::is_ascii_whitespace).filter(|part| !part.is_empty());
    parts.map(|part| OsStr::from_bytes(part).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_split_at_blanks_only() {
        assert_eq!(words(OsStr::new(" less  -R;rm $HOME ")), ["less", "-R;rm", "$HOME"]);
        assert!(words(OsStr::new(" ")).is_empty());
    }
}
