//! Batches, templates, garbage collection and orphans.

use serde::{Deserialize, Serialize};

use crate::session::{AutoRespond, SessionLimits, SessionType};

/// `POST /api/batch`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Ids of the sessions; excludes `filter`.
    #[serde(default)]
    pub ids: Vec<String>,
    /// Selects sessions by their properties; excludes `ids`.
    #[serde(default)]
    pub filter: Option<BatchFilter>,
    /// Operation to perform on each session.
    pub op: BatchOp,
    /// Only report what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// For `delete`: delete sessions with uncommitted or unpushed work, too.
    #[serde(default)]
    pub force: bool,
    /// For `restart`: agents continue their conversation instead of beginning a new one.
    #[serde(default, rename = "continue")]
    pub continues: bool,
    /// For `input`: text to type into the active pane of each session, followed by Enter.
    #[serde(default)]
    pub text: Option<String>,
    /// For `tag`: tags to add to each session.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// Selects the sessions that match all the fields given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BatchFilter {
    /// Name of the session's shed.
    #[serde(default)]
    pub shed: Option<String>,
    /// A tag of the session.
    #[serde(default)]
    pub tag: Option<String>,
    /// Status of the session.
    #[serde(default)]
    pub status: Option<crate::session::SessionStatus>,
    /// Name of an agent that one of its workers runs.
    #[serde(default)]
    pub agent: Option<String>,
}

words! {
    /// Operation of a batch on each session. `terminate`: end its processes. `restart`: start its workers again. `delete`:
    /// end its processes and delete it. `freeze`, `thaw`: freeze its processes, or let them continue. `checkpoint`: create a
    /// checkpoint. `input`: type a line. `tag`: add tags.
    BatchOp "batch operation" {
        /// End the processes; the session is kept.
        Terminate = "terminate",
        /// Start the workers again.
        Restart = "restart",
        /// End the processes and delete the session.
        Delete = "delete",
        /// Freeze the processes.
        Freeze = "freeze",
        /// Let frozen processes continue.
        Thaw = "thaw",
        /// Create a checkpoint.
        Checkpoint = "checkpoint",
        /// Type a line of text.
        Input = "input",
        /// Add tags.
        Tag = "tag",
    }
}

impl Default for BatchOp {
    /// The operation that changes least.
    fn default() -> Self {
        Self::Checkpoint
    }
}

/// The response to a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchResult {
    /// The result of each session, in the requested order.
    pub items: Vec<BatchItem>,
}

/// The result of a batch for one session: either `effect` or `problem`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchItem {
    /// Id of the session, as requested.
    pub id: String,
    /// Name of its shed; absent if the session was not found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shed: Option<String>,
    /// Name of the session; absent if it was not found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What was done, or would be done in a dry run, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// Why the operation failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<crate::Problem>,
}

/// A template: values for the fields that a request for a new session does not give. It is a TOML file of the server, or of
/// the directory `.shed/templates/` of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Description for people, one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Type of the session.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<SessionType>,
    /// Title for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Tags to filter by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Name of the agent that the first worker runs; excludes `command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Model of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Initial prompt of the agent. `{{prompt}}` is replaced by the prompt of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Command of the first worker, one string for each argument.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Start of the branch: a ref, a commit, or `pr/N`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Fetch from `origin` before the branch is created.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fetch: bool,
    /// Command to run after the worktree is created, one string for each argument.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub setup: Vec<String>,
    /// Command to run before the worktree is removed, one string for each argument.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub teardown: Vec<String>,
    /// Variables added to the environment of the session's workers.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub env: std::collections::BTreeMap<String, String>,
    /// Resource limits of the session.
    #[serde(default, skip_serializing_if = "SessionLimits::is_none")]
    pub limits: SessionLimits,
    /// How prompts of the session's agents are to be answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_respond: Option<AutoRespond>,
    /// Let processes write only to the session's directory, the caches in the home directory and `/tmp`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confine: bool,
    /// Start the first worker's command again when the shed is started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart: bool,
}

/// A template and its source: either `template` or `error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NamedTemplate {
    /// Name of the template: the file's name without `.toml`.
    pub name: String,
    /// `server` or `repository`. A template of the repository takes precedence over the server's of the same name.
    pub source: String,
    /// Directory of the repository that it is from, for sessions in that directory. Absent if it is of the server or of the
    /// repository in the workspace itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// The parsed template; absent when the file is invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// Why the file is invalid, with the line number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// `GET /api/sheds/{n}/templates`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TemplateList {
    /// Templates of the server and of the shed's repository, sorted by name.
    pub templates: Vec<NamedTemplate>,
}

/// `POST /api/templates/check`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CheckTemplate {
    /// Content of a template's TOML file.
    pub text: String,
}

/// `POST /api/sheds/{n}/gc`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Gc {
    /// Only report what would be removed.
    #[serde(default)]
    pub dry_run: bool,
    /// Age in days from which data of deleted sessions is removed; 30 when absent.
    #[serde(default)]
    pub older_than_days: Option<u32>,
}

/// The response to `POST /api/sheds/{n}/gc`: all data that the server keeps for a shed's sessions, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GcReport {
    /// The data, sorted by kind, then by name.
    pub items: Vec<GcItem>,
    /// Bytes that were freed, or would be freed in a dry run.
    pub freed_bytes: u64,
}

/// Data that is kept for a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GcItem {
    /// `worktree`, `log`, `checkpoints`, `trash`, `spool` or `index`.
    pub kind: String,
    /// Path, ref or session that identifies it.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Whether it was removed, or would be removed in a dry run.
    pub remove: bool,
    /// Why it is kept or removed, for people.
    pub why: String,
}

/// `GET /api/sheds/{n}/orphans`: objects in a shed that no managed session owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OrphanList {
    /// The orphans, sorted by kind, then by name.
    pub orphans: Vec<Orphan>,
}

/// `POST /api/sheds/{n}/orphans/clean`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CleanOrphans {
    /// Names of the orphans to remove, as listed.
    pub names: Vec<String>,
}

/// An object in a shed that no managed session owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Orphan {
    /// `session` (a tmux session without a database row), `worktree`, `process` or `record`.
    pub kind: String,
    /// Name, path or process id, depending on the kind.
    pub name: String,
    /// Details for people.
    pub detail: String,
    /// Command that fixes it, to paste.
    pub hint: String,
}
