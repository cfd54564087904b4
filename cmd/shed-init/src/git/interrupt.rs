//! Signals that interrupt an operation. An operation of several steps checks for them between its steps and undoes what it
//! did. They also end git, which is in the same process group.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use shed_link::git::FailureKind;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::failure::Failure;

/// Whether a signal has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Catches SIGHUP, SIGTERM and SIGINT from now on. Handlers, unlike ignored signals, are not inherited by git.
    pub(crate) fn catch() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::io("cannot catch signals", &error);
        let interrupt = Self::default();
        let runtime = Builder::new_current_thread().enable_io().build().map_err(failed)?;
        let guard = runtime.enter();
        let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupted = signal(SignalKind::interrupt()).map_err(failed)?;
        drop(guard);
        let flag = interrupt.clone();
        // The thread ends with the program.
        thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = hangup.recv() => {}
                    _ = terminate.recv() => {}
                    _ = interrupted.recv() => {}
                }
                flag.0.store(true, Ordering::Relaxed);
            });
        });
        Ok(interrupt)
    }

    /// Fails if a signal was received.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) {
            let text = "the operation was interrupted and undone";
            return Err(Failure::new(FailureKind::Interrupted, text));
        }
        Ok(())
    }
}
