//! An index of our own, one for each session, brought up to the working tree. The user's index is only ever read, so that
//! no `git commit` in the box meets a lock of ours.
//!
//! It begins as a copy of the user's index, whose knowledge of the files saves reading them, and again whenever that
//! one has changed.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Access, FlockOperation, access, flock};
use rustix::io::Errno;
use shed_api::SessionName;
use shed_api::git::{SkipReason, SkippedFile, quote_path};
use shed_link::git::{BoxPath, FailureKind, View};

use super::command::Git;
use super::failure::Failure;
use super::repository::Repository;

/// How long another operation of the same session is waited for: a checkpoint of a very large tree.
const LOCK_LIMIT: Duration = Duration::from_secs(30);
/// How often it is looked whether it has ended.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// How often a file may vanish or change while git reads it.
const TRIES: usize = 5;
/// How many names git may refuse. More is a failure.
const MAX_REFUSED: usize = 20;

/// A session's index; nobody else uses it meanwhile.
#[derive(Debug)]
pub(crate) struct PrivateIndex {
    /// Locked until this ends.
    _lock: File,
    path: PathBuf,
    toplevel: PathBuf,
    theirs: PathBuf,
    git: Git,
}

/// An index that is removed again.
#[derive(Debug)]
pub(crate) struct Scratch {
    git: Git,
    path: PathBuf,
}

impl Scratch {
    /// git with this index.
    pub(crate) fn git(&self) -> &Git {
        &self.git
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Not there when git failed before it wrote it.
        fs::remove_file(&self.path).ok();
    }
}

/// Where the private indexes of a repository are.
pub(crate) fn directory(repository: &Repository, state: Option<&BoxPath>) -> PathBuf {
    let state = state.map(|state| PathBuf::from(state.as_str()));
    state.unwrap_or_else(|| repository.common_dir.join("shed")).join("index")
}

/// Removes a session's index and what belongs to it. That there is none is no failure.
pub(crate) fn forget(directory: &Path, session: &SessionName) {
    for suffix in ["", ".lock", ".seed", ".staged", ".scratch", ".mutex"] {
        fs::remove_file(directory.join(format!("{session}{suffix}"))).ok();
    }
}

impl PrivateIndex {
    /// Takes the session's index, as copied from the user's when that one changed.
    pub(crate) fn open(repository: &Repository, view: &View) -> Result<Self, Failure> {
        let directory = directory(repository, view.state.as_ref());
        let failed = |error: &io::Error| Failure::io("cannot make a private index", error);
        fs::create_dir_all(&directory).map_err(|error| failed(&error))?;
        let session = view.session.as_str();
        let lock = take_lock(&directory.join(format!("{session}.mutex")))?;
        let path = directory.join(session);
        // Left by a git that was killed: we hold the lock, so nobody is writing.
        fs::remove_file(directory.join(format!("{session}.lock"))).ok();
        let index = Self {
            _lock: lock,
            git: repository.git.with_index(&path),
            path,
            toplevel: repository.toplevel.clone(),
            theirs: repository.index.clone(),
        };
        // Which files are ignored is as much a part of the copy as which are tracked.
        index.seed(&stamp(&repository.common_dir.join("info/exclude")))?;
        Ok(index)
    }

    /// Brings the index up to the working tree: everything tracked or untracked, nothing ignored. Files that cannot or
    /// shall not be read stay as they were and are told.
    pub(crate) fn take(&self, max_file_bytes: u64) -> Result<Vec<SkippedFile>, Failure> {
        let mut refused: Vec<Vec<u8>> = Vec::new();
        let mut n_tries = 0;
        let mut fresh = false;
        loop {
            let listing = self.listing()?;
            if !fresh && changes_ignores(&listing) {
                // What we took as untracked may be ignored from now on.
                fresh = true;
                self.copy("")?;
                continue;
            }
            let mut plan = plan(&self.toplevel, &listing, max_file_bytes, is_readable);
            for path in &refused {
                if plan.written.remove(path).is_some() {
                    plan.skipped.push(skipped(path, 0, SkipReason::Refused));
                }
            }
            match self.write(&plan) {
                Ok(()) => return Ok(plan.skipped),
                Err(Miss::Failed(failure)) => return Err(failure),
                Err(Miss::Path(path, _))
                    if plan.written.contains_key(&path) && exists(&self.toplevel, &path) =>
                {
                    if refused.len() == MAX_REFUSED {
                        let text = "git refuses too many files of this working tree";
                        return Err(Failure::new(FailureKind::TooMuch, text));
                    }
                    refused.push(path);
                }
                // A file that changed or vanished under our hands: look again.
                Err(Miss::Path(_, failure)) => {
                    n_tries += 1;
                    if n_tries == TRIES {
                        return Err(failure);
                    }
                }
            }
        }
    }

