//! Which directories are watched, and what an event in one of them means.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, Event, ReadFlags, WatchFlags};
use rustix::io::Errno;
use shed_link::git::MAX_TREE_WATCHES;

use crate::git::{Failure, Repository};

/// The most changes that are looked at one by one. With more, something that counts is among them.
pub(crate) const MAX_CHANGES: usize = 1_000;

/// What is in a watched directory.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Files of the working tree.
    Files(PathBuf),
    /// `HEAD`, the index and `packed-refs`.
    Git,
    /// Refs.
    Refs(PathBuf),
}

/// Something that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A file of the working tree, relative to the top, or a directory.
    File { name: PathBuf, new_directory: bool },
    /// What is checked out, staged or known of branches; the path is a new directory of refs.
    Git { new_directory: Option<PathBuf> },
}

/// All watched directories of a working tree.
#[derive(Debug)]
pub(crate) struct Places<'a> {
    repository: &'a Repository,
    watched: HashMap<i32, Place>,
    partial: bool,
}

impl<'a> Places<'a> {
    pub(crate) fn new(repository: &'a Repository) -> Self {
        Self { repository, watched: HashMap::new(), partial: false }
    }

    /// How many directories are watched.
    pub(crate) fn n_watches(&self) -> usize {
        self.watched.len()
    }

    /// Whether some are not.
    pub(crate) fn is_partial(&self) -> bool {
        self.partial
    }

    /// Watches everything there is now. What is watched already stays so.
    pub(crate) fn watch_all(&mut self, inotify: &OwnedFd) -> Result<(), Failure> {
        self.partial = false;
        let repository = self.repository;
        self.add(inotify, &repository.git_dir, Place::Git);
        self.add(inotify, &repository.common_dir, Place::Git);
        self.watch_refs(inotify, &repository.common_dir.join("refs"));
        self.watch_files(inotify, Path::new(""))
    }

    /// What an event means; `None` of what does not count.
    pub(crate) fn read(&mut self, event: &Event<'_>) -> Option<Change> {
        let flags = event.events();
        if flags.contains(ReadFlags::IGNORED) {
            self.watched.remove(&event.wd());
            return None;
        }
        let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
        let appeared = flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
        let new_directory = flags.contains(ReadFlags::ISDIR) && appeared;
        match (self.watched.get(&event.wd())?, name) {
            (Place::Files(_), Some(name)) if name == ".git" => None,
            (Place::Files(directory), Some(name)) => {
                Some(Change::File { name: directory.join(name), new_directory })
            }
            // Locks come and go; what they guard is renamed into its place.
            (Place::Git, Some(name)) => {
                let counts = ["HEAD", "index", "packed-refs", "MERGE_HEAD", "REBASE_HEAD"];
                let counts = counts.into_iter().any(|known| name == known);
                counts.then_some(Change::Git { new_directory: None })
            }
            (Place::Refs(directory), Some(name)) => {
                let lock = name.as_bytes().ends_with(b".lock");
                let path = directory.join(name);
                let ours = path == self.repository.common_dir.join("refs/shed");
                let new_directory = new_directory.then_some(path);
                (!lock && !ours).then_some(Change::Git { new_directory })
            }
            // The directory itself: whatever holds it tells the same with its name.
            (_, None) => None,
        }
    }

    /// Watches new directories and says whether any change counts: one of an ignored file does not.
    pub(crate) fn follow(
        &mut self,
        inotify: &OwnedFd,
        changes: &[Change],
    ) -> Result<bool, Failure> {
        let mut counts = false;
        let mut files: HashSet<&Path> = HashSet::new();
        for change in changes {
            match change {
                Change::Git { new_directory } => {
                    counts = true;
                    if let Some(directory) = new_directory {
                        self.watch_refs(inotify, directory);
                    }
                }
                Change::File { name, .. } => {
                    files.insert(name);
                }
            }
        }
        let ignored = self.ignored(&files)?;
        counts |= files.iter().any(|name| !ignored.contains(*name));
        let mut seen = HashSet::new();
        for change in changes {
            if let Change::File { name, new_directory: true } = change
                && !ignored.contains(name)
                && seen.insert(name)
            {
                self.watch_files(inotify, name)?;
            }
        }
        Ok(counts)
    }

    /// Those of the names that are ignored. A tracked file never is.
    fn ignored(&self, names: &HashSet<&Path>) -> Result<HashSet<PathBuf>, Failure> {
        let mut input = Vec::new();
        for name in names {
            // This command knows no literal pathspecs; behind a dot nothing is magic.
            input.extend_from_slice(b"./");
            input.extend_from_slice(name.as_os_str().as_bytes());
            input.push(0);
        }
        if input.is_empty() {
            return Ok(HashSet::new());
        }
        let call = self.repository.git.call("check-ignore").args(["-z", "--stdin"]);
        let call = call.env("GIT_LITERAL_PATHSPECS", "0");
        // It fails when none is ignored; whatever else it fails at, to tell too much is better than too little.
        let ended = call.input(input).ended()?;
        let names = paths(&ended.output);
        let names = names.map(|name| name.strip_prefix(".").map_or(name.clone(), Path::to_owned));
        Ok(names.collect())
    }

    /// Watches a directory of the working tree and all below that are not ignored.
    fn watch_files(&mut self, inotify: &OwnedFd, directory: &Path) -> Result<(), Failure> {
        let words = ["-z", "-o", "-i", "--exclude-standard", "--directory", "--"];
        let mut call = self.repository.git.call("ls-files").args(words);
        if !directory.as_os_str().is_empty() {
            call = call.arg(directory);
        }
        let ignored: HashSet<PathBuf> = paths(&call.ended()?.output).collect();
        let mut left = vec![directory.to_owned()];
        while let Some(directory) = left.pop() {
            let path = self.repository.toplevel.join(&directory);
            if ignored.contains(&directory)
                || !self.add(inotify, &path, Place::Files(directory.clone()))
            {
                continue;
            }
            for entry in fs::read_dir(&path).into_iter().flatten().filter_map(Result::ok) {
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_directory && entry.file_name() != ".git" {
                    left.push(directory.join(entry.file_name()));
                }
            }
        }
        Ok(())
    }

    fn watch_refs(&mut self, inotify: &OwnedFd, directory: &Path) {
        let ours = self.repository.common_dir.join("refs/shed");
        let mut left = vec![directory.to_owned()];
        while let Some(directory) = left.pop() {
            if directory == ours || !self.add(inotify, &directory, Place::Refs(directory.clone())) {
                continue;
            }
            for entry in fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok) {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    left.push(entry.path());
                }
            }
        }
    }

    /// Watches one directory; `false` when that cannot be.
    fn add(&mut self, inotify: &OwnedFd, path: &Path, place: Place) -> bool {
        if self.watched.len() >= MAX_TREE_WATCHES {
            self.partial = true;
            return false;
        }
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR
            | WatchFlags::DONT_FOLLOW
            | WatchFlags::EXCL_UNLINK;
        match inotify::add_watch(inotify, path, flags) {
            Ok(watch) => {
                self.watched.insert(watch, place);
                true
            }
            // Gone again, or something else by now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => false,
            // No room in the kernel, or not ours to read.
            Err(_) => {
                self.partial = true;
                false
            }
        }
    }
}

/// Names between zero bytes; a directory's slash at the end does not belong to it.
fn paths(listing: &[u8]) -> impl Iterator<Item = PathBuf> {
    let names = listing.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| PathBuf::from(OsStr::from_bytes(name.strip_suffix(b"/").unwrap_or(name))))
}
