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
        return invalid("give an agent or a command, not both");
    }
    if request.agent.is_none() && (request.prompt.is_some() || request.model.is_some()) {
        return invalid("prompt and model need an agent");
    }
    if let Some(prompt) = &request.prompt {
        if prompt.len() > MAX_PROMPT_BYTES {
            return Err(Rejection::TooLarge(format!(
                "the prompt is over {MAX_PROMPT_BYTES} bytes"
            )));
        }
        if prompt.contains('\0') {
            return invalid("the prompt has a NUL byte in it");
        }
    }
    check_command(&request.command)?;
    env::check(request.env.iter().map(|(key, value)| (key.as_str(), value.as_str())))?;
    check_directory(request.directory.as_deref())
}

/// Checks a title: at most 1024 bytes without control characters.
pub fn check_title(title: &str) -> Result<(), Rejection> {
    if title.len() > MAX_TITLE_BYTES {
        return Err(Rejection::TooLarge(format!("the title is over {MAX_TITLE_BYTES} bytes")));
    }
    if title.chars().any(char::is_control) {
        return Err(Rejection::Invalid("the title has a control character in it".to_owned()));
    }
    Ok(())
}

fn check_command(words: &[String]) -> Result<(), Rejection> {
    if words.first().is_some_and(String::is_empty) {
        return Err(Rejection::Invalid("the command is empty".to_owned()));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err(Rejection::Invalid("a word of the command has a NUL byte in it".to_owned()));
    }
    if words.iter().map(String::len).sum::<usize>() > MAX_COMMAND_BYTES {
        return Err(Rejection::TooLarge(format!("the command is over {MAX_COMMAND_BYTES} bytes")));
    }
    Ok(())
}

fn check_directory(directory: Option<&str>) -> Result<(), Rejection> {
    if directory.is_some_and(|dir| !dir.starts_with('/') || dir.contains('\0')) {
        return Err(Rejection::Invalid("the directory must be an absolute path".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
