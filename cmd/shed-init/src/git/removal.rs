//! Removes a worktree. Its commits are saved to the trash first. Nothing outside of its directory is touched.

use std::fs;
use std::path::Path;

use shed_api::git::quote_path;
use shed_link::git::{FailureKind, RemoveWorktree, RemovedWorktree};

use super::checkpoint;
use super::directory;
use super::failure::Failure;
use super::private_index;
use super::refs::{self, Step};
use super::repository::Repository;
use super::trash;
use super::worktree::{forget_branch, forget_record};
use super::worktrees::{self, Worktree};
use crate::clock::unix_seconds;

/// The most entries of one name in the trash of one day. More would be the result of a faulty loop.
const MAX_NAMESAKES: u32 = 1_000;

/// The planned changes of refs.
#[derive(Debug, Default)]
struct Plan {
    /// Refs to create in the trash before anything is removed.
    saved: Vec<Step>,
    /// Refs to delete after everything is removed.
    dropped: Vec<Step>,
    /// Whether the branch is among them.
    branch_deleted: bool,
    /// Why the branch is kept although its deletion was requested.
    branch_kept: Option<String>,
}

/// Removes a worktree.
pub(crate) fn remove(request: &RemoveWorktree) -> Result<RemovedWorktree, Failure> {
    let repository = Repository::open(&request.repo)?;
    let path = Path::new(request.path.as_str());
    let list = worktrees::list(&repository)?;
    let own = find(&repository, path, &list)?;
    let plan = plan(&repository, request, own.as_ref(), &list)?;
    refs::apply(&repository, &plan.saved)?;
    let existed = fs::symlink_metadata(path).is_ok();
    // Looked up while the directory exists, since its path may contain symlinks.
    let record = worktrees::record(&repository, path);
    directory::remove(path).map_err(|error| {
        let shown = quote_path(path.as_os_str().as_encoded_bytes());
        Failure::io(&format!("cannot remove {shown} completely"), &error)
    })?;
    forget_record(&repository, record);
    refs::apply(&repository, &plan.dropped)?;
    if plan.branch_deleted {
        forget_branch(&repository, request.branch.as_str());
    }
    if let Some(session) = &request.session {
        let indexes = private_index::directory(&repository, request.state.as_ref());
        private_index::forget(&indexes, session);
    }
    let name = |step: Step| match step {
        Step::Create { name, .. } | Step::Delete { name, .. } => name,
    };
    Ok(RemovedWorktree {
        trash: plan.saved.into_iter().map(name).collect(),
        directory: existed,
        branch_deleted: plan.branch_deleted,
        branch_kept: plan.branch_kept,
    })
}

/// git's record of the worktree at a path. Another path is refused, unless it does not exist or is a broken worktree.
fn find(
    repository: &Repository,
    path: &Path,
    list: &[Worktree],
) -> Result<Option<Worktree>, Failure> {
    let shown = quote_path(path.as_os_str().as_encoded_bytes());
    let refuse = |text: String| Err(Failure::new(FailureKind::Invalid, text));
    let real = worktrees::real(path);
    if repository.common_dir.starts_with(&real) {
        return refuse(format!("{shown} contains the repository"));
    }
    let mut own = None;
    for (n, worktree) in list.iter().enumerate() {
        let top = worktrees::real(&worktree.path);
        if top == real && n > 0 {
            own = Some(worktree.clone());
        } else if top.starts_with(&real) {
            return refuse(format!("{shown} contains another working tree of the repository"));
        }
    }
    match &own {
        Some(own) if own.locked => {
            let text = format!(
                "worktree {shown} is locked; unlock it in the shed: git worktree unlock {shown}"
            );
            return Err(Failure::new(FailureKind::Locked, text));
        }
        Some(_) => return Ok(own),
        None => {}
    }
    let broken = fs::symlink_metadata(path.join(".git")).is_ok_and(|file| file.is_file());
    let empty = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    if fs::symlink_metadata(path).is_ok() && !broken && !empty {
        return refuse(format!("{shown} is not a worktree of the repository"));
    }
    Ok(None)
}

fn plan(
    repository: &Repository,
    request: &RemoveWorktree,
    own: Option<&Worktree>,
    list: &[Worktree],
) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    let name = format!("refs/heads/{}", request.branch);
    let tip = repository.commit_of(&name)?;
    let user = list.iter().find(|worktree| {
        worktree.branch.as_deref() == Some(&name) && own.is_none_or(|own| own.path != worktree.path)
    });
    let mut saved = Vec::new();
    match (&tip, user) {
        (Some(_), Some(user)) if request.delete_branch => {
            let place = quote_path(user.path.as_os_str().as_encoded_bytes());
            plan.branch_kept = Some(format!("it is checked out in {place}"));
        }
        (Some(tip), None) if request.delete_branch => {
            saved.push(("", tip.clone()));
            plan.dropped.push(Step::Delete { name, commit: tip.clone() });
            plan.branch_deleted = true;
        }
        _ => {}
    }
    // Another commit than the branch is checked out; there may be no other ref to it.
    if let Some(head) = own.and_then(|own| own.head.as_ref())
        && tip.as_ref() != Some(head)
    {
        saved.push((trash::HEAD, head.clone()));
    }
    if let Some(session) = &request.session {
        let checkpoints = checkpoint::list_of(repository, session)?;
        if let Some(last) = checkpoints.last() {
            saved.push((trash::CHECKPOINT, last.commit.clone()));
        }
        let prefix = checkpoint::prefix(session);
        let step = |entry: refs::Entry| Step::Delete { name: entry.name, commit: entry.commit };
        plan.dropped.extend(refs::list(repository, &prefix)?.into_iter().map(step));
    }
    if !saved.is_empty() {
        let base = free_name(repository, request.trash.as_str())?;
        plan.saved = saved
            .into_iter()
            .map(|(suffix, commit)| Step::Create { name: format!("{base}{suffix}"), commit })
            .collect();
    }
    Ok(plan)
}

/// A free name in today's trash.
fn free_name(repository: &Repository, name: &str) -> Result<String, Failure> {
    let day = checkpoint::time(unix_seconds()).format("%Y%m%d");
    let prefix = format!("{}{day}/", trash::PREFIX);
    let entries = refs::list(repository, &prefix)?;
    let free = |base: &String| {
        let taken =
            |suffix: &str| entries.iter().any(|entry| entry.name == format!("{base}{suffix}"));
        !["", trash::HEAD, trash::CHECKPOINT].into_iter().any(taken)
    };
    let first = std::iter::once(format!("{prefix}{name}"));
    let mut names = first.chain((2..MAX_NAMESAKES).map(|n| format!("{prefix}{name}-{n}")));
    names.find(free).ok_or_else(|| {
        Failure::new(
            FailureKind::TooMuch,
            format!("the trash of today has too many entries named {name}"),
        )
    })
}
