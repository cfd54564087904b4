//! Diffs and counts of changes: compares two trees, one of which may be the working tree.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use shed_api::git::{DiffNumbers, SkippedFile};
use shed_link::git::{
    Base, DiffSummary, FailureKind, FilePath, MAX_LISTED_FILES, MAX_PATCH_BYTES, MAX_SHORT_LIST,
    Side, View,
};

use super::checkpoint;
use super::command::{Call, Git};
use super::failure::Failure;
use super::listing::{self, Change};
use super::private_index::PrivateIndex;
use super::repository::Repository;
use super::revision;

/// How often files may vanish while git reads them.
const TRIES: usize = 4;
/// The most bytes of names on one command line. Linux takes 2 MiB with the environment.
const MAX_NAMES_BYTES: usize = 256 << 10;

/// The fields of [`shed_link::git::GitOp::Diff`].
#[derive(Debug)]
pub(crate) struct DiffRequest<'a> {
    pub(crate) view: &'a View,
    pub(crate) from: &'a Side,
    pub(crate) to: &'a Side,
    pub(crate) path: Option<&'a FilePath>,
    pub(crate) stat_only: bool,
}

/// Counts the changes between the working tree and its base.
pub(crate) fn numbers(view: &View, base: &Base) -> Result<DiffNumbers, Failure> {
    let repository = Repository::open(&view.worktree)?;
    let head = repository.head()?;
    let base = revision::base(&repository, base, head.as_deref())?;
    let index = PrivateIndex::open(&repository, view)?;
    let against = match &base.commit {
        Some(commit) => commit.clone(),
        None => repository.empty_tree()?,
    };
    let (changes, skipped) = worktree_changes(&index, &against, view.max_file_bytes)?;
    let (ahead, behind) = counts(&repository, base.tip.as_deref(), head.as_deref())?;
    let skipped = count_unlisted(&changes, &skipped);
    Ok(DiffNumbers {
        files: changes.len() as u64 + skipped,
        insertions: changes.iter().map(|change| change.insertions).sum(),
        deletions: changes.iter().map(|change| change.deletions).sum(),
        ahead,
        behind,
        head,
        branch: repository.branch()?,
        base: base.commit,
        skipped,
    })
}

/// Computes a diff and its patch.
pub(crate) fn diff(request: &DiffRequest<'_>) -> Result<(DiffSummary, Vec<u8>), Failure> {
    let repository = Repository::open(&request.view.worktree)?;
    let mut skipped = Vec::new();
    let from = tree(&repository, request.view, request.from, &mut skipped)?;
    let to = tree(&repository, request.view, request.to, &mut skipped)?;
    let mut files = tree_changes(&repository.git, &from, &to)?;
    if let Some(path) = request.path {
        let inside = |name: &[u8]| is_in(name, path.as_bytes());
        files.retain(|file| inside(&file.path) || file.old_path.as_deref().is_some_and(inside));
        skipped.retain(|file| file.path.as_bytes() == path.as_bytes());
    }
    let only = request.path.map(|path| (path.as_bytes(), files.as_slice()));
    let (patch, patch_truncated) = if request.stat_only || files.is_empty() {
        (Vec::new(), false)
    } else {
        patch(&repository.git, &from, &to, only)?
    };
    skipped.truncate(MAX_SHORT_LIST);
    let head = DiffSummary {
        from,
        to,
        n_files: files.len() as u64,
        insertions: files.iter().map(|file| file.insertions).sum(),
        deletions: files.iter().map(|file| file.deletions).sum(),
        files: files.iter().take(MAX_LISTED_FILES).map(Change::to_api).collect(),
        skipped,
        patch_bytes: patch.len() as u64,
        patch_truncated,
    };
    Ok((head, patch))
}

