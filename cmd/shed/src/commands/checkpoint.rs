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
use shed_report::{counted, pairs, table};

/// How many skipped files are listed by name.
const MAX_SHOWN: usize = 10;

/// Save and restore snapshots of a session's files
///
/// A checkpoint contains all files of the worktree, tracked or not, except ignored ones. Creating one changes neither the
/// index nor the branch. Restoring creates a checkpoint first, so that it can be undone.
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
    /// Create a checkpoint
    Create {
        #[command(flatten)]
        target: Target,
        /// Description
        #[arg(short, long, default_value = "")]
        message: String,
    },
    /// List the checkpoints of a session
    #[command(alias = "ls")]
    List(Target),
    /// Show all details of a checkpoint
    Show {
        #[command(flatten)]
        target: Target,
        /// Checkpoint number
        n: u64,
    },
    /// Show how files differ from a checkpoint
    Diff {
        #[command(flatten)]
        target: Target,
        /// Checkpoint number
        n: u64,
        #[command(flatten)]
        sides: Sides,
    },
    /// Restore files from a checkpoint, after saving the current ones in a new checkpoint
    Restore {
        #[command(flatten)]
        target: Target,
        /// Checkpoint number
        n: u64,
        /// Files and directories to restore (default: all)
        #[arg(value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Create a session with a new worktree that starts from a checkpoint
    Fork(Box<Fork>),
}

#[derive(Debug, clap::Args)]
struct Fork {
    #[command(flatten)]
    target: Target,
    /// Checkpoint number
    n: u64,
    /// Name of the new session
    #[arg(long = "name", id = "new_name", value_name = "SESSION", value_parser = names::new_session)]
    new: Option<String>,
    /// Title (default: the old session's)
    #[arg(short, long)]
    title: Option<String>,
    /// Branch of the new worktree (default: made from the session's name)
    #[arg(short, long)]
    branch: Option<String>,
    /// Agent (default: the old session's, unless a command is given)
    #[arg(short, long, conflicts_with = "command")]
    agent: Option<String>,
    /// Initial prompt
    #[arg(short, long, allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Command to run instead of an agent
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

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
            sides.paging.begin(context.out);
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
        context.out.say(&format!("{name}/{session} is unchanged since checkpoint {n}"));
    } else {
        context.out.say(&format!("checkpoint {n} of {name}/{session} was created"));
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
    context.out.say(&format!(
        "restored {} of {name}/{session} from checkpoint {n}",
        counted(done.n_files, "file")
    ));
    context.out.say(&format!(
        "to undo, restore checkpoint {safety}: shed checkpoint restore {name} {session} {safety}"
    ));
    for file in &done.kept {
        let (path, why) = (printable(&file.path), printable(&file.reason));
        context.out.say(&format!("shed: {path} was not restored: {why}"));
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
    context
        .out
        .say(&format!("session {name}/{} was created from checkpoint {}", made.name, fork.n));
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
    table(&["N", "KIND", "CREATED", "BRANCH", "MESSAGE"], rows.collect())
}

fn text(checkpoint: &Checkpoint) -> String {
    let mut rows = vec![
        ("number", checkpoint.n.to_string()),
        ("kind", checkpoint.kind.clone()),
        ("created", format!("{} ({})", checkpoint.time.to_rfc3339(), ago(checkpoint.time))),
        ("message", printable(&checkpoint.message)),
        ("commit", checkpoint.commit.clone()),
    ];
    rows.extend(checkpoint.branch.clone().map(|branch| ("branch", branch)));
    rows.extend(checkpoint.head.clone().map(|head| ("head", head)));
    if checkpoint.skipped > 0 {
        rows.push(("skipped", counted(checkpoint.skipped, "file")));
    }
    pairs(&rows)
}

/// Lists files that are not in a checkpoint, at most [`MAX_SHOWN`] by name; `n` is how many there are.
fn say_skipped(skipped: &[SkippedFile], n: u64, context: &Context) {
    for file in skipped.iter().take(MAX_SHOWN) {
        let why = match file.reason {
            shed_api::git::SkipReason::TooLarge => "too large",
            shed_api::git::SkipReason::Unreadable => "unreadable",
            shed_api::git::SkipReason::Repository => "nested repository",
            shed_api::git::SkipReason::Refused => "name refused by git",
        };
        context.out.say(&format!("shed: skipped {}: {why}", printable(&file.path)));
    }
    let shown = skipped.len().min(MAX_SHOWN) as u64;
    if n > shown {
        context.out.say(&format!("shed: skipped {} more", counted(n - shown, "file")));
    }
}
