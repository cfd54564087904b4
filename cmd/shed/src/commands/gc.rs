//! `shed gc`.

use clap_complete::ArgValueCandidates;
use shed_api::name::printable;
use shed_api::size::show_size;
use shed_api::work::{Gc, GcReport};

use super::completions::sheds;
use crate::context::Context;
use crate::failure::Outcome;
use crate::names;
use shed_report::table;

/// Remove what is kept for sessions that are gone
///
/// Output, trash and checkpoints of sessions that were deleted longer ago than 30 days. Never a worktree, nor anything of
/// a session that is there. With --dry-run everything that is kept is listed, with the reason.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed gc web --dry-run
  shed gc web --older-than 7")]
pub(crate) struct Args {
    /// Shed
    #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    name: String,
    /// Only say what would be removed, and why the rest stays
    #[arg(long)]
    dry_run: bool,
    /// Remove what was put aside longer ago than this
    #[arg(long, value_name = "DAYS")]
    older_than: Option<u32>,
}

/// Runs the command.
pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let request = Gc { dry_run: args.dry_run, older_than_days: args.older_than };
    let report = context.client()?.gc(&args.name, &request).await?;
    context.out.data(&report, || text(&report, args.dry_run))?;
    let done = if args.dry_run { "would be freed" } else { "were freed" };
    context.out.say(&format!("{} {done}", show_size(report.freed_bytes)));
    Ok(0)
}

fn text(report: &GcReport, all: bool) -> String {
    let shown = report.items.iter().filter(|item| all || item.remove);
    let rows = shown.map(|item| {
        let what = if item.remove { "goes" } else { "stays" };
        vec![
            what.to_owned(),
            item.kind.clone(),
            printable(&item.name),
            show_size(item.bytes),
            printable(&item.why),
        ]
    });
    table(&["", "KIND", "NAME", "SIZE", "WHY"], rows.collect())
}
