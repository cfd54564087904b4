//! Lists what deleting a worktree and its branch would lose.

use shed_api::git::{CommitLine, Risk};
use shed_api::name::printable;
use shed_link::git::{Base, Branch, ContainerPath, FailureKind, MAX_SHORT_LIST, Rev};

use super::failure::Failure;
use super::repository::Repository;
use super::revision;
use super::status::Status;

/// Commits that would be lost.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    n: u64,
    first: Vec<CommitLine>,
    merged: Option<bool>,
}

impl Commits {
    /// The same with changed files.
    pub(crate) fn with(self, status: Status) -> Risk {
        Risk {
            dirty: status.dirty,
            untracked: status.untracked,
            files: status.files,
            unpushed: self.n,
            commits: self.first,
            merged: self.merged,
            ..Risk::default()
        }
    }
}

/// Lists what would be lost with a worktree and a branch, which is the checked-out one by default.
pub(crate) fn risk(
    worktree: &ContainerPath,
    base: Option<&Rev>,
    branch: Option<&Branch>,
) -> Result<Risk, Failure> {
    let repository = Repository::open(worktree)?;
    let status = Status::of(&repository)?;
    let branch = match branch {
        Some(branch) => Some(branch.as_str().to_owned()),
        None => repository.branch()?,
    };
    let head = repository.head()?;
    Ok(commits(&repository, head.as_deref(), branch.as_deref(), base)?.with(status))
}

/// Lists the commits that no remote and no other branch has: those of the checked-out commit and of a branch that would be
/// deleted.
pub(crate) fn commits(
    repository: &Repository,
    head: Option<&str>,
    branch: Option<&str>,
    base: Option<&Rev>,
) -> Result<Commits, Failure> {
    let mut range: Vec<String> = head.map(str::to_owned).into_iter().collect();
    if let Some(branch) = branch {
        // The branch's commits count even if another commit is checked out.
        range.extend(repository.commit_of(&format!("refs/heads/{branch}"))?);
    }
    if range.is_empty() {
        return Ok(Commits::default());
    }
    range.extend(["--not".to_owned(), "--remotes".to_owned()]);
    // Commits that only this branch contains would be lost with it.
    range.extend(branch.map(|branch| format!("--exclude={branch}")));
    range.push("--branches".to_owned());
    let number = repository.git.call("rev-list").arg("--count").args(&range).arg("--").line()?;
    let n = number
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| Failure::new(FailureKind::Git, "git cannot count commits"))?;
    let most = format!("--max-count={MAX_SHORT_LIST}");
    let args = ["-z", "--no-color", "--no-notes", "--format=tformat:%H %s", &most];
    let log = repository.git.call("log").args(args).args(&range).arg("--");
    let log = log.output("cannot list commits")?;
    let merged = match (base, head) {
        (Some(base), Some(head)) => merged(repository, base, head)?,
        (None, _) | (_, None) => None,
    };
    Ok(Commits { n, first: log.split(|byte| *byte == 0).filter_map(commit_line).collect(), merged })
}

/// Whether the base contains all commits of `HEAD`; `None` if the base does not exist.
fn merged(repository: &Repository, base: &Rev, head: &str) -> Result<Option<bool>, Failure> {
    let base = match revision::base(repository, &Base::At(base.clone()), Some(head)) {
        Ok(base) => base.commit,
        Err(failure) if failure.kind() == FailureKind::BaseGone => None,
        Err(failure) => return Err(failure),
    };
    let Some(base) = base else { return Ok(None) };
    let call = repository.git.call("merge-base").args(["--is-ancestor", head, &base]);
    call.succeeds().map(Some)
}

fn commit_line(line: &[u8]) -> Option<CommitLine> {
    let line = String::from_utf8_lossy(line);
    let (commit, subject) = line.split_once(' ')?;
    Some(CommitLine { commit: commit.to_owned(), subject: printable(subject) })
}
