//! The daemon's only call of `waitpid`: it reaps all children and passes each exit status to the task that waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use shed_link::Status;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::log;

/// The children whose exit a task waits for. The lock is held for single lookups only.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reaper {
    waiting: Arc<Mutex<HashMap<Pid, Child>>>,
}

#[derive(Debug)]
struct Child {
    exit: oneshot::Sender<Status>,
    /// Somebody who stops it has it continued.
    continues: bool,
}

impl Reaper {
    /// Registers a child. It must be called before the first `.await` after the child's start: the reaper cannot run in
    /// between on this single-threaded runtime, so that no exit is missed.
    pub(crate) fn expect(&self, pid: Pid) -> oneshot::Receiver<Status> {
        let (sender, receiver) = oneshot::channel();
        self.waiting().insert(pid, Child { exit: sender, continues: false });
        receiver
    }

    /// Continues this child whenever a signal stops it: the server waits for what it sends.
    pub(crate) fn keep_running(&self, pid: Pid) {
        if let Some(child) = self.waiting().get_mut(&pid) {
            child.continues = true;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Pid, Child>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reaps children forever.
    pub(crate) async fn run(self) {
        let Ok(mut ended) = signal(SignalKind::child()) else {
            log::line("shed-init: cannot listen for SIGCHLD");
            return;
        };
        loop {
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                if status.stopped() {
                    if self.waiting().get(&pid).is_some_and(|child| child.continues) {
                        kill_process(pid, Signal::CONT).ok();
                    }
                    continue;
                }
                let waiting = self.waiting().remove(&pid);
                if let (Some(child), Some(status)) = (waiting, exit_of(status)) {
                    // Fails when the task has ended because the link is gone.
                    child.exit.send(status).ok();
                }
            }
            ended.recv().await;
        }
    }
}

/// The exit status of a process; `None` if it was only stopped.
pub(crate) fn exit_of(status: WaitStatus) -> Option<Status> {
    if let Some(code) = status.exit_status() {
        return Some(Status::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX)));
    }
    let signal = status.terminating_signal()?;
    Some(Status::Signal(u8::try_from(signal).unwrap_or(u8::MAX)))
}
