//! The changed files of a working tree, as `git status` lists them.

use shed_api::git::quote_path;
use shed_link::git::{FailureKind, MAX_SHORT_LIST};

use super::failure::Failure;
use super::private_index::Scratch;
use super::repository::Repository;

/// The changed files that `git status` lists.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// The number of tracked files that differ from `HEAD`.
    pub(crate) dirty: u64,
    /// The number of untracked files that are not ignored.
    pub(crate) untracked: u64,
    /// The first of these files.
    pub(crate) files: Vec<String>,
}

impl Status {
    /// Lists the changed files, also those that the user has hidden from git.
    pub(crate) fn of(repository: &Repository) -> Result<Self, Failure> {
        let args = [
            "--porcelain=v1",
            "-z",
            "--untracked-files=all",
            "--no-renames",
            "--ignore-submodules=none",
        ];
        let index = Scratch::of_users_index(repository)?;
        let listing = index.git().call("status").args(args).output("cannot list changed files")?;
        parse(&listing)
            .ok_or_else(|| Failure::new(FailureKind::Git, "cannot parse git's list of changes"))
    }

    /// The number of changed files of all kinds.
    pub(crate) fn n_files(&self) -> u64 {
        self.dirty + self.untracked
    }
}

/// Parses `XY name` and a NUL byte for each file. With `--no-renames` there is no second name.
fn parse(listing: &[u8]) -> Option<Status> {
    let mut status = Status::default();
    for field in listing.split(|byte| *byte == 0).filter(|field| !field.is_empty()) {
        let (state, name) = field.split_at_checked(3)?;
        match state {
            b"?? " => status.untracked += 1,
            [_, _, b' '] => status.dirty += 1,
            _ => return None,
        }
        if status.files.len() < MAX_SHORT_LIST {
            status.files.push(quote_path(name));
        }
    }
    Some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_and_untracked_files_are_counted() {
        let status = parse(b" M a\0?? b\nc\0UU -x\0").unwrap();
        assert_eq!((status.dirty, status.untracked), (2, 1));
        assert_eq!(status.files, ["a", "\"b\\nc\"", "-x"]);
        assert_eq!(parse(b"x"), None);
    }
}
