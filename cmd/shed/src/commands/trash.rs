//! `shed trash`.

use clap_complete::ArgValueCandidates;
use shed_api::git::{RestoreTrash, TrashEntry, TrashKind};
use shed_api::name::printable;

use crate::candidates::sheds;
use crate::context::Context;
use crate::failure::Outcome;
use crate::names;
use shed_report::table;

/// List and restore the work of deleted sessions
///
/// Branches and uncommitted files of deleted worktrees are kept for 30 days.
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
    /// List the trash of a shed
    #[command(alias = "ls")]
    List {
        /// Shed
        #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
        name: String,
    },
    /// Create a branch from an entry of the trash
    Restore {
        /// Shed
        #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
        name: String,
        /// Entry, by the ref that `list` prints
        #[arg(value_name = "REF")]
        trashed: String,
        /// Branch to create
        branch: String,
        /// Repository of the entry, if several have one with this ref
        #[arg(long, value_name = "DIR")]
        repository: Option<String>,
    },
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    match args.command {
        Command::List { name } => {
            let list = client.trash(&name).await?;
            context.out.data(&list, || rows(&list.trash))?;
        }
        Command::Restore { name, trashed, branch, repository } => {
            let request = RestoreTrash { name: trashed, branch, repository };
            client.restore_trash(&name, &request).await?;
            context.out.say(&format!("branch {:?} was created in shed {name}", request.branch));
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
            TrashKind::Commits => "commits",
        };
        let (name, repository) = (printable(&entry.name), printable(&entry.repository));
        vec![name, kind.to_owned(), repository, entry.day.clone(), printable(&entry.subject)]
    });
    table(&["REF", "KIND", "REPOSITORY", "DELETED", "SUBJECT"], rows.collect())
}
