//! A session: what it was created with, its status, and what may happen to it.

pub mod batch;
pub mod confine;
pub mod deletion;
pub mod life;
pub mod names;
pub mod plan;
pub mod ports;
mod request;
pub mod template;

pub use request::{MAX_PROMPT_BYTES, check_directory, check_title};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shed_api::session::{AutoRespond, SessionLimits, SessionStatus, SessionType};
use shed_api::worker::WorkerStatus;

use crate::worker::WorkerRow;

/// What a session was created with, and what was decided then. New fields have defaults: rows of older
/// versions are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionSpec {
    /// `quick` in a directory, or `worktree`.
    pub kind: SessionType,
    /// Free text, at most 1024 bytes.
    #[serde(default)]
    pub title: Option<String>,
    /// Tags, see [`crate::tag`].
    #[serde(default)]
    pub tags: Vec<String>,
    /// What its name was made from; absent if it was requested, and in rows of older versions.
    #[serde(default)]
    pub automatic: Option<names::AutomaticName>,
    /// The absolute path in the shed in which its workers start.
    pub directory: String,
    /// The path of the repository that its worktree belongs to.
    #[serde(default)]
    pub repo: Option<String>,
    /// The git directory of its worktree, as it was created; absent without one, and in rows of older versions.
    #[serde(default)]
    pub git_dir: Option<String>,
    /// Its branch; absent without a worktree.
    #[serde(default)]
    pub branch: Option<String>,
    /// Whether the branch was made for it.
    #[serde(default)]
    pub made_branch: bool,
    /// What its branch started from: as requested, or the default branch.
    #[serde(default)]
    pub base: Option<String>,
    /// The commit of `base` when the branch was made.
    #[serde(default)]
    pub base_commit: Option<String>,
    /// Whether it uses a branch that existed.
    #[serde(default)]
    pub existing_branch: bool,
    /// Whether to fetch before the worktree is made.
    #[serde(default)]
    pub fetch: bool,
    /// The checkpoint to restore in a new fork: the session's id and the number. Absent once that is done.
    #[serde(default)]
    pub from_checkpoint: Option<(String, u64)>,
    /// Whether its worktree was made; true if it needs none.
    #[serde(default)]
    pub placed: bool,
    /// Whether its setup has succeeded; true if it has none.
    #[serde(default)]
    pub set_up: bool,
    /// The id of the session whose worktree it shares.
    #[serde(default)]
    pub shares: Option<String>,
    /// The name of the template it was made from; absent without one. The template may have changed since.
    #[serde(default)]
    pub template: Option<String>,
    /// Limits of runtime, output and checkpoints; a limit that is absent does not apply.
    #[serde(default)]
    pub limits: SessionLimits,
    /// How its agents' questions are answered.
    #[serde(default)]
    pub auto_respond: Option<AutoRespond>,
    /// Whether its processes are confined.
    #[serde(default)]
    pub confine: bool,
    /// The number of its block of ports, see [`ports`].
    #[serde(default)]
    pub port_block: Option<u16>,
    /// Variables added to its workers' environments.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The command that runs before the first worker, as argv.
    #[serde(default)]
    pub setup: Vec<String>,
    /// The command that runs before the worktree is removed, as argv.
    #[serde(default)]
    pub teardown: Vec<String>,
    /// Whether the session is deleted when its last window closes by itself.
    #[serde(default)]
    pub closes: bool,
    /// When it last became `running`; its runtime limit counts from here.
    #[serde(default)]
    pub running_since: Option<DateTime<Utc>>,
    /// The same on the host's monotonic clock; absent in rows of older versions.
    #[serde(default)]
    pub running_since_uptime: Option<Uptime>,
    /// What its creation left out, in words.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The restart in progress.
    #[serde(default)]
    pub restarting: Option<Restarting>,
    /// The deletion in progress; absent unless the status is `removing`.
    #[serde(default)]
    pub deletion: Option<Deletion>,
}

