//! Processes that the server has started through the link, and exits that it has not received yet.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use shed_link::Status;
use tokio::sync::Notify;

/// The most exits of detached processes that are kept for the next connection. The oldest are dropped.
const MAX_UNSENT_EXITS: usize = 256;

/// The running processes of one connection, by the id of their request.
#[derive(Debug, Default)]
pub(super) struct Processes {
    running: Mutex<HashMap<u64, Process>>,
}

#[derive(Debug, Clone, Copy)]
struct Process {
    pid: Pid,
    kind: Kind,
}

/// What a process is to its caller: what SIGHUP reaches when the caller goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A command of a person. As with sshd, only the command itself ends: an editor's server that it has started in the
    /// background stays. The kernel sends SIGHUP to what is in the foreground of its terminal.
    Command,
    /// Our own program, which does one thing with several processes, such as a clone.
    Own,
    /// It is not tied to its caller.
    Detached,
}

impl Process {
    /// Sends a signal to the process and, except for SIGHUP of a person's command, to its process group.
    fn signal(self, signal: Signal) {
        let sent = match (self.kind, signal) {
            (Kind::Command, Signal::HUP) => kill_process(self.pid, signal),
            _ => kill_process_group(self.pid, signal),
        };
        // Fails when it has ended in between.
        sent.ok();
    }
}

impl Processes {
    pub(super) fn add(&self, id: u64, pid: Pid, kind: Kind) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(id, Process { pid, kind });
    }

    pub(super) fn remove(&self, id: u64) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Sends a signal to a process and its process group, if it is still running; see [`Kind`] for SIGHUP.
    pub(super) fn signal(&self, id: u64, number: u8) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(process), Some(signal)) =
            (running.get(&id), Signal::from_named_raw(i32::from(number)))
        {
            process.signal(signal);
        }
    }

    /// Sends SIGHUP to all processes that are not detached: their client is gone. Commands in tmux are not affected.
    pub(super) fn hang_up(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for process in running.values().filter(|process| process.kind != Kind::Detached) {
            process.signal(Signal::HUP);
        }
    }
}

/// Exits of detached processes that have not been sent to the server. They outlive a connection.
#[derive(Debug, Default)]
pub(super) struct UnsentExits {
    queue: Mutex<VecDeque<(String, Status)>>,
    added: Notify,
}

impl UnsentExits {
    pub(super) fn add(&self, tag: String, status: Status) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() == MAX_UNSENT_EXITS {
            queue.pop_front();
        }
        queue.push_back((tag, status));
        self.added.notify_one();
    }

    /// Waits for the oldest exit. It stays in the queue until [`Self::drop_first`].
    pub(super) async fn first(&self) -> (String, Status) {
        loop {
            if let Some(first) = self.peek() {
                return first;
            }
            self.added.notified().await;
        }
    }

    fn peek(&self) -> Option<(String, Status)> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).front().cloned()
    }

    /// Drops the oldest exit, after it was sent.
    pub(super) fn drop_first(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn unsent_exits_are_kept_in_order_and_the_oldest_are_dropped() {
        let exits = UnsentExits::default();
        for n in 0..=MAX_UNSENT_EXITS {
            exits.add(n.to_string(), Status::Code(0));
        }
        assert_eq!(exits.first().await.0, "1");
        assert_eq!(exits.first().await.0, "1", "it stays until it is sent");
        exits.drop_first();
        assert_eq!(exits.first().await.0, "2");
    }
}