    /// Writes what the index holds as a tree.
    pub(crate) fn tree(&self) -> Result<String, Failure> {
        let output = self.git.call("write-tree").output("cannot write a tree")?;
        Ok(String::from_utf8_lossy(&output).trim_end().to_owned())
    }

    /// An index that holds a tree and nothing else, beside this one.
    pub(crate) fn scratch(&self, tree: &str) -> Result<Scratch, Failure> {
        let path = self.path.with_extension("scratch");
        fs::remove_file(path.with_extension("scratch.lock")).ok();
        let scratch = Scratch { git: self.git.with_index(&path), path };
        scratch.git.call("read-tree").arg(tree).done("cannot read the checkpoint")?;
        Ok(scratch)
    }

    /// git with this index.
    pub(crate) fn git(&self) -> &Git {
        &self.git
    }

    /// Writes what the user has staged as a tree; `None` while there are conflicts. git would lock the index it writes
    /// a tree of, so it is given a copy.
    pub(crate) fn staged_tree(&self) -> Result<Option<String>, Failure> {
        let copy = self.path.with_extension("staged");
        let failed = |error: &io::Error| Failure::io("cannot copy the index", error);
        let git = self.git.with_index(&copy);
        fs::remove_file(&copy).or_else(unless_missing).map_err(|error| failed(&error))?;
        if let Err(error) = fs::copy(&self.theirs, &copy)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(failed(&error));
        }
        let tree = git.call("write-tree").line();
        fs::remove_file(&copy).ok();
        tree
    }

    /// Copies the user's index unless it is the one that was copied last.
    fn seed(&self, excludes: &str) -> Result<(), Failure> {
        let stamp = format!("{} {excludes}", stamp(&self.theirs));
        let known = fs::read(self.mark());
        if self.path.exists() && known.is_ok_and(|known| known == stamp.as_bytes()) {
            return Ok(());
        }
        self.copy(&stamp)
    }

    /// Copies the user's index and marks the copy. Without an index all files are untracked.
    fn copy(&self, stamp: &str) -> Result<(), Failure> {
        let copy = || -> io::Result<()> {
            fs::remove_file(self.mark()).or_else(unless_missing)?;
            fs::remove_file(&self.path).or_else(unless_missing)?;
            let mut source = match File::open(&self.theirs) {
                Ok(source) => source,
                Err(error) => return unless_missing(error),
            };
            let mut bytes = Vec::new();
            source.read_to_end(&mut bytes)?;
            let options = OpenOptions::new().write(true).create_new(true).mode(0o600).to_owned();
            let mut target = options.open(&self.path)?;
            target.write_all(&bytes)?;
            // git trusts a file's stamp only if it is older than the index; a copy must not look newer than it is.
            target.set_times(FileTimes::new().set_modified(source.metadata()?.modified()?))?;
            fs::write(self.mark(), stamp)
        };
        copy().map_err(|error| Failure::io("cannot copy the index", &error))
    }

    fn mark(&self) -> PathBuf {
        self.path.with_extension("seed")
    }

    /// What differs from the index, by name: `ls-files` tells it without writing anything.
    fn listing(&self) -> Result<Vec<u8>, Failure> {
        let words = ["-z", "-m", "-d", "-o", "--exclude-standard"];
        let ended = self.git.call("ls-files").args(words).ended()?;
        if !ended.status.success() && String::from_utf8_lossy(&ended.words).contains("index") {
            // Ours may have been cut by a full disk. Without it everything is read anew.
            fs::remove_file(&self.path).ok();
            return self.git.call("ls-files").args(words).output("cannot list files");
        }
        if ended.truncated {
            let text = "this working tree has too many untracked files";
            return Err(Failure::new(FailureKind::TooMuch, text));
        }
        ended.success("cannot list files")
    }

    fn write(&self, plan: &Plan) -> Result<(), Miss> {
        if !plan.gone.is_empty() {
            self.update(&["-z", "--force-remove", "--stdin"], plan.gone.iter())?;
        }
        if !plan.written.is_empty() {
            let words = ["-z", "--add", "--remove", "--replace", "--stdin"];
            self.update(&words, plan.written.keys())?;
        }
        Ok(())
    }

    fn update<'a>(
        &self,
        words: &[&str],
        paths: impl Iterator<Item = &'a Vec<u8>>,
    ) -> Result<(), Miss> {
        let mut input = Vec::new();
        for path in paths {
            input.extend_from_slice(path);
            input.push(0);
        }
        let ended = self.git.call("update-index").args(words).input(input).ended();
        let ended = ended.map_err(Miss::Failed)?;
        if ended.status.success() {
            return Ok(());
        }
        let failure = ended.failure("cannot read the files of the working tree");
        match refused_path(&ended.words) {
            Some(path) if matches!(failure.kind(), FailureKind::Git | FailureKind::Denied) => {
                Err(Miss::Path(path, failure))
            }
            _ => Err(Miss::Failed(failure)),
        }
    }
}

