//! Makes a working tree equal to a checkpoint, after a checkpoint of what is there. Touches only what differs, and
//! overwrites or deletes only what that safety checkpoint holds.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use shed_api::SessionName;
use shed_api::git::{FileStatus, SkipReason, SkippedFile, quote_path, unquote_path};
use shed_link::git::{
    FailureKind, FilePath, KeptFile, MAX_LISTED_FILES, MAX_SHORT_LIST, Restored, View,
};

use super::checkpoint;
use super::diff::is_in;
use super::failure::Failure;
use super::listing::{self, Change};
use super::private_index::{PrivateIndex, Scratch};
use super::repository::Repository;

/// The kind of the checkpoint that is taken first.
const SAFETY: &str = "before-restore";
/// Why a file stays that the safety checkpoint does not hold.
const UNSAVED: &str = "what is there now is not in the checkpoint that was taken first";
/// git's mode of a submodule.
const GITLINK: &str = "160000";

/// What is done about the differing files.
#[derive(Debug, Default)]
struct Work {
    done: Vec<Change>,
    kept: Vec<KeptFile>,
}

impl Work {
    /// Tells of the files that no checkpoint holds as they are: whether they differ cannot be seen in the trees.
    fn keep_unsaved(&mut self, skipped: &[SkippedFile], paths: &[FilePath]) {
        let told: HashSet<String> = self.kept.iter().map(|file| file.path.clone()).collect();
        let wanted = |file: &&SkippedFile| {
            let name = unquote_path(&file.path).unwrap_or_default();
            let named = paths.is_empty() || paths.iter().any(|path| is_in(&name, path.as_bytes()));
            named && file.reason != SkipReason::Repository && !told.contains(&file.path)
        };
        let unsaved = skipped.iter().filter(wanted);
        self.kept.extend(
            unsaved.map(|file| KeptFile { path: file.path.clone(), reason: UNSAVED.to_owned() }),
        );
    }
}

/// Restores a checkpoint.
pub(crate) fn restore(
    view: &View,
    from: &SessionName,
    n: u64,
    paths: &[FilePath],
) -> Result<Restored, Failure> {
    let repository = Repository::open(&view.worktree)?;
    let wanted = checkpoint::find(&repository, from, n)?;
    // Held to the end: two restores at once would undo each other.
    let index = PrivateIndex::open(&repository, view)?;
    let message = format!("before restoring {from}/{n}");
    let taken = checkpoint::take(&repository, &index, view, SAFETY, &message)?;
    let safety = taken.checkpoint;
    let words = ["-r", "--raw", "-z", "--no-renames", &safety.tree, &wanted.tree, "--"];
    let output = repository.git.call("diff-tree").args(words).output("cannot compare")?;
    let mut changes = listing::parse(&output)
        .ok_or_else(|| Failure::new(FailureKind::Git, "git listed changes in an unknown form"))?;
    if !paths.is_empty() {
        changes.retain(|change| paths.iter().any(|path| is_in(&change.path, path.as_bytes())));
    }
    let mut work =
        apply(&repository.toplevel, changes, &taken.skipped, &index.scratch(&wanted.tree)?)
            .map_err(|mut failure| {
                let n = safety.n.to_string();
                failure.0.text.push_str("; what was there before is checkpoint ");
                failure.0.text.push_str(&n);
                failure
            })?;
    work.keep_unsaved(&taken.skipped, paths);
    let (n_files, n_kept) = (work.done.len() as u64, work.kept.len() as u64);
    Ok(Restored {
        safety,
        files: work.done.iter().take(MAX_LISTED_FILES).map(Change::shown).collect(),
        n_files,
        kept: work.kept.into_iter().take(MAX_SHORT_LIST).collect(),
        n_kept,
    })
}

