//! The port to the container engine: the life of a box and nothing of what happens in it.
//!
//! No word of any engine here, so that another one fits: a box is named by its shed, its id is an opaque text for tools
//! beside shed, and whoever calls home on its link is judged by the engine that started it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::Stream;
use shed_api::ShedName;
use shed_api::shed::{DiskUse, Limits, Mount, Network, Stats};

/// How long processes may take to end when a shed is stopped. shed-init kills at ten seconds; the engine a little later.
pub const STOP_LIMIT: Duration = Duration::from_secs(12);

/// What an engine answers with, later.
pub type EngineFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, EngineError>> + Send + 'a>>;

/// A line about how a long step goes, and how far in percent.
pub type Report = dyn Fn(String, Option<u8>) + Send + Sync;

/// A container engine. Calls are idempotent where their doc says so; none is cancelled half-way by dropping its future.
pub trait Engine: Send + Sync + 'static {
    /// Name and version in words. An engine that is too old is an error.
    fn describe(&self) -> EngineFuture<'_, String>;

    /// Every box that carries this server's id.
    fn boxes(&self) -> EngineFuture<'_, Vec<Found>>;

    /// One box of this server.
    fn find<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, Option<Found>>;

    /// Makes sure that an image is here, fetching it if need be, and looks inside.
    fn image<'a>(&'a self, name: &'a str, report: &'a Report) -> EngineFuture<'a, ImageFacts>;

    /// Makes volumes and box where they are missing; takes up what is this server's; refuses what is not.
    fn create<'a>(&'a self, plan: &'a BoxPlan) -> EngineFuture<'a, Created>;

    /// Starts a box; fine if it runs.
    fn start<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, ()>;

    /// Asks a box's processes to end and waits, at most so long, then kills them; fine if it does not run or is gone.
    fn stop<'a>(&'a self, shed: &'a ShedName, limit: Duration) -> EngineFuture<'a, ()>;

    /// Freezes a box.
    fn pause<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, ()>;

    /// Thaws a box.
    fn unpause<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, ()>;

    /// Removes a box; fine if it is gone.
    fn remove_box<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, ()>;

    /// Removes a shed's volumes that carry this server's id; fine if they are gone.
    fn remove_volumes<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, ()>;

    /// Changes what a box may use.
    fn limit<'a>(&'a self, shed: &'a ShedName, limits: Limits) -> EngineFuture<'a, ()>;

    /// The last lines a box's first process printed.
    fn logs<'a>(&'a self, shed: &'a ShedName, n_lines: u32) -> EngineFuture<'a, String>;

    /// What a running box uses now.
    fn stats<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, Stats>;

    /// What boxes and volumes of this server keep on disk, also of sheds that are gone.
    fn disk(&self) -> EngineFuture<'_, Vec<DiskUse>>;

    /// Whether whoever connected on a shed's link is its shed-init.
    fn is_peer<'a>(&'a self, shed: &'a ShedName, peer: Peer) -> EngineFuture<'a, bool>;

    /// What happens to boxes from now on. The stream ends when the engine does.
    fn changes(&self) -> EngineFuture<'_, Changes>;
}

/// See [`Engine::changes`].
pub type Changes = Pin<Box<dyn Stream<Item = Change> + Send>>;

/// A box was started, ended, frozen, thawed or removed. What it is now, a look tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whose.
    pub shed: ShedName,
}

/// Who connected, by the kernel's word, in the server's own numbering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Process id; 0 if it is outside the server's view.
    pub pid: u32,
    /// User id.
    pub uid: u32,
}

/// A box as the engine has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Whose.
    pub shed: ShedName,
    /// The engine's own id.
    pub id: String,
    /// What it does.
    pub state: BoxState,
    /// When the shed was created.
    pub created_at: DateTime<Utc>,
    /// What was cloned, without credentials.
    pub repo: Option<String>,
    /// Its image's name.
    pub image: String,
    /// What it may use.
    pub limits: Limits,
    /// Its network.
    pub network: Network,
    /// Directories of the host.
    pub mounts: Vec<Mount>,
    /// What people gave it.
    pub env: BTreeMap<String, String>,
    /// Where its shed-init comes from.
    pub program_dir: Option<PathBuf>,
}

/// What a box does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoxState {
    /// It never ran.
    Created,
    /// Its first process runs.
    Running,
    /// Frozen.
    Paused,
    /// Its first process ended.
    Exited {
        /// With this status.
        code: i64,
        /// Whether it was for want of memory.
        out_of_memory: bool,
    },
}

/// What is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxPlan {
    /// Whose.
    pub shed: ShedName,
    /// When the shed was created.
    pub created_at: DateTime<Utc>,
    /// What will be cloned, without credentials.
    pub repo: Option<String>,
    /// The image's name.
    pub image: String,
    /// What it may use.
    pub limits: Limits,
    /// Its network.
    pub network: Network,
    /// Directories of the host.
    pub mounts: Vec<Mount>,
    /// What people gave it.
    pub env: BTreeMap<String, String>,
    /// The home of its user, where its home volume goes.
    pub home: String,
    /// The directory with the link's socket.
    pub link_dir: PathBuf,
    /// The directory with shed-init.
    pub program_dir: PathBuf,
}

/// What a creation met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    /// Whether all of the shed's volumes are new.
    pub made_volumes: bool,
}

/// What matters of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// The home of its user with uid 1000, or the one that user will get.
    pub home: String,
}

/// Why an engine did not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// No such box.
    #[error("{0}")]
    NoBox(String),
    /// No such image, here or where it would come from.
    #[error("no image {image:?}: {why}")]
    NoImage {
        /// Its name.
        image: String,
        /// In the engine's words.
        why: String,
    },
    /// Something of that name exists and is not ours.
    #[error("{0}")]
    Conflict(String),
    /// The engine's disk is full.
    #[error("{0}")]
    DiskFull(String),
    /// The engine does not answer, or is too old.
    #[error("{0}")]
    Unreachable(String),
    /// The engine failed, in its words.
    #[error("{0}")]
    Failed(String),
}
