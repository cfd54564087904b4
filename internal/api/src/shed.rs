//! Sheds: a container, its volumes and what the server knows of them.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Where a shed stands. The transitions are in `shed-core`'s `life` module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ShedStatus {
    /// Image, volumes, container and clone are being made.
    Creating,
    /// The container is starting, shed-init has not said hello.
    Starting,
    /// shed-init said hello.
    Running,
    /// All processes are frozen.
    Paused,
    /// Its processes are being told to end.
    Stopping,
    /// No process; the volumes are there.
    Stopped,
    /// It is being deleted.
    Removing,
    /// Something went wrong; `reason` says what.
    Failed,
}

impl ShedStatus {
    /// Every status.
    pub const ALL: &[Self] = &[
        Self::Creating,
        Self::Starting,
        Self::Running,
        Self::Paused,
        Self::Stopping,
        Self::Stopped,
        Self::Removing,
        Self::Failed,
    ];

    /// The word in the API and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Removing => "removing",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for ShedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for ShedStatus {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .copied()
            .find(|status| status.as_str() == word)
            .ok_or_else(|| format!("{word:?} is no shed status"))
    }
}

/// Whether a shed has a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The outside, but no other shed.
    #[default]
    Open,
    /// Loopback only.
    None,
}

impl std::str::FromStr for Network {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "open" => Ok(Self::Open),
            "none" => Ok(Self::None),
            _ => Err(format!("{word:?} is no network: use open or none")),
        }
    }
}

impl Network {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::None => "none",
        }
    }
}

/// What a shed may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Limits {
    /// CPUs, fractions allowed.
    pub cpus: f64,
    /// Memory in bytes, swap included.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
}

/// A directory of the host in a shed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Absolute path on the host.
    pub source: String,
    /// Absolute path in the shed.
    pub target: String,
    /// Whether the shed may only read.
    #[serde(default)]
    pub read_only: bool,
}

impl std::str::FromStr for Mount {
    type Err = String;

    /// `SRC:DST` or `SRC:DST:ro`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, read_only) = match parts.as_slice() {
            [source, target] => (*source, *target, false),
            [source, target, "ro"] => (*source, *target, true),
            _ => return Err(format!("{text:?} is no mount: use SRC:DST or SRC:DST:ro")),
        };
        Ok(Self { source: source.to_owned(), target: target.to_owned(), read_only })
    }
}

/// The server's connection to a shed's shed-init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LinkState {
    /// Whether it is up.
    pub connected: bool,
    /// The version of shed-init in the box.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether a restart of the shed would bring a newer shed-init.
    pub outdated: bool,
    /// tmux's version in the box; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tmux: Option<String>,
    /// The user sessions run as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// A shed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Shed {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub status: ShedStatus,
    /// Why it failed, or what its status needs said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The kind of failure, when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<crate::Code>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When its status last changed.
    pub status_since: DateTime<Utc>,
    /// What was cloned into its workspace, without credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// The branch asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The image it was made from.
    pub image: String,
    /// What it may use.
    pub limits: Limits,
    /// Its network.
    pub network: Network,
    /// Directories of the host in it.
    pub mounts: Vec<Mount>,
    /// The names of variables given at creation; values are not shown.
    pub env: Vec<String>,
    /// Whether `ssh -A` reaches into it.
    pub allow_agent_forwarding: bool,
    /// The connection to its shed-init.
    pub link: LinkState,
    /// How many sessions it has.
    pub session_count: u32,
    /// The engine's own id of the container, for tools beside shed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
}

/// `GET /api/sheds`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ShedList {
    /// Sorted by name.
    pub sheds: Vec<Shed>,
}

/// Who commits in a fresh clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GitIdentity {
    /// `user.name`.
    pub name: String,
    /// `user.email`.
    pub email: String,
}

/// What the creator lends for the clone, over `GET /api/sheds/{n}/lend/{id}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Lend {
    /// Signatures by the creator's ssh-agent.
    SshAgent,
    /// One user name and password from the creator's git credential helpers.
    GitCredential,
}

