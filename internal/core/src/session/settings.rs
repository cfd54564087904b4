//! The server's settings of sessions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use shed_agents::{Agent, Program, built_in};
use shed_model::admission::Concurrency;
use shed_model::conversation::Abilities;
use shed_model::session::plan::Rules;
use shed_model::worker::WorkerRow;

/// Settings of the sessions of every shed.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// How many may run at once.
    pub concurrency: Concurrency,
    /// The prefix of branches of worktrees.
    pub branch_prefix: String,
    /// Agents by name.
    pub agents: BTreeMap<String, Agent>,
    /// The directory of the server's templates; no templates when absent.
    pub templates: Option<PathBuf>,
    /// The directory of all workers' output.
    pub output_dir: PathBuf,
    /// The most compressed output of each worker in bytes.
    pub output_bytes: u64,
    /// The most output of all workers together in bytes on disk; no limit when absent.
    pub output_total_bytes: Option<u64>,
    /// Larger files are left out of checkpoints. Bytes.
    pub checkpoint_file_bytes: u64,
}

impl SessionSettings {
    /// The program of a worker's agent; `None` for a terminal.
    pub(crate) fn program_of(&self, worker: &WorkerRow) -> Option<Program> {
        let agent = self.agents.get(worker.spec.agent.as_ref()?)?;
        Some(agent.program.clone())
    }

    /// The part that planning needs.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            branch_prefix: self.branch_prefix.clone(),
            agents: self
                .agents
                .iter()
                .map(|(name, agent)| (name.clone(), abilities(agent)))
                .collect(),
        }
    }
}

/// What planning and records need to know of an agent.
pub(crate) fn abilities(agent: &Agent) -> Abilities {
    Abilities { takes_id: agent.takes_id(), resumes_by_id: agent.resumes_by_id() }
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
            output_total_bytes: None,
            checkpoint_file_bytes: 10 << 20,
        }
    }
}
