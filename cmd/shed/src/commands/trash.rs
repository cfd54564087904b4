//! `shed trash`.

use clap_complete::ArgValueCandidates;
use shed_api::git::{RestoreTrash, TrashEntry, TrashKind};
use shed_api::name::printable;

use super::completions::sheds;
use crate::context::Context;
use crate::failure::Outcome;
use crate::names;
use shed_report::table;

/// List what was deleted with sessions, and bring it back
///
/// The branches of deleted worktrees, and what was not committed in them, are kept for 30 days.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed trash list web
  shed trash restore web refs/shed/trash/20261121/fix-login fix-login-again")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List what is in the trash
    #[command(alias = "ls")]
    List {
        /// Shed
        #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
        name: String,
    },
    /// Make a branch of something in the trash
    Restore {
        /// Shed
        #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
        name: String,
        /// What, as it is listed
        #[arg(value_name = "REF")]
        trashed: String,
        /// The branch that is made of it
        branch: String,
    },
}

/// Runs the command.
pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    match args.command {
        Command::List { name } => {
            let list = client.trash(&name).await?;
            context.out.data(&list, || rows(&list.trash))?;
        }
        Command::Restore { name, trashed, branch } => {
            let request = RestoreTrash { name: trashed, branch };
            client.restore_trash(&name, &request).await?;
            context.out.say(&format!("branch {:?} was made in shed {name}", request.branch));
        }
    }
    Ok(0)
}

fn rows(trash: &[TrashEntry]) -> String {
    let rows = trash.iter().map(|entry| {
        let kind = match entry.kind {
            TrashKind::Branch => "branch",
            TrashKind::Head => "head",
            TrashKind::Checkpoint => "checkpoint",
        };
        vec![printable(&entry.name), kind.to_owned(), entry.day.clone(), printable(&entry.subject)]
    });
    table(&["REF", "KIND", "DELETED", "SUBJECT"], rows.collect())
}
