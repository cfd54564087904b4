//! Signals that ask us to end. An operation of several steps hears of them between two steps and takes back what it did.
//! git, in the same process group, is ended by them itself.

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
    /// Catches hangup, TERM and INT from here on. Handlers, unlike ignored signals, are not inherited by git.
    pub(crate) fn catch() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::io("cannot catch signals", &error);
        let interrupt = Self::default();
        let runtime = Builder::new_current_thread().enable_io().build().map_err(failed)?;
        let guard = runtime.enter();
        let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupted = signal(SignalKind::interrupt()).map_err(failed)?;
        drop(guard);
        let came = interrupt.clone();
        // Ends with the program.
        thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = hangup.recv() => {}
                    _ = terminate.recv() => {}
                    _ = interrupted.recv() => {}
                }
                came.0.store(true, Ordering::Relaxed);
            });
        });
        Ok(interrupt)
    }

    /// A failure once a signal has come.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) {
            let text = "it was interrupted; everything is as it was";
            return Err(Failure::new(FailureKind::Interrupted, text));
        }
        Ok(())
    }
}
