//! Workers: windows of a session whose commands shed manages, and their output.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::stream::Exit;

/// A worker: a window of a session with a command that shed manages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Worker {
    /// Stable id of the worker.
    pub id: String,
    /// Name of the worker and of its window, unique in its session.
    pub name: String,
    /// Kind of the worker.
    pub kind: WorkerKind,
    /// Name of its agent; absent for a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The agent's id of its conversation; absent if shed does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// Its command, one string for each argument; empty for a login shell.
    pub command: Vec<String>,
    /// Whether the command is started again when the shed is started.
    pub restart: bool,
    /// Status of the worker.
    pub status: WorkerStatus,
    /// How the command ended; absent while it runs, or if the exit status is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// Why a command that has ended has no `exit`, for example because it was stopped with the shed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// tmux's id of its window (`@5`); absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// Number of the current run of the command. It grows with each start.
    pub epoch: u64,
    /// Offset after the last byte of stored output, counted from the first start of the worker.
    pub output_end: u64,
    /// Time the worker was created.
    pub created_at: DateTime<Utc>,
    /// Time the command was last started; absent before the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// Time the command ended; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
}

words! {
    /// Kind of a worker. `agent`: it runs a coding agent. `terminal`: it runs a shell or another command.
    WorkerKind "worker kind" {
        /// A coding agent.
        Agent = "agent",
        /// A shell or a command.
        Terminal = "terminal",
    }
}

words! {
    /// Status of a worker, derived from its process. `starting`: its window is being created. `running`: its command runs.
    /// `exited`: its command has ended.
    WorkerStatus "worker status" {
        /// The window is being created.
        Starting = "starting",
        /// The command runs.
        Running = "running",
        /// The command has ended; `exit` says how.
        Exited = "exited",
    }
}

/// `GET …/workers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkerList {
    /// The workers, in the order they were created.
    pub workers: Vec<Worker>,
}

/// `POST …/workers`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewWorker {
    /// Name of the worker; derived from agent or command when absent.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(pattern = "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"))]
    pub name: Option<String>,
    /// Name of the agent to run; excludes `command`.
    #[serde(default)]
    pub agent: Option<String>,
    /// Model of the agent, passed on to it; the agent's default when absent.
    #[serde(default)]
    pub model: Option<String>,
    /// Initial prompt of the agent.
    #[serde(default)]
    pub prompt: Option<String>,
    /// Command to run, one string for each argument; a login shell when empty.
    #[serde(default)]
    pub command: Vec<String>,
    /// Working directory, absolute; the session's directory when absent.
    #[serde(default)]
    pub directory: Option<String>,
    /// Variables added to its environment.
    #[serde(default)]
    pub env: std::collections::BTreeMap<String, String>,
    /// Keep the window with its last screen when the command has ended. When absent, true for agents and false otherwise.
    #[serde(default)]
    pub keep: Option<bool>,
    /// Start the command again when the shed is started.
    #[serde(default)]
    pub restart: bool,
}

/// `POST …/workers/{w}/restart` and `POST …/sessions/{s}/restart`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// Agents continue their conversation instead of beginning a new one.
    #[serde(default, rename = "continue")]
    pub continues: bool,
}

/// `GET …/workers/{w}/output`: a page of a worker's stored output. Offsets count bytes from the first start of the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutputPage {
    /// Offset of the first byte of the page.
    pub start: u64,
    /// Offset after the last byte of the page; `from` of the next page.
    pub end: u64,
    /// Offset after the last byte of all stored output.
    pub log_end: u64,
    /// Offset of the first byte of all stored output.
    pub log_start: u64,
    /// Number of the run that printed the page.
    pub epoch: u64,
    /// Number of bytes directly before `start` that were printed and are not stored.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gap: u64,
    /// The page as text; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// The page as base64; only if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// `GET …/workers/{w}/search`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutputHits {
    /// The matching lines, oldest first.
    pub hits: Vec<OutputHit>,
    /// Offset at which to continue the search; absent at the end of the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// A line of output that contains the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutputHit {
    /// Offset of the first match in the line.
    pub offset: u64,
    /// The line without terminal control sequences.
    pub line: String,
}

