//! Arguments that name sessions. The structs have no doc comments: clap would print them as the commands' help.

use clap_complete::ArgValueCandidates;

use crate::candidates::{sessions, sheds};
use crate::names;

// One session.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// Shed
    #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    pub(crate) name: String,
    /// Session, by name, id or tmux id ($3)
    #[arg(value_parser = names::session, add = ArgValueCandidates::new(sessions))]
    pub(crate) session: String,
}

// Several sessions of one shed.
#[derive(Debug, clap::Args)]
pub(crate) struct Targets {
    /// Shed
    #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    pub(crate) name: String,
    /// Sessions, by name, id or tmux id ($3)
    #[arg(required = true, value_name = "SESSION", value_parser = names::session, add = ArgValueCandidates::new(sessions))]
    pub(crate) sessions: Vec<String>,
}
