//! A worker: a window of a session with a command of ours.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shed_api::stream::Exit;
use shed_api::worker::{WorkerKind, WorkerStatus};

/// What was asked for of a worker. New fields have defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerSpec {
    /// What it is.
    pub kind: WorkerKind,
    /// The agent's definition.
    #[serde(default)]
    pub agent: Option<String>,
    /// The agent's model.
    #[serde(default)]
    pub model: Option<String>,
    /// What the agent was told first.
    #[serde(default)]
    pub prompt: Option<String>,
    /// The agent's conversation.
    #[serde(default)]
    pub conversation: Option<String>,
    /// What it runs; empty for a login shell.
    #[serde(default)]
    pub command: Vec<String>,
    /// Where it begins; the session's directory when absent.
    #[serde(default)]
    pub directory: Option<String>,
    /// Added to its environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Whether its window stays when its command has ended.
    #[serde(default)]
    pub keep: bool,
    /// Whether its command is started again when the shed is.
    #[serde(default)]
    pub restart: bool,
    /// Whether it is the session's setup or teardown.
    #[serde(default)]
    pub hook: bool,
}

/// A worker's row.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerRow {
    /// Never changes.
    pub id: String,
    /// Its session's id.
    pub session: String,
    /// Unique in its session.
    pub name: String,
    /// Where it stands.
    pub status: WorkerStatus,
    /// Grows with each start.
    pub epoch: u64,
    /// How its command ended.
    pub exit: Option<Exit>,
    /// Why there is no exit.
    pub reason: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When its command was last started.
    pub started_at: Option<DateTime<Utc>>,
    /// When its command ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// What was asked for.
    pub spec: WorkerSpec,
}
