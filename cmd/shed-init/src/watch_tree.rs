//! `watch-tree DIR`: reports when a working tree changes, so that the server does not have to poll git.
//!
//! It watches the directories that are not ignored, the git directory with `HEAD` and the index, and the directories of refs,
//! except shed's own refs and indexes. It prints [`TreeNews`] and ends when its standard input ends. It sleeps while nothing
//! changes.

mod pace;
#[cfg(test)]
mod tests;
mod watches;

use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader};
use rustix::io::Errno;
use shed_link::git::{ContainerPath, TreeEvent, TreeNews};

use crate::clock::timespec;
use crate::git::{Failure, Repository};
use crate::log;

use pace::{Pace, TIMES, Times};
use watches::{Change, Watches};

/// Buffer for the events of one read: several hundred with their names.
const BUFFER_BYTES: usize = 16 << 10;

/// Watches until standard input ends.
pub(crate) fn main(directory: &str) -> ExitCode {
    match watch(directory, rustix::stdio::stdin(), &mut io::stdout(), TIMES) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            log::line(&format!("shed-init: watch-tree: {}", failure.0.text));
            ExitCode::FAILURE
        }
    }
}

/// Watches a directory until `input` ends and writes reports to `output`.
fn watch(
    directory: &str,
    input: BorrowedFd<'_>,
    output: &mut impl Write,
    times: Times,
) -> Result<(), Failure> {
    let directory = ContainerPath::try_from(directory.to_owned())
        .map_err(|error| Failure::new(shed_link::git::FailureKind::Invalid, error.to_string()))?;
    let repository = Repository::open(&directory)?;
    let gone = |error: io::Error| Failure::io("cannot write the report", &error);
    let mut watches = Watches::new(&repository);
    let Ok(inotify) = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) else {
        // All sheds share the instances of their user. Without one the server looks periodically.
        watches.mark_partial();
        report(output, TreeEvent::Watching, &watches).map_err(gone)?;
        while !ended_within(input, None)? {}
        return Ok(());
    };
    watches.watch_all(&inotify)?;
    report(output, TreeEvent::Watching, &watches).map_err(gone)?;
    let mut pace = Pace::new(times);
    loop {
        let due = pace.due();
        let Some(is_ready) = wait(&inotify, input, due)? else { return Ok(()) };
        if is_ready {
            if pace.due().is_some() && ended_within(input, Some(times.gather))? {
                return Ok(());
            }
            if drain(&inotify, &mut watches)? {
                pace.changed(Instant::now());
            }
        }
        if pace.is_due(Instant::now()) {
            pace.reported(Instant::now());
            report(output, TreeEvent::Changed, &watches).map_err(gone)?;
        }
    }
}

fn report(output: &mut impl Write, news: TreeEvent, watches: &Watches<'_>) -> io::Result<()> {
    let news = TreeNews { news, n_watches: watches.n_watches(), partial: watches.is_partial() };
    let mut line = serde_json::to_vec(&news)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.flush()
}

/// Waits for events until a time. Returns whether there are some; `None` when `input` has ended.
fn wait(
    inotify: &OwnedFd,
    input: BorrowedFd<'_>,
    until: Option<Instant>,
) -> Result<Option<bool>, Failure> {
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    let mut fds =
        [PollFd::new(inotify, PollFlags::IN), PollFd::from_borrowed_fd(input, PollFlags::IN)];
    wait_for(&mut fds, left)?;
    let (events, ended) = (fds[0].revents(), fds[1].revents());
    if !ended.is_empty() && has_ended(input) {
        return Ok(None);
    }
    Ok(Some(!events.is_empty()))
}

/// Waits for the end of `input` until the limit.
fn ended_within(input: BorrowedFd<'_>, limit: Option<Duration>) -> Result<bool, Failure> {
    let mut fds = [PollFd::from_borrowed_fd(input, PollFlags::IN)];
    wait_for(&mut fds, limit)?;
    Ok(!fds[0].revents().is_empty() && has_ended(input))
}

fn wait_for(fds: &mut [PollFd<'_>], limit: Option<Duration>) -> Result<(), Failure> {
    match poll(fds, limit.map(timespec).as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(Failure::io("cannot wait for events", &error.into())),
    }
}

/// Whether `input` has ended. Its content is ignored.
fn has_ended(input: BorrowedFd<'_>) -> bool {
    let mut bytes = [0; 256];
    match rustix::io::read(input, &mut bytes) {
        Ok(0) => true,
        Ok(_) | Err(Errno::INTR | Errno::AGAIN) => false,
        Err(_) => true,
    }
}

/// Reads all events, watches new directories, and returns whether something relevant changed.
fn drain(inotify: &OwnedFd, watches: &mut Watches<'_>) -> Result<bool, Failure> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    let mut reader = Reader::new(inotify.as_fd(), &mut buffer);
    let mut changes: Vec<Change> = Vec::new();
    let mut lost = false;
    loop {
        match reader.next() {
            Ok(event) => {
                lost |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                changes.extend(watches.read(&event));
            }
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(Failure::io("cannot read events", &error.into())),
        }
        if changes.len() > watches::MAX_CHANGES {
            lost = true;
            changes.clear();
        }
    }
    if lost {
        // A lost event may have been that of a new directory.
        watches.watch_all(inotify)?;
        return Ok(true);
    }
    watches.follow(inotify, &changes)
}
