//! Starting processes on a thread of its own, and signals to them.

use std::sync::mpsc;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;

/// Starts processes on a thread that lives as long as the engine, and waits for them on the test's runtime. A shed-init that
/// is not process 1 ends with the thread that started it, and a test may kill the threads of its server.
#[derive(Debug)]
pub(super) struct Spawner {
    jobs: mpsc::Sender<Job>,
    pub(super) runtime: Handle,
}

type Job = (Command, mpsc::SyncSender<std::io::Result<Child>>);

impl Spawner {
    pub(super) fn start(runtime: Handle) -> Self {
        let (jobs, ahead) = mpsc::channel::<Job>();
        let handle = runtime.clone();
        // Ends when the engine is dropped.
        std::thread::spawn(move || {
            let _runtime = handle.enter();
            for (mut command, answer) in ahead {
                answer.send(command.spawn()).ok();
            }
        });
        Self { jobs, runtime }
    }

    pub(super) fn spawn(&self, command: Command) -> std::io::Result<Child> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.jobs.send((command, answer)).expect("a thread that starts processes");
        answered.recv().expect("a thread that starts processes")
    }
}

/// Signals a process and all its descendants, the process first.
pub(super) fn signal_tree(root: Pid, signal: Signal) {
    let mut at = 0;
    let mut found = vec![root];
    while at < found.len() {
        let pid = found[at].as_raw_nonzero();
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = std::fs::read_to_string(path).unwrap_or_default();
        found
            .extend(children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
        at += 1;
    }
    for pid in found {
        kill_process(pid, signal).ok();
    }
}
