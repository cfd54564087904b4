//! What a worker's command prints, from its terminal to the window and the spool. A thread of its own copies it, so that
//! nothing else the runner does is between two reads.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use super::spool::Spool;
use super::window::Window;
use super::{DRAIN_LIMIT, QUIET, time_until};

/// What a terminal gives at once.
const READ_BYTES: usize = 4 << 10;
/// More than a terminal holds: what comes after it was printed by others.
const LEFT_BYTES: usize = 128 << 10;
/// At the end the window has so long to take what was printed.
pub(super) const WINDOW_LIMIT: Duration = Duration::from_secs(5);

/// The copying, as the runner sees it.
#[derive(Debug)]
pub(super) struct Output {
    shared: Arc<Shared>,
    window: Window,
    /// [`Output::finish`] was called.
    is_ending: bool,
}

#[derive(Debug)]
struct Shared {
    /// The command has ended: only what is left is copied.
    has_ended: AtomicBool,
    /// Wakes the thread for that.
    ended: OwnedFd,
    /// Becomes readable when all is copied.
    over: OwnedFd,
}

impl Output {
    /// Copies until the command has ended and its terminal is empty, or nobody holds that any more.
    pub(super) fn copy(
        master: Arc<OwnedFd>,
        window: Window,
        spool: Arc<Spool>,
    ) -> Result<Self, Errno> {
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let shared = Shared { has_ended: AtomicBool::new(false), ended: event()?, over: event()? };
        let shared = Arc::new(shared);
        let output = Self { shared: Arc::clone(&shared), window: window.clone(), is_ending: false };
        std::thread::spawn(move || {
            shared.copy(&master, &window, &spool);
            tell(&shared.over);
        });
        Ok(output)
    }

    /// The command has ended: what it left in its terminal is still copied, but what its children print on is not waited
    /// for.
    pub(super) fn finish(&mut self) {
        if !std::mem::replace(&mut self.is_ending, true) {
            self.window.limit(Instant::now() + WINDOW_LIMIT);
            self.shared.has_ended.store(true, Ordering::Release);
            tell(&self.shared.ended);
        }
    }

    /// Becomes readable when all is copied.
    pub(super) fn over(&self) -> &OwnedFd {
        &self.shared.over
    }
}

impl Shared {
    fn copy(&self, master: &OwnedFd, window: &Window, spool: &Spool) {
        let mut buffer = vec![0; READ_BYTES];
        // Since the command's end. What it left comes first and is all that its terminal held; time spent waiting for a slow
        // window or disk does not count.
        let (mut waited, mut n_left) = (Duration::ZERO, 0);
        while waited < DRAIN_LIMIT && n_left < LEFT_BYTES {
            window.wait_for_room();
            let ending = self.has_ended.load(Ordering::Acquire);
            let start = Instant::now();
            match rustix::io::read(master, &mut buffer) {
                Ok(n_read) if n_read > 0 => {
                    window.show(&buffer[..n_read]);
                    spool.output(&buffer[..n_read]);
                    if ending {
                        n_left += n_read;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if self.wait(master, ending.then_some(QUIET)) == Wait::Quiet {
                        return;
                    }
                    if ending {
                        waited += start.elapsed();
                    }
                }
                // A terminal nobody holds any more says so by an error.
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Waits for output; without a limit also for the command's end.
    fn wait(&self, master: &OwnedFd, limit: Option<Duration>) -> Wait {
        let mut fds = [PollFd::new(master, PollFlags::IN), PollFd::new(&self.ended, PollFlags::IN)];
        let watched = if limit.is_some() { &mut fds[..1] } else { &mut fds[..] };
        let limit = limit.map(|limit| time_until(Instant::now() + limit));
        if poll(watched, limit.as_ref()) == Ok(0) { Wait::Quiet } else { Wait::Woken }
    }
}

/// How waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Woken,
    /// Nothing came.
    Quiet,
}

fn tell(event: &OwnedFd) {
    rustix::io::write(event, &1_u64.to_ne_bytes()).ok();
}
