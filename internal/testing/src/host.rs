//! A runtime of its own on a thread of its own, which ends like a killed process: its tasks are dropped where they stand.

use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// Threads of a host's runtime: tasks of the server run beside each other, as they do in `shed-server`.
const N_THREADS: usize = 2;

/// How a host measures time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Time {
    /// As it passes.
    Real,
    /// As it passes, with jumps: [`Host::jump`]. The runtime has one thread.
    Jumping,
}

/// Where a server runs that a test can kill. Dropping it kills, too.
pub(crate) struct Host {
    handle: Handle,
    /// Ends the thread when it is dropped.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    pub(crate) fn start(time: Time) -> Self {
        let runtime = runtime(time);
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            // An error means that the sender was dropped: the same.
            runtime.block_on(stopped).ok();
            drop(runtime);
        });
        Self { handle, stop: Some(stop), thread: Some(thread) }
    }

    /// Runs a future here to its end.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> T {
        self.handle.spawn(future).await.expect("a future that ends")
    }

    /// Lets time pass at once, for tasks of this host: every timer within it fires. Needs [`Time::Jumping`].
    pub(crate) async fn jump(&self, time: Duration) {
        let jump = async move {
            tokio::time::pause();
            tokio::time::advance(time).await;
            tokio::time::resume();
        };
        self.run(jump).await;
    }

    /// Drops every task where it stands and waits until the last one is gone.
    pub(crate) fn kill(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a runtime that ends");
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}

fn runtime(time: Time) -> Runtime {
    let mut builder = match time {
        Time::Real => Builder::new_multi_thread(),
        Time::Jumping => Builder::new_current_thread(),
    };
    builder.worker_threads(N_THREADS).enable_all().build().expect("a runtime")
}
