//! Removes a worktree and the repository's worktrees inside it. What nothing else holds is saved to the trash first; if the
//! trash cannot hold something, nothing is removed. Nothing outside of its directory is touched.

use std::fs;
use std::path::Path;

use shed_api::SessionName;
use shed_api::git::{SkipReason, quote_path};
use shed_link::git::{FailureKind, RemoveWorktree, RemovedWorktree, SurveyWorktree, View};

use super::checkpoint;
use super::directory;
use super::failure::Failure;
use super::lock::Lock;
use super::loose;
use super::private_index::{self, PrivateIndex};
use super::refs::{self, Step};
use super::repository::Repository;
use super::status::Status;
use super::survey::{self, Survey, Tree};
use super::trash;
use super::worktree::{forget_branch, forget_record};
use crate::clock::unix_seconds;

/// The most entries of one name in the trash of one day. More would be the result of a faulty loop.
const MAX_NAMESAKES: u32 = 1_000;
/// How many of the things that cannot be saved a message names.
const MAX_NAMED: usize = 3;
/// The kind of the checkpoint.
const KIND: &str = "before-delete";

/// The planned changes of refs.
#[derive(Debug, Default)]
struct Plan {
    /// The names of the refs that were created in the trash.
    saved: Vec<String>,
    /// Refs to delete after everything is removed.
    dropped: Vec<Step>,
    /// Whether the branch is among them.
    branch_deleted: bool,
    /// Why the branch is kept although its deletion was requested.
    branch_kept: Option<String>,
    /// The names of private indexes to delete.
    indexes: Vec<SessionName>,
}

/// Removes a worktree.
pub(crate) fn remove(request: &RemoveWorktree) -> Result<RemovedWorktree, Failure> {
    let path = Path::new(request.path.as_str());
    let survey = survey::survey(&SurveyWorktree {
        repo: request.repo.clone(),
        path: request.path.clone(),
        branch: Some(request.branch.clone()),
        delete_branch: request.delete_branch,
        base: None,
    })?;
    refuse(&survey, path)?;
    let existed = fs::symlink_metadata(path).is_ok();
    // Not locked while files are removed, which takes long and concerns no other session.
    let lock = |repository| Lock::of_repository(repository, None);
    let plan = match &survey.repository {
        Some(repository) => {
            let _lock = lock(repository)?;
            save(repository, request, &survey)?
        }
        None => Plan::default(),
    };
    directory::remove(path).map_err(|error| {
        let shown = quote_path(path.as_os_str().as_encoded_bytes());
        Failure::io(&format!("cannot remove {shown} completely"), &error)
    })?;
    if let Some(repository) = &survey.repository {
        let _lock = lock(repository)?;
        forget(repository, request, &survey, &plan)?;
    }
    Ok(RemovedWorktree {
        trash: plan.saved,
        directory: existed,
        branch_deleted: plan.branch_deleted,
        branch_kept: plan.branch_kept,
    })
}

/// Fails if something cannot be saved, or if the worktree is locked.
fn refuse(survey: &Survey, path: &Path) -> Result<(), Failure> {
    let shown = quote_path(path.as_os_str().as_encoded_bytes());
    if survey.risk.locked {
        let text = format!(
            "worktree {shown} is locked; unlock it in the shed: git worktree unlock {shown}"
        );
        return Err(Failure::new(FailureKind::Locked, text));
    }
    let named: Vec<String> = survey
        .risk
        .unsaved
        .iter()
        .take(MAX_NAMED)
        .map(|it| format!("{:?} ({})", it.path, it.reason))
        .collect();
    if named.is_empty() {
        return Ok(());
    }
    let n = survey.risk.n_unsaved;
    let more = if n > named.len() as u64 { ", and others" } else { "" };
    let text =
        format!("{shown} has work that cannot be put in the trash: {}{more}", named.join(", "));
    Err(Failure::new(FailureKind::Invalid, text))
}

