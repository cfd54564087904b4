//! The server's own tasks: started on one runtime, waited for at the end.

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// Starts tasks on the runtime on which the server was opened, wherever the call comes from. So they end with that runtime,
/// also when a door has a runtime of its own. Clones are the same tasks.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    runtime: Handle,
}

impl Tasks {
    /// Must be called on a runtime.
    pub(crate) fn new() -> Self {
        Self { tracker: TaskTracker::new(), runtime: Handle::current() }
    }

    pub(crate) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.tracker.spawn_on(task, &self.runtime)
    }

    /// For work that blocks its thread.
    pub(crate) fn spawn_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.tracker.spawn_blocking_on(work, &self.runtime)
    }

    /// No more tasks are expected; see [`Self::wait`].
    pub(crate) fn close(&self) {
        self.tracker.close();
    }

    /// Waits until all tasks have ended and `close` was called.
    pub(crate) async fn wait(&self) {
        self.tracker.wait().await;
    }
}
