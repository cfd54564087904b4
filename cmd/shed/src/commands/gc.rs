//! `shed gc`.

use clap_complete::ArgValueCandidates;
use shed_api::name::printable;
use shed_api::size::show_size;
use shed_api::work::{Gc, GcReport};

use crate::candidates::sheds;
use crate::context::Context;
use crate::failure::Outcome;
use crate::names;
use shed_report::table;

/// Remove data of deleted sessions
///
/// Removes output, trash and checkpoints of sessions that were deleted more than 30 days ago; never a worktree, and nothing
/// of an existing session. With --dry-run it lists all kept data with the reason.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed gc web --dry-run
  shed gc web --older-than 7")]
pub(crate) struct Args {
    /// Shed
    #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    name: String,
    /// Show what would be removed and why the rest stays; remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove data of sessions deleted more than this many days ago (default: 30)
    #[arg(long, value_name = "DAYS")]
    older_than: Option<u32>,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let request = Gc { dry_run: args.dry_run, older_than_days: args.older_than };
    let report = context.client()?.gc(&args.name, &request).await?;
    context.out.data(&report, || text(&report, args.dry_run))?;
    let done = if args.dry_run { "would be freed" } else { "freed" };
    context.out.say(&format!("{} {done}", show_size(report.freed_bytes)));
    Ok(0)
}

fn text(report: &GcReport, all: bool) -> String {
    let shown = report.items.iter().filter(|item| all || item.remove);
    let rows = shown.map(|item| {
        let action = if item.remove { "remove" } else { "keep" };
        vec![
            action.to_owned(),
            item.kind.clone(),
            printable(&item.name),
            show_size(item.bytes),
            printable(&item.why),
        ]
    });
    table(&["", "KIND", "NAME", "SIZE", "WHY"], rows.collect())
}
