//! Sheds: resources and requests.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

words! {
    /// Status of a shed. `creating`: image, volumes, container and clone are being made. `starting`: the container starts,
    /// and shed-init has not connected yet. `running`: shed-init has connected. `paused`: all processes are frozen.
    /// `stopping`: processes are being ended. `stopped`: no process runs; the volumes are kept. `removing`: it is being
    /// deleted. `failed`: an operation failed; `reason` says why.
    ShedStatus "shed status" {
        /// Image, volumes, container and clone are being made.
        Creating = "creating",
        /// The container starts, and shed-init has not connected yet.
        Starting = "starting",
        /// shed-init has connected.
        Running = "running",
        /// All processes are frozen.
        Paused = "paused",
        /// The processes are being ended.
        Stopping = "stopping",
        /// No process runs; the volumes are kept.
        Stopped = "stopped",
        /// The shed is being deleted.
        Removing = "removing",
        /// An operation failed; `reason` says why.
        Failed = "failed",
    }
}

words! {
    /// Network access of a shed. `open`: it reaches the outside, but no other shed. `none`: it has loopback only.
    #[derive(Default)]
    Network "network" {
        /// Reaches the outside, but no other shed.
        #[default]
        Open = "open",
        /// Loopback only.
        None = "none",
    }
}

/// Resource limits of a shed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Limits {
    /// Number of CPUs, fractions allowed.
    pub cpus: f64,
    /// Memory in bytes, including swap.
    pub memory_bytes: u64,
    /// Number of processes and threads.
    pub pids: u32,
}

/// A host directory that is mounted in a shed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Absolute path on the host.
    pub source: String,
    /// Absolute path in the shed.
    pub target: String,
    /// Whether the mount is read-only in the shed.
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
            _ => return Err(format!("invalid mount {text:?}; expected SRC:DST or SRC:DST:ro")),
        };
        Ok(Self { source: source.to_owned(), target: target.to_owned(), read_only })
    }
}

/// The server's connection to a shed's shed-init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LinkState {
    /// Whether the connection is established.
    pub connected: bool,
    /// Version of shed-init in the container; absent while not connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether a restart of the shed would bring a newer shed-init.
    pub outdated: bool,
    /// Version of tmux in the container; absent when it has none, and while not connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tmux: Option<String>,
    /// Name of the user that sessions run as; absent while not connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// A shed: a container with persistent volumes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Shed {
    /// Name of the shed, unique on its server.
    pub name: String,
    /// Status of the shed.
    pub status: ShedStatus,
    /// Why the shed failed, or details of its status; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Kind of the failure, one of the problem codes; only if `status` is `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<crate::Code>,
    /// Time the shed was created.
    pub created_at: DateTime<Utc>,
    /// Time `status` last changed.
    pub status_since: DateTime<Utc>,
    /// Repository that was cloned into `/workspace`, without credentials; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// Branch or tag that was requested at creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Name of its container image.
    pub image: String,
    /// Resource limits of the shed.
    pub limits: Limits,
    /// Network access of the shed.
    pub network: Network,
    /// Host directories that are mounted in it.
    pub mounts: Vec<Mount>,
    /// Names of the environment variables given at creation; their values are not shown.
    pub env: Vec<String>,
    /// Whether `ssh -A` may forward an ssh-agent into it.
    pub allow_agent_forwarding: bool,
    /// Connection to its shed-init.
    pub link: LinkState,
    /// Number of sessions that are listed for the shed.
    pub session_count: u32,
    /// What could not be fetched when it was created, for people: submodules, files of Git LFS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The engine's id of the container, for other tools; absent while there is no container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
}

/// `GET /api/sheds`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ShedList {
    /// Sheds that the caller may access, sorted by name.
    pub sheds: Vec<Shed>,
}

/// The author of commits in a new clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GitIdentity {
    /// Value of `user.name`.
    pub name: String,
    /// Value of `user.email`.
    pub email: String,
}

