//! The tmux window, which is the runner's standard input and output. A thread of its own writes to it. A terminal buffers a
//! few kilobytes and then blocks its writer, and a dedicated thread fills it again without delay.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcsetattr};

use super::command::set_raw_mode;
use crate::clock::time_until;

/// More output is accepted while fewer bytes than this wait. As many again may be in the current write.
const AHEAD: usize = 32 << 10;
/// Output up to this size, such as an echo or a line, is written directly by the copying thread.
const DIRECT_BYTES: usize = 256;
/// How long tmux may take at the end to confirm that it has read everything.
const SETTLE_LIMIT: Duration = Duration::from_secs(1);
/// The request for a terminal's status (DSR) and the answer to it. The request shows nothing and ends an incomplete escape
/// sequence.
const STATUS_REQUEST: &[u8] = b"\x1b[5n";
const STATUS_ANSWER: &[u8] = b"\x1b[0n";

/// The window. Clones refer to the same window.
#[derive(Debug, Clone)]
pub(super) struct Window {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Signalled when there is something to write, or the window is gone.
    work: Condvar,
    /// Signalled when there is room, nothing is left to write, or the window is gone.
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The previous terminal settings, which are restored at the end.
    before: Option<Termios>,
    waiting: Vec<u8>,
    is_writing: bool,
    is_gone: bool,
    /// Until when [`Window::wait_for_room`] may wait.
    limit: Option<Instant>,
}

impl Window {
    /// Switches the window to raw mode. Without a terminal, all output is dropped.
    pub(super) fn open() -> Self {
        let window = Self { shared: Arc::default() };
        let before = set_raw_mode();
        {
            let mut state = window.lock();
            state.is_gone = before.is_none();
            state.before = before;
        }
        let writer = window.clone();
        // The thread is not joined, since one that is stuck in a write must not block the runner.
        std::thread::spawn(move || writer.write_loop());
        window
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_open(&self) -> bool {
        !self.lock().is_gone
    }

    /// To be called when a read or write fails: the window is gone, and all further output is dropped.
    pub(super) fn forget(&self) {
        let mut state = self.lock();
        state.is_gone = true;
        state.waiting = Vec::new();
        self.shared.work.notify_one();
        self.shared.room.notify_all();
    }

    /// Queues output. Never blocks.
    pub(super) fn print(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if !state.is_gone {
            state.waiting.extend_from_slice(bytes);
            if !state.is_writing {
                self.shared.work.notify_one();
            }
        }
    }

    /// Shows output, for the copying thread. Short output is written directly if nothing is queued, which saves the echo of a
    /// key the switch to another thread. Blocks as a terminal does.
    pub(super) fn show(&self, bytes: &[u8]) {
        let mut state = self.lock();
        let is_busy = state.is_writing || !state.waiting.is_empty();
        if state.is_gone || is_busy || bytes.len() > DIRECT_BYTES {
            drop(state);
            return self.print(bytes);
        }
        state.is_writing = true;
        drop(state);
        if !write_all(bytes) {
            return self.forget();
        }
        self.lock().is_writing = false;
        self.shared.work.notify_one();
        self.shared.room.notify_all();
    }

    /// Waits until there is room for more output, or until the time set by [`Window::limit`].
    pub(super) fn wait_for_room(&self) {
        let mut state = self.lock();
        while state.waiting.len() >= AHEAD && !state.is_gone {
            let Some(limit) = state.limit else {
                state = self.shared.room.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = limit.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.shared.room.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sets the time until which [`Window::wait_for_room`] may wait.
    pub(super) fn limit(&self, limit: Instant) {
        self.lock().limit = Some(limit);
        self.shared.room.notify_all();
    }

    /// Waits until all output is written, or until the deadline.
    pub(super) fn flush_until(&self, deadline: Instant) {
        let mut state = self.lock();
        while (state.is_writing || !state.waiting.is_empty()) && !state.is_gone {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.shared.room.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until tmux has read everything. tmux drops what is left in the terminal when the window's program ends, so it
    /// is sent a request that it answers only after it has read all output before it.
    pub(super) fn settle(&self) {
        let deadline = Instant::now() + SETTLE_LIMIT;
        self.print(STATUS_REQUEST);
        self.flush_until(deadline);
        let mut input = Vec::new();
        while self.is_open() {
            let stdin = std::io::stdin();
            let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
            match poll(&mut fds, Some(&time_until(deadline))) {
                Ok(0) => return,
                Ok(_) => {}
                Err(_) => continue,
            }
            let mut bytes = [0; 256];
            match rustix::io::read(std::io::stdin(), &mut bytes) {
                Ok(n_read) if n_read > 0 => input.extend_from_slice(&bytes[..n_read]),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Ok(_) | Err(_) => return self.forget(),
            }
            if input.windows(STATUS_ANSWER.len()).any(|window| window == STATUS_ANSWER) {
                return;
            }
            // What a person types meanwhile is dropped.
            input.drain(..input.len().saturating_sub(STATUS_ANSWER.len()));
        }
    }

    /// Restores the previous terminal settings.
    pub(super) fn restore(&self) {
        if let Some(before) = &self.lock().before {
            tcsetattr(std::io::stdin(), OptionalActions::Now, before).ok();
        }
    }

    /// The writing thread: writes queued output until the window is gone.
    fn write_loop(&self) {
        let mut bytes = Vec::new();
        loop {
            {
                let mut state = self.lock();
                while (state.waiting.is_empty() || state.is_writing) && !state.is_gone {
                    state = self.shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                if state.is_gone {
                    return;
                }
                std::mem::swap(&mut bytes, &mut state.waiting);
                state.is_writing = true;
            }
            self.shared.room.notify_all();
            if !write_all(&bytes) {
                return self.forget();
            }
            bytes.clear();
            // A long prelude must not hold its memory forever.
            bytes.shrink_to(2 * AHEAD);
            self.lock().is_writing = false;
            self.shared.room.notify_all();
        }
    }
}

/// Writes all bytes to the window; `false` when the window is gone.
fn write_all(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match rustix::io::write(std::io::stdout(), bytes) {
            Ok(n_written) if n_written > 0 => bytes = &bytes[n_written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                // Another process has made the terminal non-blocking.
                let stdout = std::io::stdout();
                poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None).ok();
            }
            Ok(_) | Err(_) => return false,
        }
    }
    true
}
