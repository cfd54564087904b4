//! The files of a worktree that is to be removed: those that no checkpoint can hold.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use shed_api::git::{SkipReason, Unsaved, quote_path};
use shed_link::git::MAX_SHORT_LIST;

use super::unsaved as at;
use crate::git::failure::Failure;
use crate::git::private_index::{Scratch, unreadable};
use crate::git::repository::Repository;
use crate::git::status::Status;

/// The mode of a submodule in the index.
const GITLINK: &[u8] = b"160000 ";

/// The files of a directory that git has forgotten which differ from its branch.
pub(super) fn changed(files: &Repository) -> Result<Status, Failure> {
    let index = index_of(files)?;
    let names = listing(&index)?;
    let mut names: Vec<&[u8]> =
        names.split(|byte| *byte == 0).filter(|it| !it.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    let shown = names.iter().take(MAX_SHORT_LIST).map(|name| quote_path(name)).collect();
    Ok(Status { dirty: names.len() as u64, untracked: 0, files: shown })
}

/// The files that no checkpoint can hold. Repositories are not among them.
pub(super) fn unsaved(files: &Repository, top: &Path) -> Result<Vec<Unsaved>, Failure> {
    let index = index_of(files)?;
    let skipped = unreadable(&files.toplevel, &listing(&index)?);
    let skipped = skipped.into_iter().filter(|file| file.reason != SkipReason::Repository);
    let prefix = files.toplevel.strip_prefix(top).unwrap_or(Path::new(""));
    let mut found: Vec<Unsaved> = skipped
        .map(|file| {
            let name = shed_api::git::unquote_path(&file.path).unwrap_or_default();
            let path = top.join(prefix).join(OsStr::from_bytes(&name));
            at(top, &path, super::UNREADABLE.to_owned())
        })
        .collect();
    let staged = index.git().call("ls-files").args(["-s", "-z"]).output("cannot list files")?;
    for entry in staged.split(|byte| *byte == 0).filter(|entry| entry.starts_with(GITLINK)) {
        let Some(tab) = entry.iter().position(|byte| *byte == b'\t') else { continue };
        let path = files.toplevel.join(OsStr::from_bytes(&entry[tab + 1..]));
        if has_stray_files(&path) {
            let why = "files in the directory of a submodule that has no repository".to_owned();
            found.push(at(top, &path, why));
        }
    }
    Ok(found)
}

/// Whether a submodule's directory has files that no git knows: those of the repository around it skips them.
fn has_stray_files(path: &Path) -> bool {
    let is_directory = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let is_own =
        Repository::open_at(path).is_ok_and(|own| super::real(&own.toplevel) == super::real(path));
    is_directory && !is_own && !super::walk::is_empty(path)
}

/// An index to compare the files with, whose marks hide nothing.
fn index_of(files: &Repository) -> Result<Scratch, Failure> {
    let index = Scratch::of_users_index(files)?;
    if files.is_forgotten()
        && let Some(tip) = files.head()?
    {
        index.git().call("read-tree").arg(&tip).done("cannot read the branch")?;
    }
    Ok(index)
}

fn listing(index: &Scratch) -> Result<Vec<u8>, Failure> {
    let args = ["-z", "-m", "-d", "-o", "--exclude-standard"];
    index.git().call("ls-files").args(args).output("cannot list files")
}
