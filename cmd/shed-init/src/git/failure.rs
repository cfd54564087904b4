//! Why git work failed, in words people and programs can use.

use std::io;

use rustix::io::Errno;
use shed_api::name::printable;
use shed_link::git::{FailureKind, GitFailure};

/// How many of git's last lines are passed on.
const MAX_GIT_LINES: usize = 12;
/// How many characters of them.
const MAX_GIT_CHARS: usize = 2_000;

/// A failure on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) Box<GitFailure>);

impl Failure {
    /// A failure without words of git's.
    pub(crate) fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        let text = printable(&text.into());
        Self(Box::new(GitFailure { kind, text, git: String::new() }))
    }

    /// The same with what git said.
    pub(crate) fn with_git(mut self, words: &[u8]) -> Self {
        self.0.git = told(words);
        self
    }

    /// The same with another kind, where the caller knows better than git's words.
    pub(crate) fn of_kind(mut self, kind: FailureKind) -> Self {
        if self.0.kind == FailureKind::Git {
            self.0.kind = kind;
        }
        self
    }

    /// Something the system did not do.
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

    /// There is no git.
    pub(crate) fn no_git() -> Self {
        Self::new(FailureKind::NoGit, "there is no git in this image")
    }

    /// What kind it is.
    pub(crate) fn kind(&self) -> FailureKind {
        self.0.kind
    }
}

/// What git's words say of the kind. They are in English: git runs with `LC_ALL=C`.
pub(crate) fn classify(words: &[u8]) -> FailureKind {
    let words = String::from_utf8_lossy(words);
    let says = |text: &str| words.contains(text);
    // Of a file it cannot write git says no more; it is the disk, nearly always.
    let full = ["No space left on device", "Disk quota exceeded", "unable to write file"];
    if full.into_iter().any(says) {
        FailureKind::NoSpace
    } else if says("Read-only file system") {
        FailureKind::ReadOnly
    } else if says("not a git repository") || says("must be run in a work tree") {
        FailureKind::NotARepository
    } else if says(".lock': File exists") {
        FailureKind::Busy
    } else if says("Permission denied") {
        FailureKind::Denied
    } else {
        FailureKind::Git
    }
}

/// The last lines, as text that steers no terminal.
fn told(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    let lines: Vec<String> =
        text.lines().filter(|line| !line.trim().is_empty()).map(printable).collect();
    let kept = lines[lines.len().saturating_sub(MAX_GIT_LINES)..].join("\n");
    kept.chars().take(MAX_GIT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_read_from_gits_words() {
        for (words, kind) in [
            ("error: file write error: No space left on device", FailureKind::NoSpace),
            ("fatal: cannot create directory at 'x': Read-only file system", FailureKind::ReadOnly),
            (
                "fatal: not a git repository (or any of the parent directories): .git",
                FailureKind::NotARepository,
            ),
            ("fatal: Unable to create '/w/.git/index.lock': File exists.", FailureKind::Busy),
            ("error: open(\"x\"): Permission denied", FailureKind::Denied),
            ("fatal: bad revision", FailureKind::Git),
        ] {
            assert_eq!(classify(words.as_bytes()), kind, "{words}");
        }
    }

    #[test]
    fn words_are_printable_and_short() {
        let words = format!("\u{1b}[31mred\n\n{}", "x\n".repeat(50));
        let failure = Failure::new(FailureKind::Git, "a\u{7}b").with_git(words.as_bytes());
        assert_eq!(failure.0.text, "a\u{fffd}b");
        assert_eq!(failure.0.git, ["x"; MAX_GIT_LINES].join("\n"));
        let failure = failure.with_git(b"\x1b[31mred\xff\n");
        assert_eq!(failure.0.git, "\u{fffd}[31mred\u{fffd}");
    }
}
