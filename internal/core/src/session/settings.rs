//! What the server was told about sessions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use shed_agents::{Agent, built_in};
use shed_model::admission::Concurrency;
use shed_model::session::plan::Rules;

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
    /// What of it decides about new sessions.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            branch_prefix: self.branch_prefix.clone(),
            agents: self.agents.keys().cloned().collect(),
        }
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
