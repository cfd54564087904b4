//! A private index for each session, which is updated from the working tree. The user's index is only read, so that no
//! `git commit` in the container has to wait for a lock of ours.
//!
//! It starts as a copy of the user's index, whose file stamps save reading unchanged files. It is copied again whenever the
//! user's index has changed. Marks that hide changes of a file from git are cleared in the copy.

mod count;
mod hidden;
mod plan;

use std::collections::HashSet;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use shed_api::SessionName;
use shed_api::git::{SkipReason, SkippedFile};
use shed_link::git::{ContainerPath, FailureKind, View};

use super::command::Git;
use super::failure::Failure;
use super::lock;
use super::repository::Repository;
use plan::{Plan, is_readable, plan, skipped};

/// How often files may vanish or change while git reads them.
const TRIES: usize = 5;
/// The most files that git may refuse to add. More is a failure.
const MAX_REFUSED: usize = 20;

/// A session's index, locked against other operations of the session.
#[derive(Debug)]
pub(crate) struct PrivateIndex {
    /// Locked until the value is dropped.
    _lock: File,
    path: PathBuf,
    toplevel: PathBuf,
    /// The user's index.
    users_index: PathBuf,
    git: Git,
}

/// The files that differ from the index.
#[derive(Debug, Default, PartialEq, Eq)]
struct Listing {
    /// All names, each with a NUL byte after it.
    names: Vec<u8>,
    /// The names that the index has.
    tracked: HashSet<Vec<u8>>,
    /// The names that the index does not have.
    untracked: HashSet<Vec<u8>>,
}

/// A temporary index, which is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    git: Git,
    path: PathBuf,
}

impl Scratch {
    /// A copy of the user's index in which no mark hides a change, outside of the repository.
    pub(crate) fn of_users_index(repository: &Repository) -> Result<Self, Failure> {
        let scratch = Self::new(&repository.git);
        if scratch.copy(&repository.index)? {
            hidden::reveal(&scratch.git, &repository.toplevel)?;
        }
        Ok(scratch)
    }

    /// A copy of an index; `None` if there is none.
    pub(crate) fn of_index(git: &Git, index: &Path) -> Result<Option<Self>, Failure> {
        let scratch = Self::new(git);
        Ok(scratch.copy(index)?.then_some(scratch))
    }

    fn new(git: &Git) -> Self {
        static N_COPIES: AtomicU32 = AtomicU32::new(0);
        let n = N_COPIES.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("shed-index-{}-{n}", std::process::id()));
        Self { git: git.with_index(&path), path }
    }

    /// Copies an index; `false` if there is none.
    fn copy(&self, index: &Path) -> Result<bool, Failure> {
        // A process that was killed may have had our number.
        let removed = fs::remove_file(&self.path).or_else(unless_missing);
        let copied = removed.and_then(|()| copy_index(index, &self.path));
        copied.map_err(|error| Failure::io("cannot copy the index", &error))
    }

    /// git with this index.
    pub(crate) fn git(&self) -> &Git {
        &self.git
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Fails if git failed before it wrote it.
        fs::remove_file(&self.path).ok();
    }
}

/// The directory of a repository's private indexes.
pub(crate) fn directory(repository: &Repository, state: Option<&ContainerPath>) -> PathBuf {
    let state = state.map(|state| PathBuf::from(state.as_str()));
    state.unwrap_or_else(|| repository.common_dir.join("shed")).join("index")
}

/// Removes a session's index and its other files. Missing files are not an error.
pub(crate) fn forget(directory: &Path, session: &SessionName) {
    for suffix in
        ["", ".lock", ".seed", ".hidden", ".staged", ".scratch", ".count", ".mutex", ".attempt"]
    {
        fs::remove_file(directory.join(format!("{session}{suffix}"))).ok();
    }
}

