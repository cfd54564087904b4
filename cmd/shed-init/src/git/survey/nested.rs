//! Repositories inside a directory that is to be removed: whether something in them exists nowhere else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::git::command::Git;
use crate::git::failure::Failure;
use crate::git::loose;
use crate::git::repository::Repository;
use crate::git::status::Status;
use crate::git::worktrees::real;

/// Why a damaged repository cannot be saved.
pub(super) const DAMAGED: &str = "a repository that git cannot read";

/// What removing a repository with its directory would lose, in words; `None` if its remotes, or the repository that it is
/// a worktree of, have everything. `doomed` are the directories that are to be removed.
pub(super) fn loss(nested: &Repository, doomed: &[&Path]) -> Result<Option<String>, Failure> {
    let mut parts = Vec::new();
    let goes = doomed.iter().any(|doomed| nested.common_dir.starts_with(doomed));
    let n_commits = if goes {
        count(&nested.git, &["--all"], &["--remotes"], nested.head()?, &nested.git_dir)?
    } else {
        let others = ["--branches", "--tags", "--remotes"];
        count(&nested.git, &[], &others, nested.head()?, &nested.git_dir)?
    };
    parts.extend(counted(n_commits, "unpushed commit"));
    parts.extend(counted(Status::of(nested)?.n_files(), "changed file"));
    Ok((!parts.is_empty()).then(|| format!("a repository of its own with {}", parts.join(" and "))))
}

/// The git directories of submodules below `modules`, those of submodules in submodules included.
pub(super) fn modules(record: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut left = vec![record.join("modules")];
    while let Some(directory) = left.pop() {
        if directory.join("HEAD").is_file() && directory.join("objects").is_dir() {
            left.push(directory.join("modules"));
            found.insert(real(&directory));
            continue;
        }
        let entries = fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok);
        left.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
    found
}

/// What removing the git directory of a submodule without a working tree would lose, in words.
pub(super) fn module_loss(git_dir: &Path) -> Result<Option<String>, Failure> {
    let git = Git::through(git_dir, git_dir);
    let args = ["--verify", "--quiet", "--end-of-options", "HEAD^{commit}"];
    let head = git.call("rev-parse").args(args).line()?;
    let n_commits = count(&git, &["--all"], &["--remotes"], head, git_dir)?;
    let lost = counted(n_commits, "unpushed commit");
    Ok(lost.map(|lost| format!("the repository of a submodule with {lost}")))
}

/// The number of commits that these refs, `HEAD` and an operation in progress reach and the others do not.
fn count(
    git: &Git,
    refs: &[&str],
    others: &[&str],
    head: Option<String>,
    git_dir: &Path,
) -> Result<u64, Failure> {
    // Only what is in progress: what `HEAD` once was and `git fetch` brought is either reachable or was given up.
    let in_progress = loose::named_in(git, &loose::in_progress(git_dir))?;
    let ids: String = head.into_iter().chain(in_progress).map(|id| id + "\n").collect();
    if ids.is_empty() && refs.is_empty() {
        return Ok(0);
    }
    let args = ["--count", "--single-worktree"];
    let call = git.call("rev-list").args(args).args(refs).arg("--stdin").arg("--not").args(others);
    let output = call.input(ids.into_bytes()).output("git cannot count commits")?;
    let number = String::from_utf8_lossy(&output).trim().parse();
    number.map_err(|_| Failure::new(shed_link::git::FailureKind::Git, "git cannot count commits"))
}

fn counted(n: u64, one: &str) -> Option<String> {
    match n {
        0 => None,
        1 => Some(format!("1 {one}")),
        n => Some(format!("{n} {one}s")),
    }
}
