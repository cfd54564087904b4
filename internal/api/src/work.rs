//! What is done with several sessions at once, what sessions are made from, and what can be tidied up.

use serde::{Deserialize, Serialize};

use crate::session::{AutoRespond, SessionLimits, SessionType};

/// `POST /api/batch`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Sessions by id; excludes `filter`.
    #[serde(default)]
    pub ids: Vec<String>,
    /// Sessions by what they are.
    #[serde(default)]
    pub filter: Option<BatchFilter>,
    /// What is done.
    pub op: BatchOp,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// For `delete`: also where work would be lost.
    #[serde(default)]
    pub force: bool,
    /// For `restart`: agents go on with their conversation.
    #[serde(default, rename = "continue")]
    pub continues: bool,
    /// For `input`: typed into each session's active pane, and Enter pressed.
    #[serde(default)]
    pub text: Option<String>,
    /// For `tag`: added to each session's tags.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// Which sessions: those for which everything said here is so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BatchFilter {
    /// Of this shed.
    #[serde(default)]
    pub shed: Option<String>,
    /// With this tag.
    #[serde(default)]
    pub tag: Option<String>,
    /// In this status.
    #[serde(default)]
    pub status: Option<crate::session::SessionStatus>,
    /// With a worker of this agent.
    #[serde(default)]
    pub agent: Option<String>,
}

words! {
    /// What a batch does with each session.
    BatchOp {
        /// End its processes; it stays.
        Terminate = "terminate",
        /// Start its workers again.
        Restart = "restart",
        /// End and delete it.
        Delete = "delete",
        /// Freeze its processes.
        Freeze = "freeze",
        /// Let them go on.
        Thaw = "thaw",
        /// Make a checkpoint.
        Checkpoint = "checkpoint",
        /// Type a line.
        Input = "input",
        /// Add tags.
        Tag = "tag",
    }
}

impl Default for BatchOp {
    /// The one that changes least.
    fn default() -> Self {
        Self::Checkpoint
    }
}

/// The answer to a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchResult {
    /// One for each session, in the order asked for.
    pub items: Vec<BatchItem>,
}

/// What a batch did with one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchItem {
    /// The session's id, as asked for.
    pub id: String,
    /// Its shed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shed: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What was done, or would be, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<crate::Problem>,
}

/// A template: values that stand where a new session does not say anything. A TOML file of the server, or of a
/// repository's `.shed/templates/`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What sessions work in.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<SessionType>,
    /// Their title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Their tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The agent of their first worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The agent's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the agent is told first. `{{prompt}}` in it is what the new session says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// What the first worker runs, when it is no agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// What their branch begins at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Fetch first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fetch: bool,
    /// Run after the worktree is made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub setup: Vec<String>,
    /// Run before the worktree is removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub teardown: Vec<String>,
    /// Added to their workers' environment.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub env: std::collections::BTreeMap<String, String>,
    /// What they may use.
    #[serde(default, skip_serializing_if = "SessionLimits::is_none")]
    pub limits: SessionLimits,
    /// How prompts are to be answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_respond: Option<AutoRespond>,
    /// Whether their processes are confined.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confine: bool,
    /// Whether the first worker's command is started again when the shed is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart: bool,
}

/// A template, where it is from and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NamedTemplate {
    /// The file's name without `.toml`.
    pub name: String,
    /// `server` or `repository`. The repository's stands before the server's of the same name.
    pub source: String,
    /// What it says; absent when it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// Why it cannot be read, with the line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// `GET /api/sheds/{n}/templates`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TemplateList {
    /// By name.
    pub templates: Vec<NamedTemplate>,
}

/// `POST /api/templates/check`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CheckTemplate {
    /// What is in the file.
    pub text: String,
}

/// `POST /api/sheds/{n}/gc`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Gc {
    /// Only say what would be removed.
    #[serde(default)]
    pub dry_run: bool,
    /// Remove what was put aside longer ago than this. Days; 30 when absent.
    #[serde(default)]
    pub older_than_days: Option<u32>,
}

/// The answer: every byte that shed keeps for a shed's sessions, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GcReport {
    /// By kind, then name.
    pub items: Vec<GcItem>,
    /// Bytes that were freed, or would be.
    pub freed_bytes: u64,
}

/// Something kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GcItem {
    /// `worktree`, `log`, `checkpoints`, `trash`, `spool` or `index`.
    pub kind: String,
    /// What it is.
    pub name: String,
    /// How large it is.
    pub bytes: u64,
    /// Whether it goes.
    pub remove: bool,
    /// Why it stays or goes.
    pub why: String,
}

/// `GET /api/sheds/{n}/orphans`: what is there and belongs to no session that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OrphanList {
    /// By kind, then name.
    pub orphans: Vec<Orphan>,
}

/// `POST /api/sheds/{n}/orphans/clean`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CleanOrphans {
    /// Which, by the names they are listed with.
    pub names: Vec<String>,
}

/// Something that belongs to no session that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Orphan {
    /// `session` (a tmux session without a row), `worktree`, `process` or `record`.
    pub kind: String,
    /// A name, a path, or a process id.
    pub name: String,
    /// What is known of it.
    pub detail: String,
    /// A command that mends it.
    pub hint: String,
}