impl PrivateIndex {
    /// Locks the session's index and copies the user's index if that has changed.
    pub(crate) fn open(repository: &Repository, view: &View) -> Result<Self, Failure> {
        let directory = directory(repository, view.state.as_ref());
        let failed = |error: &io::Error| Failure::io("cannot create a private index", error);
        fs::create_dir_all(&directory).map_err(|error| failed(&error))?;
        let session = view.session.as_str();
        let lock = lock::take_session(&directory.join(format!("{session}.mutex")))?;
        let path = directory.join(session);
        // A git that was killed leaves its lock file. No git is writing, since we hold our lock.
        fs::remove_file(directory.join(format!("{session}.lock"))).ok();
        let index = Self {
            _lock: lock,
            git: repository.git.with_index(&path),
            path,
            toplevel: repository.toplevel.clone(),
            users_index: repository.index.clone(),
        };
        // A copy is also outdated when other files are ignored than before.
        index.copy_if_changed(&stamp(&repository.common_dir.join("info/exclude")))?;
        Ok(index)
    }

    /// Updates the index from the working tree: all tracked and untracked files that are not ignored. Files that cannot be
    /// read or are too large keep their state in the index and are returned.
    pub(crate) fn update_from_worktree(
        &self,
        max_file_bytes: u64,
    ) -> Result<Vec<SkippedFile>, Failure> {
        let mut refused: Vec<Vec<u8>> = Vec::new();
        let mut n_tries = 0;
        loop {
            let (_, mut plan) = self.planned(max_file_bytes)?;
            for path in &refused {
                if plan.added.remove(path).is_some() {
                    plan.skipped.push(skipped(path, 0, SkipReason::Refused));
                }
            }
            match self.write(&plan) {
                Ok(()) => return Ok(plan.skipped),
                Err(UpdateError::Failed(failure)) => return Err(failure),
                Err(UpdateError::Path(path, _))
                    if plan.added.contains_key(&path) && exists(&self.toplevel, &path) =>
                {
                    if refused.len() == MAX_REFUSED {
                        let text = "git refuses to add too many files of this working tree";
                        return Err(Failure::new(FailureKind::TooMuch, text));
                    }
                    refused.push(path);
                }
                // A file changed or vanished while it was read: try again.
                Err(UpdateError::Path(_, failure)) => {
                    n_tries += 1;
                    if n_tries == TRIES {
                        return Err(failure);
                    }
                }
            }
        }
    }

    /// Lists the changed files and decides what to do with each.
    fn planned(&self, max_file_bytes: u64) -> Result<(Listing, Plan), Failure> {
        self.reveal_present()?;
        let mut listing = self.listing()?;
        if changes_ignores(&listing.names) {
            // Files that were added as untracked may be ignored from now on.
            self.copy("")?;
            self.reveal_present()?;
            listing = self.listing()?;
        }
        let plan = plan(&self.toplevel, &listing.names, max_file_bytes, is_readable);
        Ok((listing, plan))
    }

    /// Writes the content of the index as a tree.
    pub(crate) fn tree(&self) -> Result<String, Failure> {
        let output = self.git.call("write-tree").output("cannot write a tree")?;
        Ok(String::from_utf8_lossy(&output).trim_end().to_owned())
    }

    /// Creates a temporary index with the content of a tree.
    pub(crate) fn scratch(&self, tree: &str) -> Result<Scratch, Failure> {
        let scratch = self.empty("scratch");
        scratch.git.call("read-tree").arg(tree).done("cannot read the checkpoint")?;
        Ok(scratch)
    }

    /// A temporary copy of the index.
    fn temporary(&self, suffix: &str) -> Result<Scratch, Failure> {
        let copy = self.empty(suffix);
        copy.copy(&self.path)?;
        Ok(copy)
    }

    fn empty(&self, suffix: &str) -> Scratch {
        let path = self.path.with_extension(suffix);
        fs::remove_file(path.with_extension(format!("{suffix}.lock"))).ok();
        Scratch { git: self.git.with_index(&path), path }
    }

