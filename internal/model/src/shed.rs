//! A shed: what it was created with, its status, and what may happen to it.

pub mod life;
pub mod mounts;
pub mod repo;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shed_api::shed::{GitIdentity, Limits, Mount, Network};
use shed_api::{Code, ShedStatus};

/// What a shed was created with. New fields have defaults: rows of older versions are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShedSpec {
    /// The name of the image as it was asked for: `debian:13`.
    pub image: String,
    /// The URL of its repository, without credentials.
    #[serde(default)]
    pub repo: Option<String>,
    /// The branch or tag to clone; the default branch when absent.
    #[serde(default)]
    pub branch: Option<String>,
    /// Its limits on CPUs, memory and processes.
    pub limits: Limits,
    /// What it can reach.
    #[serde(default)]
    pub network: Network,
    /// Directories of the host that are mounted, as checked at creation.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Variables added to the image's environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Whether `ssh -A` forwards an agent into it.
    #[serde(default)]
    pub allow_agent_forwarding: bool,
    /// The name and email that are set in the clone.
    #[serde(default)]
    pub git_identity: Option<GitIdentity>,
    /// Whether its clone is complete; true if it has no repository.
    #[serde(default)]
    pub cloned: bool,
    /// What could not be fetched for its clone, in words.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Whether its creation made its volumes. A cancelled creation removes only those.
    #[serde(default)]
    pub made_volumes: bool,
    /// Whether the removal in progress keeps the volumes.
    #[serde(default)]
    pub removal_keeps_volumes: bool,
}

/// A shed as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct ShedRow {
    /// Unique on the server; also its host name.
    pub name: String,
    /// What people see; transitional (`creating`, `starting`, `stopping`, `removing`) while an operation runs.
    pub status: ShedStatus,
    /// Why it failed or stopped, in words.
    pub reason: Option<String>,
    /// The problem code that goes with `reason`; absent when there is no reason.
    pub reason_code: Option<Code>,
    /// Whether people want it to run.
    pub wanted: bool,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When its status last changed.
    pub status_since: DateTime<Utc>,
    /// What it was created with.
    pub spec: ShedSpec,
}

/// A change of a shed's status.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusChange {
    /// The status from now on.
    pub status: ShedStatus,
    /// Why it failed or stopped.
    pub reason: Option<(Code, String)>,
    /// Whether people want it to run from now on; unchanged when absent.
    pub wanted: Option<bool>,
}
