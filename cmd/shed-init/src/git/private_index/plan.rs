//! Decides for each changed file of a working tree what to do with it in the private index.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{Access, access};
use shed_api::git::{SkipReason, SkippedFile, quote_path};

/// The changes to make to the index.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Files to remove from the index.
    pub(super) removed: Vec<Vec<u8>>,
    /// Files to add to the index, with their sizes.
    pub(super) added: BTreeMap<Vec<u8>, u64>,
    /// Files to leave unchanged in the index.
    pub(super) skipped: Vec<SkippedFile>,
}

/// Checks each file of a listing and decides what to do with it.
pub(super) fn plan(
    toplevel: &Path,
    listing: &[u8],
    max_file_bytes: u64,
    readable: fn(&Path) -> bool,
) -> Plan {
    let mut plan = Plan::default();
    let mut parents = HashMap::new();
    let mut names: Vec<&[u8]> =
        listing.split(|byte| *byte == 0).filter(|n| !n.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        if let Some(nested) = name.strip_suffix(b"/") {
            plan.skipped.push(skipped(nested, 0, SkipReason::Repository));
            continue;
        }
        let path = toplevel.join(std::ffi::OsStr::from_bytes(name));
        let metadata = has_plain_parents(toplevel, name, &mut parents)
            .then(|| fs::symlink_metadata(&path).ok())
            .flatten();
        match metadata {
            None => plan.removed.push(name.to_vec()),
            // A directory in place of a file. A submodule has `.git` and is added.
            Some(metadata) if metadata.is_dir() && !path.join(".git").exists() => {
                plan.removed.push(name.to_vec());
            }
            Some(metadata) if metadata.is_file() && metadata.len() > max_file_bytes => {
                plan.skipped.push(skipped(name, metadata.len(), SkipReason::TooLarge));
            }
            Some(metadata) if metadata.is_file() && !readable(&path) => {
                plan.skipped.push(skipped(name, metadata.len(), SkipReason::Unreadable));
            }
            Some(metadata) => {
                plan.added.insert(name.to_vec(), metadata.len());
            }
        }
    }
    plan
}

/// Whether all parents of a file are directories, not symlinks.
fn has_plain_parents<'a>(
    toplevel: &Path,
    name: &'a [u8],
    known: &mut HashMap<&'a [u8], bool>,
) -> bool {
    let Some(at) = name.iter().rposition(|byte| *byte == b'/') else {
        return true;
    };
    let parent = &name[..at];
    if let Some(plain) = known.get(parent) {
        return *plain;
    }
    let path = toplevel.join(std::ffi::OsStr::from_bytes(parent));
    let plain = has_plain_parents(toplevel, parent, known)
        && fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    known.insert(parent, plain);
    plain
}

/// Whether our user may read a file.
pub(super) fn is_readable(path: &Path) -> bool {
    access(path, Access::READ_OK).is_ok()
}

/// A file that is left out.
pub(super) fn skipped(path: &[u8], bytes: u64, reason: SkipReason) -> SkippedFile {
    SkippedFile { path: quote_path(path), bytes, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_added_removed_or_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        fs::write(top.join("new"), "x").unwrap();
        fs::write(top.join("large"), "0123456789x").unwrap();
        fs::create_dir(top.join("was-file")).unwrap();
        fs::create_dir_all(top.join("module/.git")).unwrap();
        std::os::unix::fs::symlink("/etc", top.join("link")).unwrap();
        fs::write(top.join("file"), "x").unwrap();
        let listing =
            b"new\0new\0large\0lost\0was-file\0module\0link\0link/hosts\0file/x\0nested/\0";
        let plan = plan(top, listing, 10, |_| true);
        let added: Vec<&[u8]> = plan.added.keys().map(Vec::as_slice).collect();
        assert_eq!(added, [b"link".as_slice(), b"module", b"new"]);
        assert_eq!(
            plan.removed,
            [b"file/x".to_vec(), b"link/hosts".to_vec(), b"lost".to_vec(), b"was-file".to_vec()]
        );
        let reasons: Vec<(&str, SkipReason)> =
            plan.skipped.iter().map(|file| (file.path.as_str(), file.reason)).collect();
        assert_eq!(reasons, [("large", SkipReason::TooLarge), ("nested", SkipReason::Repository)]);
    }

    #[test]
    fn an_unreadable_file_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        let plan = plan(dir.path(), b"secret\0", 10, |_| false);
        assert!(plan.added.is_empty());
        assert_eq!(plan.skipped[0].reason, SkipReason::Unreadable);
    }
}