/// Saves what nothing else holds.
fn save(
    repository: &Repository,
    request: &RemoveWorktree,
    survey: &Survey,
) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    let base = free_name(repository, request.trash.as_str())?;
    let own = survey.own.entry.as_ref();
    let name = format!("refs/heads/{}", request.branch);
    let tip = repository.commit_of(&name)?;
    let user = survey.list.iter().find(|worktree| {
        worktree.branch.as_deref() == Some(&name) && own.is_none_or(|own| own.path != worktree.path)
    });
    let mut saved = Vec::new();
    match (&tip, user) {
        (Some(_), Some(user)) if request.delete_branch => {
            let place = quote_path(user.path.as_os_str().as_encoded_bytes());
            plan.branch_kept = Some(format!("it is checked out in {place}"));
        }
        (Some(tip), None) if request.delete_branch => {
            saved.push((base.clone(), tip.clone()));
            plan.dropped.push(Step::Delete { name: name.clone(), commit: tip.clone() });
            plan.branch_deleted = true;
        }
        _ => {}
    }
    let mut loose = Vec::new();
    let trees = std::iter::once(&survey.own).chain(&survey.inside).enumerate();
    for (n, tree) in trees {
        let base = if n == 0 { base.clone() } else { format!("{base}.{n}") };
        let head = tree.entry.as_ref().and_then(|entry| entry.head.clone());
        // Another commit than a branch that stays or is saved; there may be no other ref to it.
        let is_held = if n == 0 {
            tip == head
        } else {
            tree.entry.as_ref().is_some_and(|entry| entry.branch.is_some())
        };
        if let (Some(head), false) = (&head, is_held) {
            saved.push((format!("{base}{}", trash::HEAD), head.clone()));
        }
        let session = name_of(request, n)?;
        let saved_tree = save_files(request, tree, &session)?;
        if let Some(last) = checkpoint::list_of(repository, &session)?.pop() {
            saved.push((format!("{base}{}", trash::CHECKPOINT), last.commit));
        }
        let step = |entry: refs::Entry| Step::Delete { name: entry.name, commit: entry.commit };
        let checkpoints = refs::list(repository, &checkpoint::prefix(&session))?;
        plan.dropped.extend(checkpoints.into_iter().map(step));
        plan.indexes.push(session);
        let mut files = tree.record.as_deref().map(loose::files_of).unwrap_or_default();
        if n == 0 && plan.branch_deleted {
            files.push(repository.common_dir.join("logs").join(&name));
        }
        let mut commits = loose::named_in(&repository.git, &files)?;
        if let Some(record) = &tree.record {
            let head = tree.files.as_ref().map_or(Ok(head), Repository::head)?;
            let (index, saved) = (record.join("index"), saved_tree.as_deref());
            commits.extend(loose::staged(repository, &index, head.as_deref(), saved)?);
        }
        loose.push((format!("{base}{}", trash::COMMITS), commits));
    }
    let create = |(name, commit): (String, String)| Step::Create { name, commit };
    plan.saved.extend(saved.iter().map(|(name, _)| name.clone()));
    let steps: Vec<Step> = saved.into_iter().map(create).collect();
    refs::apply(repository, &steps)?;
    // After the refs above, which keep most of these commits.
    for (name, commits) in loose {
        if let Some(commit) = loose::keep(repository, &commits)? {
            refs::apply(repository, &[Step::Create { name: name.clone(), commit }])?;
            plan.saved.push(name);
        }
    }
    Ok(plan)
}

/// The name of a worktree's private index and checkpoints: the session's, with a number for those inside.
fn name_of(request: &RemoveWorktree, n: usize) -> Result<SessionName, Failure> {
    let own = request.session.as_ref().unwrap_or(&request.trash);
    if n == 0 {
        return Ok(own.clone());
    }
    let name = format!("{own}-{n}").parse();
    name.map_err(|_| Failure::new(FailureKind::TooMuch, "too many worktrees inside"))
}

/// Takes a checkpoint of changed files. Returns its tree.
fn save_files(
    request: &RemoveWorktree,
    tree: &Tree,
    session: &SessionName,
) -> Result<Option<String>, Failure> {
    let Some(files) = &tree.files else { return Ok(None) };
    if !files.is_forgotten() && Status::of(files)?.n_files() == 0 {
        return Ok(None);
    }
    let view = View {
        worktree: request.path.clone(),
        state: request.state.clone(),
        session: session.clone(),
        max_file_bytes: u64::MAX,
    };
    let index = PrivateIndex::open(files, &view)?;
    let taken = checkpoint::take(files, &index, &view, KIND, "")?;
    match taken.skipped.iter().find(|file| file.reason != SkipReason::Repository) {
        None => Ok(Some(taken.checkpoint.tree)),
        Some(file) => {
            let shown = quote_path(tree.path.as_os_str().as_encoded_bytes());
            let text =
                format!("{shown} has a file that cannot be put in the trash: {:?}", file.path);
            Err(Failure::new(FailureKind::Invalid, text))
        }
    }
}

/// Removes what git and shed know of the removed worktrees.
fn forget(
    repository: &Repository,
    request: &RemoveWorktree,
    survey: &Survey,
    plan: &Plan,
) -> Result<(), Failure> {
    for tree in std::iter::once(&survey.own).chain(&survey.inside) {
        forget_record(repository, tree.record.clone());
    }
    refs::apply(repository, &plan.dropped)?;
    if plan.branch_deleted {
        forget_branch(repository, request.branch.as_str());
    }
    let indexes = private_index::directory(repository, request.state.as_ref());
    for session in &plan.indexes {
        private_index::forget(&indexes, session);
    }
    Ok(())
}

/// A free name in today's trash.
fn free_name(repository: &Repository, name: &str) -> Result<String, Failure> {
    let day = checkpoint::time(unix_seconds()).format("%Y%m%d");
    let prefix = format!("{}{day}/", trash::PREFIX);
    let entries = refs::list(repository, &prefix)?;
    let free = |base: &String| {
        let taken = |entry: &refs::Entry| {
            let rest = entry.name.strip_prefix(base.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        !entries.iter().any(taken)
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
