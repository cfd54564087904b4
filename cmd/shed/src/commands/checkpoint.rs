//! `shed checkpoint`.

use shed_api::git::{Checkpoint, NewCheckpoint, RestoreCheckpoint, SkippedFile};
use shed_api::name::printable;
use shed_api::session::NewSession;
use shed_client::Client;

use super::diff::{self, Sides};
use super::target::Target;
use crate::clock::ago;
use crate::context::Context;
use crate::failure::Outcome;
use crate::names;
use shed_report::{pairs, table};

/// How many files that are not in a checkpoint are named.
const MAX_SHOWN: usize = 10;

/// Keep the files of a session as they are, and set them back
///
/// A checkpoint has what is in the worktree, also what git does not know yet, and nothing that is ignored. Making one
/// touches neither index nor branch. Restoring makes one first, so that it can be undone.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed checkpoint create web fix-login -m 'tests pass'
  shed checkpoint list web fix-login
  shed checkpoint diff web fix-login 3
  shed checkpoint restore web fix-login 3 src
  shed checkpoint fork web fix-login 3 --name other-way")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a checkpoint
    Create {
        #[command(flatten)]
        target: Target,
        /// What it is, for people
        #[arg(short, long, default_value = "")]
        message: String,
    },
    /// List the checkpoints of a session
    #[command(alias = "ls")]
    List(Target),
    /// Show everything about a checkpoint
    Show {
        #[command(flatten)]
        target: Target,
        /// Checkpoint, by number
        n: u64,
    },
    /// Show how files differ from a checkpoint
    Diff {
        #[command(flatten)]
        target: Target,
        /// Checkpoint, by number
        n: u64,
        #[command(flatten)]
        sides: Sides,
    },
    /// Set files back to a checkpoint; what is there becomes a checkpoint first
    Restore {
        #[command(flatten)]
        target: Target,
        /// Checkpoint, by number
        n: u64,
        /// Only these files and directories
        #[arg(value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Open a new session in a worktree of its own that begins as a checkpoint
    Fork(Box<Fork>),
}

#[derive(Debug, clap::Args)]
struct Fork {
    #[command(flatten)]
    target: Target,
    /// Checkpoint, by number
    n: u64,
    /// The new session's name
    #[arg(long = "name", id = "new_name", value_name = "SESSION", value_parser = names::new_session)]
    new: Option<String>,
    /// Any text for people; the old session's when absent
    #[arg(short, long)]
    title: Option<String>,
    /// Its branch; made from the name when absent
    #[arg(short, long)]
    branch: Option<String>,
    /// Agent; the old session's when neither it nor a command is given
    #[arg(short, long, conflicts_with = "command")]
    agent: Option<String>,
    /// What the agent is told first
    #[arg(short, long)]
    prompt: Option<String>,
    /// What it runs instead
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Runs the command.
pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    match args.command {
        Command::Create { target, message } => create(&client, &target, message, context).await,
        Command::List(Target { name, session }) => {
            let list = client.checkpoints(&name, &session).await?;
            context.out.data(&list, || rows(&list.checkpoints))?;
            Ok(0)
        }
        Command::Show { target: Target { name, session }, n } => {
            let checkpoint = client.checkpoint(&name, &session, n).await?;
            context.out.data(&checkpoint, || text(&checkpoint))?;
            Ok(0)
        }
        Command::Diff { target, n, sides } => {
            diff::show(&client, &target, &sides.compared(Some(n.to_string())), context).await
        }
        Command::Restore { target, n, paths } => restore(&client, &target, n, paths, context).await,
        Command::Fork(fork) => self::fork(&client, *fork, context).await,
    }
}

async fn create(client: &Client, target: &Target, message: String, context: &Context) -> Outcome {
    let Target { name, session } = target;
    let made = client.make_checkpoint(name, session, &NewCheckpoint { message }).await?;
    let n = made.checkpoint.n;
    if made.unchanged {
        context.out.say(&format!("nothing differs from checkpoint {n} of {name}/{session}"));
    } else {
        context.out.say(&format!("checkpoint {n} of {name}/{session} was made"));
    }
    say_skipped(&made.skipped, made.checkpoint.skipped, context);
    context.out.data(&made, || format!("{n}\n"))?;
    Ok(0)
}

async fn restore(
    client: &Client,
    target: &Target,
    n: u64,
    paths: Vec<String>,
    context: &Context,
) -> Outcome {
    let Target { name, session } = target;
    let request = RestoreCheckpoint { paths };
    let done = client.restore_checkpoint(name, session, n, &request).await?;
    let safety = done.safety.n;
    context.out.data(&done, || diff::files(&done.files))?;
    context
        .out
        .say(&format!("{} files of {name}/{session} are as in checkpoint {n}", done.n_files));
    context.out.say(&format!(
        "what was there is checkpoint {safety}: shed checkpoint restore {name} {session} {safety}"
    ));
    for file in &done.kept {
        let (path, why) = (printable(&file.path), printable(&file.reason));
        context.out.say(&format!("shed: {path} was left alone: {why}"));
    }
    Ok(0)
}

async fn fork(client: &Client, fork: Fork, context: &Context) -> Outcome {
    let Target { name, session } = fork.target;
    let request = NewSession {
        name: fork.new,
        title: fork.title,
        branch: fork.branch,
        agent: fork.agent,
        prompt: fork.prompt,
        command: fork.command,
        ..NewSession::default()
    };
    let made = client.fork_checkpoint(&name, &session, fork.n, &request).await?;
    context.out.say(&format!("session {name}/{} begins as checkpoint {}", made.name, fork.n));
    context.out.data(&made, || format!("{}\n", made.name))?;
    Ok(0)
}

fn rows(checkpoints: &[Checkpoint]) -> String {
    let rows = checkpoints.iter().map(|checkpoint| {
        vec![
            checkpoint.n.to_string(),
            checkpoint.kind.clone(),
            ago(checkpoint.time),
            checkpoint.branch.clone().unwrap_or_else(|| "-".to_owned()),
            printable(&checkpoint.message),
        ]
    });
    table(&["N", "KIND", "MADE", "BRANCH", "MESSAGE"], rows.collect())
}

fn text(checkpoint: &Checkpoint) -> String {
    let mut rows = vec![
        ("number", checkpoint.n.to_string()),
        ("kind", checkpoint.kind.clone()),
        ("made", format!("{} ({})", checkpoint.time.to_rfc3339(), ago(checkpoint.time))),
        ("message", printable(&checkpoint.message)),
        ("commit", checkpoint.commit.clone()),
    ];
    rows.extend(checkpoint.branch.clone().map(|branch| ("branch", branch)));
    rows.extend(checkpoint.head.clone().map(|head| ("on", head)));
    if checkpoint.skipped > 0 {
        rows.push(("left out", format!("{} files", checkpoint.skipped)));
    }
    pairs(&rows)
}

/// Names the first files that are not in a checkpoint.
fn say_skipped(skipped: &[SkippedFile], n: u64, context: &Context) {
    for file in skipped.iter().take(MAX_SHOWN) {
        let why = match file.reason {
            shed_api::git::SkipReason::TooLarge => "too large",
            shed_api::git::SkipReason::Unreadable => "may not be read",
            shed_api::git::SkipReason::Repository => "a repository of its own",
            shed_api::git::SkipReason::Refused => "git refuses its name",
        };
        context.out.say(&format!("shed: {} is not in it: {why}", printable(&file.path)));
    }
    let shown = skipped.len().min(MAX_SHOWN) as u64;
    if n > shown {
        context.out.say(&format!("shed: and {} more", n - shown));
    }
}
