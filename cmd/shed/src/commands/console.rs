//! `shed console`.

use clap_complete::ArgValueCandidates;
use shed_api::stream::ConsoleOpen;
use shed_client::{ClientError, Frame};

use super::completions::sheds;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;
use crate::process::{Seat, in_terminal};
use crate::terminal::{self, Raw};

/// Open a login shell in a shed, without tmux
///
/// It ends with the connection. What should go on belongs into a session: `shed attach`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed console web
  shed console web --root")]
pub(crate) struct Args {
    /// Shed
    #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    name: String,
    /// As root. Needs admin
    #[arg(long)]
    root: bool,
}

/// Runs the command.
pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    if !terminal::is_interactive() {
        return Err(Failure::usage("console needs a terminal").hint("shed exec NAME CMD"));
    }
    let open = ConsoleOpen { tty: terminal::tty(), root: args.root, env: terminal::environment() };
    let mut stream = context.client()?.console(&args.name, &open).await?;
    if let Frame::Problem(problem) = stream.reader.next().await? {
        return Err(ClientError::Problem(problem).into());
    }
    let raw = Raw::enter()?;
    let end = in_terminal(stream, &mut Seat::take()?, context.out).await;
    drop(raw);
    end?.outcome()
}