/// A moment on the host's monotonic clock. Nobody can set that clock, and it stands still while the host is suspended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uptime {
    /// Identifies the boot of the host. Moments of different boots cannot be compared.
    pub boot: String,
    /// Milliseconds since that boot.
    pub ms: u64,
}

/// A deletion in progress, stored so that the server resumes it after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// Whether uncommitted or unpushed work goes to the trash; otherwise it stops the deletion.
    pub force: bool,
    /// The session's status before it.
    pub was: SessionStatus,
}

/// A restart in progress, stored so that the server resumes it after a crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarting {
    /// The id of the worker that is restarted; absent when all are.
    pub worker: Option<String>,
    /// Whether agents resume their conversations.
    pub continues: bool,
}

impl SessionSpec {
    /// Of an unmanaged tmux session that becomes managed.
    pub fn adopted(directory: String) -> Self {
        Self {
            kind: SessionType::Quick,
            title: None,
            tags: Vec::new(),
            automatic: None,
            directory,
            repo: None,
            git_dir: None,
            branch: None,
            made_branch: false,
            base: None,
            base_commit: None,
            existing_branch: false,
            fetch: false,
            from_checkpoint: None,
            placed: true,
            set_up: true,
            shares: None,
            template: None,
            limits: SessionLimits::default(),
            auto_respond: None,
            confine: false,
            port_block: None,
            env: BTreeMap::new(),
            setup: Vec::new(),
            teardown: Vec::new(),
            closes: true,
            running_since: None,
            running_since_uptime: None,
            notes: Vec::new(),
            restarting: None,
            deletion: None,
        }
    }
}

/// A session as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRow {
    /// Random; never changes.
    pub id: String,
    /// The name of the shed it is in.
    pub shed: String,
    /// Its name, also in tmux.
    pub name: String,
    /// Its status; never `stopped`.
    pub status: SessionStatus,
    /// Why it has this status, in words.
    pub reason: Option<String>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When its status last changed.
    pub status_since: DateTime<Utc>,
    /// What it was created with.
    pub spec: SessionSpec,
}

/// A longer runtime is no limit: a hundred years in seconds, which clocks can add.
const LONGEST_RUNTIME: u64 = 100 * 365 * 86_400;

impl SessionRow {
    /// Whether it has processes while its shed runs.
    pub fn is_up(&self) -> bool {
        matches!(self.status, SessionStatus::Running | SessionStatus::Frozen)
    }

    /// Whether an operation creates or deletes it, or will create it.
    pub fn is_changing(&self) -> bool {
        use SessionStatus::{Creating, Removing, Waiting};
        matches!(self.status, Creating | Removing | Waiting)
    }

    /// How long it may still run; `None` if it does not run or has no limit. The wall clock counts only if the host was
    /// booted since.
    pub fn runtime_left(&self, now: DateTime<Utc>, uptime: &Uptime) -> Option<Duration> {
        let limit = self.spec.limits.runtime_seconds?;
        let since = self.spec.running_since.filter(|_| self.status == SessionStatus::Running)?;
        let begin = self.spec.running_since_uptime.as_ref();
        let ran = match begin.filter(|begin| begin.boot == uptime.boot) {
            Some(begin) => Duration::from_millis(uptime.ms.saturating_sub(begin.ms)),
            None => (now - since).to_std().unwrap_or_default(),
        };
        Some(Duration::from_secs(limit.min(LONGEST_RUNTIME)).saturating_sub(ran))
    }

    /// Between two checkpoints by the clock; `None` if none are made, or none now.
    pub fn checkpoint_period(&self) -> Option<Duration> {
        let minutes = self.spec.limits.checkpoint_minutes?;
        let runs = self.status == SessionStatus::Running && self.spec.placed;
        runs.then(|| Duration::from_secs(60 * u64::from(minutes.max(1))))
    }

