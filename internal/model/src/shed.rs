//! A shed: what was asked for, where it stands, and what may happen to it.

pub mod life;
pub mod mounts;
pub mod repo;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shed_api::shed::{GitIdentity, Limits, Mount, Network};
use shed_api::{Code, ShedStatus};

/// What was asked for. New fields have defaults: rows of older versions are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShedSpec {
    /// The image's name.
    pub image: String,
    /// Without credentials.
    #[serde(default)]
    pub repo: Option<String>,
    /// The branch or tag asked for.
    #[serde(default)]
    pub branch: Option<String>,
    /// What it may use.
    pub limits: Limits,
    /// Its network.
    #[serde(default)]
    pub network: Network,
    /// Directories of the host, as resolved at creation.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Its environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Whether `ssh -A` reaches into it.
    #[serde(default)]
    pub allow_agent_forwarding: bool,
    /// Set in the clone.
    #[serde(default)]
    pub git_identity: Option<GitIdentity>,
    /// Whether the clone is done (or there is none to do).
    #[serde(default)]
    pub cloned: bool,
    /// Whether its creation made its volumes. A creation that is called off removes only those.
    #[serde(default)]
    pub made_volumes: bool,
    /// Whether a removal under way leaves the volumes.
    #[serde(default)]
    pub removal_keeps_volumes: bool,
}

/// A shed's row.
#[derive(Debug, Clone, PartialEq)]
pub struct ShedRow {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub status: ShedStatus,
    /// Why, when it failed.
    pub reason: Option<String>,
    /// The kind of failure.
    pub reason_code: Option<Code>,
    /// Whether people want it to run.
    pub wanted: bool,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When its status last changed.
    pub status_since: DateTime<Utc>,
    /// What was asked for.
    pub spec: ShedSpec,
}

/// A new status and what goes with it.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusChange {
    /// The new status.
    pub status: ShedStatus,
    /// Why, when it failed.
    pub reason: Option<(Code, String)>,
    /// A new answer to whether people want it to run.
    pub wanted: Option<bool>,
}
