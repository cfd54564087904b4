//! inotify watches on the spools.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use shed_link::spool::{Epoch, WorkerId};

use crate::spool_record::LOCK;

/// Buffer for the events of one read.
const EVENT_BYTES: usize = 4 << 10;

/// A change of the spools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// A new entry in the directory of all spools.
    Workers,
    /// The directory of all spools was deleted.
    RootGone,
    /// A new entry in a worker's directory.
    Worker(WorkerId),
    /// Output was written.
    Output(Epoch),
    /// A new segment was created.
    Created(Epoch),
    /// The lock file was closed; the runner may have ended.
    Closed(Epoch),
    /// The directory was deleted.
    Gone(Epoch),
    /// The kernel dropped events because there were too many.
    Overflow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// The directory around the directory of all spools.
    Parent,
    Root,
    Worker(WorkerId),
    Epoch(Epoch),
}

/// The watches and what they are for.
#[derive(Debug)]
pub(super) struct Watches {
    /// `None` if the user's inotify instances, which all sheds share, are used up.
    inotify: Option<OwnedFd>,
    /// The name of the directory of all spools in its parent.
    root_name: OsString,
    targets: HashMap<i32, Target>,
    epochs: BTreeMap<Epoch, i32>,
}

impl Watches {
    /// No watches yet, on the directory of all spools.
    pub(super) fn new(root: &Path) -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        let root_name = root.file_name().unwrap_or_default().to_owned();
        let (targets, epochs) = (HashMap::new(), BTreeMap::new());
        Self { inotify, root_name, targets, epochs }
    }

    /// What is readable when something changed; `None` if nothing can be watched.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// Watches the directory of all spools, again after it was deleted. Its deletion is seen in its parent: a deleted
    /// directory reports nothing itself while a runner has a directory in it open.
    pub(super) fn add_root(&mut self, root: &Path) -> Result<(), Errno> {
        if let Some(parent) = root.parent() {
            self.add(Target::Parent, parent, WatchFlags::DELETE | WatchFlags::MOVED_FROM)?;
        }
        self.add(Target::Root, root, WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
        Ok(())
    }

    fn add(&mut self, target: Target, path: &Path, flags: WatchFlags) -> Result<i32, Errno> {
        let flags = flags | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        let inotify = self.inotify.as_ref().ok_or(Errno::MFILE)?;
        let watch = inotify::add_watch(inotify, path, flags)?;
        self.targets.insert(watch, target);
        Ok(watch)
    }

    /// Watches a worker's directory for new epochs.
    pub(super) fn add_worker(&mut self, worker: WorkerId, path: &Path) -> Result<(), Errno> {
        self.add(Target::Worker(worker), path, WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
        Ok(())
    }

    /// Watches an epoch's directory for output.
    pub(super) fn add_epoch(&mut self, epoch: Epoch, path: &Path) -> Result<(), Errno> {
        let flags = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE_SELF;
        let watch = self.add(Target::Epoch(epoch), path, flags)?;
        self.epochs.insert(epoch, watch);
        Ok(())
    }

    /// Stops watching an epoch.
    pub(super) fn forget(&mut self, epoch: Epoch) {
        if let (Some(watch), Some(inotify)) = (self.epochs.remove(&epoch), &self.inotify) {
            // Fails when the directory is deleted, which removes the watch.
            inotify::remove_watch(inotify, watch).ok();
        }
    }

    /// The changes since the last call, without duplicates.
    pub(super) fn read(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let Some(inotify) = &self.inotify else { return changes };
        let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
        let mut reader = inotify::Reader::new(inotify, &mut buffer);
        let mut ended = Vec::new();
        // Only one buffer of events; the rest is read by the next call.
        let mut is_first = true;
        while std::mem::take(&mut is_first) || !reader.is_buffer_empty() {
            let Ok(event) = reader.next() else {
                break;
            };
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                changes.push(Change::Overflow);
                continue;
            }
            if flags.contains(ReadFlags::IGNORED) {
                ended.push(event.wd());
                continue;
            }
            let change = match self.targets.get(&event.wd()) {
                Some(Target::Parent) => {
                    let name = event.file_name().map(CStr::to_bytes);
                    if name != Some(self.root_name.as_bytes()) {
                        continue;
                    }
                    Change::RootGone
                }
                Some(Target::Root) => Change::Workers,
                Some(Target::Worker(worker)) => Change::Worker(*worker),
                Some(Target::Epoch(epoch)) if flags.contains(ReadFlags::DELETE_SELF) => {
                    Change::Gone(*epoch)
                }
                Some(Target::Epoch(epoch)) if flags.contains(ReadFlags::CLOSE_WRITE) => {
                    let is_lock =
                        event.file_name().is_some_and(|name| name.to_bytes() == LOCK.as_bytes());
                    if is_lock { Change::Closed(*epoch) } else { Change::Output(*epoch) }
                }
                Some(Target::Epoch(epoch))
                    if flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) =>
                {
                    Change::Created(*epoch)
                }
                Some(Target::Epoch(epoch)) => Change::Output(*epoch),
                None => continue,
            };
            if !changes.contains(&change) {
                changes.push(change);
            }
        }
        for watch in ended {
            self.targets.remove(&watch);
        }
        changes
    }
}