    /// Writes the user's staged changes as a tree; `None` while there are conflicts. It uses a copy of the user's index,
    /// because git locks the index whose tree it writes.
    pub(crate) fn staged_tree(&self) -> Result<Option<String>, Failure> {
        let copy = self.path.with_extension("staged");
        let failed = |error: &io::Error| Failure::io("cannot copy the index", error);
        let git = self.git.with_index(&copy);
        fs::remove_file(&copy).or_else(unless_missing).map_err(|error| failed(&error))?;
        if let Err(error) = fs::copy(&self.users_index, &copy)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(failed(&error));
        }
        let tree = git.call("write-tree").line();
        fs::remove_file(&copy).ok();
        tree
    }

    /// Copies the user's index if it has changed since the last copy.
    fn copy_if_changed(&self, excludes: &str) -> Result<(), Failure> {
        let stamp = format!("{} {excludes}", stamp(&self.users_index));
        let known = fs::read(self.stamp_file());
        if self.path.exists() && known.is_ok_and(|known| known == stamp.as_bytes()) {
            return Ok(());
        }
        self.copy(&stamp)
    }

    /// Copies the user's index and records its stamp. Without an index all files are untracked.
    fn copy(&self, stamp: &str) -> Result<(), Failure> {
        let copy = || -> io::Result<()> {
            fs::remove_file(self.stamp_file()).or_else(unless_missing)?;
            fs::remove_file(&self.path).or_else(unless_missing)?;
            fs::remove_file(self.hidden_file()).or_else(unless_missing)?;
            if copy_index(&self.users_index, &self.path)? {
                match hidden::reveal(&self.git, &self.toplevel) {
                    Ok(absent) => self.write_hidden(&absent)?,
                    // A damaged index. Without it all files are read.
                    Err(_) => fs::remove_file(&self.path).or_else(unless_missing)?,
                }
            }
            fs::write(self.stamp_file(), stamp)
        };
        copy().map_err(|error| Failure::io("cannot copy the index", &error))
    }

    /// Clears the marks of files that were absent when the index was copied and are present now.
    fn reveal_present(&self) -> Result<(), Failure> {
        let failed = |error: &io::Error| Failure::io("cannot read the list of hidden files", error);
        let listing = match fs::read(self.hidden_file()) {
            Ok(listing) => listing,
            Err(error) => return unless_missing(error).map_err(|error| failed(&error)),
        };
        let names = listing.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let names: Vec<Vec<u8>> = names.map(<[u8]>::to_vec).collect();
        let n_names = names.len();
        let absent = hidden::reveal_present(&self.git, &self.toplevel, names)?;
        if absent.len() == n_names {
            return Ok(());
        }
        self.write_hidden(&absent).map_err(|error| failed(&error))
    }

    fn write_hidden(&self, names: &[Vec<u8>]) -> io::Result<()> {
        let path = self.hidden_file();
        if names.is_empty() {
            return fs::remove_file(path).or_else(unless_missing);
        }
        fs::write(path, names.join(&0))
    }

    /// The list of files that are absent and marked with `skip-worktree`.
    fn hidden_file(&self) -> PathBuf {
        self.path.with_extension("hidden")
    }

    fn stamp_file(&self) -> PathBuf {
        self.path.with_extension("seed")
    }

    /// The names of the files that differ from the index. `ls-files` does not write anything.
    fn listing(&self) -> Result<Listing, Failure> {
        let args = ["-t", "-z", "-m", "-d", "-o", "--exclude-standard"];
        let ended = self.git.call("ls-files").args(args).ended()?;
        if !ended.status.success() && String::from_utf8_lossy(&ended.stderr).contains("index") {
            // The private index may have been truncated by a full disk. Without it all files are read again.
            fs::remove_file(&self.path).ok();
            let output = self.git.call("ls-files").args(args).output("cannot list files")?;
            return Ok(Listing::parse(&output));
        }
        if ended.truncated {
            let text = "this working tree has too many untracked files";
            return Err(Failure::new(FailureKind::TooMuch, text));
        }
        Ok(Listing::parse(&ended.success("cannot list files")?))
    }

    fn write(&self, plan: &Plan) -> Result<(), UpdateError> {
        if !plan.removed.is_empty() {
            self.update(&["-z", "--force-remove", "--stdin"], plan.removed.iter())?;
        }
        if !plan.added.is_empty() {
            let args = ["-z", "--add", "--remove", "--replace", "--stdin"];
            self.update(&args, plan.added.keys())?;
        }
        Ok(())
    }

    fn update<'a>(
        &self,
        args: &[&str],
        paths: impl Iterator<Item = &'a Vec<u8>>,
    ) -> Result<(), UpdateError> {
        let mut input = Vec::new();
        for path in paths {
            input.extend_from_slice(path);
            input.push(0);
        }
        let ended = self.git.call("update-index").args(args).input(input).ended();
        let ended = ended.map_err(UpdateError::Failed)?;
        if ended.status.success() {
            return Ok(());
        }
        let failure = ended.failure("cannot read the files of the working tree");
        match refused_path(&ended.stderr) {
            Some(path) if matches!(failure.kind(), FailureKind::Git | FailureKind::Denied) => {
                Err(UpdateError::Path(path, failure))
            }
            _ => Err(UpdateError::Failed(failure)),
        }
    }
}

