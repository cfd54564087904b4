//! `shed orphans`.

use clap_complete::ArgValueCandidates;
use shed_api::name::printable;
use shed_api::work::{CleanOrphans, Orphan, OrphanList};

use crate::candidates::sheds;
use crate::context::Context;
use crate::failure::Outcome;
use crate::names;
use shed_report::table;

/// Find and remove tmux sessions, worktrees and processes that no session owns
///
/// Records that cannot be read are listed as well. Removes only what is named, and no worktree with uncommitted or unpushed
/// work.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed orphans list web
  shed orphans clean web /worktrees/old 4711")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List orphans, and how to fix each
    #[command(alias = "ls")]
    List {
        /// Shed
        #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
        name: String,
    },
    /// Stop or remove orphans
    Clean {
        /// Shed
        #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
        name: String,
        /// Orphans, by the names that `list` prints
        #[arg(required = true, value_name = "ORPHAN")]
        orphans: Vec<String>,
    },
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    let list: OrphanList = match args.command {
        Command::List { name } => client.orphans(&name).await?,
        Command::Clean { name, orphans } => {
            client.clean_orphans(&name, &CleanOrphans { names: orphans }).await?
        }
    };
    context.out.data(&list, || rows(&list.orphans))?;
    Ok(0)
}

fn rows(orphans: &[Orphan]) -> String {
    let rows = orphans.iter().map(|orphan| {
        let Orphan { kind, name, detail, hint } = orphan;
        vec![kind.clone(), printable(name), printable(detail), printable(hint)]
    });
    table(&["KIND", "NAME", "WHAT", "TRY"], rows.collect())
}
