//! Runs tmux commands in a container.

use std::time::Duration;

use shed_link::{Ran, Refusal, Run, Status};
use shed_tmux::TmuxError;

use crate::Error;
use crate::link::Link;

/// How long a tmux command may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How often a command is tried whose tmux server went away: somebody restarted it.
const TRIES: u32 = 4;
/// Between two tries; shed-init starts a server within milliseconds.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Why a tmux command failed.
#[derive(Debug, thiserror::Error)]
pub enum TmuxFailure {
    /// The image has no tmux.
    #[error("there is no tmux in the image")]
    Missing,
    /// The tmux server went away, again and again.
    #[error("the tmux server went away")]
    Lost,
    /// There is no such session or window; tmux's message.
    #[error("{0}")]
    NoSession(String),
    /// A session of that name exists; tmux's message.
    #[error("{0}")]
    Duplicate(String),
    /// tmux printed more than 1 MiB.
    #[error("tmux printed more than 1 MiB")]
    TooLong,
    /// tmux failed otherwise; its message, printable.
    #[error("{0}")]
    Other(String),
    /// tmux could not be run.
    #[error(transparent)]
    Guest(#[from] Error),
}

/// A tmux command.
#[derive(Debug, Clone)]
pub struct Command {
    argv: Vec<String>,
    directory: Option<String>,
    expects_server: bool,
}

impl Command {
    /// The words of the command, with `tmux` first: see `shed_tmux::argv`.
    pub fn new(argv: Vec<String>) -> Self {
        Self { argv, directory: None, expects_server: false }
    }

    /// Runs it in this directory, which is where tmux opens what the command makes.
    #[must_use]
    pub fn directory(mut self, directory: Option<&str>) -> Self {
        self.directory = directory.map(str::to_owned);
        self
    }

    /// A tmux server should be there: if there is none, it is being restarted, and the command is tried again.
    #[must_use]
    pub fn expects_server(mut self) -> Self {
        self.expects_server = true;
        self
    }

    /// Runs the command and returns what it printed. One whose tmux server went away is tried again.
    pub async fn run(self, link: &Link) -> Result<String, TmuxFailure> {
        let mut tries = 1;
        loop {
            let failure = match self.run_once(link).await {
                Err(TmuxFailure::Lost) if tries < TRIES => TmuxFailure::Lost,
                Err(TmuxFailure::NoSession(said))
                    if tries < TRIES && self.expects_server && is_no_server(&said) =>
                {
                    TmuxFailure::NoSession(said)
                }
                done => return done,
            };
            tracing::debug!(%failure, "a tmux command is tried again");
            tries += 1;
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn run_once(&self, link: &Link) -> Result<String, TmuxFailure> {
        let run = Run {
            argv: self.argv.clone(),
            env: Vec::new(),
            directory: self.directory.clone(),
            timeout_ms: u64::try_from(LIMIT.as_millis()).unwrap_or(u64::MAX),
        };
        match link.run(run).await {
            Ok(ran) => read(ran),
            Err(Error::Refused(Refusal::NotExecutable { missing: true, .. })) => {
                Err(TmuxFailure::Missing)
            }
            Err(error) => Err(TmuxFailure::Guest(error)),
        }
    }
}

fn is_no_server(said: &str) -> bool {
    TmuxError::parse(said) == TmuxError::NoServer
}

fn read(ran: Ran) -> Result<String, TmuxFailure> {
    if ran.truncated {
        return Err(TmuxFailure::TooLong);
    }
    if ran.status == Status::Code(0) {
        return Ok(ran.stdout);
    }
    let said = shed_api::name::printable(ran.stderr.trim());
    Err(match TmuxError::parse(&ran.stderr) {
        TmuxError::NoServer | TmuxError::NoSession => TmuxFailure::NoSession(said),
        TmuxError::Lost => TmuxFailure::Lost,
        TmuxError::Duplicate => TmuxFailure::Duplicate(said),
        TmuxError::NoProcess(text) => {
            let text = shed_api::name::printable(&text);
            TmuxFailure::Guest(Error::Refused(Refusal::NoResources(text)))
        }
        TmuxError::Other(text) => TmuxFailure::Other(shed_api::name::printable(&text)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(status: Status, stderr: &str, truncated: bool) -> Ran {
        Ran { status, stdout: "out".to_owned(), stderr: stderr.to_owned(), truncated }
    }

    #[test]
    fn tmux_failures_have_their_meaning() {
        let failed = |stderr: &str| read(ran(Status::Code(1), stderr, false)).unwrap_err();
        assert_eq!(read(ran(Status::Code(0), "", false)).unwrap(), "out");
        assert!(matches!(read(ran(Status::Code(0), "", true)), Err(TmuxFailure::TooLong)));
        assert!(matches!(
            failed("create window failed: fork failed: Resource temporarily unavailable\n"),
            TmuxFailure::Guest(Error::Refused(Refusal::NoResources(_)))
        ));
        assert!(matches!(failed("can't find session: x\n"), TmuxFailure::NoSession(_)));
        assert!(matches!(failed("server exited unexpectedly\n"), TmuxFailure::Lost));
        assert!(matches!(failed("duplicate session: x\n"), TmuxFailure::Duplicate(_)));
        // What a shed prints reaches a terminal of ours.
        assert_eq!(failed("bad\x1b[2J\n").to_string(), shed_api::name::printable("bad\x1b[2J"));
    }

    #[test]
    fn a_missing_server_is_told_from_a_missing_session() {
        let said = |stderr: &str| match read(ran(Status::Code(1), stderr, false)) {
            Err(TmuxFailure::NoSession(said)) => is_no_server(&said),
            other => panic!("{other:?}"),
        };
        assert!(said("no server running on /tmp/tmux-1000/default\n"));
        assert!(!said("can't find session: x\n"));
    }
}