    /// Whether its worktree was made for it and goes with it.
    pub fn owns_worktree(&self) -> bool {
        let spec = &self.spec;
        spec.kind == SessionType::Worktree && spec.shares.is_none() && spec.placed
    }

    /// The status after its shed has started again. `lost` says whether any worker did not come back.
    pub fn restored_status(&self, came_back: bool, lost: bool) -> SessionStatus {
        if came_back {
            SessionStatus::Running
        } else if self.spec.kind == SessionType::Worktree && lost {
            SessionStatus::Orphaned
        } else {
            SessionStatus::Ended
        }
    }

    /// The status after a deletion that failed: as before, or as far as the deletion came. `is_there` says whether it has
    /// processes or a tmux session, `has_ended` whether ending them had begun.
    pub fn undeleted_status(&self, is_there: bool, has_ended: bool) -> SessionStatus {
        let was = self.spec.deletion.map_or(SessionStatus::Ended, |deletion| deletion.was);
        match was {
            SessionStatus::Running | SessionStatus::Frozen if !is_there => SessionStatus::Ended,
            // It was thawed, so that its processes could end.
            SessionStatus::Frozen if has_ended => SessionStatus::Running,
            was => was,
        }
    }
}

/// The stored sessions of a shed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoredSessions {
    /// Sessions, oldest first.
    pub sessions: Vec<SessionRow>,
    /// Their workers, oldest first.
    pub workers: Vec<WorkerRow>,
    /// Rows this version cannot read. They are left as they are.
    pub unreadable: Vec<Unreadable>,
}

/// A row that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The row's own id: the session's, or the worker's.
    pub id: String,
    /// The id of the session; the same as `id` for a session's row.
    pub session: String,
    /// The session's or the worker's name.
    pub name: String,
    /// Why it cannot be read.
    pub why: String,
}

/// The ids of all stored sessions of a shed and of their workers, including rows that cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionIds {
    /// Ids of sessions.
    pub sessions: BTreeSet<String>,
    /// Ids of workers.
    pub workers: BTreeSet<String>,
}

/// A stored listing of a shed's tmux server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutRow {
    /// When it was read.
    pub at: DateTime<Utc>,
    /// Whether it was read at an orderly stop, so that nothing is missing in it.
    pub orderly: bool,
    /// The boot id of the shed's shed-init when it was read.
    pub boot: String,
    /// The listing, as `shed_tmux` prints and parses it.
    pub body: String,
}

/// A session that shed manages, with its workers in the order they were made.
#[derive(Debug, Clone, PartialEq)]
pub struct Managed {
    /// The session as stored.
    pub row: SessionRow,
    /// Its workers as stored, oldest first; hooks (setup, teardown) too.
    pub workers: Vec<WorkerRow>,
}

impl Managed {
    /// The worker with this name, or else with this id.
    pub fn worker(&self, name_or_id: &str) -> Option<&WorkerRow> {
        let by = |what: fn(&WorkerRow) -> &str| {
            self.workers.iter().find(|worker| what(worker) == name_or_id)
        };
        by(|worker| &worker.name).or_else(|| by(|worker| &worker.id))
    }

    /// What it takes of the limit on running sessions while no operation runs.
    pub fn slot(&self) -> Slot {
        let is_unmanaged = self.workers.is_empty();
        let runs = |row: &WorkerRow| row.status != WorkerStatus::Exited;
        match self.row.status {
            SessionStatus::Running | SessionStatus::Frozen
                if is_unmanaged || self.workers.iter().any(runs) =>
            {
                Slot::Taken
            }
            SessionStatus::Waiting => Slot::Wanted,
            _ => Slot::None,
        }
    }
}

/// A session's part of the limit on running sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// It counts as running.
    Taken,
    /// It waits for one.
    Wanted,
    /// It needs none.
    None,
}

#[cfg(test)]
mod tests;
