//! Gives a branch another name, in every worktree that has it.

use shed_link::git::{BoxPath, Branch, FailureKind};

use super::failure::Failure;
use super::repository::Repository;

/// Renames it.
pub(crate) fn rename(worktree: &BoxPath, from: &Branch, to: &Branch) -> Result<(), Failure> {
    let repository = Repository::open(worktree)?;
    let exists = |branch: &Branch| repository.commit_of(&format!("refs/heads/{branch}"));
    if from != to && exists(to)?.is_some() {
        let text = format!("there is a branch {:?} already", to.as_str());
        return Err(Failure::new(FailureKind::Exists, text));
    }
    // Before the first commit the branch is only a name in HEAD.
    if exists(from)?.is_none() && repository.branch()?.as_deref() != Some(from.as_str()) {
        let text = format!("there is no branch {:?}", from.as_str());
        return Err(Failure::new(FailureKind::NotFound, text));
    }
    let text = format!("cannot rename the branch {:?}", from.as_str());
    let words = ["-m", "--", from.as_str(), to.as_str()];
    repository.git.call("branch").args(words).done(&text)
}
