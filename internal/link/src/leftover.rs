//! Leftovers of sessions in a container: processes with a session's mark in their environment, and spools. The server runs
//! these programs with [`crate::Run`], so that their output fits into [`crate::MAX_RUN_OUTPUT_BYTES`].
//!
//! `shed-init orphans` prints a [`Marked`] as a line of JSON for each process in the container that has `SHED_SESSION_ID`
//! or `SHED_WORKER_ID` in its environment. `shed-init orphans PID:STARTED …` stops such processes: SIGHUP and SIGTERM, then
//! SIGKILL. A process that has ended, or whose process id was reused, is skipped.
//!
//! `shed-init spools DIR` prints a [`SpoolDir`] as a line of JSON for each worker's directory in `DIR`. `shed-init spools
//! DIR WORKER …` removes the spools of these workers unless a runner holds them.
//!
//! The output cannot be trusted: programs in the container choose environments and file names.

use serde::{Deserialize, Serialize};

use crate::spool::WorkerId;

/// The most processes that are listed or stopped at once. A session has dozens.
pub const MAX_MARKED: usize = 1_000;
/// The most bytes of a command line that are reported.
pub const MAX_COMMAND_BYTES: usize = 200;
/// The most spools that are listed or removed at once.
pub const MAX_SPOOLS: usize = 4_000;
/// Milliseconds between SIGTERM and SIGKILL. Short, since a request waits for it.
pub const END_GRACE_MS: u64 = 3_000;

/// A process with a session's or worker's mark in its environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marked {
    /// The process id in the container.
    pub pid: u32,
    /// The start time in clock ticks since boot. Together with the process id it identifies one process uniquely.
    pub started: u64,
    /// The beginning of its command line, made printable.
    pub command: String,
    /// The value of `SHED_SESSION_ID`, if set.
    #[serde(default)]
    pub session: Option<String>,
    /// The value of `SHED_WORKER_ID`, if set.
    #[serde(default)]
    pub worker: Option<String>,
}

/// The spools of one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolDir {
    /// The worker that wrote them.
    pub worker: WorkerId,
    /// Their size on disk, in bytes.
    pub bytes: u64,
    /// The time of the last write, in seconds since 1970.
    pub modified: i64,
    /// Whether a runner is alive that writes to one of them.
    pub held: bool,
}
