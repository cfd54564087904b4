//! The list of a repository's worktrees, and git's records of them.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use shed_link::git::FailureKind;

use super::failure::Failure;
use super::repository::Repository;

/// The longest path in a worktree's record, in bytes.
const MAX_RECORD_BYTES: u64 = 8_192;

/// A worktree, as `git worktree list` prints it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Worktree {
    /// The top directory.
    pub(crate) path: PathBuf,
    /// The id of the checked-out commit; `None` before the first commit.
    pub(crate) head: Option<String>,
    /// The checked-out branch as a full ref; `None` when `HEAD` is detached.
    pub(crate) branch: Option<String>,
    /// Whether it is locked with `git worktree lock`.
    pub(crate) locked: bool,
}

/// Lists all worktrees; the first is the repository's main one.
pub(crate) fn list(repository: &Repository) -> Result<Vec<Worktree>, Failure> {
    let call = repository.git.call("worktree").args(["list", "--porcelain", "-z"]);
    let output = call.output("cannot list worktrees")?;
    parse(&output)
        .ok_or_else(|| Failure::new(FailureKind::Git, "cannot parse git's list of worktrees"))
}

/// The directory of git's record of the worktree at a path, if there is one.
pub(crate) fn record(repository: &Repository, path: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(repository.common_dir.join("worktrees")).ok()?;
    let wanted = [path.join(".git"), real(path).join(".git")];
    entries.filter_map(Result::ok).map(|entry| entry.path()).find(|record| {
        let pointer = record.join("gitdir");
        let short = fs::metadata(&pointer).is_ok_and(|file| file.len() <= MAX_RECORD_BYTES);
        let Some(mut text) = short.then(|| fs::read(&pointer).ok()).flatten() else {
            return false;
        };
        while text.last() == Some(&b'\n') {
            text.pop();
        }
        // git can be configured to write paths relative to the record.
        let named = record.join(OsString::from_vec(text));
        wanted.contains(&named) || named.parent().is_some_and(|top| real(top) == real(path))
    })
}

/// Resolves the symlinks of a path as far as it exists.
pub(crate) fn real(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}

fn parse(listing: &[u8]) -> Option<Vec<Worktree>> {
    let mut worktrees: Vec<Worktree> = Vec::new();
    for field in listing.split(|byte| *byte == 0).filter(|field| !field.is_empty()) {
        if let Some(path) = field.strip_prefix(b"worktree ") {
            let path = PathBuf::from(OsString::from_vec(path.to_vec()));
            worktrees.push(Worktree { path, ..Worktree::default() });
            continue;
        }
        let worktree = worktrees.last_mut()?;
        let field = String::from_utf8_lossy(field);
        let (key, value) = field.split_once(' ').unwrap_or((&field, ""));
        match key {
            "HEAD" => {
                let has_commit = value.bytes().any(|byte| byte != b'0');
                worktree.head = has_commit.then(|| value.to_owned());
            }
            "branch" => worktree.branch = Some(value.to_owned()),
            "locked" => worktree.locked = true,
            // `detached`, `bare`, `prunable` and keys of later versions.
            _ => {}
        }
    }
    Some(worktrees)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_worktrees_parses() {
        let listing = b"worktree /w\0HEAD 0000\0branch refs/heads/main\0\0\
            worktree /x\ny\0HEAD 12ab\0detached\0locked by me\0\0";
        let list = parse(listing).unwrap();
        assert_eq!(list[0].branch.as_deref(), Some("refs/heads/main"));
        assert_eq!(list[0].head, None);
        assert_eq!(list[1].path, Path::new("/x\ny"));
        assert_eq!(list[1].head.as_deref(), Some("12ab"));
        assert!(list[1].locked && list[1].branch.is_none());
        assert_eq!(parse(b"HEAD 1\0"), None);
    }
}
