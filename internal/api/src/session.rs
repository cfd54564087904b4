//! Sessions of a shed: resources and requests.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::worker::Worker;

/// A session of a shed: a managed one, which shed created and stores, or an unmanaged one, which is any other tmux session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Session {
    /// Stable id. A managed session keeps it through every restart. An unmanaged one has tmux's id (`$3`), which is stable
    /// until the tmux server ends.
    pub id: String,
    /// Name of the tmux session. That of an unmanaged session may not match our pattern; control characters are replaced.
    pub name: String,
    /// Name of the session's shed.
    pub shed_name: String,
    /// Time the session was created.
    pub created_at: DateTime<Utc>,
    /// Whether any tmux client is attached.
    pub attached: bool,
    /// Number of attached tmux clients.
    pub attached_clients: u32,
    /// Number of tmux windows.
    pub window_count: u32,
    /// The tmux windows, ordered by index.
    pub windows: Vec<Window>,
    /// Foreground command of the active pane, as of `observed_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Time of the last output in any window, as of `observed_at`, to the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity_at: Option<DateTime<Utc>>,
    /// Time `command` and `activity_at` were read. They are updated while a client watches; all other fields are always
    /// current.
    pub observed_at: DateTime<Utc>,
    /// tmux's id (`$3`); absent while there is no tmux session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tmux_id: Option<String>,
    /// Status of the session; always `running` for an unmanaged one.
    #[serde(default)]
    pub status: SessionStatus,
    /// Why the session failed, waits or is orphaned, or what of it could not be restored; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Type of the session; absent for an unmanaged one.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<SessionType>,
    /// Title for people, any text. Never used as a tmux name or a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Tags to filter by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Working directory of its workers, absolute: the worktree, or a directory of the shed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Branch of its worktree; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The ref that its branch started from and is compared with, as requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Id of the commit that its branch started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_commit: Option<String>,
    /// Name of the template it was created from; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Resource limits of the session.
    #[serde(default, skip_serializing_if = "SessionLimits::is_none")]
    pub limits: SessionLimits,
    /// How prompts of its agents are to be answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_respond: Option<AutoRespond>,
    /// Whether its processes may write only to its directory, the caches in the home directory and `/tmp`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confined: bool,
    /// The first of ten ports reserved for the session; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What its creation left out, for people: files that were not copied, submodules that could not be fetched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Its workers, in the order they were created.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<Worker>,
}

/// A session that was deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeletedSession {
    /// What was left out, for people: a teardown that did not end.
    pub notes: Vec<String>,
}

words! {
    /// Status of a session. `waiting`: it waits until fewer sessions run. `creating`: its worktree, setup or first window is
    /// being created. `running`: its tmux session exists. `frozen`: its processes are frozen. `stopped`: its shed does not
    /// run; the session is restored with it. `ended`: its processes have ended; its files and output are kept, and it can be
    /// restarted. `failed`: it could not be created or restored. `removing`: it is being deleted. `orphaned`: the database is
    /// inconsistent with the shed's actual state. `reason` has details.
    SessionStatus "session status" {
        /// Waits until fewer sessions run.
        Waiting = "waiting",
        /// The worktree, setup or first window is being created.
        Creating = "creating",
        /// The tmux session exists.
        Running = "running",
        /// The processes are frozen.
        Frozen = "frozen",
        /// The shed does not run; the session is restored with it.
        Stopped = "stopped",
        /// The processes have ended. Files and output are kept, and the session can be restarted.
        Ended = "ended",
        /// The session could not be created or restored; `reason` says why.
        Failed = "failed",
        /// The session is being deleted.
        Removing = "removing",
        /// The database is inconsistent with the shed's actual state; `reason` says how to fix it.
        Orphaned = "orphaned",
    }
}

impl Default for SessionStatus {
    /// A session that tmux lists runs.
    fn default() -> Self {
        Self::Running
    }
}

words! {
    /// Type of a session. `quick`: it works in a directory of the shed. `worktree`: it has a git worktree and a branch of its
    /// own.
    SessionType "session type" {
        /// Works in a directory of the shed.
        Quick = "quick",
        /// Has a git worktree and a branch of its own.
        Worktree = "worktree",
    }
}

words! {
    /// How prompts of a session's agents are to be answered. `off`: not automatically. `safe`: prompts for actions that only
    /// read. `rules`: by the rules of the shed. Stored with the session; shed itself answers no prompt yet.
    AutoRespond "auto-respond mode" {
        /// No prompt is answered.
        Off = "off",
        /// Prompts for actions that only read are answered.
        Safe = "safe",
        /// Prompts are answered by the rules of the shed.
        Rules = "rules",
    }
}

/// Resource limits of a session. An absent limit is unlimited, or the server's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionLimits {
    /// Runtime in seconds after which the session is terminated, with a checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_seconds: Option<u64>,
    /// Output kept of each worker, in bytes after compression. The oldest output is dropped first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// Size in bytes above which a file is left out of checkpoints and listed as skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_file_bytes: Option<u64>,
    /// Interval of automatic checkpoints in minutes. None is created while nothing changes.
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
    /// tmux's id of the window (`@5`).
    pub id: String,
    /// tmux's index of the window in its session.
    pub index: u32,
    /// Name of the window; control characters are replaced.
    pub name: String,
    /// Whether it is the session's current window.
    pub active: bool,
    /// Its panes, ordered by index.
    pub panes: Vec<Pane>,
}

