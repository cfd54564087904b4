//! `shed diff`.

use shed_api::git::{Diff, DiffNumbers, FileChange, FileStatus};
use shed_api::name::printable;
use shed_client::{Client, Compared};

use super::target::Target;
use crate::context::Context;
use crate::failure::Outcome;
use shed_report::table;

/// Show how the files of a session differ from its base
///
/// Files that git does not know yet are part of it, ignored ones are not. The patch is as git prints it: pipe it into a
/// pager of your own.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed diff web fix-login
  shed diff web fix-login --stat
  shed diff web fix-login src/login.rs --from head
  shed diff web fix-login --from 3 --to 5     from one checkpoint to another
  shed diff web fix-login --numbers --watch")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    sides: Sides,
    /// Only how many files and lines, and commits ahead and behind
    #[arg(long, conflicts_with_all = ["from", "to", "path", "stat"])]
    numbers: bool,
    /// Show the numbers again whenever they change
    #[arg(long, requires = "numbers")]
    watch: bool,
    /// Before: base, head or a checkpoint's number
    #[arg(long, value_name = "base|head|N")]
    from: Option<String>,
}

// What is compared, but for the side before.
#[derive(Debug, clap::Args)]
pub(crate) struct Sides {
    /// Only this file or directory
    path: Option<String>,
    /// After: worktree, head or a checkpoint's number
    #[arg(long, value_name = "worktree|head|N")]
    to: Option<String>,
    /// Only files with their numbers of lines
    #[arg(long)]
    stat: bool,
}

impl Sides {
    pub(crate) fn compared(self, from: Option<String>) -> Compared {
        Compared { from, to: self.to, path: self.path, stat: self.stat }
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    if args.numbers {
        return numbers(&client, &args.target, args.watch, context).await;
    }
    show(&client, &args.target, &args.sides.compared(args.from), context).await
}

/// Prints a diff: the patch, a table, or the object.
pub(crate) async fn show(
    client: &Client,
    target: &Target,
    compared: &Compared,
    context: &Context,
) -> Outcome {
    let Target { name, session } = target;
    let cut = if compared.stat || context.out.is_json() {
        let diff = client.diff(name, session, compared).await?;
        context.out.data(&diff, || text(&diff))?;
        diff.truncated
    } else {
        let mut patch = client.patch_of(name, session, compared).await?;
        while let Some(piece) = patch.text.next().await? {
            context.out.raw(&piece)?;
        }
        patch.truncated
    };
    if cut {
        context.out.say("shed: the diff is longer than its limit, and was cut; name a PATH");
    }
    Ok(0)
}

async fn numbers(client: &Client, target: &Target, watch: bool, context: &Context) -> Outcome {
    let Target { name, session } = target;
    if !watch {
        let numbers = client.diff_numbers(name, session).await?;
        context.out.data(&numbers, || in_words(&numbers) + "\n")?;
        return Ok(0);
    }
    let mut news = client.watch_diff(name, session).await?;
    while let Some(numbers) = news.next().await? {
        let json = || serde_json::to_string(&numbers).unwrap_or_default();
        let line = if context.out.is_json() { json() } else { in_words(&numbers) };
        context.out.line(&line)?;
    }
    Ok(0)
}

fn text(diff: &Diff) -> String {
    let left = match diff.n_files.saturating_sub(diff.files.len() as u64) {
        0 => String::new(),
        n => format!("and {n} more\n"),
    };
    let Diff { n_files, insertions, deletions, .. } = diff;
    format!("{}{left}{n_files} files, +{insertions} -{deletions}\n", files(&diff.files))
}

/// Files with what happened to them.
pub(crate) fn files(files: &[FileChange]) -> String {
    let rows = files.iter().map(|file| {
        let status = match file.status {
            FileStatus::Added => "A",
            FileStatus::Deleted => "D",
            FileStatus::Modified => "M",
            FileStatus::Renamed => "R",
            FileStatus::Copied => "C",
            FileStatus::TypeChanged => "T",
        };
        let path = match &file.old_path {
            Some(old) => format!("{old} => {}", file.path),
            None => file.path.clone(),
        };
        let lines = if file.binary {
            "binary".to_owned()
        } else {
            format!("+{} -{}", file.insertions, file.deletions)
        };
        vec![status.to_owned(), lines, printable(&path)]
    });
    table(&["", "LINES", "FILE"], rows.collect())
}

fn in_words(numbers: &DiffNumbers) -> String {
    let DiffNumbers { files, insertions, deletions, ahead, behind, .. } = numbers;
    format!("{files} files, +{insertions} -{deletions}, {ahead} ahead, {behind} behind")
}
