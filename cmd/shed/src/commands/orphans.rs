//! `shed orphans`.

use clap_complete::ArgValueCandidates;
use shed_api::name::printable;
use shed_api::work::{CleanOrphans, Orphan, OrphanList};

use super::completions::sheds;
use crate::context::Context;
use crate::failure::Outcome;
use crate::names;
use shed_report::table;

/// List what is in a shed and belongs to no session that is remembered, and clean it
///
/// tmux sessions, worktrees, processes of sessions that ended, and records that cannot be read. Nothing is cleaned that is
/// not named, and no worktree that has work in it which is nowhere else.
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
    /// List them, with what mends each
    #[command(alias = "ls")]
    List {
        /// Shed
        #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
        name: String,
    },
    /// End or remove those that are named
    Clean {
        /// Shed
        #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
        name: String,
        /// Which, as they are listed
        #[arg(required = true, value_name = "ORPHAN")]
        orphans: Vec<String>,
    },
}

/// Runs the command.
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
