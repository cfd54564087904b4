//! Failures of git operations, for people and programs.

use std::io;

use rustix::io::Errno;
use shed_api::name::printable;
use shed_link::git::{FailureKind, GitFailure};

/// The most lines of git's standard error that are passed on; the last ones.
const MAX_GIT_LINES: usize = 12;
/// The most characters of these lines.
const MAX_GIT_CHARS: usize = 2_000;

/// The failure of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) Box<GitFailure>);

impl Failure {
    /// A failure without output of git.
    pub(crate) fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        let text = printable(&text.into());
        Self(Box::new(GitFailure { kind, text, git: String::new() }))
    }

    /// The same with git's standard error.
    pub(crate) fn with_git(mut self, stderr: &[u8]) -> Self {
        self.0.git = last_lines(stderr);
        self
    }

    /// The same with another kind, unless git's output already gave a specific one.
    pub(crate) fn of_kind(mut self, kind: FailureKind) -> Self {
        if self.0.kind == FailureKind::Git {
            self.0.kind = kind;
        }
        self
    }

    /// A failed system call.
    pub(crate) fn io(what: &str, error: &io::Error) -> Self {
        let kind = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => FailureKind::NoSpace,
            Some(Errno::ROFS) => FailureKind::ReadOnly,
            Some(Errno::ACCESS | Errno::PERM) => FailureKind::Denied,
            Some(Errno::NOENT) => FailureKind::NotFound,
            _ => FailureKind::Git,
        };
        Self::new(kind, format!("{what}: {error}"))
    }

    /// The image has no git.
    pub(crate) fn no_git() -> Self {
        Self::new(FailureKind::NoGit, "this image has no git")
    }

    /// The kind of failure.
    pub(crate) fn kind(&self) -> FailureKind {
        self.0.kind
    }
}

/// The kind of failure, from git's standard error. Its messages are in English because git runs with `LC_ALL=C`.
pub(crate) fn classify(stderr: &[u8]) -> FailureKind {
    let stderr = String::from_utf8_lossy(stderr);
    let mentions = |text: &str| stderr.contains(text);
    // git gives no reason for "unable to write file"; nearly always the disk is full.
    let full = ["No space left on device", "Disk quota exceeded", "unable to write file"];
    if full.into_iter().any(mentions) {
        FailureKind::NoSpace
    } else if mentions("Read-only file system") {
        FailureKind::ReadOnly
    } else if mentions("not a git repository") || mentions("must be run in a work tree") {
        FailureKind::NotARepository
    } else if is_race(stderr.as_bytes()) {
        FailureKind::Busy
    } else if mentions("Permission denied") {
        FailureKind::Denied
    } else {
        FailureKind::Git
    }
}

/// Whether git failed because another git changed the repository at the same time.
pub(crate) fn is_race(stderr: &[u8]) -> bool {
    let stderr = String::from_utf8_lossy(stderr);
    let has = |line: &str, all: &[&str]| all.iter().all(|text| line.contains(text));
    stderr.lines().any(|line| {
        // The index, a ref, all packed refs.
        has(line, &[".lock': File exists"])
            || has(line, &["could not lock config file", "File exists"])
            // The record of a worktree that is being created or removed.
            || has(line, &["failed to read", "/commondir"])
            || has(line, &["could not create directory of", "No such file or directory"])
            // Another fetch has moved it.
            || has(line, &["cannot lock ref 'refs/remotes/", "but expected"])
    })
}

/// The last lines of git's standard error, made printable.
fn last_lines(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<String> =
        text.lines().filter(|line| !line.trim().is_empty()).map(printable).collect();
    let kept = lines[lines.len().saturating_sub(MAX_GIT_LINES)..].join("\n");
    kept.chars().take(MAX_GIT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gits_messages_are_classified() {
        for (stderr, kind) in [
            ("error: file write error: No space left on device", FailureKind::NoSpace),
            ("fatal: cannot create directory at 'x': Read-only file system", FailureKind::ReadOnly),
            (
                "fatal: not a git repository (or any of the parent directories): .git",
                FailureKind::NotARepository,
            ),
            ("fatal: Unable to create '/w/.git/index.lock': File exists.", FailureKind::Busy),
            ("error: could not lock config file .git/config: File exists", FailureKind::Busy),
            (
                "error: could not lock config file .git/config: Permission denied",
                FailureKind::Denied,
            ),
            ("fatal: failed to read .git/worktrees/x/commondir: Success", FailureKind::Busy),
            (
                "fatal: could not create directory of '.git/worktrees/x': No such file or directory",
                FailureKind::Busy,
            ),
            (
                "error: cannot lock ref 'refs/remotes/origin/x': is at 1 but expected 2",
                FailureKind::Busy,
            ),
            ("fatal: cannot lock ref 'refs/heads/x': is at 1 but expected 2", FailureKind::Git),
            ("error: open(\"x\"): Permission denied", FailureKind::Denied),
            ("fatal: bad revision", FailureKind::Git),
        ] {
            assert_eq!(classify(stderr.as_bytes()), kind, "{stderr}");
        }
    }

    #[test]
    fn gits_messages_are_printable_and_short() {
        let stderr = format!("\u{1b}[31mred\n\n{}", "x\n".repeat(50));
        let failure = Failure::new(FailureKind::Git, "a\u{7}b").with_git(stderr.as_bytes());
        assert_eq!(failure.0.text, "a\u{fffd}b");
        assert_eq!(failure.0.git, ["x"; MAX_GIT_LINES].join("\n"));
        let failure = failure.with_git(b"\x1b[31mred\xff\n");
        assert_eq!(failure.0.git, "\u{fffd}[31mred\u{fffd}");
    }
}
