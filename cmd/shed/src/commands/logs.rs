//! `shed logs`.

use clap_complete::ArgValueCandidates;

use crate::candidates::sheds;
use crate::context::Context;
use crate::failure::Outcome;
use crate::names;
use crate::pager::Paging;

/// Show the log of shed-init in a shed
///
/// It says why a shed did not start, and when shed-init restarted. For the output of sessions use `shed output` or `shed
/// sessions capture`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed logs web
  shed logs web -n 20")]
pub(crate) struct Args {
    /// Shed
    #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    name: String,
    /// Show the last N lines (default: all)
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<u32>,
    #[command(flatten)]
    paging: Paging,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let logs = context.client()?.logs(&args.name, args.lines).await?;
    args.paging.begin(context.out);
    context.out.data(&logs, || logs.clone())?;
    Ok(0)
}
