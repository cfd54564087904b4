//! What tmux says when it does not do a thing.

/// A failure of a tmux command, by its text. tmux has no codes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TmuxError {
    /// No server runs, so there is no session.
    #[error("no tmux server is running")]
    NoServer,
    /// The server went away while it was asked. Two that start at the same moment do that to each other (tmux 3.3a); what
    /// was asked for was not done.
    #[error("the tmux server went away")]
    Lost,
    /// No such session (or none at all).
    #[error("no such session")]
    NoSession,
    /// A session of that name exists.
    #[error("the session exists")]
    Duplicate,
    /// Anything else, as tmux said it.
    #[error("tmux: {0}")]
    Other(String),
}

impl TmuxError {
    /// Reads tmux's standard error.
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
        } else {
            Self::Other(first.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wording_has_its_meaning() {
        let no_server = "no server running on /tmp/tmux-0/default\n";
        assert_eq!(TmuxError::parse(no_server), TmuxError::NoServer);
        let no_socket = "error connecting to /tmp/tmux-0/default (No such file or directory)";
        assert_eq!(TmuxError::parse(no_socket), TmuxError::NoServer);
        assert_eq!(TmuxError::parse("can't find session: foo"), TmuxError::NoSession);
        assert_eq!(TmuxError::parse("duplicate session: foo"), TmuxError::Duplicate);
        let denied = "error connecting to /tmp/tmux-0/default (Permission denied)";
        assert_eq!(TmuxError::parse(denied), TmuxError::Other(denied.to_owned()));
    }
}
