//! Questions to the user, asked on standard error and answered on standard input.

use std::io::{BufRead as _, IsTerminal as _};

use crate::failure::Failure;
use crate::output::Out;

/// Asks for a confirmation; fails unless the answer is yes. Without a terminal it fails as a usage error, with `unattended`
/// as hint: the command that needs no confirmation.
pub(crate) fn confirm(question: &str, unattended: String, out: Out) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("confirmation needs a terminal").hint(unattended));
    }
    if matches!(ask(&format!("{question} [y/N]"), out)?.as_str(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::new("cancelled; nothing was changed"))
    }
}

/// Asks a question and returns the answer without surrounding blanks.
pub(crate) fn ask(question: &str, out: Out) -> Result<String, Failure> {
    out.say(question);
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(Failure::io("standard input"))?;
    Ok(answer.trim().to_owned())
}