/// Why `update-index` did not do it.
enum Miss {
    /// Because of one file.
    Path(Vec<u8>, Failure),
    /// Because of something else.
    Failed(Failure),
}

/// Whether a file that names ignored files is among those of a listing.
fn changes_ignores(listing: &[u8]) -> bool {
    let name: &[u8] = b".gitignore";
    listing
        .split(|byte| *byte == 0)
        .any(|path| path.rsplit(|byte| *byte == b'/').next() == Some(name))
}

/// What tells one state of a file from another.
fn stamp(path: &Path) -> String {
    fs::metadata(path).map_or_else(
        |_| "-".to_owned(),
        |file| format!("{} {} {} {}", file.ino(), file.size(), file.mtime(), file.mtime_nsec()),
    )
}

/// What is to be done to the index.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// Not there any more.
    gone: Vec<Vec<u8>>,
    /// To be read, with their sizes.
    written: BTreeMap<Vec<u8>, u64>,
    /// To be left as they are.
    skipped: Vec<SkippedFile>,
}

/// Looks at each file of a listing and says what is to be done about it.
fn plan(toplevel: &Path, listing: &[u8], max_file_bytes: u64, readable: fn(&Path) -> bool) -> Plan {
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
            None => plan.gone.push(name.to_vec()),
            // A submodule, or a directory where a file was.
            Some(metadata) if metadata.is_dir() && !path.join(".git").exists() => {
                plan.gone.push(name.to_vec());
            }
            Some(metadata) if metadata.is_file() && metadata.len() > max_file_bytes => {
                plan.skipped.push(skipped(name, metadata.len(), SkipReason::TooLarge));
            }
            Some(metadata) if metadata.is_file() && !readable(&path) => {
                plan.skipped.push(skipped(name, metadata.len(), SkipReason::Unreadable));
            }
            Some(metadata) => {
                plan.written.insert(name.to_vec(), metadata.len());
            }
        }
    }
    plan
}

/// Whether all directories above a file are directories and no symlinks.
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

fn is_readable(path: &Path) -> bool {
    access(path, Access::READ_OK).is_ok()
}

fn exists(toplevel: &Path, name: &[u8]) -> bool {
    fs::symlink_metadata(toplevel.join(std::ffi::OsStr::from_bytes(name))).is_ok()
}

fn skipped(path: &[u8], bytes: u64, reason: SkipReason) -> SkippedFile {
    SkippedFile { path: quote_path(path), bytes, reason }
}

/// The file `update-index` ended at.
fn refused_path(words: &[u8]) -> Option<Vec<u8>> {
    let start: &[u8] = b"fatal: Unable to process path ";
    let line = words.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(start))?;
    Some(line.to_vec())
}

fn unless_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Waits until nobody else of this session is at work.
fn take_lock(path: &Path) -> Result<File, Failure> {
    let options =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).to_owned();
    let failed = |error: &io::Error| Failure::io("cannot lock a private index", error);
    let file = options.open(path).map_err(|error| failed(&error))?;
    let deadline = Instant::now() + LOCK_LIMIT;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => {
                thread::sleep(LOCK_PAUSE);
            }
            Err(Errno::WOULDBLOCK | Errno::INTR) => {
                let text = "another operation on this session's files does not end";
                return Err(Failure::new(FailureKind::Busy, text));
            }
            Err(error) => return Err(failed(&error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_read_removed_or_skipped() {
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
        let written: Vec<&[u8]> = plan.written.keys().map(Vec::as_slice).collect();
        assert_eq!(written, [b"link".as_slice(), b"module", b"new"]);
        assert_eq!(
            plan.gone,
            [b"file/x".to_vec(), b"link/hosts".to_vec(), b"lost".to_vec(), b"was-file".to_vec()]
        );
        let reasons: Vec<(&str, SkipReason)> =
            plan.skipped.iter().map(|file| (file.path.as_str(), file.reason)).collect();
        assert_eq!(reasons, [("large", SkipReason::TooLarge), ("nested", SkipReason::Repository)]);
    }

    #[test]
    fn a_file_that_may_not_be_read_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        let plan = plan(dir.path(), b"secret\0", 10, |_| false);
        assert!(plan.written.is_empty());
        assert_eq!(plan.skipped[0].reason, SkipReason::Unreadable);
    }

    #[test]
    fn the_refused_file_is_found_in_gits_words() {
        let words = b"error: Invalid path 'git~1'\nfatal: Unable to process path git~1\n";
        assert_eq!(refused_path(words), Some(b"git~1".to_vec()));
        assert_eq!(refused_path(b"fatal: something"), None);
    }
}
