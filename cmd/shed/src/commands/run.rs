//! `shed run`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap_complete::ArgValueCandidates;
use shed_api::name::printable;
use shed_api::session::{NewSession, Session, SessionLimits, SessionStatus, SessionType};
use shed_api::stream::AttachOpen;
use shed_client::Client;

use super::attach;
use super::completions::sheds;
use super::limits::Limits;
use super::output::{Ending, Output, first_worker};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;
use crate::terminal;

/// How often one that waits for its turn looks whether it has come.
const TURN_PAUSE: Duration = Duration::from_millis(250);
/// The longest prompt that is read. The server takes less.
const MAX_PROMPT_BYTES: u64 = 1 << 20;
/// The exit status of one who left by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Run an agent, a command or a shell in a session of its own
///
/// The session stays when this ends, with all its worker printed: `shed output`. With a terminal you are attached to it;
/// without one its output is printed to the end and its exit status passed on. With --worktree it works in a git worktree
/// and on a branch of its own.
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
    /// Agent
    #[arg(short, long, conflicts_with = "command")]
    agent: Option<String>,
    /// The agent's model
    #[arg(short, long)]
    model: Option<String>,
    /// Work in a git worktree and on a branch of its own
    #[arg(short, long, conflicts_with = "quick")]
    worktree: bool,
    /// Work in a directory of the shed, whatever the template says
    #[arg(short, long, conflicts_with_all = ["branch", "base", "fetch"])]
    quick: bool,
    /// The worktree's branch; made from the session's name when absent
    #[arg(short, long)]
    branch: Option<String>,
    /// Take the branch up if it exists, here or at origin
    #[arg(long, requires = "branch")]
    existing_branch: bool,
    /// What the branch begins at: a ref, a commit or pr/N; the default branch when absent
    #[arg(long, value_name = "REF|pr/N")]
    base: Option<String>,
    /// Fetch first
    #[arg(long)]
    fetch: bool,
    /// Any text for people
    #[arg(short, long)]
    title: Option<String>,
    /// Word to find it by
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Name; made from title, prompt or agent when absent
    #[arg(short = 'n', long = "name", id = "session_name", value_name = "SESSION", value_parser = names::new_session)]
    session: Option<String>,
    /// Template whose values stand where nothing is said here
    #[arg(long, value_name = "TEMPLATE")]
    template: Option<String>,
    /// Where it begins, or the repository of the worktree; /workspace by default
    #[arg(long, visible_alias = "workdir", value_name = "DIR")]
    dir: Option<String>,
    /// Work in the worktree of this other session
    #[arg(long, value_name = "SESSION", conflicts_with_all = ["quick", "branch", "base", "fetch"])]
    share: Option<String>,
    /// Let its processes write only to its directory, the home's caches and /tmp
    #[arg(long)]
    confine: bool,
    /// Start the command again when the shed is
    #[arg(long)]
    restart: bool,
    /// Line for sh in the shed, before the first worker; its output is the worker `setup`'s
    #[arg(long, value_name = "LINE")]
    setup: Option<String>,
    /// Line for sh in the shed, before the worktree is removed
    #[arg(long, value_name = "LINE")]
    teardown: Option<String>,
    #[command(flatten)]
    limits: Limits,
    /// Variable for it; without a value, taken from here
    #[arg(short, long, value_name = "K[=V]")]
    env: Vec<String>,
    /// What the agent is told first
    #[arg(short, long)]
    prompt: Option<String>,
    /// The same from a file; - is standard input
    #[arg(short = 'F', long, value_name = "FILE", conflicts_with = "prompt")]
    prompt_file: Option<PathBuf>,
    /// Print the session and leave it running
    #[arg(short, long)]
    detach: bool,
    /// What it runs instead of a login shell
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Runs the command.
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
        // A login shell that nobody can type into ends when somebody ends it by hand.
        return Err(Failure::usage("there is no terminal, and nothing to run")
            .hint(format!("shed run {name} -d   (or: shed run {name} -- CMD)")));
    }
    let made = client.new_session(&name, &request(args)?).await?;
    context.out.say(&format!("session {name}/{} was made", made.name));
    if detach {
        context.out.data(&made, || format!("{}\n", made.name))?;
        return Ok(0);
    }
    if interactive && !context.out.is_json() {
        return enter(&client, &made, context).await;
    }
    follow(&client, &made, context).await
}

fn request(args: Args) -> Result<NewSession, Failure> {
    let kind = match (args.worktree || args.share.is_some(), args.quick) {
        (true, _) => Some(SessionType::Worktree),
        (false, true) => Some(SessionType::Quick),
        // What is only for a worktree asks for one.
        (false, false) => (args.branch.is_some() || args.base.is_some() || args.fetch)
            .then_some(SessionType::Worktree),
    };
    let file = args.stdin.map(PathBuf::from).or(args.prompt_file);
    let env = args.env.iter().map(|item| super::create::env_item(item));
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
        env: env.collect::<Result<BTreeMap<_, _>, _>>()?,
        keep: Some(true),
        restart: args.restart,
        setup: shell_line(args.setup),
        teardown: shell_line(args.teardown),
        limits: args.limits.over(&SessionLimits::default()),
        ..NewSession::default()
    })
}

/// The words that have a shell read a line. The server itself takes words and gives none to a shell.
fn shell_line(line: Option<String>) -> Vec<String> {
    line.map(|line| vec!["sh".to_owned(), "-c".to_owned(), line]).unwrap_or_default()
}

/// A prompt as it was given, or what is in a file; `-` is standard input. The newline that ends a file is no part of it.
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
            "{shown}: a prompt has at most {MAX_PROMPT_BYTES} bytes"
        )));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::usage(format!("{shown}: a prompt is text in UTF-8")))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(Failure::usage(format!("{shown}: there is no prompt in it")));
    }
    Ok(Some(text.to_owned()))
}

/// Shows the session in the terminal as soon as it is its turn.
async fn enter(client: &Client, made: &Session, context: &Context) -> Outcome {
    let (shed, id) = (&made.shed_name, &made.id);
    let mut status = made.status;
    if status == SessionStatus::Waiting {
        context.out.say("it waits for its turn; Ctrl-C leaves, it goes on waiting");
    }
    while matches!(status, SessionStatus::Waiting | SessionStatus::Creating) {
        tokio::select! {
            () = tokio::time::sleep(TURN_PAUSE) => {}
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
    attach::show(client, shed, &made.name, open, false, context).await
}

/// Prints what the session's worker prints, and ends as it does.
async fn follow(client: &Client, made: &Session, context: &Context) -> Outcome {
    let worker = first_worker(made)?;
    let (name, session) = (made.shed_name.as_str(), made.id.as_str());
    let output = Output { client, name, session, worker: &worker, context };
    match output.follow(0, true).await? {
        Ending::Left => Ok(INTERRUPTED),
        Ending::Gone => Err(Failure::new(format!("session {name}/{} is gone", made.name))),
        Ending::Worker(worker) => worker.exit.as_ref().map_or_else(
            || {
                let why = worker.reason.as_deref().unwrap_or("nobody knows how it ended");
                Err(Failure::new(format!("{name}/{}: {}", made.name, printable(why))))
            },
            |exit| Ok(exit.shell_status()),
        ),
    }
}
