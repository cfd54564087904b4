//! `shed terminate`.

use super::each::each_session;
use super::target::Targets;
use crate::context::Context;
use crate::failure::Outcome;

/// Stop a session's processes; keep its files and output
///
/// A session with a worktree gets a checkpoint first. `shed sessions restart` starts its workers again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed terminate web fix-login
  shed terminate web fix-login tests")]
pub(crate) struct Args {
    #[command(flatten)]
    targets: Targets,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    let terminate = async |name: &str, session: &str| {
        client.session_operation(name, session, "terminate").await
    };
    each_session(args.targets, "was terminated", context, terminate).await
}