/// A text message of a client on `…/workers/{w}/ws`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum WorkerClientFrame {
    /// Input for the worker's terminal.
    Input {
        /// The text to type, unchanged.
        data: String,
    },
    /// The viewer has a new size. The terminal takes the size of the primary viewer.
    Resize {
        /// Number of columns.
        cols: u16,
        /// Number of rows.
        rows: u16,
    },
    /// An image, which is stored in the shed and whose path is typed into the terminal.
    Image {
        /// Content of the file, as base64.
        data: String,
        /// Media type: `image/png`, `image/jpeg`, `image/gif` or `image/webp`.
        #[serde(rename = "mimeType")]
        mime_type: String,
    },
    /// Become the primary viewer.
    Primary,
}

/// A text message of the server on `…/workers/{w}/ws`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum WorkerServerFrame {
    /// Earlier output: the first message, sent again when the viewer has fallen behind. It replaces everything shown so far.
    History {
        /// Terminal output, as text.
        data: String,
        /// Offset after the last byte of `data`.
        offset: u64,
        /// Number of the worker's current run.
        epoch: u64,
        /// Number of the terminal's columns.
        cols: u16,
        /// Number of the terminal's rows.
        rows: u16,
        /// Whether this viewer is the primary one, whose size the terminal takes.
        primary: bool,
        /// Whether input of this viewer is dropped.
        read_only: bool,
    },
    /// New output.
    Output {
        /// Terminal output, as text. A character that is incomplete at the end of a message is sent with the next one.
        data: String,
        /// Offset after the last byte of `data`.
        offset: u64,
        /// Number of the run that printed it.
        epoch: u64,
    },
    /// The terminal has a new size.
    Size {
        /// Number of columns.
        cols: u16,
        /// Number of rows.
        rows: u16,
        /// Whether this viewer is the primary one.
        primary: bool,
    },
    /// The command ended.
    Exit {
        /// Exit status; absent if a signal ended the command or the exit status is unknown.
        #[serde(rename = "exitCode", default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<u8>,
        /// Name, without `SIG`, of the signal that ended the command; null if there was none.
        #[serde(default)]
        signal: Option<String>,
        /// Number of the run that ended.
        epoch: u64,
    },
    /// The activity of the worker changed.
    Activity {
        /// The new activity.
        state: Activity,
    },
    /// A request of the client failed; the stream continues.
    Problem {
        /// The error.
        problem: crate::Problem,
    },
}

words! {
    /// Activity of a worker, derived from its processes and output. `active`: it prints output. `idle`: it prints nothing.
    /// `asking`: its agent shows a prompt; only for agents whose prompts shed can parse. `unknown`: it cannot be determined.
    Activity "activity" {
        /// Prints output.
        Active = "active",
        /// Prints nothing.
        Idle = "idle",
        /// Its agent shows a prompt. Only for agents whose prompts shed can parse.
        Asking = "asking",
        /// Cannot be determined.
        Unknown = "unknown",
    }
}

/// An item of `GET /api/previews`: the last rows of a worker's screen. The first item of a worker is complete; later ones
/// have the rows that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Preview {
    /// Name of the shed.
    pub shed: String,
    /// Id of the session.
    pub session: String,
    /// Id of the worker.
    pub worker: String,
    /// Number of the terminal's columns.
    pub cols: u16,
    /// Number of the terminal's rows.
    pub rows: u16,
    /// Whether `lines` has all rows of the preview, instead of only those that changed.
    pub whole: bool,
    /// The rows, ordered from the top.
    pub lines: Vec<PreviewLine>,
}

/// A row of a terminal's screen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PreviewLine {
    /// Number of the row, counted from 0 at the top.
    pub row: u16,
    /// Text of the row, with colours as SGR sequences.
    pub text: String,
}