/// Whether a file is `path` or is in the directory `path`.
pub(crate) fn is_in(name: &[u8], path: &[u8]) -> bool {
    name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// The files in which two trees differ, with renames detected.
fn tree_changes(git: &Git, from: &str, to: &str) -> Result<Vec<Change>, Failure> {
    changes(git.call("diff-tree").args(["-r", "-M"]), &[from, to])
}

/// The files in which the working tree differs from a tree, and those that were not read. Unlike a tree of the files, it
/// writes nothing into the repository: files are compared as often as they change.
fn worktree_changes(
    index: &PrivateIndex,
    against: &str,
    max_file_bytes: u64,
) -> Result<(Vec<Change>, Vec<SkippedFile>), Failure> {
    let mut n_tries = 0;
    loop {
        let counted = index.counted(max_file_bytes)?;
        // Not `diff-index`, which also lists files with a new time and the same content.
        let call = counted.index.git().call("diff").args(["-M", "--ignore-submodules=dirty"]);
        match changes(call, &[against]) {
            // A file vanished while it was read.
            Err(failure) if failure.kind() == FailureKind::Git && n_tries < TRIES => n_tries += 1,
            compared => return Ok((compared?, counted.skipped)),
        }
    }
}

fn changes(call: Call, ends: &[&str]) -> Result<Vec<Change>, Failure> {
    let args = ["--raw", "--numstat", "-z", "--no-ext-diff", "--no-textconv", "--no-relative"];
    let output = call.args(args).args(ends).arg("--").output("cannot compare trees")?;
    listing::parse(&output)
        .ok_or_else(|| Failure::new(FailureKind::Git, "cannot parse git's list of changes"))
}

/// The patch between two trees, of the files in `only` or of all. The flag says whether it was cut.
fn patch(
    git: &Git,
    from: &str,
    to: &str,
    only: Option<(&[u8], &[Change])>,
) -> Result<(Vec<u8>, bool), Failure> {
    let args = [
        "-r",
        "-M",
        "-p",
        "--full-index",
        "--no-ext-diff",
        "--no-textconv",
        "--no-color",
        "--no-relative",
        "--submodule=short",
        "--src-prefix=a/",
        "--dst-prefix=b/",
        "--unified=3",
        "--inter-hunk-context=0",
        "--diff-algorithm=histogram",
    ];
    let calls = only.map_or_else(|| vec![Vec::new()], |(path, files)| in_calls(path, files));
    let mut patch = Vec::new();
    for names in calls {
        let names = names.into_iter().map(OsStr::from_bytes);
        let call = git.call("diff-tree").args(args).args([from, to, "--"]).args(names);
        let ended = call.cut_at(MAX_PATCH_BYTES - patch.len()).ended()?;
        if ended.truncated {
            patch.extend(ended.output);
            return Ok((patch, true));
        }
        patch.extend(ended.success("cannot create the patch")?);
    }
    Ok((patch, false))
}

/// The names that limit a patch to a path, for one call of git or for several: the path, and the other names of files that were
/// renamed into it or out of it. git takes them as arguments only. If they are too many, all files are named, a part of them in
/// each call.
fn in_calls<'a>(path: &'a [u8], files: &'a [Change]) -> Vec<Vec<&'a [u8]>> {
    let names = |file: &'a Change| {
        file.old_path.iter().chain([&file.path]).map(Vec::as_slice).collect::<Vec<_>>()
    };
    let others = files.iter().flat_map(names).filter(|name| !is_in(name, path));
    let whole: Vec<&[u8]> = std::iter::once(path).chain(others).collect();
    if n_bytes(&whole) <= MAX_NAMES_BYTES {
        return vec![whole];
    }
    let mut calls: Vec<Vec<&[u8]>> = vec![Vec::new()];
    let mut n_used = 0;
    for file in files {
        // Both names of a renamed file, or git does not see that it was.
        let names = names(file);
        if n_used + n_bytes(&names) > MAX_NAMES_BYTES {
            calls.push(Vec::new());
            n_used = 0;
        }
        n_used += n_bytes(&names);
        if let Some(call) = calls.last_mut() {
            call.extend(names);
        }
    }
    calls
}

fn n_bytes(names: &[&[u8]]) -> usize {
    names.iter().map(|name| name.len() + 1).sum()
}

/// The id of one side's tree.
fn tree(
    repository: &Repository,
    view: &View,
    side: &Side,
    skipped: &mut Vec<SkippedFile>,
) -> Result<String, Failure> {
    let commit = match side {
        Side::Base(base) => revision::base(repository, base, repository.head()?.as_deref())?.commit,
        Side::Head => repository.head()?,
        Side::Checkpoint { session, n } => Some(checkpoint::find(repository, session, *n)?.commit),
        Side::Worktree => {
            let index = PrivateIndex::open(repository, view)?;
            *skipped = index.update_from_worktree(view.max_file_bytes)?;
            return index.tree();
        }
    };
    let Some(commit) = commit else {
        return repository.empty_tree();
    };
    let tree = format!("{commit}^{{tree}}");
    let line = repository.git.call("rev-parse").args(["--verify", "--quiet", &tree]).line()?;
    line.ok_or_else(|| Failure::new(FailureKind::NotFound, format!("commit {commit} has no tree")))
}

/// The numbers of commits that `head` is ahead of and behind `tip`.
fn counts(
    repository: &Repository,
    tip: Option<&str>,
    head: Option<&str>,
) -> Result<(u64, u64), Failure> {
    let range = match (tip, head) {
        (Some(tip), Some(head)) => format!("{tip}...{head}"),
        // Without a base all commits are ahead; before the first commit all commits of the base are missing.
        (None, Some(head)) => return Ok((count(repository, head)?, 0)),
        (Some(tip), None) => return Ok((0, count(repository, tip)?)),
        (None, None) => return Ok((0, 0)),
    };
    let args = ["--count", "--left-right", &range, "--"];
    let line = repository.git.call("rev-list").args(args).line()?;
    let numbers = line.as_deref().and_then(|line| line.split_once('\t'));
    let numbers =
        numbers.and_then(|(behind, ahead)| Some((ahead.parse().ok()?, behind.parse().ok()?)));
    numbers.ok_or_else(|| Failure::new(FailureKind::Git, "git cannot count commits"))
}

fn count(repository: &Repository, commit: &str) -> Result<u64, Failure> {
    let line = repository.git.call("rev-list").args(["--count", commit, "--"]).line()?;
    let number = line.and_then(|line| line.parse().ok());
    number.ok_or_else(|| Failure::new(FailureKind::Git, "git cannot count commits"))
}

/// The number of skipped files that are not among the changes. Nested repositories do not count as files.
fn count_unlisted(changes: &[Change], skipped: &[SkippedFile]) -> u64 {
    let changed: std::collections::HashSet<String> =
        changes.iter().map(|change| shed_api::git::quote_path(&change.path)).collect();
    let files = skipped.iter().filter(|file| {
        file.reason != shed_api::git::SkipReason::Repository && !changed.contains(&file.path)
    });
    files.count() as u64
}
