//! Checks of requests for sessions and workers: what can be rejected without asking the shed.

use shed_api::session::{NewSession, SessionType};
use shed_api::worker::NewWorker;

use crate::{Rejection, env, tag};

/// The longest title in bytes.
const MAX_TITLE_BYTES: usize = 1024;
/// The longest prompt in bytes: it is one word of a command line, of which Linux takes 128 KiB.
pub const MAX_PROMPT_BYTES: usize = 100 << 10;
/// The longest command line in bytes, all words together.
const MAX_COMMAND_BYTES: usize = 120 << 10;
/// How much of an invalid path a rejection repeats.
const MAX_SHOWN_CHARS: usize = 200;

/// Checks a request for a session.
pub(crate) fn check(request: &NewSession) -> Result<(), Rejection> {
    let invalid = |text: &str| Err(Rejection::Invalid(text.to_owned()));
    let is_worktree = request.kind == Some(SessionType::Worktree);
    if !is_worktree
        && (request.branch.is_some()
            || request.base.is_some()
            || request.existing_branch
            || request.fetch)
    {
        return invalid("branch, base, existing_branch and fetch need type worktree");
    }
    if request.share.is_some()
        && (request.branch.is_some() || request.base.is_some() || request.directory.is_some())
    {
        return invalid("share excludes branch, base and directory");
    }
    if request.existing_branch && (request.branch.is_none() || request.base.is_some()) {
        return invalid("existing_branch needs branch, and excludes base");
    }
    if let Some(title) = &request.title {
        check_title(title)?;
    }
    tag::check(&request.tags)?;
    for words in [&request.setup, &request.teardown] {
        check_command(words)?;
    }
    env::check(request.env.iter().map(|(key, value)| (key.as_str(), value.as_str())))?;
    check_directory(request.directory.as_deref())
}

/// Checks a request for a worker.
pub(crate) fn check_worker(request: &NewWorker) -> Result<(), Rejection> {
    let invalid = |text: &str| Err(Rejection::Invalid(text.to_owned()));
    if request.agent.is_some() && !request.command.is_empty() {
        return invalid("invalid worker; expected an agent or a command, not both");
    }
    if request.agent.is_none() && (request.prompt.is_some() || request.model.is_some()) {
        return invalid("prompt and model need an agent");
    }
    if let Some(prompt) = &request.prompt {
        if prompt.len() > MAX_PROMPT_BYTES {
            return Err(Rejection::TooLarge(format!(
                "invalid prompt of {} bytes; expected at most {MAX_PROMPT_BYTES}",
                prompt.len()
            )));
        }
        if prompt.contains('\0') {
            return invalid("invalid prompt; expected text without NUL bytes");
        }
    }
    check_command(&request.command)?;
    env::check(request.env.iter().map(|(key, value)| (key.as_str(), value.as_str())))?;
    check_directory(request.directory.as_deref())
}

/// Checks a title: at most 1024 bytes without control characters.
pub fn check_title(title: &str) -> Result<(), Rejection> {
    if title.len() > MAX_TITLE_BYTES {
        return Err(Rejection::TooLarge(format!(
            "invalid title of {} bytes; expected at most {MAX_TITLE_BYTES}",
            title.len()
        )));
    }
    if title.chars().any(char::is_control) {
        return Err(Rejection::Invalid(format!(
            "invalid title {title:?}; expected text without control characters"
        )));
    }
    Ok(())
}

/// Checks a command: its first word names a program, no word has a NUL byte, and Linux takes its length. No words are valid.
fn check_command(words: &[String]) -> Result<(), Rejection> {
    if words.first().is_some_and(String::is_empty) {
        return Err(Rejection::Invalid(
            "invalid command \"\"; expected a program as its first word".to_owned(),
        ));
    }
    if words.iter().any(|word| word.contains('\0')) {
        let text = "invalid command; expected words without NUL bytes";
        return Err(Rejection::Invalid(text.to_owned()));
    }
    let n_bytes = words.iter().map(String::len).sum::<usize>();
    if n_bytes > MAX_COMMAND_BYTES {
        return Err(Rejection::TooLarge(format!(
            "invalid command of {n_bytes} bytes; expected at most {MAX_COMMAND_BYTES}"
        )));
    }
    Ok(())
}

/// Checks a working directory: an absolute path without NUL bytes. `None` is valid.
pub fn check_directory(directory: Option<&str>) -> Result<(), Rejection> {
    match directory {
        Some(dir) if !dir.starts_with('/') || dir.contains('\0') => {
            let shown: String = dir.chars().take(MAX_SHOWN_CHARS).collect();
            Err(Rejection::Invalid(format!(
                "invalid directory {shown:?}; expected an absolute path without NUL bytes"
            )))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
