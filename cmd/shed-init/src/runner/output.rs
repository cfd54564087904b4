//! Copies the output of a worker's command from its terminal to the window and the spool, in a thread of its own, so that
//! nothing else that the runner does delays a read.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use super::limits::{DRAIN_LIMIT, QUIET};
use super::spool::Spool;
use super::window::Window;
use crate::clock::timespec;

/// The most bytes that one read from a terminal returns.
const READ_BYTES: usize = 4 << 10;
/// More bytes than a terminal buffers. Output after them was printed by other processes after the command's end.
const BUFFERED_BYTES: usize = 128 << 10;
/// How long the window may take to show the remaining output after the command has ended.
pub(super) const WINDOW_LIMIT: Duration = Duration::from_secs(5);

/// The runner's side of the copying thread.
#[derive(Debug)]
pub(super) struct Output {
    shared: Arc<Shared>,
    window: Window,
    /// Whether [`Output::finish`] was called.
    is_ending: bool,
}

#[derive(Debug)]
struct Shared {
    /// The command has ended, so that only remaining output is copied.
    has_ended: AtomicBool,
    /// Wakes the thread when the command has ended.
    ended: OwnedFd,
    /// Becomes readable when all output is copied.
    done: OwnedFd,
}

impl Output {
    /// Starts to copy. The thread ends when the command has ended and its terminal is empty, or when no process has the
    /// terminal open any more.
    pub(super) fn copy(
        master: Arc<OwnedFd>,
        window: Window,
        spool: Arc<Spool>,
    ) -> Result<Self, Errno> {
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let shared = Shared { has_ended: AtomicBool::new(false), ended: event()?, done: event()? };
        let shared = Arc::new(shared);
        let output = Self { shared: Arc::clone(&shared), window: window.clone(), is_ending: false };
        std::thread::spawn(move || {
            shared.copy(&master, &window, &spool);
            notify(&shared.done);
        });
        Ok(output)
    }

    /// To be called when the command has ended. Output that is left in its terminal is still copied; further output of its
    /// children is not waited for.
    pub(super) fn finish(&mut self) {
        if !std::mem::replace(&mut self.is_ending, true) {
            self.window.limit(Instant::now() + WINDOW_LIMIT);
            self.shared.has_ended.store(true, Ordering::Release);
            notify(&self.shared.ended);
        }
    }

    /// Becomes readable when all output is copied.
    pub(super) fn done(&self) -> &OwnedFd {
        &self.shared.done
    }
}

impl Shared {
    fn copy(&self, master: &OwnedFd, window: &Window, spool: &Spool) {
        let mut buffer = vec![0; READ_BYTES];
        // Counted since the command's end. Time spent waiting for a slow window or disk does not count.
        let (mut waited, mut n_left) = (Duration::ZERO, 0);
        while waited < DRAIN_LIMIT && n_left < BUFFERED_BYTES {
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
                // Reading fails once no process has the terminal open.
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Waits for output. Without a limit it also waits for the command's end.
    fn wait(&self, master: &OwnedFd, limit: Option<Duration>) -> Wait {
        let mut fds = [PollFd::new(master, PollFlags::IN), PollFd::new(&self.ended, PollFlags::IN)];
        let watched = if limit.is_some() { &mut fds[..1] } else { &mut fds[..] };
        if poll(watched, limit.map(timespec).as_ref()) == Ok(0) { Wait::Quiet } else { Wait::Woken }
    }
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// There is output, or the command has ended.
    Woken,
    /// The limit has passed without output.
    Quiet,
}

fn notify(event: &OwnedFd) {
    rustix::io::write(event, &1_u64.to_ne_bytes()).ok();
}
