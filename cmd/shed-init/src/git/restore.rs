//! Makes a working tree equal to a checkpoint. A safety checkpoint of the current state is taken first. Only files that
//! differ are touched, and only files that the safety checkpoint contains are overwritten or deleted.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use shed_api::SessionName;
use shed_api::git::{Checkpoint, FileStatus, SkipReason, SkippedFile, quote_path, unquote_path};
use shed_link::git::{
    FailureKind, FilePath, KeptFile, MAX_LISTED_FILES, MAX_SHORT_LIST, Missing, Restored, View,
};

use super::checkpoint;
use super::diff::is_in;
use super::failure::Failure;
use super::gitlink;
use super::listing::{self, Change};
use super::private_index::{PrivateIndex, Scratch};
use super::repository::Repository;
use super::worktree;

/// The kind of the safety checkpoint.
const SAFETY: &str = "before-restore";
/// Why a file is kept that the safety checkpoint does not contain.
const UNSAVED: &str = "its current content is not in the safety checkpoint";
/// git's mode of a submodule.
const GITLINK: &str = "160000";

/// The files that were changed and those that were kept.
#[derive(Debug, Default)]
struct Outcome {
    done: Vec<Change>,
    kept: Vec<KeptFile>,
}

impl Outcome {
    /// Adds the files that the safety checkpoint does not contain. The trees do not show whether they differ.
    fn keep_unsaved(&mut self, skipped: &[SkippedFile], paths: &[FilePath]) {
        let listed: HashSet<String> = self.kept.iter().map(|file| file.path.clone()).collect();
        let wanted = |file: &&SkippedFile| {
            let name = unquote_path(&file.path).unwrap_or_default();
            let named = paths.is_empty() || paths.iter().any(|path| is_in(&name, path.as_bytes()));
            named && file.reason != SkipReason::Repository && !listed.contains(&file.path)
        };
        let unsaved = skipped.iter().filter(wanted);
        self.kept.extend(
            unsaved.map(|file| KeptFile { path: file.path.clone(), reason: UNSAVED.to_owned() }),
        );
    }
}

/// Creates the worktree of a checkpoint again if its directory is missing.
pub(crate) fn recreate(
    view: &View,
    from: &SessionName,
    n: u64,
    missing: &Missing,
) -> Result<(), Failure> {
    let path = Path::new(view.worktree.as_str());
    if fs::symlink_metadata(path).is_ok() {
        return Ok(());
    }
    let repository = Repository::open(&missing.repo)?;
    let wanted = checkpoint::find(&repository, from, n)?;
    let commit = wanted.head.as_deref().unwrap_or(&wanted.commit);
    worktree::recreate(&repository, path, missing.branch.as_ref(), commit)
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
    // Locked to the end, since two restores at once would undo each other.
    let index = PrivateIndex::open(&repository, view)?;
    let message = format!("before restoring {from}/{n}");
    let taken = checkpoint::take(&repository, &index, view, SAFETY, &message)?;
    let safety = taken.checkpoint;
    let args = ["-r", "--raw", "-z", "--no-renames", &safety.tree, &wanted.tree, "--"];
    let output = repository.git.call("diff-tree").args(args).output("cannot compare trees")?;
    let mut changes = listing::parse(&output)
        .ok_or_else(|| Failure::new(FailureKind::Git, "cannot parse git's list of changes"))?;
    if !paths.is_empty() {
        changes.retain(|change| paths.iter().any(|path| is_in(&change.path, path.as_bytes())));
        check_paths(&repository, &wanted, paths, &changes, &taken.skipped)?;
    }
    let mut outcome =
        apply(&repository.toplevel, changes, &taken.skipped, &index.scratch(&wanted.tree)?)
            .map_err(|mut failure| {
                let n = safety.n.to_string();
                failure.0.text.push_str("; the previous state is checkpoint ");
                failure.0.text.push_str(&n);
                failure
            })?;
    outcome.keep_unsaved(&taken.skipped, paths);
    let (n_files, n_kept) = (outcome.done.len() as u64, outcome.kept.len() as u64);
    Ok(Restored {
        safety,
        files: outcome.done.iter().take(MAX_LISTED_FILES).map(Change::to_api).collect(),
        n_files,
        kept: outcome.kept.into_iter().take(MAX_SHORT_LIST).collect(),
        n_kept,
    })
}

/// Fails if one of the requested paths is in neither of the two states. It is misspelt, or never was in a checkpoint.
fn check_paths(
    repository: &Repository,
    wanted: &Checkpoint,
    paths: &[FilePath],
    changes: &[Change],
    skipped: &[SkippedFile],
) -> Result<(), Failure> {
    for path in paths {
        let name = path.as_bytes();
        let skips = |file: &SkippedFile| is_in(&unquote_path(&file.path).unwrap_or_default(), name);
        if changes.iter().any(|change| is_in(&change.path, name)) || skipped.iter().any(skips) {
            continue;
        }
        // What did not change is the same in both trees. A submodule's commit is no object of this repository, so only the
        // name is looked up.
        let object = [wanted.tree.as_bytes(), b":", name].concat();
        let call = repository.git.call("rev-parse").args(["--verify", "--quiet"]);
        let call = call.arg(OsStr::from_bytes(&object));
        if !call.ended()?.status.success() {
            let shown = quote_path(name);
            let text = format!(
                "{shown} is neither in checkpoint {} nor a file that changed since",
                wanted.n
            );
            return Err(Failure::new(FailureKind::NotFound, text));
        }
    }
    Ok(())
}

