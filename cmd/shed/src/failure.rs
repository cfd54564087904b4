//! Why a command failed: the message, the hint and the exit status.

use shed_api::problem::exit;
use shed_client::ClientError;

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Lower case, no full stop, names the thing. Empty: nothing is printed.
    pub(crate) text: String,
    /// A command to paste.
    pub(crate) hint: Option<String>,
    /// See `shed_api::problem::exit`.
    pub(crate) status: u8,
}

/// Exit status after Ctrl-C: 128 + SIGINT, as shells report it.
pub(crate) const INTERRUPTED: u8 = 130;
/// Exit status when the reader of standard output has gone: 128 + SIGPIPE, as shells report it.
pub(crate) const BROKEN_PIPE: u8 = 141;

/// Result of a command: the exit status, unless it failed.
pub(crate) type Outcome = Result<u8, Failure>;

impl Failure {
    /// A failure with status 1.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), hint: None, status: exit::FAILED }
    }

    /// The request is invalid as given.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(text).with_status(exit::USAGE)
    }

    /// The named thing does not exist.
    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::new(text).with_status(exit::NOT_FOUND)
    }

    /// The reader of standard output has gone; prints nothing.
    pub(crate) fn broken_pipe() -> Self {
        Self::new("").with_status(BROKEN_PIPE)
    }

    /// Sets the exit status.
    pub(crate) fn with_status(self, status: u8) -> Self {
        Self { status, ..self }
    }

    /// Sets the command to paste.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Prefixes an error of the operating system with what failed: a path or a thing.
    pub(crate) fn io(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::new(format!("{what}: {error}"))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let status = error.exit_status();
        let hint = match &error {
            ClientError::Problem(problem) => problem.hint.clone(),
            ClientError::Unreachable { .. } => Some("shed doctor".to_owned()),
            ClientError::Lost { .. } | ClientError::Protocol { .. } => None,
        };
        Self { text: error.to_string(), hint, status }
    }
}

/// Words as a command line to paste: those a POSIX shell would change are quoted.
pub(crate) fn command_line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    let quoted = words.into_iter().map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            word.to_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_change_them() {
        let words = ["echo", "a b", "$HOME", "it's", "", "--x=1"];
        assert_eq!(command_line(words), r"echo 'a b' '$HOME' 'it'\''s' '' --x=1");
    }
}
