//! The worker's only `waitpid`: every child ends here, and whoever waits for it is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use shed_link::Status;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Children somebody waits for. The map is locked only for single look-ups.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reaper {
    waiting: Arc<Mutex<HashMap<Pid, oneshot::Sender<Status>>>>,
}

impl Reaper {
    /// Registers a child. Must be called before the next `.await` after its start: on this single-threaded runtime the
    /// reaper cannot run in between, so no end is missed.
    pub(crate) fn expect(&self, pid: Pid) -> oneshot::Receiver<Status> {
        let (tell, told) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(pid, tell);
        told
    }

    /// Collects children for ever. Owned by the worker; ends with it.
    pub(crate) async fn run(self) {
        let Ok(mut ended) = signal(SignalKind::child()) else {
            crate::say("shed-init: cannot listen for the end of children");
            return;
        };
        loop {
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                let told = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
                if let (Some(tell), Some(status)) = (told, exit_of(status)) {
                    // Nobody waits any more: the link is gone.
                    tell.send(status).ok();
                }
            }
            ended.recv().await;
        }
    }
}

/// How a process ended; `None` if it only stopped.
pub(crate) fn exit_of(status: WaitStatus) -> Option<Status> {
    if let Some(code) = status.exit_status() {
        return Some(Status::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX)));
    }
    let signal = status.terminating_signal()?;
    Some(Status::Signal(u8::try_from(signal).unwrap_or(u8::MAX)))
}
