//! Sessions: what runs in a shed, as the outside sees it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::worker::Worker;

/// A session in a shed: one that shed made and remembers, or a tmux session made by hand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Session {
    /// Stable for as long as the session exists, through every restart. A tmux session made by hand has tmux's (`$3`),
    /// which is stable until tmux ends.
    pub id: String,
    /// The name, which is tmux's. One made by hand may be outside our pattern; control characters are replaced.
    pub name: String,
    /// The shed it lives in.
    pub shed_name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Whether anyone is attached.
    pub attached: bool,
    /// How many clients are attached.
    pub attached_clients: u32,
    /// How many windows it has.
    pub window_count: u32,
    /// Its windows, by index.
    pub windows: Vec<Window>,
    /// The foreground command of the active pane, as of `observed_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The last output in any window, as of `observed_at`. Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity_at: Option<DateTime<Utc>>,
    /// When `command` and `activity_at` were read. They move while someone watches; the rest is always live.
    pub observed_at: DateTime<Utc>,
    /// tmux's own id (`$3`) while there is a tmux session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tmux_id: Option<String>,
    /// Where it stands.
    #[serde(default)]
    pub status: SessionStatus,
    /// Why, when it failed, waits or was set aside; what did not come back of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What kind it is; absent for one made by hand.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<SessionType>,
    /// Any text for people. Data only: never a name of tmux's and never a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Where its workers begin: its worktree, or a directory of the shed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Its branch, if it has a worktree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// What its branch began at, and what it is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The commit its branch began at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_commit: Option<String>,
    /// The template it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// What it may use.
    #[serde(default, skip_serializing_if = "SessionLimits::is_none")]
    pub limits: SessionLimits,
    /// How prompts of its agents are to be answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_respond: Option<AutoRespond>,
    /// Whether its processes may write only to its directory, the home's caches and `/tmp`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confined: bool,
    /// The first of its ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Its workers, in the order they were made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<Worker>,
}

words! {
    /// Where a session stands.
    SessionStatus {
        /// It waits for a place among those that may run at once.
        Waiting = "waiting",
        /// Its worktree, setup or first window is being made.
        Creating = "creating",
        /// It is there.
        Running = "running",
        /// Its processes are frozen.
        Frozen = "frozen",
        /// Its shed does not run; it comes back with it.
        Stopped = "stopped",
        /// Its processes have ended. What it made is there, and it can be started again.
        Ended = "ended",
        /// It could not be made or brought back; `reason` says why.
        Failed = "failed",
        /// It is being deleted.
        Removing = "removing",
        /// What is remembered of it does not fit what is there; `reason` says what to do.
        Orphaned = "orphaned",
    }
}

impl Default for SessionStatus {
    /// What is listed by tmux runs.
    fn default() -> Self {
        Self::Running
    }
}

words! {
    /// What a session works in.
    SessionType {
        /// A directory of the shed.
        Quick = "quick",
        /// A git worktree and a branch of its own.
        Worktree = "worktree",
    }
}

words! {
    /// How prompts of a session's agents are to be answered. Kept with the session and told to whoever asks; shed itself
    /// answers nothing yet.
    AutoRespond {
        /// Not at all.
        Off = "off",
        /// What only reads.
        Safe = "safe",
        /// By the rules of the shed.
        Rules = "rules",
    }
}

/// What a session may use. Absent is unlimited, or the server's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionLimits {
    /// It is terminated, with a checkpoint, when it has run for so long. Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_seconds: Option<u64>,
    /// The most that is kept of each worker's output, compressed, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// A larger file is left out of checkpoints, by name. Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_file_bytes: Option<u64>,
    /// A checkpoint is made this often while something changes. Minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_minutes: Option<u32>,
}

impl SessionLimits {
    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A tmux window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Window {
    /// tmux's id (`@5`).
    pub id: String,
    /// Its place in the session.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is the session's current window.
    pub active: bool,
    /// Its panes, by index.
    pub panes: Vec<Pane>,
}

/// A tmux pane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Pane {
    /// tmux's id (`%7`).
    pub id: String,
    /// Its title, set by the program in it.
    pub title: String,
    /// Whether it is the window's active pane.
    pub active: bool,
    /// The foreground command.
    pub command: String,
    /// The directory of the foreground command.
    pub directory: String,
    /// The process tmux started in it, in the shed's numbering.
    pub pid: u32,
}

