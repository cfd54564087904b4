//! `shed terminate`.

use super::each;
use super::target::Targets;
use crate::context::Context;
use crate::failure::Outcome;

/// End the processes of sessions; what they made stays
///
/// A session that has a worktree gets a checkpoint first. `shed sessions restart` starts it again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed terminate web fix-login
  shed terminate web fix-login tests")]
pub(crate) struct Args {
    #[command(flatten)]
    targets: Targets,
}

/// Runs the command.
pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    let Targets { name, sessions } = args.targets;
    let mut done = Vec::new();
    let terminate = async |session: &str| {
        done.push(client.session_wish(&name, session, "terminate").await?);
        context.out.say(&format!("session {name}/{session} was terminated"));
        Ok(())
    };
    let status = each(&sessions, context, terminate).await;
    context.out.data(&done, String::new)?;
    Ok(status)
}
