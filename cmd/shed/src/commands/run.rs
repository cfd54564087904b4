//! `shed run`.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap_complete::ArgValueCandidates;
use shed_api::name::printable;
use shed_api::problem::exit;
use shed_api::session::{NewSession, Session, SessionLimits, SessionStatus, SessionType};
use shed_api::stream::AttachOpen;
use shed_client::{Client, ClientError};

use super::attach;
use super::each::say_rest;
use super::limits::Limits;
use super::output::{Ending, Output, first_worker};
use crate::candidates::sheds;
use crate::context::Context;
use crate::escape::EscapeChar;
use crate::failure::{Failure, INTERRUPTED, Outcome};
use crate::names;
use crate::{terminal, variables};

/// How often a queued session is checked.
const QUEUE_INTERVAL: Duration = Duration::from_millis(250);
/// Longest prompt to read; the limit of the server is lower.
const MAX_PROMPT_BYTES: u64 = 1 << 20;

/// Run an agent, a command or a shell in a new session
///
/// In a terminal it attaches to the session. Without one it prints the output until the command exits and passes the exit
/// status on. The session and its output stay afterwards: `shed output`. With --worktree the session gets its own git
/// worktree and branch.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed run web --agent claude --worktree -p 'fix the flaky login test'
  shed run web --agent codex --worktree --base pr/12 -F task.md -d
  git diff | shed run web --agent claude -
  shed run web --name tests -d -- make test
  shed run web --template review --title 'Review: the login'")]
pub(crate) struct Args {
    /// Shed
    #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    name: String,
    /// Read the prompt from standard input
    #[arg(value_name = "-", value_parser = ["-"], conflicts_with_all = ["prompt", "prompt_file"])]
    stdin: Option<String>,
    /// Agent to run
    #[arg(short, long, conflicts_with = "command")]
    agent: Option<String>,
    /// Model for the agent
    #[arg(short, long)]
    model: Option<String>,
    /// Create a git worktree and a branch for the session
    #[arg(short, long, conflicts_with = "quick")]
    worktree: bool,
    /// Use an existing directory of the shed, even if the template asks for a worktree
    #[arg(short, long, conflicts_with_all = ["branch", "base", "fetch"])]
    quick: bool,
    /// Branch of the worktree (default: made from the session's name)
    #[arg(short, long)]
    branch: Option<String>,
    /// Use the branch if it exists, locally or at origin
    #[arg(long, requires = "branch")]
    existing_branch: bool,
    /// Start the branch at this ref, commit or pull request (default: the default branch)
    #[arg(long, value_name = "REF|pr/N")]
    base: Option<String>,
    /// Run git fetch first
    #[arg(long)]
    fetch: bool,
    /// Title
    #[arg(short, long)]
    title: Option<String>,
    /// Tag (repeatable)
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Name of the session (default: made from title, prompt or agent)
    #[arg(short = 'n', long = "name", id = "session_name", value_name = "SESSION", value_parser = names::new_session)]
    session: Option<String>,
    /// Template for options not given
    #[arg(long, value_name = "TEMPLATE")]
    template: Option<String>,
    /// Working directory, or the repository for the worktree (default: /workspace)
    #[arg(long, visible_alias = "workdir", value_name = "DIR")]
    dir: Option<String>,
    /// Use the worktree of this other session
    #[arg(long, value_name = "SESSION", conflicts_with_all = ["quick", "branch", "base", "fetch"])]
    share: Option<String>,
    /// Let processes write only to the session's directory, the caches in the home directory and /tmp
    #[arg(long)]
    confine: bool,
    /// Start the command again when the shed restarts
    #[arg(long)]
    restart: bool,
    /// Shell command to run in the shed before the first worker; its output is that of worker `setup`
    #[arg(long, value_name = "LINE")]
    setup: Option<String>,
    /// Shell command to run in the shed before the worktree is removed
    #[arg(long, value_name = "LINE")]
    teardown: Option<String>,
    #[command(flatten)]
    limits: Limits,
    /// Environment variable (repeatable); K alone takes the local value
    #[arg(short, long, value_name = "K[=V]")]
    env: Vec<String>,
    /// Initial prompt
    #[arg(short, long, allow_hyphen_values = true)]
    prompt: Option<String>,
    /// File with the initial prompt; - reads standard input
    #[arg(short = 'F', long, value_name = "FILE", conflicts_with = "prompt")]
    prompt_file: Option<PathBuf>,
    /// Print the name of the session and exit
    #[arg(short, long)]
    detach: bool,
    /// Command to run (default: a login shell)
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    let (name, detach) = (args.name.clone(), args.detach);
    let interactive = terminal::is_interactive();
    if !detach
        && !interactive
        && args.command.is_empty()
        && args.agent.is_none()
        && args.template.is_none()
    {
        // Nothing could be typed into a login shell, so it would never exit.
        return Err(
            Failure::usage("a login shell needs a terminal").hint(format!("shed run {name} -d"))
        );
    }
    let request = request(args)?;
    let made = client.new_session(&name, &request).await;
    let made = made.map_err(|error| unanswered(error, &name, request.name.as_deref()))?;
    context.out.say(&format!("session {name}/{} was created", made.name));
    say_rest(&made, context);
    if detach {
        context.out.data(&made, || format!("{}\n", made.name))?;
        return Ok(0);
    }
    if interactive && !context.out.is_json() {
        return attach_when_started(&client, &made, context).await;
    }
    follow(&client, &made, context).await
}

/// A creation whose answer was lost goes on: the server finishes it, also after a restart.
fn unanswered(error: ClientError, shed: &str, session: Option<&str>) -> Failure {
    let is_lost = matches!(error, ClientError::Lost { .. });
    let failure = Failure::from(error);
    match session {
        _ if !is_lost => failure,
        Some(session) => failure.hint(format!("shed sessions show {shed} {session}")),
        None => failure.hint(format!("shed sessions {shed}")),
    }
}

