//! The port to the container engine: it creates, starts, stops and removes containers, and does nothing inside them.
//!
//! Nothing here is specific to one engine or to one kernel: a container is named by its shed, its id is an opaque text, and
//! no process, user, descriptor or directory of the server's host appears. How the server reaches the shed-init in a
//! container is the transport's business (`shed-guest`). Engines whose containers share the server's kernel have [`local`].

pub mod local;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::Stream;
use shed_api::ShedName;
use shed_api::shed::{DiskUse, Limits, Mount, Network, Stats};

/// How long processes may take to end when a shed is stopped. shed-init kills at ten seconds; the engine a little later.
pub const STOP_LIMIT: Duration = Duration::from_secs(12);

/// An engine's answer, when it comes.
pub type EngineFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, EngineError>> + Send + 'a>>;

/// Reports the progress of a long step: a line for people, and percent done where it is known.
pub type Report = dyn Fn(String, Option<u8>) + Send + Sync;

/// A container engine. Calls are idempotent where their doc says so; a call that changes something runs to its end even if
/// its future is dropped.
pub trait Engine: Send + Sync + 'static {
    /// Name and version, for people. An engine that is too old is an error.
    fn describe(&self) -> EngineFuture<'_, String>;

    /// Succeeds if the engine answers. Cheap; asked again and again.
    fn ping(&self) -> EngineFuture<'_, ()>;

    /// All containers labelled with this server's id.
    fn containers(&self) -> EngineFuture<'_, Vec<Found>>;

    /// The container of a shed, if there is one labelled with this server's id.
    fn find<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, Option<Found>>;

    /// Makes sure that an image is present, pulls it if necessary, and inspects it.
    fn image<'a>(&'a self, name: &'a str, report: &'a Report) -> EngineFuture<'a, ImageFacts>;

    /// Creates the container and its volumes. Uses existing ones with this server's label; refuses others of the same name.
    fn create<'a>(&'a self, plan: &'a ContainerPlan) -> EngineFuture<'a, Created>;

    /// Starts a container. Succeeds if it runs already.
    fn start<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, ()>;

    /// Asks the processes of a container to end, and kills them after `limit`. Succeeds if it does not run or is gone.
    fn stop<'a>(&'a self, shed: &'a ShedName, limit: Duration) -> EngineFuture<'a, ()>;

    /// Freezes all processes of a container.
    fn pause<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, ()>;

    /// Continues the processes of a frozen container.
    fn unpause<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, ()>;

    /// Removes a container. Succeeds if it is gone.
    fn remove_container<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, ()>;

    /// Removes the volumes of a shed that are labelled with this server's id. Succeeds if they are gone.
    fn remove_volumes<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, ()>;

    /// Changes the resource limits of a container.
    fn limit<'a>(&'a self, shed: &'a ShedName, limits: Limits) -> EngineFuture<'a, ()>;

    /// The last lines that process 1 of a container printed.
    fn logs<'a>(&'a self, shed: &'a ShedName, n_lines: u32) -> EngineFuture<'a, String>;

    /// Current resource use of a running container.
    fn stats<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, Stats>;

    /// Disk use of this server's containers and volumes, also of sheds that are gone.
    fn disk(&self) -> EngineFuture<'_, Vec<DiskUse>>;

    /// Changes of containers from now on. The stream ends when the engine goes away.
    fn changes(&self) -> EngineFuture<'_, Changes>;
}

/// See [`Engine::changes`].
pub type Changes = Pin<Box<dyn Stream<Item = Change> + Send>>;

/// A container was started, frozen, continued or removed, or it ended. [`Engine::find`] returns its new state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The shed whose container changed.
    pub shed: ShedName,
}

/// A container as the engine reports it.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The shed that the container's labels name.
    pub shed: ShedName,
    /// The engine's own id, for tools other than shed.
    pub id: String,
    /// Whether it runs.
    pub state: ContainerState,
    /// When the shed was created.
    pub created_at: DateTime<Utc>,
    /// URL of the repository that was cloned, without credentials.
    pub repo: Option<String>,
    /// The name of its image, as it was asked for.
    pub image: String,
    /// Resource limits.
    pub limits: Limits,
    /// What it can reach.
    pub network: Network,
    /// Directories of the host that are mounted at a user's request.
    pub mounts: Vec<Mount>,
    /// Environment variables set by users.
    pub env: BTreeMap<String, String>,
    /// Whether it was created for another data directory of the server. Such a container cannot be started: what it
    /// mounts is not there any more. It can be removed and created again; its volumes stay.
    pub stranded: bool,
}

/// The state of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// It has never run.
    Created,
    /// Its process 1 runs.
    Running,
    /// All its processes are frozen.
    Paused,
    /// Its process 1 has ended.
    Exited {
        /// Exit status of process 1, as the engine reports it.
        code: i64,
        /// Whether the kernel killed it because it reached its memory limit.
        out_of_memory: bool,
    },
}

/// A container to be created.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerPlan {
    /// The shed it is for; names the container and is its host name.
    pub shed: ShedName,
    /// When the shed was created.
    pub created_at: DateTime<Utc>,
    /// URL of the repository that will be cloned, without credentials.
    pub repo: Option<String>,
    /// The name of its image, as it was asked for.
    pub image: String,
    /// Resource limits.
    pub limits: Limits,
    /// What it can reach.
    pub network: Network,
    /// Directories of the host that are mounted at a user's request.
    pub mounts: Vec<Mount>,
    /// Environment variables set by users.
    pub env: BTreeMap<String, String>,
    /// The home directory of its user: where its home volume is mounted.
    pub home: String,
}

/// The result of a creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    /// Whether all volumes of the shed were created, so that nothing of an earlier shed is in them.
    pub made_volumes: bool,
}

/// What the server needs to know of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// The home directory of the user with uid 1000, or the one that this user will be given.
    pub home: String,
}

/// Why a call to the engine failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// There is no such container.
    #[error("{0}")]
    NoContainer(String),
    /// There is no such image, neither locally nor in its registry.
    #[error("no image {image:?}: {why}")]
    NoImage {
        /// The name as it was asked for.
        image: String,
        /// What the engine or the registry answered.
        why: String,
    },
    /// Something of that name exists and is not labelled with this server's id.
    #[error("{0}")]
    Conflict(String),
    /// The engine's disk is full.
    #[error("{0}")]
    DiskFull(String),
    /// The engine does not answer, or is too old.
    #[error("{0}")]
    Unreachable(String),
    /// The engine failed; its message.
    #[error("{0}")]
    Failed(String),
}
