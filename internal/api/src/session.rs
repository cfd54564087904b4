//! Sessions: tmux sessions as the outside sees them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A tmux session in a shed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Session {
    /// tmux's id (`$3`): stable until tmux ends, usable wherever a name is.
    pub id: String,
    /// The name. One made by hand may be outside our pattern; control characters are replaced.
    pub name: String,
    /// The shed it lives in.
    pub shed_name: String,
    /// When tmux made it.
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    /// The name.
    pub name: String,
    /// Where it starts; `/workspace` when absent. Absolute.
    #[serde(default)]
    pub directory: Option<String>,
    /// What it runs instead of a login shell, word by word.
    #[serde(default)]
    pub command: Vec<String>,
    /// Added to its environment.
    #[serde(default)]
    pub env: std::collections::BTreeMap<String, String>,
}

/// `PATCH /api/sheds/{n}/sessions/{s}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PatchSession {
    /// The new name.
    pub name: String,
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
