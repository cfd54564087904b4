//! `shed create`.

use std::collections::BTreeMap;

use clap::builder::NonEmptyStringValueParser;
use shed_api::problem::exit;
use shed_api::shed::{CreateShed, GitIdentity, Mount, Network, Progress};
use shed_api::{Code, ShedStatus};
use shed_client::{Client, ClientError};
use tokio::signal::unix::{SignalKind, signal};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;

mod lending;

/// The exit status of a creation that was called off by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Create a shed, and clone a repository into it
///
/// Waits until the shed runs and the clone is done. Ctrl-C calls it off; what was there before stays. A private repository
/// is cloned with your own ssh-agent or git credentials, lent for this clone only.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed create web
  shed create web --repo owner/repo --branch dev
  shed create web --repo git@example.com:me/web.git --memory 8G --cpus 4
  shed create web --image python:3.13 --env-file .env --env DEBUG=1
  shed create web --retry                after a failed clone")]
pub(crate) struct Args {
    /// Name: a-z, 0-9 and '-', at most 63
    #[arg(value_parser = names::shed)]
    name: String,
    /// Repository to clone: a URL, git@host:path, or owner/repo on GitHub
    #[arg(short, long, value_parser = NonEmptyStringValueParser::new())]
    repo: Option<String>,
    /// Branch or tag to check out
    #[arg(short, long)]
    branch: Option<String>,
    /// Image; any Linux image will do
    #[arg(short, long)]
    image: Option<String>,
    /// CPUs, for example 1.5
    #[arg(long)]
    cpus: Option<f64>,
    /// Memory, for example 4G
    #[arg(long)]
    memory: Option<String>,
    /// Processes and threads
    #[arg(long)]
    pids: Option<u32>,
    /// Variable for everything in the shed; without a value, taken from here
    #[arg(short, long, value_name = "K[=V]")]
    env: Vec<String>,
    /// File with lines K=V
    #[arg(long, value_name = "FILE")]
    env_file: Vec<std::path::PathBuf>,
    /// Directory of the server's host in the shed
    #[arg(long, value_name = "SRC:DST[:ro]")]
    mount: Vec<Mount>,
    /// Network: open (the outside, no other shed) or none
    #[arg(long, value_name = "open|none")]
    network: Option<Network>,
    /// Let `ssh -A` reach into it
    #[arg(long)]
    allow_agent_forwarding: bool,
    /// Create it and leave it stopped
    #[arg(long)]
    no_start: bool,
    /// Take up a failed creation where it failed
    #[arg(long)]
    retry: bool,
}

/// Runs the command.
pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    let name = args.name.clone();
    let request = request(args)?;
    // From here on, so that none is missed once there is something to call off.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::io("signals"))?;
    client.create(&request).await?;
    tokio::select! {
        followed = follow(&client, &name, &request, context) => followed?,
        _ = interrupt.recv() => {
            context.out.end_progress();
            context.out.say("shed: calling it off");
            client.delete(&name, false).await?;
            return Ok(INTERRUPTED);
        }
    }
    context.out.end_progress();
    finish(&client, &name, context).await
}

async fn finish(client: &Client, name: &str, context: &Context) -> Outcome {
    let shed = client.shed(name).await?;
    if let (ShedStatus::Failed, Some(reason)) = (shed.status, &shed.reason) {
        let status = shed.reason_code.unwrap_or(Code::Internal).exit_status();
        let failure = Failure { status, ..Failure::new(reason.clone()) };
        return Err(failure.hint(format!("shed create {name} --retry   (or: shed delete {name})")));
    }
    if shed.status == ShedStatus::Creating {
        let text = "the engine does not answer; the creation goes on when it is back";
        let failure = Failure { status: exit::UNREACHABLE, ..Failure::new(text) };
        return Err(
            failure.hint(format!("shed show {name}   (or call it off: shed delete {name})"))
        );
    }
    context.out.data(&shed, || format!("{name}\n"))?;
    if !context.out.is_json() {
        let next = if shed.status == ShedStatus::Running { "attach" } else { "start" };
        context.out.say(&format!("shed {name} is {}; try: shed {next} {name}", shed.status));
    }
    Ok(0)
}

/// Shows progress and lends what is asked for, until the creation is over. A lost connection is made again.
async fn follow(
    client: &Client,
    name: &str,
    request: &CreateShed,
    context: &Context,
) -> Result<(), Failure> {
    let mut tries_left = 60_u32;
    loop {
        match try_follow(client, name, request, context).await {
            Ok(()) => return Ok(()),
            Err(ClientError::Lost { .. } | ClientError::Unreachable { .. }) if tries_left > 0 => {
                tries_left -= 1;
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn try_follow(
    client: &Client,
    name: &str,
    request: &CreateShed,
    context: &Context,
) -> Result<(), ClientError> {
    let mut progress = client.progress(name).await?;
    while let Some(news) = progress.next().await? {
        match news {
            Progress::Step { text, percent } => {
                let percent = percent.map(|percent| format!(" {percent}%")).unwrap_or_default();
                context
                    .out
                    .progress(&format!("{name}: {}{percent}", shed_api::name::printable(&text)));
            }
            Progress::Lend { id, what } => {
                let repo = request.repo.clone().unwrap_or_default();
                tokio::spawn(lending::lend(client.clone(), name.to_owned(), id, what, repo));
            }
            Progress::Done { .. } => return Ok(()),
        }
    }
    // The server ended the stream in the middle: it is going away, and the creation goes on with the next one.
    Err(ClientError::Lost {
        address: client.address().to_string(),
        why: "the server closed it".to_owned(),
    })
}

fn request(args: Args) -> Result<CreateShed, Failure> {
    let mut env = BTreeMap::new();
    for file in &args.env_file {
        let text = std::fs::read_to_string(file).map_err(Failure::io(file.display()))?;
        env.extend(shed_api::read_env(&text).map_err(|line| {
            Failure::usage(format!("{}: line {line} is not of the form K=V", file.display()))
        })?);
    }
    for item in &args.env {
        let (key, value) = env_item(item)?;
        env.insert(key, value);
    }
    let wants_clone = args.repo.is_some() || args.retry;
    let lend = if wants_clone { lending::available() } else { Vec::new() };
    Ok(CreateShed {
        name: args.name,
        git_identity: if wants_clone { git_identity() } else { None },
        repo: args.repo,
        branch: args.branch,
        image: args.image,
        cpus: args.cpus,
        memory: args.memory,
        pids: args.pids,
        env,
        mounts: args.mount,
        network: args.network,
        allow_agent_forwarding: args.allow_agent_forwarding,
        no_start: args.no_start,
        retry: args.retry,
        lend,
    })
}

/// `K=V`, or `K` with the value it has here.
pub(crate) fn env_item(item: &str) -> Result<(String, String), Failure> {
    match item.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => match std::env::var(item) {
            Ok(value) => Ok((item.to_owned(), value)),
            Err(_) => Err(Failure::usage(format!("{item} has no value here"))
                .hint(format!("--env {item}=VALUE"))),
        },
    }
}

/// Who commits here.
fn git_identity() -> Option<GitIdentity> {
    let ask = |key: &str| {
        let output =
            std::process::Command::new("git").args(["config", "--get", key]).output().ok()?;
        let value = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (!value.is_empty()).then_some(value)
    };
    Some(GitIdentity { name: ask("user.name")?, email: ask("user.email")? })
}
