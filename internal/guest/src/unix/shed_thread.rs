//! The thread of a shed: the only one that uses a socket or terminal which a container can reach.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use shed_api::ShedName;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::terminal::Meter;
use crate::Error;

/// The stack of the thread in bytes. Its tasks only copy bytes and parse messages of limited depth.
const STACK_BYTES: usize = 1 << 20;

/// A thread with a runtime for the sockets and terminals of one shed.
///
/// A system call on them can block whatever the server does about it. A container that has another descriptor of the same
/// open file can clear `O_NONBLOCK`. A container that holds the other end of a unix socket can send a TCP socket with
/// `SO_LINGER` set; the `recv` or `close` that discards it waits for as long as the sender chose. On a thread of the server's
/// runtime this would stop the requests of all sheds; on this thread it stops one shed, until its container ends.
///
/// So values that hold such a descriptor live in tasks of this thread and are dropped there. The rest of the server has the
/// other ends of channels. Clones are the same thread; it ends with the last clone, and each of its tasks has one. Pipes are
/// not included: the server's end of a pipe is the server's alone, and bytes are all that a pipe can carry.
#[derive(Debug, Clone)]
pub(crate) struct ShedThread(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runtime: Handle,
    /// The runtime of the server.
    server: Handle,
    /// The terminals that are open.
    meters: Mutex<Vec<Weak<Meter>>>,
    _stop: DropGuard,
}

impl ShedThread {
    /// Starts the thread of a shed. In the runtime of the server.
    pub(crate) fn start(shed: &ShedName) -> Result<Self, Error> {
        let failed = || Error::io(format!("cannot start the thread of shed {shed}"));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (started, starting) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name(format!("shed-{shed}"));
        // Ends with the last clone. Nobody waits for it: it may be stuck for as long as the container runs.
        thread
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let runtime = Builder::new_current_thread().enable_all().build();
                match runtime {
                    Ok(runtime) => {
                        started.send(Ok(runtime.handle().clone())).ok();
                        runtime.block_on(stopped.cancelled());
                    }
                    Err(error) => drop(started.send(Err(error))),
                }
            })
            .map_err(failed())?;
        let ended = |_| std::io::Error::other("it ended at once");
        let runtime = starting.recv().map_err(ended).and_then(|started| started);
        let runtime = runtime.map_err(failed())?;
        let server = Handle::current();
        let inner = Inner { runtime, server, meters: Mutex::default(), _stop: stop.drop_guard() };
        Ok(Self(Arc::new(inner)))
    }

    /// Runs a task on the thread. What it holds is dropped on the thread, too, also if the task never ran.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let thread = self.clone();
        self.0.runtime.spawn(async move {
            task.await;
            drop(thread);
        });
    }

    /// Makes something that the server's runtime uses.
    pub(super) fn on_server<T>(&self, make: impl FnOnce() -> T) -> T {
        let _entered = self.0.server.enter();
        make()
    }

    /// Registers a terminal for [`Self::measure`].
    pub(super) fn add_meter(&self, meter: &Arc<Meter>) {
        let mut meters = self.0.meters.lock().unwrap_or_else(PoisonError::into_inner);
        meters.retain(|meter| meter.strong_count() > 0);
        meters.push(Arc::downgrade(meter));
    }

    /// Notes how much the processes of all terminals have written so far. Only on the thread itself.
    pub(super) fn measure(&self) {
        let meters = self.0.meters.lock().unwrap_or_else(PoisonError::into_inner).clone();
        meters.iter().filter_map(Weak::upgrade).for_each(|meter| meter.measure());
    }
}
