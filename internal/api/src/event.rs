//! Events: what happened, in order, with who did it. `docs/API.md` has a paragraph for each kind.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::shed::ShedStatus;

/// One row of the log. Ids only grow; a reader asks for what comes after the last id it saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// Position in the log.
    pub id: i64,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// What happened.
    pub kind: EventKind,
    /// Who did it: `local:USER`, `key:NAME`, `token:NAME`, `shed:NAME` (by hand inside) or `server`.
    pub actor: String,
    /// The shed it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shed: Option<String>,
    /// The session it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The shed's status from this event on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ShedStatus>,
    /// One line for people: a reason, a new name, an exit status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

macro_rules! event_kinds {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)*) => {
        /// What happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum EventKind {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)*
        }

        impl EventKind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word in the log and in the API.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

event_kinds! {
    /// The server began to serve.
    ServerStarted = "server.started",
    /// The server ended in an orderly way.
    ServerStopped = "server.stopped",
    /// A shed changed its status; `status` has the new one, `note` the reason where there is one.
    ShedStatus = "shed.status",
    /// A container with our labels and no row was taken up.
    ShedAdopted = "shed.adopted",
    /// Limits or options of a shed were changed.
    ShedChanged = "shed.changed",
    /// A shed and what belonged to it is gone.
    ShedRemoved = "shed.removed",
    /// The link to a shed's shed-init came up.
    LinkUp = "link.up",
    /// The link to a running shed's shed-init was lost; its processes go on.
    LinkDown = "link.down",
    /// A session appeared.
    SessionCreated = "session.created",
    /// A session is gone.
    SessionClosed = "session.closed",
    /// A session has a new name; `note` has the old one.
    SessionRenamed = "session.renamed",
    /// A session that shed made has a new status; `note` has it, and the reason where there is one.
    SessionStatus = "session.status",
    /// A session did not come back with its shed; `note` says why.
    SessionLost = "session.lost",
    /// Title, tags, limits or branch of a session were changed.
    SessionChanged = "session.changed",
    /// A session and what was remembered of it was deleted.
    SessionRemoved = "session.removed",
    /// A worker's command was started; `note` has the worker's name.
    WorkerStarted = "worker.started",
    /// A worker's command ended; `note` has the worker's name and how.
    WorkerExited = "worker.exited",
    /// A worker was removed; `note` has its name.
    WorkerRemoved = "worker.removed",
    /// A checkpoint was made; `note` has its number.
    CheckpointMade = "checkpoint.made",
    /// A session's files were set back to a checkpoint; `note` has its number.
    CheckpointRestored = "checkpoint.restored",
    /// A detached command started; `note` has its id.
    ExecStarted = "exec.started",
    /// A detached command ended; `note` has its id and status.
    ExecEnded = "exec.ended",
    /// An SSH key was added.
    KeyAdded = "key.added",
    /// An SSH key was removed.
    KeyRemoved = "key.removed",
    /// A token was made.
    TokenAdded = "token.added",
    /// A token was revoked.
    TokenRemoved = "token.removed",
}

impl std::str::FromStr for EventKind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .copied()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| format!("{word:?} is no event kind"))
    }
}
