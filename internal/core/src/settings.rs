//! The server's settings, checked and ready to use.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::SubsecRound as _;
use shed_api::shed::{Limits, Mount, Network};

use crate::session::settings::SessionSettings;
use shed_model::shed::mounts::MountPolicy;

/// How long shed-init may take to connect after a start.
pub(crate) const HELLO_LIMIT: Duration = Duration::from_secs(10);

/// How often shed-init is pinged. Each ping wakes the shed's processor, so not often.
pub const PULSE: Duration = Duration::from_secs(15);

/// The settings of this server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server's name, for people.
    pub name: String,
    /// The id in the labels of its containers and volumes.
    pub server_id: String,
    /// Defaults of new sheds.
    pub defaults: Defaults,
    /// Which directories may be mounted.
    pub mounts: MountPolicy,
    /// Patterns of images that sheds may have besides the default one, with `*` for any characters. Empty: all.
    pub images: Vec<String>,
    /// How often shed-init is pinged; [`PULSE`] except in tests.
    pub pulse: Duration,
    /// Settings of sessions.
    pub sessions: SessionSettings,
}

/// Defaults of new sheds.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// The name of the image: `shed-base`.
    pub image: String,
    /// Limits of CPUs, memory and processes; a request may set others.
    pub limits: Limits,
    /// What a shed can reach.
    pub network: Network,
    /// The environment; the request's variables override it.
    pub env: BTreeMap<String, String>,
    /// Directories of the host that every shed gets.
    pub mounts: Vec<Mount>,
}

impl Default for Defaults {
    /// Enough for one coding agent: two CPUs, 4 GiB, 4096 processes.
    fn default() -> Self {
        Self {
            image: "shed-base:latest".to_owned(),
            limits: Limits { cpus: 2.0, memory_bytes: 4 << 30, pids: 4096 },
            network: Network::Filtered,
            env: BTreeMap::new(),
            mounts: Vec::new(),
        }
    }
}

/// The clock for timestamps.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The system's clock.
    System,
    /// A fixed time, for tests.
    Fixed(chrono::DateTime<chrono::Utc>),
}

impl Clock {
    /// Now, truncated to milliseconds as in the database, so that a timestamp is the same before and after a restart.
    pub fn now(self) -> chrono::DateTime<chrono::Utc> {
        match self {
            Self::System => chrono::Utc::now().trunc_subsecs(3),
            Self::Fixed(at) => at,
        }
    }
}
