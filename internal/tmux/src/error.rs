//! tmux's error messages.

/// A failed tmux command. tmux has no error codes, so its message is parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TmuxError {
    /// No tmux server is running.
    #[error("no tmux server is running")]
    NoServer,
    /// The server ended while the command was running, and the command was not carried out. Two servers that start at the
    /// same moment do this to each other (tmux 3.3a).
    #[error("the tmux server ended unexpectedly")]
    Lost,
    /// The session, window or pane does not exist.
    #[error("no such session")]
    NoSession,
    /// A session of this name already exists.
    #[error("the session already exists")]
    Duplicate,
    /// No process could be started: the limit of processes is reached.
    #[error("tmux: {0}")]
    NoProcess(String),
    /// Any other error: the first line of tmux's message.
    #[error("tmux: {0}")]
    Other(String),
}

impl TmuxError {
    /// Parses tmux's standard error.
    pub fn parse(stderr: &str) -> Self {
        let text = stderr.trim();
        let first = text.lines().next().unwrap_or_default();
        if first.starts_with("no server running on")
            || (first.starts_with("error connecting to")
                && (first.contains("No such file") || first.contains("Connection refused")))
        {
            Self::NoServer
        } else if first == "server exited unexpectedly" || first == "lost server" {
            Self::Lost
        } else if first.starts_with("can't find session")
            || first.starts_with("can't find window")
            || first.starts_with("can't find pane")
            || first.starts_with("session not found")
            || first == "no sessions"
            || first == "no current target"
            || first == "no current session"
        {
            Self::NoSession
        } else if first.starts_with("duplicate session") {
            Self::Duplicate
        } else if first.contains("fork failed") {
            Self::NoProcess(first.to_owned())
        } else {
            Self::Other(first.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_messages_are_classified() {
        let no_server = "no server running on /tmp/tmux-0/default\n";
        assert_eq!(TmuxError::parse(no_server), TmuxError::NoServer);
        let limit = "create window failed: fork failed: Resource temporarily unavailable";
        assert_eq!(TmuxError::parse(limit), TmuxError::NoProcess(limit.to_owned()));
        let no_socket = "error connecting to /tmp/tmux-0/default (No such file or directory)";
        assert_eq!(TmuxError::parse(no_socket), TmuxError::NoServer);
        assert_eq!(TmuxError::parse("can't find session: foo"), TmuxError::NoSession);
        assert_eq!(TmuxError::parse("duplicate session: foo"), TmuxError::Duplicate);
        let denied = "error connecting to /tmp/tmux-0/default (Permission denied)";
        assert_eq!(TmuxError::parse(denied), TmuxError::Other(denied.to_owned()));
    }
}
