//! `shed logs`.

use clap_complete::ArgValueCandidates;

use super::completions::sheds;
use crate::context::Context;
use crate::failure::Outcome;
use crate::names;

/// Show what a shed's shed-init printed
///
/// A few lines: why a shed did not start, when its worker was started again. What sessions show: `shed sessions capture`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed logs web
  shed logs web -n 20")]
pub(crate) struct Args {
    /// Shed
    #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    name: String,
    /// The last so many lines
    #[arg(short = 'n', long)]
    lines: Option<u32>,
}

/// Runs the command.
pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let logs = context.client()?.logs(&args.name, args.lines).await?;
    context.out.data(&logs, || logs.clone())?;
    Ok(0)
}
