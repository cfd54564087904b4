//! `shed workers`.

use std::collections::BTreeMap;

use clap_complete::ArgValueCandidates;
use shed_api::name::printable;
use shed_api::stream::Exit;
use shed_api::worker::{NewWorker, Restart, Worker};

use super::completions::workers;
use super::each;
use super::run::read_prompt;
use super::target::Target;
use crate::clock::ago;
use crate::context::Context;
use crate::failure::Outcome;
use crate::names;
use shed_report::table;

/// The longest command that a table shows, in characters.
const MAX_COMMAND: usize = 60;

/// List the workers of a session; add, restart and remove them
///
/// A worker is a window of a session with an agent, a command or a shell in it. What it prints is kept: `shed output`.
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
    /// Start workers again, ending them first if they run
    Restart {
        #[command(flatten)]
        target: Target,
        /// Workers, by name or id
        #[arg(required = true, value_name = "WORKER", value_parser = names::worker, add = ArgValueCandidates::new(workers))]
        workers: Vec<String>,
        /// Agents go on with their conversation
        #[arg(long = "continue")]
        continues: bool,
    },
    /// End workers and close their windows
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
    /// Its name; made from the agent or the command when absent
    #[arg(short = 'n', long = "name", id = "worker_name", value_name = "WORKER", value_parser = names::worker)]
    worker: Option<String>,
    /// Agent
    #[arg(short, long, conflicts_with = "command")]
    agent: Option<String>,
    /// The agent's model
    #[arg(short, long, requires = "agent")]
    model: Option<String>,
    /// What the agent is told first
    #[arg(short, long, requires = "agent")]
    prompt: Option<String>,
    /// The same from a file; - is standard input
    #[arg(short = 'F', long, value_name = "FILE", requires = "agent", conflicts_with = "prompt")]
    prompt_file: Option<std::path::PathBuf>,
    /// Where it begins; the session's directory by default
    #[arg(short = 'w', long, visible_alias = "dir", value_name = "DIR")]
    workdir: Option<String>,
    /// Variable for it; without a value, taken from here
    #[arg(short, long, value_name = "K[=V]")]
    env: Vec<String>,
    /// Close the window when the command has ended
    #[arg(long)]
    close: bool,
    /// Start the command again when the shed is
    #[arg(long)]
    restart: bool,
    #[command(flatten)]
    target: Target,
    /// What it runs instead of a login shell
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Runs the command.
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
                context.out.say(&format!("worker {name}/{session}/{worker} was started again"));
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
    let env = add.env.iter().map(|item| super::create::env_item(item));
    let request = NewWorker {
        name: add.worker,
        agent: add.agent,
        model: add.model,
        prompt: read_prompt(add.prompt, add.prompt_file.as_deref())?,
        command: add.command,
        directory: add.workdir,
        env: env.collect::<Result<BTreeMap<_, _>, _>>()?,
        keep: Some(!add.close),
        restart: add.restart,
    };
    let made = client.add_worker(&name, &session, &request).await?;
    context.out.say(&format!("worker {name}/{session}/{} was made", made.name));
    context.out.data(&made, || format!("{}\n", made.name))?;
    Ok(0)
}

fn show(workers: &[Worker]) -> String {
    let rows = workers.iter().map(|worker| {
        let started = worker.started_at.map_or_else(|| "-".to_owned(), ago);
        let what = match &worker.agent {
            Some(agent) => agent.clone(),
            None if worker.command.is_empty() => "login shell".to_owned(),
            None => worker.command.join(" "),
        };
        vec![
            worker.name.clone(),
            worker.kind.to_string(),
            status(worker),
            started,
            worker.output_end.to_string(),
            printable(&what).chars().take(MAX_COMMAND).collect(),
        ]
    });
    table(&["WORKER", "KIND", "STATUS", "STARTED", "BYTES", "RUNS"], rows.collect())
}

/// Where a worker stands, in a few words.
pub(crate) fn status(worker: &Worker) -> String {
    match (&worker.exit, &worker.reason) {
        (Some(Exit::Code(code)), _) => format!("{} ({code})", worker.status),
        (Some(Exit::Signal(signal)), _) => format!("{} ({signal})", worker.status),
        (None, Some(reason)) => format!("{} ({})", worker.status, printable(reason)),
        (None, None) => worker.status.to_string(),
    }
}
