//! Events: what happened, in order, and who caused it. `docs/API.md` has a paragraph for each kind.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::shed::ShedStatus;

/// One entry of the event log. Ids only grow, so a reader asks for the events after the last id it has seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// Position in the log. Later events have larger ids.
    pub id: i64,
    /// Time the event was written.
    pub at: DateTime<Utc>,
    /// Kind of the event: `shed.status`, `session.created` and so on.
    pub kind: EventKind,
    /// Who caused it: `local:USER`, `key:NAME`, `token:NAME`, `shed:NAME` (from inside the shed) or `server`.
    pub actor: String,
    /// Name of the shed; absent if the event is about the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shed: Option<String>,
    /// Name of the session; absent if the event is not about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The shed's status from this event on; absent if the event does not change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ShedStatus>,
    /// One line for people, such as a reason, a new name or an exit status. The kinds say what it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

words! {
    /// Kind of an event: what changed.
    EventKind "event kind" {
        /// The server began to serve.
        ServerStarted = "server.started",
        /// The server shut down in an orderly way.
        ServerStopped = "server.stopped",
        /// A shed's status changed; `status` is the new one, `note` the reason if there is one.
        ShedStatus = "shed.status",
        /// A container with this server's labels and no database row was imported as a shed.
        ShedAdopted = "shed.adopted",
        /// Limits or options of a shed were changed.
        ShedChanged = "shed.changed",
        /// A shed was deleted with its container and volumes.
        ShedRemoved = "shed.removed",
        /// The link to a shed's shed-init was established.
        LinkUp = "link.up",
        /// The link to a running shed's shed-init was lost; processes in the shed continue.
        LinkDown = "link.down",
        /// A session was created.
        SessionCreated = "session.created",
        /// A session's tmux session ended.
        SessionClosed = "session.closed",
        /// A session was renamed; `note` is the old name.
        SessionRenamed = "session.renamed",
        /// The status of a managed session changed; `note` is the new one, with the reason if there is one.
        SessionStatus = "session.status",
        /// A session could not be restored with its shed; `note` is the reason.
        SessionLost = "session.lost",
        /// Title, tags, limits or branch of a session were changed.
        SessionChanged = "session.changed",
        /// A managed session was deleted.
        SessionRemoved = "session.removed",
        /// A worker's command was started; `note` is the worker's name.
        WorkerStarted = "worker.started",
        /// A worker's command ended; `note` is the worker's name and the exit status.
        WorkerExited = "worker.exited",
        /// A worker was removed; `note` is its name.
        WorkerRemoved = "worker.removed",
        /// A checkpoint was created; `note` is its number.
        CheckpointMade = "checkpoint.made",
        /// A session's files were restored from a checkpoint; `note` is its number.
        CheckpointRestored = "checkpoint.restored",
        /// The container of a shed caused more events in a minute than are recorded; `note` is the number of the others.
        EventsSkipped = "events.skipped",
        /// A detached command was started; `note` is its id.
        ExecStarted = "exec.started",
        /// A detached command ended; `note` is its id and exit status.
        ExecEnded = "exec.ended",
        /// An SSH key was added.
        KeyAdded = "key.added",
        /// An SSH key was removed.
        KeyRemoved = "key.removed",
        /// A token was created.
        TokenAdded = "token.added",
        /// A token was revoked.
        TokenRemoved = "token.removed",
    }
}