/// A credential of the creator that a clone may use, over `GET /api/sheds/{n}/lend/{id}`. `ssh-agent`: signatures by the
/// creator's ssh-agent. `git-credential`: one user name and password from the creator's git credential helpers.
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
    /// Name of the shed: 1 to 63 characters of a-z, 0-9 and `-`, beginning with a letter and ending with a letter or digit.
    pub name: String,
    /// Repository to clone into `/workspace`: a URL, `git@host:path` or `owner/repo` (GitHub).
    #[serde(default)]
    pub repo: Option<String>,
    /// Branch or tag to check out; the repository's default branch when absent.
    #[serde(default)]
    pub branch: Option<String>,
    /// Container image; the server's default when absent.
    #[serde(default)]
    pub image: Option<String>,
    /// Limit of CPUs, fractions allowed; the server's default when absent.
    #[serde(default)]
    pub cpus: Option<f64>,
    /// Limit of memory, for example `4G`; the server's default when absent.
    #[serde(default)]
    pub memory: Option<String>,
    /// Limit of processes and threads; the server's default when absent.
    #[serde(default)]
    pub pids: Option<u32>,
    /// Environment variables of all processes in the shed.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Host directories to mount. Needs scope admin, and `[mounts] allow` in the server's configuration.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Network access; the server's default when absent.
    #[serde(default)]
    pub network: Option<Network>,
    /// Let `ssh -A` forward an ssh-agent into the shed.
    #[serde(default)]
    pub allow_agent_forwarding: bool,
    /// Create the shed without starting it; excludes `repo`.
    #[serde(default)]
    pub no_start: bool,
    /// Resume a failed creation of this name at the step that failed.
    #[serde(default)]
    pub retry: bool,
    /// Author of commits, set in the clone's git configuration.
    #[serde(default)]
    pub git_identity: Option<GitIdentity>,
    /// Credentials that the creator offers for the clone.
    #[serde(default)]
    pub lend: Vec<Lend>,
}

/// `PATCH /api/sheds/{n}`: settings that may change while the shed runs. Absent fields are left unchanged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PatchShed {
    /// New limit of CPUs, fractions allowed.
    #[serde(default)]
    pub cpus: Option<f64>,
    /// New limit of memory, for example `4G`.
    #[serde(default)]
    pub memory: Option<String>,
    /// New limit of processes and threads.
    #[serde(default)]
    pub pids: Option<u32>,
    /// Let `ssh -A` forward an ssh-agent into the shed; takes effect with the next connection.
    #[serde(default)]
    pub allow_agent_forwarding: Option<bool>,
}

/// `POST /api/sheds/{n}/rebuild`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RebuildShed {
    /// New image; when absent, the same image name is resolved again.
    #[serde(default)]
    pub image: Option<String>,
}

/// Progress of a creation: an item of `GET /api/sheds/{n}/progress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Progress {
    /// The current step.
    Step {
        /// The step for people: `cloning https://…`.
        text: String,
        /// Progress of the step in percent; absent when unknown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        percent: Option<u8>,
    },
    /// The clone requests a credential that its creator has offered.
    Lend {
        /// Id for `GET /api/sheds/{n}/lend/{id}`; it can be used once.
        id: String,
        /// The credential requested.
        what: Lend,
    },
    /// The creation has ended; the last item.
    Done {
        /// The shed's status at the end.
        status: ShedStatus,
    },
}

/// Current resource usage of a shed: `GET /api/sheds/{n}/stats` and `/api/stats`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stats {
    /// Name of the shed.
    pub name: String,
    /// CPUs in use, averaged over the last second.
    pub cpus: f64,
    /// Memory in use without page cache, in bytes.
    pub memory_bytes: u64,
    /// Limit of memory, in bytes.
    pub memory_limit_bytes: u64,
    /// Number of processes and threads.
    pub pids: u32,
    /// Bytes received since the container was started.
    pub network_in_bytes: u64,
    /// Bytes sent since the container was started.
    pub network_out_bytes: u64,
}

/// `GET /api/stats`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StatsList {
    /// Usage of all running sheds, sorted by name.
    pub stats: Vec<Stats>,
}

/// Disk usage of a container or a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiskUse {
    /// Name of the shed; for a kept volume, of the shed that was deleted.
    pub name: String,
    /// `workspace`, `home` or `worktrees` for a volume, or `container`.
    pub what: String,
    /// Size in bytes.
    pub n_bytes: u64,
    /// Whether it is a kept volume: one that no shed uses.
    pub kept: bool,
}

/// `GET /api/df`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiskUseList {
    /// Disk usage, sorted by shed and kind.
    pub disk: Vec<DiskUse>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_parsed_and_others_are_refused_with_the_rule() {
        let read: Mount = "/a:/b:ro".parse().unwrap();
        assert_eq!(
            (read.source.as_str(), read.target.as_str(), read.read_only),
            ("/a", "/b", true)
        );
        for bad in ["/a", "/a:/b:rw:x"] {
            let refused = bad.parse::<Mount>().unwrap_err();
            let expected = format!("invalid mount {bad:?}; expected SRC:DST or SRC:DST:ro");
            assert_eq!(refused, expected);
        }
    }
}
