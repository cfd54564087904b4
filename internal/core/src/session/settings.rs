//! What the server was told about sessions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::agents::{Agent, built_in};
use crate::scheduler::admission::Concurrency;

/// What holds for the sessions of every shed.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// How many may run at once.
    pub concurrency: Concurrency,
    /// What the branches of worktrees begin with.
    pub branch_prefix: String,
    /// Agents by name.
    pub agents: BTreeMap<String, Agent>,
    /// Where the server's templates are.
    pub templates: Option<PathBuf>,
    /// Under which each worker has the directory of its output.
    pub output_dir: PathBuf,
    /// The most compressed output that is kept of each worker. Bytes.
    pub output_bytes: u64,
    /// A file over this is left out of checkpoints. Bytes.
    pub checkpoint_file_bytes: u64,
}

impl SessionSettings {
    /// The first port of the first session.
    pub const FIRST_PORT: u16 = 20_000;
    /// How many ports a session has.
    pub const PORTS: u16 = 10;
    /// How many sessions of a shed have ports.
    pub const PORT_BLOCKS: u16 = 1_000;

    /// The first port of a block.
    pub fn port(block: u16) -> u16 {
        Self::FIRST_PORT + block * Self::PORTS
    }
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            concurrency: Concurrency::default(),
            branch_prefix: "shed/".to_owned(),
            agents: built_in(),
            templates: None,
            output_dir: PathBuf::from("output"),
            output_bytes: 100 << 20,
            checkpoint_file_bytes: 10 << 20,
        }
    }
}
