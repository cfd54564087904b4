//! `shed diff`.

use shed_api::git::{Diff, DiffNumbers, FileChange, FileStatus};
use shed_client::{Client, Compared};

use super::target::Target;
use crate::context::Context;
use crate::failure::Outcome;
use crate::pager::Paging;
use shed_report::{counted, table};

/// Show the changes to a session's files since its base
///
/// Includes untracked files, but not ignored ones. The patch is in git's format. On a terminal it has colours, control characters
/// of the files are shown by name, and it is shown in a pager.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed diff web fix-login
  shed diff web fix-login --stat
  shed diff web fix-login src/login.rs --from head
  shed diff web fix-login --from 3 --to 5     between two checkpoints
  shed diff web fix-login --numbers --watch")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    sides: Sides,
    /// Show only the number of files and lines, and of commits ahead and behind
    #[arg(long, conflicts_with_all = ["from", "to", "path", "stat"])]
    numbers: bool,
    /// Show the numbers again at each change
    #[arg(long, requires = "numbers")]
    watch: bool,
    /// Old side: base, head or a checkpoint number (default: base)
    #[arg(long, value_name = "base|head|N")]
    from: Option<String>,
}

// What to compare, except the old side. No doc comment: clap would print it as the command's help.
#[derive(Debug, clap::Args)]
pub(crate) struct Sides {
    /// File or directory to compare (default: all)
    path: Option<String>,
    /// New side: worktree, head or a checkpoint number (default: worktree)
    #[arg(long, value_name = "worktree|head|N")]
    to: Option<String>,
    /// Show only files with their numbers of lines
    #[arg(long)]
    stat: bool,
    #[command(flatten)]
    pub(crate) paging: Paging,
}

impl Sides {
    /// The comparison with `from` as the old side.
    pub(crate) fn compared(self, from: Option<String>) -> Compared {
        Compared { from, to: self.to, path: self.path, stat: self.stat }
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    if args.numbers {
        return numbers(&client, &args.target, args.watch, context).await;
    }
    args.sides.paging.begin(context.out);
    show(&client, &args.target, &args.sides.compared(args.from), context).await
}

/// Prints a diff: a patch, a table with `--stat`, or JSON.
pub(crate) async fn show(
    client: &Client,
    target: &Target,
    compared: &Compared,
    context: &Context,
) -> Outcome {
    let Target { name, session } = target;
    let truncated = if compared.stat || context.out.is_json() {
        let diff = client.diff(name, session, compared).await?;
        context.out.data(&diff, || text(&diff))?;
        diff.truncated
    } else {
        let mut patch = client.patch_of(name, session, compared).await?;
        let mut on_terminal = context.out.patch();
        while let Some(bytes) = patch.text.next().await? {
            match &mut on_terminal {
                Some(text) => context.out.raw(text.push(&bytes).as_bytes())?,
                None => context.out.raw(&bytes)?,
            }
        }
        if let Some(text) = on_terminal {
            context.out.raw(text.end().as_bytes())?;
        }
        patch.truncated
    };
    if truncated {
        context
            .out
            .say("shed: the diff exceeds its size limit and was truncated; narrow it with PATH");
    }
    Ok(0)
}

async fn numbers(client: &Client, target: &Target, watch: bool, context: &Context) -> Outcome {
    let Target { name, session } = target;
    if !watch {
        let numbers = client.diff_numbers(name, session).await?;
        context.out.data(&numbers, || summary(&numbers) + "\n")?;
        return Ok(0);
    }
    let mut updates = client.watch_diff(name, session).await?;
    while let Some(numbers) = updates.next().await? {
        let json = || serde_json::to_string(&numbers).unwrap_or_default();
        let line = if context.out.is_json() { json() } else { summary(&numbers) };
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
    format!(
        "{}{left}{}, +{insertions} -{deletions}\n",
        files(&diff.files),
        counted(*n_files, "file")
    )
}

/// A table of files: git's status letter, changed lines, path.
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
        vec![status.to_owned(), lines, path]
    });
    table(&["", "LINES", "FILE"], rows.collect())
}

fn summary(numbers: &DiffNumbers) -> String {
    let DiffNumbers { files, insertions, deletions, ahead, behind, .. } = numbers;
    format!(
        "{}, +{insertions} -{deletions}, {ahead} ahead, {behind} behind",
        counted(*files, "file")
    )
}
