//! The tmux window, on our standard input and output. A thread of its own writes to it: a terminal takes some kilobytes
//! and then makes its writer wait, and it is filled soonest by one that does nothing but wait for room.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcsetattr};

use super::{raw_mode, time_until};

/// More is taken while no more than this waits. As much again is being written.
const AHEAD: usize = 32 << 10;
/// What is written at once: an echo, a line.
const LITTLE: usize = 256;
/// At the end tmux has so long to say that it has read everything.
const SETTLE_LIMIT: Duration = Duration::from_secs(1);
/// The question for a terminal's state, and the answer. They show nothing, and end whatever sequence was not whole.
const ARE_YOU_THERE: &[u8] = b"\x1b[5n";
const I_AM: &[u8] = b"\x1b[0n";

/// The window. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Window {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Something waits to be written, or the window is gone.
    work: Condvar,
    /// There is room, or nothing is left to write, or the window is gone.
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Its own settings, to be put back.
    before: Option<Termios>,
    waiting: Vec<u8>,
    is_writing: bool,
    is_gone: bool,
    /// Until when there is still waited for room.
    limit: Option<Instant>,
}

impl Window {
    /// Makes the window pass on every byte. Without one, all that is printed is dropped.
    pub(super) fn open() -> Self {
        let window = Self { shared: Arc::default() };
        let before = raw_mode();
        {
            let mut state = window.lock();
            state.is_gone = before.is_none();
            state.before = before;
        }
        let writer = window.clone();
        // One that is stuck in a write must not keep the runner: nobody joins it.
        std::thread::spawn(move || writer.write_on());
        window
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_open(&self) -> bool {
        !self.lock().is_gone
    }

    /// Whoever reads or writes it found that it is gone.
    pub(super) fn lose(&self) {
        let mut state = self.lock();
        state.is_gone = true;
        state.waiting = Vec::new();
        self.shared.work.notify_one();
        self.shared.room.notify_all();
    }

    /// Has it written after all that waits. Never blocks.
    pub(super) fn print(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if !state.is_gone {
            state.waiting.extend_from_slice(bytes);
            if !state.is_writing {
                self.shared.work.notify_one();
            }
        }
    }

    /// The same from the thread that copies: a little for a window that waits for nothing is written at once, which spares who
    /// types the way over the other thread. Blocks as a terminal does.
    pub(super) fn show(&self, bytes: &[u8]) {
        let mut state = self.lock();
        let is_busy = state.is_writing || !state.waiting.is_empty();
        if state.is_gone || is_busy || bytes.len() > LITTLE {
            drop(state);
            return self.print(bytes);
        }
        state.is_writing = true;
        drop(state);
        if !write_all(bytes) {
            return self.lose();
        }
        self.lock().is_writing = false;
        self.shared.work.notify_one();
        self.shared.room.notify_all();
    }

    /// Waits until there is room for more, or until the limit that [`Window::limit`] set.
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

    /// From now on nobody waits for room for longer than until then.
    pub(super) fn limit(&self, limit: Instant) {
        self.lock().limit = Some(limit);
        self.shared.room.notify_all();
    }

    /// Waits until all is written.
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

    /// Waits until tmux has read everything. It forgets what is left in the terminal of a window whose program has ended,
    /// so it is asked for a word that it says only after all that was printed before.
    pub(super) fn settle(&self) {
        let deadline = Instant::now() + SETTLE_LIMIT;
        self.print(ARE_YOU_THERE);
        self.flush_until(deadline);
        let mut heard = Vec::new();
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
                Ok(n_read) if n_read > 0 => heard.extend_from_slice(&bytes[..n_read]),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Ok(_) | Err(_) => return self.lose(),
            }
            if heard.windows(I_AM.len()).any(|window| window == I_AM) {
                return;
            }
            // What a person types meanwhile is nobody's.
            heard.drain(..heard.len().saturating_sub(I_AM.len()));
        }
    }

    /// Puts its settings back.
    pub(super) fn restore(&self) {
        if let Some(before) = &self.lock().before {
            tcsetattr(std::io::stdin(), OptionalActions::Now, before).ok();
        }
    }

    /// The writing thread.
    fn write_on(&self) {
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
                return self.lose();
            }
            bytes.clear();
            // A long prelude must not hold its memory for ever.
            bytes.shrink_to(2 * AHEAD);
            self.lock().is_writing = false;
            self.shared.room.notify_all();
        }
    }
}

/// Whether the window took it all.
fn write_all(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match rustix::io::write(std::io::stdout(), bytes) {
            Ok(n_written) if n_written > 0 => bytes = &bytes[n_written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                // Somebody made our terminal one that does not wait.
                let stdout = std::io::stdout();
                poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None).ok();
            }
            Ok(_) | Err(_) => return false,
        }
    }
    true
}