/// `POST /api/sheds`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateShed {
    /// The name.
    pub name: String,
    /// A repository to clone into `/workspace`: a URL, `git@host:path` or `owner/repo` (GitHub).
    #[serde(default)]
    pub repo: Option<String>,
    /// The branch or tag to check out.
    #[serde(default)]
    pub branch: Option<String>,
    /// The image; the server's default when absent.
    #[serde(default)]
    pub image: Option<String>,
    /// CPUs, fractions allowed.
    #[serde(default)]
    pub cpus: Option<f64>,
    /// Memory, for example `4G`.
    #[serde(default)]
    pub memory: Option<String>,
    /// Processes and threads.
    #[serde(default)]
    pub pids: Option<u32>,
    /// The environment of everything in it.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Directories of the host. Needs admin and the server's `[mounts] allow`.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Its network; the server's default when absent.
    #[serde(default)]
    pub network: Option<Network>,
    /// Whether `ssh -A` reaches into it.
    #[serde(default)]
    pub allow_agent_forwarding: bool,
    /// Create it without starting it. Excludes `repo`.
    #[serde(default)]
    pub no_start: bool,
    /// Take up a failed shed of this name where it failed.
    #[serde(default)]
    pub retry: bool,
    /// Set in the clone.
    #[serde(default)]
    pub git_identity: Option<GitIdentity>,
    /// What the creator is ready to lend for the clone.
    #[serde(default)]
    pub lend: Vec<Lend>,
}

/// `PATCH /api/sheds/{n}`: what may change while it runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PatchShed {
    /// CPUs, fractions allowed.
    #[serde(default)]
    pub cpus: Option<f64>,
    /// Memory, for example `4G`.
    #[serde(default)]
    pub memory: Option<String>,
    /// Processes and threads.
    #[serde(default)]
    pub pids: Option<u32>,
    /// Whether `ssh -A` reaches into it, from the next connection on.
    #[serde(default)]
    pub allow_agent_forwarding: Option<bool>,
}

/// `POST /api/sheds/{n}/rebuild`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RebuildShed {
    /// The new image; the same name, looked up again, when absent.
    #[serde(default)]
    pub image: Option<String>,
}

/// One step of a creation, on `GET /api/sheds/{n}/progress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Progress {
    /// What is being done now.
    Step {
        /// In words: `cloning https://…`.
        text: String,
        /// How far, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        percent: Option<u8>,
    },
    /// The clone asks for something its creator offered to lend.
    Lend {
        /// For `GET /api/sheds/{n}/lend/{id}`; once.
        id: String,
        /// What is asked for.
        what: Lend,
    },
    /// It is over; the shed's status says how.
    Done {
        /// The status it ended in.
        status: ShedStatus,
    },
}

/// `GET /api/sheds/{n}/stats` and `/api/stats`: what a shed uses now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stats {
    /// The shed.
    pub name: String,
    /// CPUs in use over the last second.
    pub cpus: f64,
    /// Memory in use, without page cache, in bytes.
    pub memory_bytes: u64,
    /// The limit, in bytes.
    pub memory_limit_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Received since the start, in bytes.
    pub network_in_bytes: u64,
    /// Sent since the start, in bytes.
    pub network_out_bytes: u64,
}

/// `GET /api/stats`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StatsList {
    /// Running sheds, sorted by name.
    pub stats: Vec<Stats>,
}

/// What a shed keeps on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiskUse {
    /// The shed; for a kept volume, the one it belonged to.
    pub name: String,
    /// What it is: `workspace`, `home`, `worktrees` or `container`.
    pub what: String,
    /// In bytes.
    pub n_bytes: u64,
    /// Whether no shed uses it now.
    pub kept: bool,
}

/// `GET /api/df`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiskUseList {
    /// Sorted by shed and kind.
    pub disk: Vec<DiskUse>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read() {
        let read: Mount = "/a:/b:ro".parse().unwrap();
        assert_eq!(
            (read.source.as_str(), read.target.as_str(), read.read_only),
            ("/a", "/b", true)
        );
        assert!("/a".parse::<Mount>().is_err() && "/a:/b:rw:x".parse::<Mount>().is_err());
    }
}
