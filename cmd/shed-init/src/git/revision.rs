//! Resolves the revisions of a request: bases and start points of branches.

use shed_link::git::{Base, FailureKind, Rev, Start};

use super::failure::Failure;
use super::repository::Repository;

/// A resolved base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolvedBase {
    /// The commit to compare the files with; `None` is the empty tree.
    pub(crate) commit: Option<String>,
    /// The commit to count commits from; `None` for the empty tree.
    pub(crate) tip: Option<String>,
}

/// A resolved start point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolvedStart {
    /// The commit's id.
    pub(crate) commit: String,
    /// The full ref that was given; `None` for a commit id.
    pub(crate) name: Option<String>,
}

/// Resolves a base.
pub(crate) fn base(
    repository: &Repository,
    base: &Base,
    head: Option<&str>,
) -> Result<ResolvedBase, Failure> {
    let gone = |rev: &Rev| {
        Failure::new(FailureKind::BaseGone, format!("base {:?} does not exist", rev.as_str()))
    };
    match (base, head) {
        (Base::Nothing, _) => Ok(ResolvedBase { commit: None, tip: None }),
        (Base::At(rev), _) => {
            let commit = find(repository, rev)?.ok_or_else(|| gone(rev))?.commit;
            Ok(ResolvedBase { commit: Some(commit.clone()), tip: Some(commit) })
        }
        (Base::Fork(rev), None) => {
            let tip = find(repository, rev)?.ok_or_else(|| gone(rev))?.commit;
            Ok(ResolvedBase { commit: None, tip: Some(tip) })
        }
        (Base::Fork(rev), Some(head)) => {
            let tip = find(repository, rev)?.ok_or_else(|| gone(rev))?.commit;
            let fork = repository.git.call("merge-base").args([head, &tip]).line()?;
            let Some(commit) = fork else {
                let text = format!("HEAD has no commit in common with base {:?}", rev.as_str());
                return Err(Failure::new(FailureKind::BaseGone, text));
            };
            Ok(ResolvedBase { commit: Some(commit), tip: Some(tip) })
        }
    }
}

/// Resolves the start point of a branch. The caller fetches pull requests before.
pub(crate) fn start(repository: &Repository, start: &Start) -> Result<ResolvedStart, Failure> {
    let missing = |text: String| Failure::new(FailureKind::NotFound, text);
    match start {
        Start::Default => {
            let found = repository.default_branch()?;
            let no_commit =
                || Failure::new(FailureKind::NoCommit, "the repository has no commit to start at");
            let (name, commit) = found.ok_or_else(no_commit)?;
            Ok(ResolvedStart { commit, name: Some(name) })
        }
        Start::Rev(rev) => {
            let text = format!("branch, tag or commit {:?} does not exist", rev.as_str());
            find(repository, rev)?.ok_or_else(|| missing(text))
        }
        Start::Pull(number) => {
            let name = pull_ref(*number);
            let text = format!("pull request {number} was not fetched");
            let commit = repository.commit_of(&name)?.ok_or_else(|| missing(text))?;
            Ok(ResolvedStart { commit, name: Some(name) })
        }
    }
}

/// The ref to which the head of a pull request is fetched.
pub(crate) fn pull_ref(number: u32) -> String {
    format!("refs/shed/pull/{number}")
}

/// Resolves a name as git does, otherwise as a branch of `origin`.
fn find(repository: &Repository, rev: &Rev) -> Result<Option<ResolvedStart>, Failure> {
    let remote = format!("refs/remotes/origin/{rev}");
    for name in [rev.as_str(), &remote] {
        let Some(commit) = repository.commit_of(name)? else { continue };
        let args = ["--symbolic-full-name", "--verify", "--quiet", "--end-of-options", name];
        let whole = repository.git.call("rev-parse").args(args).line()?;
        let name = whole.filter(|whole| whole.starts_with("refs/"));
        return Ok(Some(ResolvedStart { commit, name }));
    }
    Ok(None)
}