/// Something the reader of a list should know: a shed whose link is down or that has no tmux.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Warning {
    /// The shed it is about.
    pub shed: String,
    /// The kind, one of the problem codes.
    pub code: crate::Code,
    /// In words.
    pub detail: String,
    /// How old the rows of this shed are, in milliseconds; absent when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

/// `GET /api/sessions` and `GET /api/sheds/{n}/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionList {
    /// Sorted by shed, then name.
    pub sessions: Vec<Session>,
    /// What the rows do not say.
    pub warnings: Vec<Warning>,
}

/// `POST /api/sheds/{n}/sessions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    /// The name; made from title, prompt or agent when absent.
    #[serde(default)]
    pub name: Option<String>,
    /// What it works in; `quick` when absent.
    #[serde(default, rename = "type")]
    pub kind: Option<SessionType>,
    /// Any text for people.
    #[serde(default)]
    pub title: Option<String>,
    /// Words to find it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The agent of its first worker; excludes `command`.
    #[serde(default)]
    pub agent: Option<String>,
    /// The agent's model.
    #[serde(default)]
    pub model: Option<String>,
    /// What the agent is told first.
    #[serde(default)]
    pub prompt: Option<String>,
    /// The branch of its worktree; the server's prefix and the session's name when absent. One that exists is taken up if
    /// `existing_branch`.
    #[serde(default)]
    pub branch: Option<String>,
    /// Take up a branch that exists, here or at `origin`.
    #[serde(default)]
    pub existing_branch: bool,
    /// What the branch begins at: a ref, a commit, or `pr/N`; the default branch as fetched when absent.
    #[serde(default)]
    pub base: Option<String>,
    /// Fetch first.
    #[serde(default)]
    pub fetch: bool,
    /// Where a quick session begins; `/workspace` when absent. For a worktree session the repository. Absolute.
    #[serde(default)]
    pub directory: Option<String>,
    /// Work in the worktree of this other session.
    #[serde(default)]
    pub share: Option<String>,
    /// A template whose values stand where nothing is said here.
    #[serde(default)]
    pub template: Option<String>,
    /// What it may use.
    #[serde(default)]
    pub limits: Option<SessionLimits>,
    /// How prompts are to be answered.
    #[serde(default)]
    pub auto_respond: Option<AutoRespond>,
    /// Let its processes write only to its directory, the home's caches and `/tmp`.
    #[serde(default)]
    pub confine: bool,
    /// What its first worker runs instead of a login shell, word by word.
    #[serde(default)]
    pub command: Vec<String>,
    /// Added to its workers' environment.
    #[serde(default)]
    pub env: std::collections::BTreeMap<String, String>,
    /// Whether the window stays, with its last screen, when the command has ended; true for agents when absent, else false.
    #[serde(default)]
    pub keep: Option<bool>,
    /// Whether the command is started again when the shed is.
    #[serde(default)]
    pub restart: bool,
    /// Run after the worktree is made and before the first worker, word by word; its output is the worker `setup`'s.
    #[serde(default)]
    pub setup: Vec<String>,
    /// Run before the worktree is removed, word by word.
    #[serde(default)]
    pub teardown: Vec<String>,
}

/// `PATCH /api/sheds/{n}/sessions/{s}`. What is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PatchSession {
    /// The new name.
    #[serde(default)]
    pub name: Option<String>,
    /// The new title; empty takes it away.
    #[serde(default)]
    pub title: Option<String>,
    /// The new tags.
    #[serde(default)]
    pub tags: Option<Vec<String>>,
    /// The new limits, all of them.
    #[serde(default)]
    pub limits: Option<SessionLimits>,
    /// The new way to answer prompts.
    #[serde(default)]
    pub auto_respond: Option<AutoRespond>,
    /// The new name of its branch.
    #[serde(default)]
    pub branch: Option<String>,
}

/// `POST …/sessions/{s}/input`: either text, typed as it is, or keys by their tmux names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Typed literally into the active pane.
    #[serde(default)]
    pub text: Option<String>,
    /// Key names as tmux knows them: `Enter`, `C-c`, `Up`.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Whether Enter follows.
    #[serde(default)]
    pub enter: bool,
}

/// `GET …/sessions/{s}/output`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Output {
    /// The active pane's screen and as much history as asked for, one line a line. With `ansi=true` it has SGR
    /// sequences and nothing else that steers a terminal.
    pub output: String,
}