/// A tmux pane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Pane {
    /// tmux's id of the pane (`%7`).
    pub id: String,
    /// Title that the program in the pane has set; control characters are replaced.
    pub title: String,
    /// Whether it is the window's active pane.
    pub active: bool,
    /// Name of the foreground command.
    pub command: String,
    /// Working directory of the foreground command.
    pub directory: String,
    /// Process id, inside the shed, of the process that tmux started in the pane.
    pub pid: u32,
}

/// A limitation of a list: for example a shed whose link is down, or that has no tmux.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Warning {
    /// Name of the shed.
    pub shed: String,
    /// Kind of the warning, one of the problem codes.
    pub code: crate::Code,
    /// What is missing and why, for people.
    pub detail: String,
    /// Age of this shed's rows in the list, in milliseconds; absent when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

/// `GET /api/sessions` and `GET /api/sheds/{n}/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionList {
    /// Sessions, sorted by shed, then by name.
    pub sessions: Vec<Session>,
    /// Sheds whose sessions are missing or may be out of date.
    pub warnings: Vec<Warning>,
}

/// `POST /api/sheds/{n}/sessions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    /// Name of the session; derived from title, prompt or agent when absent.
    #[serde(default)]
    pub name: Option<String>,
    /// Type of the session; `quick` when absent.
    #[serde(default, rename = "type")]
    pub kind: Option<SessionType>,
    /// Title for people, any text.
    #[serde(default)]
    pub title: Option<String>,
    /// Tags to filter by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Name of the agent that its first worker runs; excludes `command`.
    #[serde(default)]
    pub agent: Option<String>,
    /// Model of the agent, passed on to it; the agent's default when absent.
    #[serde(default)]
    pub model: Option<String>,
    /// Initial prompt of the agent.
    #[serde(default)]
    pub prompt: Option<String>,
    /// Branch of its worktree; the server's prefix and the session's name when absent. An existing branch is used only with
    /// `existing_branch`.
    #[serde(default)]
    pub branch: Option<String>,
    /// Use an existing branch, local or of `origin`.
    #[serde(default)]
    pub existing_branch: bool,
    /// Start of the branch: a ref, a commit, or `pr/N`; the last fetched default branch when absent.
    #[serde(default)]
    pub base: Option<String>,
    /// Fetch from `origin` before the branch is created.
    #[serde(default)]
    pub fetch: bool,
    /// Working directory of a quick session, or repository of a worktree session; absolute. `/workspace` when absent.
    #[serde(default)]
    pub directory: Option<String>,
    /// Name or id of another session whose worktree is used.
    #[serde(default)]
    pub share: Option<String>,
    /// Name of a template, which has values for the fields that are not given.
    #[serde(default)]
    pub template: Option<String>,
    /// Resource limits; the template's or the server's when absent.
    #[serde(default)]
    pub limits: Option<SessionLimits>,
    /// How prompts of its agents are to be answered.
    #[serde(default)]
    pub auto_respond: Option<AutoRespond>,
    /// Let its processes write only to its directory, the caches in the home directory and `/tmp`.
    #[serde(default)]
    pub confine: bool,
    /// Command of its first worker, one string for each argument; a login shell when empty.
    #[serde(default)]
    pub command: Vec<String>,
    /// Variables added to the environment of its workers.
    #[serde(default)]
    pub env: std::collections::BTreeMap<String, String>,
    /// Keep the window with its last screen when the command has ended. When absent, true for agents and false otherwise.
    #[serde(default)]
    pub keep: Option<bool>,
    /// Start the command again when the shed is started.
    #[serde(default)]
    pub restart: bool,
    /// Command to run after the worktree is created and before the first worker, one string for each argument. It runs as
    /// the worker `setup`.
    #[serde(default)]
    pub setup: Vec<String>,
    /// Command to run before the worktree is removed, one string for each argument.
    #[serde(default)]
    pub teardown: Vec<String>,
}

/// `PATCH /api/sheds/{n}/sessions/{s}`. Absent fields are left unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PatchSession {
    /// New name of the session.
    #[serde(default)]
    pub name: Option<String>,
    /// New title; an empty string removes it.
    #[serde(default)]
    pub title: Option<String>,
    /// New tags; they replace all old ones.
    #[serde(default)]
    pub tags: Option<Vec<String>>,
    /// New limits; they replace all old ones.
    #[serde(default)]
    pub limits: Option<SessionLimits>,
    /// New way to answer prompts.
    #[serde(default)]
    pub auto_respond: Option<AutoRespond>,
    /// New name of its branch.
    #[serde(default)]
    pub branch: Option<String>,
}

/// `POST …/sessions/{s}/input`: either text, which is typed literally, or keys by their tmux names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Text to type literally into the active pane; excludes `keys`.
    #[serde(default)]
    pub text: Option<String>,
    /// tmux's names of the keys to press: `Enter`, `C-c`, `Up`.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Press Enter at the end.
    #[serde(default)]
    pub enter: bool,
}

/// `GET …/sessions/{s}/output`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Output {
    /// The history that was requested and the screen of the active pane, one terminal line on each line. With `ansi=true` it
    /// contains SGR sequences and no other control sequences.
    pub output: String,
}
