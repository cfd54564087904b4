//! `shed console`.

use clap_complete::ArgValueCandidates;
use shed_api::stream::ConsoleOpen;

use crate::candidates::sheds;
use crate::context::Context;
use crate::escape::EscapeOption;
use crate::failure::{Failure, Outcome};
use crate::names;
use crate::process::{first_frame, in_raw_terminal};
use crate::terminal;

/// Open a login shell in a shed, without tmux
///
/// The shell ends with the connection. Use `shed attach` for a shell that keeps running.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed console web
  shed console web --root")]
pub(crate) struct Args {
    /// Shed
    #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    name: String,
    /// Run as root; needs scope admin
    #[arg(long)]
    root: bool,
    #[command(flatten)]
    escape: EscapeOption,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    if !terminal::is_interactive() {
        // Without a terminal on its input, `sh` runs the commands that it reads there.
        return Err(
            Failure::usage("console needs a terminal").hint(format!("shed exec {} sh", args.name))
        );
    }
    let open = ConsoleOpen { tty: terminal::tty(), root: args.root, env: terminal::environment() };
    let mut stream = context.client()?.console(&args.name, &open).await?;
    first_frame(&mut stream).await?;
    in_raw_terminal(stream, args.escape.escape, context.out).await
}