/// The files of a listing that cannot be read or are repositories of their own.
pub(crate) fn unreadable(toplevel: &Path, listing: &[u8]) -> Vec<SkippedFile> {
    plan(toplevel, listing, u64::MAX, is_readable).skipped
}

/// Why `update-index` failed.
enum UpdateError {
    /// It failed at this file.
    Path(Vec<u8>, Failure),
    /// It failed for another reason.
    Failed(Failure),
}

/// Whether a `.gitignore` is among the files of a listing.
fn changes_ignores(listing: &[u8]) -> bool {
    let name: &[u8] = b".gitignore";
    listing
        .split(|byte| *byte == 0)
        .any(|path| path.rsplit(|byte| *byte == b'/').next() == Some(name))
}

/// A text that differs between two states of a file; `-` if the file does not exist.
fn stamp(path: &Path) -> String {
    fs::metadata(path).map_or_else(
        |_| "-".to_owned(),
        |file| format!("{} {} {} {}", file.ino(), file.size(), file.mtime(), file.mtime_nsec()),
    )
}

/// Copies an index; `false` if there is none.
fn copy_index(from: &Path, to: &Path) -> io::Result<bool> {
    let mut source = match File::open(from) {
        Ok(source) => source,
        Err(error) => return unless_missing(error).map(|()| false),
    };
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes)?;
    let options = OpenOptions::new().write(true).create_new(true).mode(0o600).to_owned();
    let mut target = options.open(to)?;
    target.write_all(&bytes)?;
    // git only trusts the stamp of a file that is older than the index, so the copy keeps the index's time.
    target.set_times(FileTimes::new().set_modified(source.metadata()?.modified()?))?;
    Ok(true)
}

fn exists(toplevel: &Path, name: &[u8]) -> bool {
    fs::symlink_metadata(toplevel.join(std::ffi::OsStr::from_bytes(name))).is_ok()
}

/// The file at which `update-index` failed.
fn refused_path(stderr: &[u8]) -> Option<Vec<u8>> {
    let start: &[u8] = b"fatal: Unable to process path ";
    let line = stderr.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(start))?;
    Some(line.to_vec())
}

fn unless_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refused_file_is_parsed_from_gits_message() {
        let stderr = b"error: Invalid path 'git~1'\nfatal: Unable to process path git~1\n";
        assert_eq!(refused_path(stderr), Some(b"git~1".to_vec()));
        assert_eq!(refused_path(b"fatal: something"), None);
    }
}
