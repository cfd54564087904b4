//! What is left in a box: processes that carry the mark of a session, and spools. Asked through [`crate::Run`], so all of
//! it fits [`crate::MAX_RUN_OUTPUT_BYTES`].
//!
//! `shed-init orphans` prints a [`Marked`] as a line of JSON for each process of the box that has `SHED_SESSION_ID` or
//! `SHED_WORKER_ID` in its environment. `shed-init orphans PID:STARTED …` ends such processes: HUP and TERM, then KILL.
//! One that has ended, or whose number is another's by now, is left alone.
//!
//! `shed-init spools DIR` prints a [`SpoolDir`] as a line of JSON for each worker's directory in there. `shed-init spools
//! DIR WORKER …` removes those no runner holds.
//!
//! Nothing of it can be trusted: whoever is in the box chooses environments and file names.

use serde::{Deserialize, Serialize};

use crate::spool::WorkerId;

/// The most processes that are listed or ended at once. A session has dozens.
pub const MAX_MARKED: usize = 1_000;
/// The most bytes of a command line that are told.
pub const MAX_COMMAND_BYTES: usize = 200;
/// The most spools that are listed or removed at once.
pub const MAX_SPOOLS: usize = 4_000;
/// How long a process has between TERM and KILL. Milliseconds; short, since a request waits for it.
pub const END_GRACE_MS: u64 = 3_000;

/// A process that carries a mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marked {
    /// Its number in the box.
    pub pid: u32,
    /// When it was started, in the kernel's clock ticks: with the number it names one process for ever.
    pub started: u64,
    /// Its command line, printable, its beginning.
    pub command: String,
    /// The session in its environment.
    #[serde(default)]
    pub session: Option<String>,
    /// The worker in its environment.
    #[serde(default)]
    pub worker: Option<String>,
}

/// A worker's spools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolDir {
    /// Whose.
    pub worker: WorkerId,
    /// What they take on disk.
    pub bytes: u64,
    /// When something in them was last written, in seconds since 1970.
    pub modified: i64,
    /// Whether a runner writes to one of them.
    pub held: bool,
}
