//! What the server was told at its start, checked and ready to use.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::SubsecRound as _;
use shed_api::shed::{Limits, Mount, Network};

use crate::session::settings::SessionSettings;
use crate::shed::mounts::MountPolicy;

/// How long a shed's shed-init may take to say hello.
pub(crate) const HELLO_LIMIT: Duration = Duration::from_secs(10);

/// How often shed-init is asked for a sign of life. It wakes a shed's processor, so not often.
pub const PULSE: Duration = Duration::from_secs(15);

/// Everything the rules need to know of this server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name, for people.
    pub name: String,
    /// What its boxes and volumes are labelled with.
    pub server_id: String,
    /// Under which each shed has its link directory; 0700.
    pub links_dir: PathBuf,
    /// The directory with shed-init, for new boxes.
    pub program_dir: PathBuf,
    /// What a shed gets when nothing else is said.
    pub defaults: Defaults,
    /// Which directories may be mounted.
    pub mounts: MountPolicy,
    /// How often a running shed's shed-init is asked for a sign of life; usually [`PULSE`].
    pub pulse: Duration,
    /// What holds for sessions.
    pub sessions: SessionSettings,
}

/// What a shed gets when nothing else is said.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// Its image.
    pub image: String,
    /// What it may use.
    pub limits: Limits,
    /// Its network.
    pub network: Network,
    /// Its environment, before what its creator says.
    pub env: BTreeMap<String, String>,
    /// Directories every shed gets.
    pub mounts: Vec<Mount>,
}

impl Default for Defaults {
    /// Sane for one coding agent: two CPUs, 4 GiB, 4096 processes.
    fn default() -> Self {
        Self {
            image: "shed-base:latest".to_owned(),
            limits: Limits { cpus: 2.0, memory_bytes: 4 << 30, pids: 4096 },
            network: Network::Open,
            env: BTreeMap::new(),
            mounts: Vec::new(),
        }
    }
}

/// The time, for stamps.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The machine's.
    System,
    /// Always the same, for tests.
    Fixed(chrono::DateTime<chrono::Utc>),
}

impl Clock {
    /// Now, to the millisecond as the database keeps it, so that a stamp reads the same before and after a restart.
    pub fn now(self) -> chrono::DateTime<chrono::Utc> {
        match self {
            Self::System => chrono::Utc::now().trunc_subsecs(3),
            Self::Fixed(at) => at,
        }
    }
}
