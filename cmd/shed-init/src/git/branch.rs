//! Renames a branch.

use shed_link::git::{Branch, ContainerPath, FailureKind};

use super::failure::Failure;
use super::lock::Lock;
use super::repository::Repository;

/// Renames a branch, in all worktrees that have it checked out.
pub(crate) fn rename(worktree: &ContainerPath, from: &Branch, to: &Branch) -> Result<(), Failure> {
    let repository = Repository::open(worktree)?;
    let _lock = Lock::of_repository(&repository, None)?;
    let exists = |branch: &Branch| repository.commit_of(&format!("refs/heads/{branch}"));
    if from != to && exists(to)?.is_some() {
        let text = format!("branch {:?} already exists", to.as_str());
        return Err(Failure::new(FailureKind::Exists, text));
    }
    // Before the first commit the branch only exists as a name in HEAD.
    if exists(from)?.is_none() && repository.branch()?.as_deref() != Some(from.as_str()) {
        let text = format!("branch {:?} does not exist", from.as_str());
        return Err(Failure::new(FailureKind::NotFound, text));
    }
    let text = format!("cannot rename branch {:?}", from.as_str());
    let args = ["-m", "--", from.as_str(), to.as_str()];
    let ended = repository.git.call("branch").args(args).ended()?;
    if ended.status.success() {
        return Ok(());
    }
    // git renames the branch before its section of the configuration, which another git may have locked.
    if exists(from)?.is_none() && exists(to)?.is_some() {
        let (from, to) = (format!("branch.{from}"), format!("branch.{to}"));
        let args = ["--local", "--rename-section", &from, &to];
        repository.git.call("config").args(args).ended()?;
        return Ok(());
    }
    Err(ended.failure(&text))
}
