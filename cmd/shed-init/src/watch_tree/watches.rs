//! The watched directories, and the meaning of events in them.

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

/// The most changes that are checked one by one. With more of them, a relevant one is assumed to be among them.
pub(crate) const MAX_CHANGES: usize = 1_000;

/// The content of a watched directory.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    /// Files of the working tree; the directory relative to the top.
    Files(PathBuf),
    /// `HEAD`, the index and `packed-refs`.
    Git,
    /// Refs; the absolute directory.
    Refs(PathBuf),
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A file or directory of the working tree, relative to the top.
    File { name: PathBuf, new_directory: bool },
    /// `HEAD`, the index or refs; the path is that of a new directory of refs.
    Git { new_directory: Option<PathBuf> },
}

/// All watched directories of a working tree.
#[derive(Debug)]
pub(crate) struct Watches<'a> {
    repository: &'a Repository,
    watched: HashMap<i32, Content>,
    partial: bool,
}

impl<'a> Watches<'a> {
    pub(crate) fn new(repository: &'a Repository) -> Self {
        Self { repository, watched: HashMap::new(), partial: false }
    }

    /// The number of watched directories.
    pub(crate) fn n_watches(&self) -> usize {
        self.watched.len()
    }

    /// Whether some directories are not watched.
    pub(crate) fn is_partial(&self) -> bool {
        self.partial
    }

    /// Notes that nothing can be watched.
    pub(crate) fn mark_partial(&mut self) {
        self.partial = true;
    }

    /// Watches all directories that exist now, in addition to those that are watched already.
    pub(crate) fn watch_all(&mut self, inotify: &OwnedFd) -> Result<(), Failure> {
        self.partial = false;
        let repository = self.repository;
        self.add(inotify, &repository.git_dir, Content::Git);
        self.add(inotify, &repository.common_dir, Content::Git);
        self.watch_refs(inotify, &repository.common_dir.join("refs"));
        self.watch_files(inotify, Path::new(""))
    }

    /// The change that an event stands for; `None` if it is not relevant.
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
            (Content::Files(_), Some(name)) if name == ".git" => None,
            (Content::Files(directory), Some(name)) => {
                Some(Change::File { name: directory.join(name), new_directory })
            }
            // Lock files are ignored: git renames them to the files that they protect.
            (Content::Git, Some(name)) => {
                let counts = ["HEAD", "index", "packed-refs", "MERGE_HEAD", "REBASE_HEAD"];
                let counts = counts.into_iter().any(|known| name == known);
                counts.then_some(Change::Git { new_directory: None })
            }
            (Content::Refs(directory), Some(name)) => {
                let lock = name.as_bytes().ends_with(b".lock");
                let path = directory.join(name);
                let ours = path == self.repository.common_dir.join("refs/shed");
                let new_directory = new_directory.then_some(path);
                (!lock && !ours).then_some(Change::Git { new_directory })
            }
            // An event of the directory itself. Its parent has an event with its name.
            (_, None) => None,
        }
    }

    /// Watches new directories and returns whether a change is relevant. Changes of ignored files are not.
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

    /// The names that are ignored. A tracked file is never ignored.
    fn ignored(&self, names: &HashSet<&Path>) -> Result<HashSet<PathBuf>, Failure> {
        let mut input = Vec::new();
        for name in names {
            // `check-ignore` does not support literal pathspecs; after `./` no character is special.
            input.extend_from_slice(b"./");
            input.extend_from_slice(name.as_os_str().as_bytes());
            input.push(0);
        }
        if input.is_empty() {
            return Ok(HashSet::new());
        }
        let call = self.repository.git.call("check-ignore").args(["-z", "--stdin"]);
        let call = call.env("GIT_LITERAL_PATHSPECS", "0");
        // It exits with 1 if none is ignored. Other errors are ignored: a superfluous report is better than a missing one.
        let ended = call.input(input).ended()?;
        let names = paths(&ended.output);
        let names = names.map(|name| name.strip_prefix(".").map_or(name.clone(), Path::to_owned));
        Ok(names.collect())
    }

    /// Watches a directory of the working tree and all directories in it that are not ignored.
    fn watch_files(&mut self, inotify: &OwnedFd, directory: &Path) -> Result<(), Failure> {
        let args = ["-z", "-o", "-i", "--exclude-standard", "--directory", "--"];
        let mut call = self.repository.git.call("ls-files").args(args);
        if !directory.as_os_str().is_empty() {
            call = call.arg(directory);
        }
        let ignored: HashSet<PathBuf> = paths(&call.ended()?.output).collect();
        let mut left = vec![directory.to_owned()];
        while let Some(directory) = left.pop() {
            let path = self.repository.toplevel.join(&directory);
            if ignored.contains(&directory)
                || !self.add(inotify, &path, Content::Files(directory.clone()))
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
            if directory == ours || !self.add(inotify, &directory, Content::Refs(directory.clone()))
            {
                continue;
            }
            for entry in fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok) {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    left.push(entry.path());
                }
            }
        }
    }

    /// Watches one directory; `false` if that is not possible.
    fn add(&mut self, inotify: &OwnedFd, path: &Path, content: Content) -> bool {
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
                self.watched.insert(watch, content);
                true
            }
            // It was deleted or replaced in between.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => false,
            // The limit of watches is reached, or the directory is not readable.
            Err(_) => {
                self.partial = true;
                false
            }
        }
    }
}

/// Splits names at NUL bytes and removes the trailing slash of directories.
fn paths(listing: &[u8]) -> impl Iterator<Item = PathBuf> {
    let names = listing.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| PathBuf::from(OsStr::from_bytes(name.strip_suffix(b"/").unwrap_or(name))))
}
