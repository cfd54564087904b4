//! Finds the repositories in a directory, and what cannot be read there.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// What is in a directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The directories below it that contain `.git`, sorted.
    pub(super) repositories: Vec<PathBuf>,
    /// The directories that cannot be searched, the directory itself included, sorted.
    pub(super) unreadable: Vec<PathBuf>,
}

/// Walks a directory. Ignored directories count, since a repository in one is no less work; symlinks are not followed.
pub(super) fn walk(top: &Path) -> Found {
    let mut found = Found::default();
    let mut left = vec![top.to_owned()];
    while let Some(directory) = left.pop() {
        let entries = if may_search(&directory) { fs::read_dir(&directory).ok() } else { None };
        let Some(entries) = entries else {
            found.unreadable.push(directory);
            continue;
        };
        for entry in entries.filter_map(Result::ok) {
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if entry.file_name() == ".git" {
                let is_empty = is_directory && is_empty(&entry.path());
                if directory != top && !is_empty {
                    found.repositories.push(directory.clone());
                }
            } else if is_directory {
                left.push(entry.path());
            }
        }
    }
    found.repositories.sort();
    found.unreadable.sort();
    found
}

/// Whether our user may list a directory and open its files.
pub(super) fn may_search(directory: &Path) -> bool {
    access(directory, Access::READ_OK | Access::EXEC_OK).is_ok()
}

/// Whether a directory exists and has no entries.
pub(super) fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_found_at_any_depth_and_not_through_symlinks() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let top = dir.path();
        for path in [".git/x", "a/.git/modules/m/.git", "a/b/c", "empty/.git"] {
            fs::create_dir_all(top.join(path)).unwrap();
        }
        fs::write(top.join("a/b/c/.git"), "gitdir: x").unwrap();
        fs::create_dir_all(other.path().join("r/.git/x")).unwrap();
        std::os::unix::fs::symlink(other.path(), top.join("link")).unwrap();
        let found = walk(top);
        assert_eq!(found.repositories, [top.join("a"), top.join("a/b/c")]);
        assert!(found.unreadable.is_empty());
        assert_eq!(walk(&top.join("none")).unreadable, [top.join("none")]);
    }
}
