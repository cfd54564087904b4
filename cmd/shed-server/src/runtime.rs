//! The runtime of commands that run on one thread: all but `serve`.

/// Runs a command on the current thread.
pub(crate) fn block_on(command: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}
