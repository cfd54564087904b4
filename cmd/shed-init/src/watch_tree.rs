//! `watch-tree DIR`: says when something in a working tree changes, so that nobody has to ask git again and again.
//!
//! Watched are the directories that are not ignored, the git directory for `HEAD` and the index, and where refs are;
//! not our own refs and indexes. Lines are [`TreeNews`]. While nothing happens nothing wakes; it ends with its input.

mod pace;
mod places;

use std::io::{self, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader};
use rustix::io::Errno;
use shed_link::git::{BoxPath, TreeEvent, TreeNews};

use crate::git::{Failure, Repository};
use crate::say;

use pace::Pace;
use places::{Change, Places};

/// How long events gather in the kernel before they are read. A build writes thousands a second.
const GATHER: Duration = Duration::from_millis(50);
/// Room for the events of one read: some hundred with their names.
const BUFFER_BYTES: usize = 16 << 10;

/// Watches until standard input ends.
pub(crate) fn main(directory: &str) -> ExitCode {
    match watch(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("shed-init: watch-tree: {}", failure.0.text));
            ExitCode::FAILURE
        }
    }
}

fn watch(directory: &str) -> Result<(), Failure> {
    let directory = BoxPath::try_from(directory.to_owned())
        .map_err(|error| Failure::new(shed_link::git::FailureKind::Invalid, error.to_string()))?;
    let repository = Repository::open(&directory)?;
    let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
        .map_err(|error| Failure::io("cannot watch", &error.into()))?;
    let mut places = Places::new(&repository);
    places.watch_all(&inotify)?;
    let gone = |error: io::Error| Failure::io("cannot tell", &error);
    tell(TreeEvent::Watching, &places).map_err(gone)?;
    let mut pace = Pace::default();
    loop {
        let due = pace.due();
        let Some(n_ready) = wait(&inotify, due)? else { return Ok(()) };
        if n_ready {
            if pace.due().is_some() && ended_within(GATHER)? {
                return Ok(());
            }
            if drain(&inotify, &mut places)? {
                pace.changed(Instant::now());
            }
        }
        if pace.is_due(Instant::now()) {
            pace.told(Instant::now());
            tell(TreeEvent::Changed, &places).map_err(gone)?;
        }
    }
}

fn tell(news: TreeEvent, places: &Places<'_>) -> io::Result<()> {
    let news = TreeNews { news, n_watches: places.n_watches(), partial: places.is_partial() };
    let mut line = serde_json::to_vec(&news)?;
    line.push(b'\n');
    let mut output = io::stdout().lock();
    output.write_all(&line)?;
    output.flush()
}

/// Waits for events until then; whether there are some, `None` when standard input has ended.
fn wait(inotify: &OwnedFd, until: Option<Instant>) -> Result<Option<bool>, Failure> {
    let stdin = rustix::stdio::stdin();
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    let mut fds =
        [PollFd::new(inotify, PollFlags::IN), PollFd::from_borrowed_fd(stdin, PollFlags::IN)];
    wait_for(&mut fds, left)?;
    let (events, input) = (fds[0].revents(), fds[1].revents());
    if !input.is_empty() && input_ended() {
        return Ok(None);
    }
    Ok(Some(!events.is_empty()))
}

/// Waits for the end of standard input only.
fn ended_within(limit: Duration) -> Result<bool, Failure> {
    let mut fds = [PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN)];
    wait_for(&mut fds, Some(limit))?;
    Ok(!fds[0].revents().is_empty() && input_ended())
}

fn wait_for(fds: &mut [PollFd<'_>], limit: Option<Duration>) -> Result<(), Failure> {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match poll(fds, limit.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(Failure::io("cannot wait", &error.into())),
    }
}

/// Takes what is there; nothing is ever asked on standard input.
fn input_ended() -> bool {
    let mut bytes = [0; 256];
    match rustix::io::read(rustix::stdio::stdin(), &mut bytes) {
        Ok(0) => true,
        Ok(_) | Err(Errno::INTR | Errno::AGAIN) => false,
        Err(_) => true,
    }
}

/// Reads all events, follows new directories, and says whether something changed that counts.
fn drain(inotify: &OwnedFd, places: &mut Places<'_>) -> Result<bool, Failure> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    let mut reader = Reader::new(inotify.as_fd(), &mut buffer);
    let mut changes: Vec<Change> = Vec::new();
    let mut lost = false;
    loop {
        match reader.next() {
            Ok(event) => {
                lost |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                changes.extend(places.read(&event));
            }
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(Failure::io("cannot read events", &error.into())),
        }
        if changes.len() > places::MAX_CHANGES {
            lost = true;
            changes.clear();
        }
    }
    if lost {
        // What was lost may have been a new directory.
        places.watch_all(inotify)?;
        return Ok(true);
    }
    places.follow(inotify, &changes)
}