fn apply(
    top: &Path,
    changes: Vec<Change>,
    skipped: &[SkippedFile],
    wanted: &Scratch,
) -> Result<Outcome, Failure> {
    let unsaved: HashSet<&str> = skipped.iter().map(|file| file.path.as_str()).collect();
    let mut outcome = Outcome::default();
    let mut written = Vec::new();
    let (submodules, changes): (Vec<Change>, Vec<Change>) =
        changes.into_iter().partition(is_submodule);
    for change in submodules {
        let commit = gitlink::commit_in(wanted.git(), &change.path)?;
        match gitlink::check_out(top, &change.path, &commit)? {
            Some(reason) => outcome.kept.push(kept(&change, reason)),
            None => outcome.done.push(change),
        }
    }
    // Deletions first, so that a file can take the place of a directory and the other way round.
    let (deleted, others): (Vec<Change>, Vec<Change>) =
        changes.into_iter().partition(|change| change.status == FileStatus::Deleted);
    for change in deleted {
        match untouchable(&change, &unsaved) {
            Some(reason) => outcome.kept.push(kept(&change, reason)),
            None if remove(top, &change.path)? => outcome.done.push(change),
            None => outcome.kept.push(kept(&change, "it has become a directory")),
        }
    }
    for change in others {
        let reason = untouchable(&change, &unsaved).or_else(|| blocked(top, &change));
        match reason {
            Some(reason) => outcome.kept.push(kept(&change, reason)),
            None => written.push(change),
        }
    }
    write(wanted, &written)?;
    outcome.done.extend(written);
    outcome.done.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(outcome)
}

fn kept(change: &Change, reason: &str) -> KeptFile {
    KeptFile { path: quote_path(&change.path), reason: reason.to_owned() }
}

/// Whether a submodule has another commit.
fn is_submodule(change: &Change) -> bool {
    change.old_mode == GITLINK && change.new_mode == GITLINK
}

/// Why a file is kept, whatever is in the working tree.
fn untouchable(change: &Change, unsaved: &HashSet<&str>) -> Option<&'static str> {
    if change.old_mode == GITLINK || change.new_mode == GITLINK {
        return Some("it is a submodule, or becomes one");
    }
    let unsaved = unsaved.contains(quote_path(&change.path).as_str());
    unsaved.then_some(UNSAVED)
}

/// Why a file cannot be written: another file, which no checkpoint contains, is in its place.
fn blocked(top: &Path, change: &Change) -> Option<&'static str> {
    for parent in parents(&change.path) {
        if let Ok(metadata) = fs::symlink_metadata(top.join(OsStr::from_bytes(parent)))
            && !metadata.is_dir()
        {
            return Some("an ignored file is in place of its directory");
        }
    }
    let metadata = fs::symlink_metadata(top.join(OsStr::from_bytes(&change.path))).ok()?;
    if metadata.is_dir() {
        return Some("a directory with ignored files is in its place");
    }
    (change.status == FileStatus::Added).then_some("an ignored file is in its place")
}

/// The parent directories of a file, from the top.
fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.map(|end| &path[..end])
}

/// Removes a file and its parent directories that become empty; `false` if there is a directory in its place. A missing file
/// counts as removed.
fn remove(top: &Path, name: &[u8]) -> Result<bool, Failure> {
    let plain = |parent: &[u8]| {
        fs::symlink_metadata(top.join(OsStr::from_bytes(parent))).is_ok_and(|file| file.is_dir())
    };
    // Never through a symlink, which may lead out of the working tree.
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
        // Fails if it is not empty.
        if fs::remove_dir(directory).is_err() {
            break;
        }
        above = directory.parent();
    }
    Ok(true)
}

/// Writes files from the checkpoint.
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
    fn a_removal_does_not_follow_a_symlink() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(elsewhere.path().join("x"), "").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("a")).unwrap();
        assert!(remove(dir.path(), b"a/x").unwrap());
        assert!(elsewhere.path().join("x").exists());
    }

    #[test]
    fn a_removal_also_removes_directories_that_become_empty() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        fs::write(dir.path().join("a/b/c/x"), "").unwrap();
        fs::write(dir.path().join("a/y"), "").unwrap();
        assert!(remove(dir.path(), b"a/b/c/x").unwrap());
        assert!(!dir.path().join("a/b").exists() && dir.path().join("a/y").exists());
    }

    #[test]
    fn parent_directories_are_listed_from_the_top() {
        assert_eq!(parents(b"a/b/c").collect::<Vec<_>>(), [b"a".as_slice(), b"a/b"]);
        assert_eq!(parents(b"a").count(), 0);
    }
}