fn request(args: Args) -> Result<NewSession, Failure> {
    let kind = match (args.worktree || args.share.is_some(), args.quick) {
        (true, _) => Some(SessionType::Worktree),
        (false, true) => Some(SessionType::Quick),
        // These options are only for a worktree, so they imply one.
        (false, false) => (args.branch.is_some() || args.base.is_some() || args.fetch)
            .then_some(SessionType::Worktree),
    };
    let file = args.stdin.map(PathBuf::from).or(args.prompt_file);
    Ok(NewSession {
        name: args.session,
        kind,
        title: args.title,
        tags: args.tags,
        agent: args.agent,
        model: args.model,
        prompt: read_prompt(args.prompt, file.as_deref())?,
        branch: args.branch,
        existing_branch: args.existing_branch,
        base: args.base,
        fetch: args.fetch,
        directory: args.dir,
        share: args.share,
        template: args.template,
        confine: args.confine,
        command: args.command,
        env: variables::from_options(&args.env)?,
        keep: Some(true),
        restart: args.restart,
        setup: shell_line(args.setup),
        teardown: shell_line(args.teardown),
        limits: args.limits.over(&SessionLimits::default()),
        ..NewSession::default()
    })
}

/// The argument vector that runs a line in a shell. The server takes argument vectors only.
fn shell_line(line: Option<String>) -> Vec<String> {
    line.map(|line| vec!["sh".to_owned(), "-c".to_owned(), line]).unwrap_or_default()
}

/// The prompt: as given, or the content of a file without its last line end. `-` is standard input.
pub(crate) fn read_prompt(
    given: Option<String>,
    file: Option<&Path>,
) -> Result<Option<String>, Failure> {
    let Some(file) = file else {
        return Ok(given);
    };
    let mut bytes = Vec::new();
    let read = |source: &mut dyn std::io::Read, bytes: &mut Vec<u8>| {
        source.take(MAX_PROMPT_BYTES + 1).read_to_end(bytes)
    };
    let shown = file.display();
    let result = if file == Path::new("-") {
        read(&mut std::io::stdin().lock(), &mut bytes)
    } else {
        std::fs::File::open(file).and_then(|mut file| read(&mut file, &mut bytes))
    };
    result.map_err(Failure::io(&shown))?;
    if bytes.len() as u64 > MAX_PROMPT_BYTES {
        return Err(Failure::usage(format!(
            "the prompt in {shown} is too long; the limit is {MAX_PROMPT_BYTES} bytes"
        )));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::usage(format!("the prompt in {shown} is not valid UTF-8")))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(Failure::usage(format!("the prompt in {shown} is empty")));
    }
    Ok(Some(text.to_owned()))
}

/// Attaches to the session as soon as it has started.
async fn attach_when_started(client: &Client, made: &Session, context: &Context) -> Outcome {
    let (shed, id) = (&made.shed_name, &made.id);
    let mut status = made.status;
    if status == SessionStatus::Waiting {
        context.out.say("the session is queued; Ctrl-C detaches and leaves it in the queue");
    }
    while matches!(status, SessionStatus::Waiting | SessionStatus::Creating) {
        tokio::select! {
            () = tokio::time::sleep(QUEUE_INTERVAL) => {}
            _ = tokio::signal::ctrl_c() => return Ok(INTERRUPTED),
        }
        let now = client.session(shed, id).await?;
        if now.status == SessionStatus::Failed {
            return Err(Failure::new(printable(&now.reason.unwrap_or_default())));
        }
        status = now.status;
    }
    let open = AttachOpen {
        tty: terminal::tty(),
        new: false,
        existing: true,
        read_only: false,
        detach_others: false,
        env: terminal::environment(),
    };
    let attached = attach::Attached {
        client,
        name: shed,
        session: &made.name,
        escape: EscapeChar::default(),
        reconnects: true,
        context,
    };
    attached.show(open).await
}

/// Prints the output of the session's worker until it exits, and returns its exit status.
async fn follow(client: &Client, made: &Session, context: &Context) -> Outcome {
    let worker = first_worker(made)?;
    let (name, session) = (made.shed_name.as_str(), made.id.as_str());
    let output = Output { client, name, session, worker: &worker, context };
    let ending = output.follow(0, true).await.map_err(|failure| match failure.status {
        // The command goes on without the server.
        exit::UNREACHABLE => failure.hint(format!("shed output -f {name} {}", made.name)),
        _ => failure,
    });
    match ending? {
        Ending::Detached => Ok(INTERRUPTED),
        Ending::Removed => Err(Failure::new(format!("session {name}/{} was removed", made.name))),
        Ending::Exited(worker) => worker.exit.as_ref().map_or_else(
            || {
                let why = worker.reason.as_deref().unwrap_or("exit status unknown");
                Err(Failure::new(format!("{name}/{}: {}", made.name, printable(why))))
            },
            |exit| Ok(exit.shell_status()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_answer_names_the_session() {
        let (address, why) = ("x".to_owned(), "reset".to_owned());
        let lost = || ClientError::Lost { address: address.clone(), why: why.clone() };
        let hint = |error, session| unanswered(error, "web", session).hint;
        assert_eq!(hint(lost(), Some("fix")).as_deref(), Some("shed sessions show web fix"));
        assert_eq!(hint(lost(), None).as_deref(), Some("shed sessions web"));
        let none = ClientError::Unreachable { address: address.clone(), why: why.clone() };
        assert_eq!(hint(none, Some("fix")).as_deref(), Some("shed doctor"), "nothing was sent");
    }
}
