//! Workers: the windows of a session that shed started, what runs in them and what they print.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::stream::Exit;

/// A window of a session with a command of ours in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Worker {
    /// Stable for as long as the worker exists.
    pub id: String,
    /// Unique in its session; the window's name.
    pub name: String,
    /// What it is.
    pub kind: WorkerKind,
    /// The agent's definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The conversation the agent is in, where shed knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// What it runs, word by word; empty for a login shell.
    pub command: Vec<String>,
    /// Whether the command is started again when the shed is.
    pub restart: bool,
    /// Where it stands.
    pub status: WorkerStatus,
    /// How its command ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// Why there is no exit: what ended the command was not the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// tmux's id of its window (`@5`), while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// Grows with each start of its command. Equal numbers mean the same run.
    pub epoch: u64,
    /// The offset after the last byte of its output that is kept. Bytes since the first start of the worker.
    pub output_end: u64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When its command was last started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// When its command ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
}

words! {
    /// What a worker is.
    WorkerKind {
        /// A coding agent.
        Agent = "agent",
        /// A shell or a command.
        Terminal = "terminal",
    }
}

words! {
    /// Where a worker stands, by facts of processes alone.
    WorkerStatus {
        /// Its window is being made.
        Starting = "starting",
        /// Its command runs.
        Running = "running",
        /// Its command has ended; `exit` says how.
        Exited = "exited",
    }
}

/// `GET …/workers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkerList {
    /// In the order they were made.
    pub workers: Vec<Worker>,
}

/// `POST …/workers`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewWorker {
    /// The name; made from agent or command when absent.
    #[serde(default)]
    pub name: Option<String>,
    /// The agent; excludes `command`.
    #[serde(default)]
    pub agent: Option<String>,
    /// The agent's model.
    #[serde(default)]
    pub model: Option<String>,
    /// What the agent is told first.
    #[serde(default)]
    pub prompt: Option<String>,
    /// What it runs instead of a login shell, word by word.
    #[serde(default)]
    pub command: Vec<String>,
    /// Where it begins; the session's directory when absent. Absolute.
    #[serde(default)]
    pub directory: Option<String>,
    /// Added to its environment.
    #[serde(default)]
    pub env: std::collections::BTreeMap<String, String>,
    /// As of a session.
    #[serde(default)]
    pub keep: Option<bool>,
    /// Whether the command is started again when the shed is.
    #[serde(default)]
    pub restart: bool,
}

/// `POST …/workers/{w}/restart` and `POST …/sessions/{s}/restart`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// Agents go on with their conversation instead of beginning anew.
    #[serde(default, rename = "continue")]
    pub continues: bool,
}

/// `GET …/workers/{w}/output`: a page of what a worker printed, from the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutputPage {
    /// The offset of the first byte.
    pub start: u64,
    /// The offset after the last byte: ask for this next.
    pub end: u64,
    /// The offset after the last byte there is.
    pub log_end: u64,
    /// The first offset that is still kept.
    pub log_start: u64,
    /// The run of the worker that printed it.
    pub epoch: u64,
    /// So many bytes before `start` were printed and are not kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gap: u64,
    /// The bytes as text; what is no UTF-8 is replaced.
    pub text: String,
    /// The bytes exactly, as base64, when they are no UTF-8.
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
    /// Oldest first.
    pub hits: Vec<OutputHit>,
    /// Ask again from here for more; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// A line of output in which the text was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutputHit {
    /// Where the text stands in it first.
    pub offset: u64,
    /// The line, without what steers a terminal.
    pub line: String,
}

/// A text message of a client on `…/workers/{w}/ws`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum WorkerClientFrame {
    /// Typed into the worker's terminal, as it is.
    Input {
        /// The text.
        data: String,
    },
    /// The viewer's size. The primary viewer's is the terminal's; the others follow.
    Resize {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// A picture: saved in the shed, and its path typed into the terminal.
    Image {
        /// The file, as base64.
        data: String,
        /// `image/png`, `image/jpeg`, `image/gif` or `image/webp`.
        #[serde(rename = "mimeType")]
        mime_type: String,
    },
    /// Become the one whose size counts.
    Primary,
}

/// A text message of the server on `…/workers/{w}/ws`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum WorkerServerFrame {
    /// What was there before: first of all, and again when the viewer fell behind. It replaces everything shown so far.
    History {
        /// Bytes for a terminal, as text.
        data: String,
        /// The offset after it.
        offset: u64,
        /// The run of the worker.
        epoch: u64,
        /// The terminal's columns.
        cols: u16,
        /// The terminal's rows.
        rows: u16,
        /// Whether this viewer's size is the terminal's.
        primary: bool,
        /// Whether this viewer's input is dropped.
        read_only: bool,
    },
    /// What was printed.
    Output {
        /// Bytes for a terminal, as text; a character cut by the end of one message begins the next.
        data: String,
        /// The offset after it.
        offset: u64,
        /// The run of the worker.
        epoch: u64,
    },
    /// The terminal has this size now.
    Size {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
        /// Whether it is this viewer's.
        primary: bool,
    },
    /// The command ended.
    Exit {
        /// Its status, or absent when a signal ended it or nobody knows.
        #[serde(rename = "exitCode", default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<u8>,
        /// The signal, named without `SIG`.
        #[serde(default)]
        signal: Option<String>,
        /// The run of the worker.
        epoch: u64,
    },
    /// What the worker does.
    Activity {
        /// By the rhythm of its output.
        state: Activity,
    },
    /// Something asked for was not done; the stream goes on.
    Problem {
        /// Why.
        problem: crate::Problem,
    },
}

words! {
    /// What a worker does, as far as its processes and output tell.
    Activity {
        /// It prints.
        Active = "active",
        /// It is quiet.
        Idle = "idle",
        /// It asks something. Told for agents whose prompts shed can read.
        Asking = "asking",
        /// There is no saying.
        Unknown = "unknown",
    }
}

/// An item of `GET /api/previews`: what the last rows of workers look like, at first whole, then the rows that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Preview {
    /// The shed.
    pub shed: String,
    /// The session's id.
    pub session: String,
    /// The worker's id.
    pub worker: String,
    /// The terminal's columns.
    pub cols: u16,
    /// The terminal's rows.
    pub rows: u16,
    /// Whether `lines` are all there are, or those that changed.
    pub whole: bool,
    /// The rows, by number from the top.
    pub lines: Vec<PreviewLine>,
}

/// A row of a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PreviewLine {
    /// From the top, from 0.
    pub row: u16,
    /// Its text, with colours as SGR sequences.
    pub text: String,
}
