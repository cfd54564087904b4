//! `shed create`.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use shed_api::name::printable;
use shed_api::problem::exit;
use shed_api::shed::{CreateShed, GitIdentity, Mount, Network, Progress};
use shed_api::{Code, ShedStatus};
use shed_client::{Client, ClientError};
use tokio::signal::unix::{SignalKind, signal};

use crate::context::Context;
use crate::failure::{Failure, INTERRUPTED, Outcome};
use crate::names;
use crate::variables;

mod credentials;

/// How often following a creation reconnects: together with [`RETRY_DELAY`] for at least 30 seconds.
const MAX_RETRIES: u32 = 60;
/// Delay before reconnecting.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Create a shed, and clone a repository into it
///
/// Waits until the shed runs and the clone is complete. Ctrl-C cancels the creation; volumes that existed before stay. A
/// private repository is cloned with your own ssh-agent or git credentials, forwarded for this clone only.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed create web
  shed create web --repo owner/repo --branch dev
  shed create web --repo git@example.com:me/web.git --memory 8G --cpus 4
  shed create web --image python:3.13 --env-file .env --env DEBUG=1
  shed create web --retry                retry a failed clone")]
pub(crate) struct Args {
    /// Name: a-z, 0-9 and '-', at most 63 characters
    #[arg(value_parser = names::shed)]
    name: String,
    /// Repository to clone: a URL, git@host:path, or owner/repo on GitHub
    #[arg(short, long, value_parser = NonEmptyStringValueParser::new())]
    repo: Option<String>,
    /// Branch or tag to check out
    #[arg(short, long)]
    branch: Option<String>,
    /// Image: any Linux image (default: the server's)
    #[arg(short, long)]
    image: Option<String>,
    /// CPUs, for example 1.5 (default: the server's)
    #[arg(long, value_name = "N")]
    cpus: Option<f64>,
    /// Memory, for example 512M or 4G (default: the server's)
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Maximum number of processes and threads (default: the server's)
    #[arg(long, value_name = "N")]
    pids: Option<u32>,
    /// Environment variable in the shed (repeatable); K alone takes the local value
    #[arg(short, long, value_name = "K[=V]")]
    env: Vec<String>,
    /// File with environment variables, one K=V per line (repeatable)
    #[arg(long, value_name = "FILE")]
    env_file: Vec<std::path::PathBuf>,
    /// Directory of the server's host to mount in the shed (repeatable); needs scope admin
    #[arg(long, value_name = "SRC:DST[:ro]")]
    mount: Vec<Mount>,
    /// Network: filtered (not other sheds, listeners of the server's host or cloud metadata), open (not other sheds; needs
    /// admin) or none (default: the server's)
    #[arg(long, value_name = "open|none")]
    network: Option<Network>,
    /// Allow ssh agent forwarding (`ssh -A`) into the shed
    #[arg(long)]
    allow_agent_forwarding: bool,
    /// Leave the shed stopped
    #[arg(long)]
    no_start: bool,
    /// Resume a failed creation
    #[arg(long)]
    retry: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    let name = args.name.clone();
    let request = request(args)?;
    // Before the request, so that Ctrl-C is not missed once there is something to cancel.
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(Failure::io("cannot listen for signals"))?;
    client.create(&request).await?;
    tokio::select! {
        followed = follow(&client, &name, &request, context) => followed?,
        _ = interrupt.recv() => {
            context.out.end_progress();
            context.out.say(&format!("shed: cancelling the creation of shed {name}"));
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
        return Err(Failure::new(reason.clone())
            .with_status(status)
            .hint(format!("shed create {name} --retry")));
    }
    if shed.status == ShedStatus::Creating {
        let text = "the container engine does not answer; the creation continues when it is back";
        return Err(Failure::new(text)
            .with_status(exit::UNREACHABLE)
            .hint(format!("shed show {name}")));
    }
    for note in &shed.notes {
        context.out.say(&format!("shed {name}: {}", printable(note)));
    }
    context.out.data(&shed, || format!("{name}\n"))?;
    if !context.out.is_json() {
        let next = if shed.status == ShedStatus::Running { "attach" } else { "start" };
        context.out.say(&format!("shed {name} is {}; try: shed {next} {name}", shed.status));
    }
    Ok(0)
}

/// Shows progress and serves credentials until the creation has ended. Reconnects when the connection is lost.
async fn follow(
    client: &Client,
    name: &str,
    request: &CreateShed,
    context: &Context,
) -> Result<(), Failure> {
    let mut retries_left = MAX_RETRIES;
    loop {
        match try_follow(client, name, request, context).await {
            Ok(()) => return Ok(()),
            Err(ClientError::Lost { .. } | ClientError::Unreachable { .. }) if retries_left > 0 => {
                retries_left -= 1;
                tokio::time::sleep(RETRY_DELAY).await;
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
    while let Some(step) = progress.next().await? {
        match step {
            Progress::Step { text, percent } => {
                let percent = percent.map(|percent| format!(" {percent}%")).unwrap_or_default();
                context.out.progress(&format!("{name}: {}{percent}", printable(&text)));
            }
            Progress::Lend { id, what } => {
                let repo = request.repo.clone().unwrap_or_default();
                tokio::spawn(credentials::serve(client.clone(), name.to_owned(), id, what, repo));
            }
            Progress::Done { .. } => return Ok(()),
        }
    }
    // The server closed the stream before the end: it is shutting down, and continues the creation after its restart.
    Err(ClientError::Lost {
        address: client.address().to_string(),
        why: "closed by the server".to_owned(),
    })
}

fn request(args: Args) -> Result<CreateShed, Failure> {
    let mut env = BTreeMap::new();
    for file in &args.env_file {
        let text = std::fs::read_to_string(file).map_err(Failure::io(file.display()))?;
        env.extend(shed_api::read_env(&text).map_err(|line| {
            let file = file.display();
            Failure::usage(format!("{file}: invalid line {line}; expected K=V on one line"))
        })?);
    }
    env.extend(variables::from_options(&args.env)?);
    let wants_clone = args.repo.is_some() || args.retry;
    let lend = if wants_clone { credentials::available() } else { Vec::new() };
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

/// Name and email of commits, from the local git configuration.
fn git_identity() -> Option<GitIdentity> {
    let ask = |key: &str| {
        let output =
            std::process::Command::new("git").args(["config", "--get", key]).output().ok()?;
        let value = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (!value.is_empty()).then_some(value)
    };
    Some(GitIdentity { name: ask("user.name")?, email: ask("user.email")? })
}