fn apply(
    top: &Path,
    changes: Vec<Change>,
    skipped: &[SkippedFile],
    wanted: &Scratch,
) -> Result<Work, Failure> {
    let unsaved: HashSet<&str> = skipped.iter().map(|file| file.path.as_str()).collect();
    let mut work = Work::default();
    let mut written = Vec::new();
    // Deletions first: they make room where a file becomes a directory or the other way round.
    let (deleted, others): (Vec<Change>, Vec<Change>) =
        changes.into_iter().partition(|change| change.status == FileStatus::Deleted);
    for change in deleted {
        match untouchable(&change, &unsaved) {
            Some(reason) => work.kept.push(kept(&change, reason)),
            None if remove(top, &change.path)? => work.done.push(change),
            None => work.kept.push(kept(&change, "it is no file any more")),
        }
    }
    for change in others {
        let reason = untouchable(&change, &unsaved).or_else(|| in_the_way(top, &change));
        match reason {
            Some(reason) => work.kept.push(kept(&change, reason)),
            None => written.push(change),
        }
    }
    write(wanted, &written)?;
    work.done.extend(written);
    work.done.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(work)
}

fn kept(change: &Change, reason: &str) -> KeptFile {
    KeptFile { path: quote_path(&change.path), reason: reason.to_owned() }
}

/// Why a file is left alone whatever is there.
fn untouchable(change: &Change, unsaved: &HashSet<&str>) -> Option<&'static str> {
    if change.old_mode == GITLINK || change.new_mode == GITLINK {
        return Some("it is a submodule");
    }
    let unsaved = unsaved.contains(quote_path(&change.path).as_str());
    unsaved.then_some(UNSAVED)
}

/// What is where a file is to be written and is in no checkpoint.
fn in_the_way(top: &Path, change: &Change) -> Option<&'static str> {
    for parent in parents(&change.path) {
        if let Ok(metadata) = fs::symlink_metadata(top.join(OsStr::from_bytes(parent)))
            && !metadata.is_dir()
        {
            return Some("an ignored file is where its directory belongs");
        }
    }
    let metadata = fs::symlink_metadata(top.join(OsStr::from_bytes(&change.path))).ok()?;
    if metadata.is_dir() {
        return Some("a directory with ignored files is in its place");
    }
    (change.status == FileStatus::Added).then_some("an ignored file is in its place")
}

/// The directories above a file, from the top.
fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.map(|end| &path[..end])
}

/// Removes a file and the directories above it that it leaves empty; `false` when there is a directory instead. One that
/// is gone already is as good.
fn remove(top: &Path, name: &[u8]) -> Result<bool, Failure> {
    let plain = |parent: &[u8]| {
        fs::symlink_metadata(top.join(OsStr::from_bytes(parent))).is_ok_and(|file| file.is_dir())
    };
    // Never through a symlink: what is behind it is not ours.
    if !parents(name).all(plain) {
        return Ok(true);
    }
    let path = top.join(OsStr::from_bytes(name));
    match fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => return Ok(false),
        Err(error) => {
            return Err(Failure::io(&format!("cannot remove {}", quote_path(name)), &error));
        }
    }
    let mut above = path.parent();
    while let Some(directory) = above.filter(|directory| *directory != top) {
        // Fails when it is not empty, which is the point.
        if fs::remove_dir(directory).is_err() {
            break;
        }
        above = directory.parent();
    }
    Ok(true)
}

/// Writes files out of the checkpoint.
fn write(wanted: &Scratch, changes: &[Change]) -> Result<(), Failure> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut input = Vec::new();
    for change in changes {
        input.extend_from_slice(&change.path);
        input.push(0);
    }
    let call = wanted.git().call("checkout-index").args(["-f", "-z", "--stdin"]).input(input);
    call.done("cannot write the files of the checkpoint")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_does_not_go_through_a_symlink() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(elsewhere.path().join("x"), "").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("a")).unwrap();
        assert!(remove(dir.path(), b"a/x").unwrap());
        assert!(elsewhere.path().join("x").exists());
    }

    #[test]
    fn a_removal_takes_empty_directories_along_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        fs::write(dir.path().join("a/b/c/x"), "").unwrap();
        fs::write(dir.path().join("a/y"), "").unwrap();
        assert!(remove(dir.path(), b"a/b/c/x").unwrap());
        assert!(!dir.path().join("a/b").exists() && dir.path().join("a/y").exists());
    }

    #[test]
    fn the_directories_above_a_file_are_named_from_the_top() {
        assert_eq!(parents(b"a/b/c").collect::<Vec<_>>(), [b"a".as_slice(), b"a/b"]);
        assert_eq!(parents(b"a").count(), 0);
    }
}
