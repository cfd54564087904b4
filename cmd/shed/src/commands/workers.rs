//! `shed workers`.

use clap_complete::ArgValueCandidates;
use shed_api::name::printable;
use shed_api::stream::Exit;
use shed_api::worker::{NewWorker, Restart, Worker};

use super::each::each;
use super::run::read_prompt;
use super::target::Target;
use crate::candidates::workers;
use crate::clock::ago;
use crate::context::Context;
use crate::failure::Outcome;
use crate::names;
use crate::variables;
use shed_report::table;

/// Length at which the table cuts a command, in characters.
const MAX_COMMAND: usize = 60;

/// List, add, restart and remove the workers of a session
///
/// A worker is a window of a session that runs an agent, a command or a shell. Its output is kept: `shed output`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed workers list web fix-login
  shed workers add web fix-login -- npm run dev
  shed workers add web fix-login --agent claude -p 'review the last commit'
  shed workers restart web fix-login claude --continue
  shed workers remove web fix-login npm")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the workers of a session
    #[command(alias = "ls")]
    List(Target),
    /// Add a worker: a shell, a command or an agent
    Add(Box<Add>),
    /// Restart workers; running ones are stopped first
    Restart {
        #[command(flatten)]
        target: Target,
        /// Workers, by name or id
        #[arg(required = true, value_name = "WORKER", value_parser = names::worker, add = ArgValueCandidates::new(workers))]
        workers: Vec<String>,
        /// Agents continue their conversation
        #[arg(long = "continue")]
        continues: bool,
    },
    /// Stop workers and close their windows
    #[command(alias = "rm")]
    Remove {
        #[command(flatten)]
        target: Target,
        /// Workers, by name or id
        #[arg(required = true, value_name = "WORKER", value_parser = names::worker, add = ArgValueCandidates::new(workers))]
        workers: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Add {
    /// Name (default: made from the agent or the command)
    #[arg(short = 'n', long = "name", id = "worker_name", value_name = "WORKER", value_parser = names::worker)]
    worker: Option<String>,
    /// Agent to run
    #[arg(short, long, conflicts_with = "command")]
    agent: Option<String>,
    /// Model for the agent
    #[arg(short, long, requires = "agent")]
    model: Option<String>,
    /// Initial prompt
    #[arg(short, long, requires = "agent", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// File with the initial prompt; - reads standard input
    #[arg(short = 'F', long, value_name = "FILE", requires = "agent", conflicts_with = "prompt")]
    prompt_file: Option<std::path::PathBuf>,
    /// Working directory (default: the session's)
    #[arg(short = 'w', long, visible_alias = "dir", value_name = "DIR")]
    workdir: Option<String>,
    /// Environment variable (repeatable); K alone takes the local value
    #[arg(short, long, value_name = "K[=V]")]
    env: Vec<String>,
    /// Close the window when the command exits
    #[arg(long)]
    close: bool,
    /// Start the command again when the shed restarts
    #[arg(long)]
    restart: bool,
    #[command(flatten)]
    target: Target,
    /// Command to run (default: a login shell)
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    match args.command {
        Command::List(Target { name, session }) => {
            let list = client.workers(&name, &session).await?;
            context.out.data(&list, || show(&list.workers))?;
            Ok(0)
        }
        Command::Add(add) => self::add(*add, context).await,
        Command::Restart { target: Target { name, session }, workers, continues } => {
            let mut done = Vec::new();
            let restart = async |worker: &str| {
                let restart = Restart { continues };
                done.push(client.restart_worker(&name, &session, worker, &restart).await?);
                context.out.say(&format!("worker {name}/{session}/{worker} was restarted"));
                Ok(())
            };
            let status = each(&workers, context, restart).await;
            context.out.data(&done, String::new)?;
            Ok(status)
        }
        Command::Remove { target: Target { name, session }, workers } => {
            let remove = async |worker: &str| {
                client.remove_worker(&name, &session, worker).await?;
                context.out.say(&format!("worker {name}/{session}/{worker} was removed"));
                Ok(())
            };
            Ok(each(&workers, context, remove).await)
        }
    }
}

async fn add(add: Add, context: &Context) -> Outcome {
    let client = context.client()?;
    let Target { name, session } = add.target;
    let request = NewWorker {
        name: add.worker,
        agent: add.agent,
        model: add.model,
        prompt: read_prompt(add.prompt, add.prompt_file.as_deref())?,
        command: add.command,
        directory: add.workdir,
        env: variables::from_options(&add.env)?,
        keep: Some(!add.close),
        restart: add.restart,
    };
    let made = client.add_worker(&name, &session, &request).await?;
    context.out.say(&format!("worker {name}/{session}/{} was created", made.name));
    context.out.data(&made, || format!("{}\n", made.name))?;
    Ok(0)
}

fn show(workers: &[Worker]) -> String {
    let rows = workers.iter().map(|worker| {
        let started = worker.started_at.map_or_else(|| "-".to_owned(), ago);
        vec![
            worker.name.clone(),
            worker.kind.to_string(),
            status(worker),
            started,
            worker.output_end.to_string(),
            printable(&program(worker)).chars().take(MAX_COMMAND).collect(),
        ]
    });
    table(&["WORKER", "KIND", "STATUS", "STARTED", "BYTES", "COMMAND"], rows.collect())
}

/// What a worker runs: its agent, its command, or a login shell.
pub(crate) fn program(worker: &Worker) -> String {
    match &worker.agent {
        Some(agent) => agent.clone(),
        None if worker.command.is_empty() => "login shell".to_owned(),
        None => worker.command.join(" "),
    }
}

/// The status of a worker, with its exit status or the reason.
pub(crate) fn status(worker: &Worker) -> String {
    match (&worker.exit, &worker.reason) {
        (Some(Exit::Code(code)), _) => format!("{} ({code})", worker.status),
        (Some(Exit::Signal(signal)), _) => format!("{} ({signal})", worker.status),
        (None, Some(reason)) => format!("{} ({})", worker.status, printable(reason)),
        (None, None) => worker.status.to_string(),
    }
}
