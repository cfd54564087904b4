//! `shed exec`.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use clap_complete::ArgValueCandidates;
use rustix::fs::{FileType, fstat};
use shed_api::Problem;
use shed_api::stream::{ExecOpen, ExecSpec};
use shed_client::{ClientError, Frame};

use crate::candidates::{sessions, sheds};
use crate::context::Context;
use crate::escape::EscapeOption;
use crate::failure::{Failure, Outcome, command_line};
use crate::names;
use crate::process::{in_pipes, in_raw_terminal};
use crate::{terminal, variables};

/// Run a command in a shed
///
/// Passes the arguments on unchanged, without a shell. Options of shed go before the command. Standard input, output and
/// error stay separate; the exit status is the command's. With --session the command runs in a background window of that
/// session, with its directory and environment, and is visible to everyone attached.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed exec web make test
  shed exec web -- sh -c 'echo $HOME'
  tar c . | shed exec web tar x -C /tmp
  shed exec -n web make test             leave standard input to others
  shed exec web -S default npm run build
  shed exec --root web apt-get install -y jq")]
pub(crate) struct Args {
    /// Run in a background window of this session
    #[arg(short = 'S', long, value_parser = names::session, add = ArgValueCandidates::new(sessions))]
    session: Option<String>,
    /// Allocate a terminal (default: when standard input and output are terminals)
    #[arg(short = 't', long, overrides_with = "no_tty")]
    tty: bool,
    /// Allocate no terminal
    #[arg(short = 'T', long, overrides_with = "tty")]
    no_tty: bool,
    /// Do not read standard input, as in a loop that reads a list from it
    #[arg(short = 'n', long, conflicts_with = "tty")]
    no_stdin: bool,
    /// Working directory (default: /workspace, or the session's)
    #[arg(short = 'w', long, value_name = "DIR")]
    workdir: Option<String>,
    /// Environment variable (repeatable); K alone takes the local value
    #[arg(short, long, value_name = "K[=V]")]
    env: Vec<String>,
    /// Run as root; needs scope admin
    #[arg(long, conflicts_with = "session")]
    root: bool,
    /// Start the command in the background and print its id; its exit is recorded as an event
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    escape: EscapeOption,
    /// Shed
    #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    name: String,
    /// Command with its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    let in_session = args.session.is_some();
    if in_session && !args.no_stdin && is_piped() {
        return Err(redirected_input(&args));
    }
    let env = variables::from_options(&args.env)?;
    let takes_input = !in_session && !args.no_stdin && !args.detach;
    let with_tty = takes_input && !args.no_tty && (args.tty || terminal::is_interactive());
    let open = ExecOpen {
        exec: ExecSpec {
            argv: args.command,
            env: if with_tty { with_terminal(env) } else { env },
            directory: args.workdir,
            session: args.session,
            root: args.root,
        },
        tty: with_tty.then(terminal::tty),
        stdin: takes_input && !with_tty && !std::io::stdin().is_terminal(),
        wait_for_output: false,
        detach: args.detach,
    };
    let mut stream = client.exec_stream(&args.name, &open).await?;
    let first = match stream.reader.next().await? {
        Frame::Problem(problem) => return Err(not_started(problem)),
        frame => frame,
    };
    if let Frame::Detached(id) = first {
        context.out.data(&serde_json::json!({ "id": id }), || format!("{id}\n"))?;
        return Ok(0);
    }
    if with_tty && std::io::stdin().is_terminal() {
        return in_raw_terminal(stream, args.escape.escape, context.out).await;
    }
    let with_input = open.stdin || with_tty;
    in_pipes(stream, with_input, context.out).await?.outcome()
}

/// The command was not started. If that is its own fault, the exit status is the one of shells.
fn not_started(problem: Box<Problem>) -> Failure {
    let status = problem.exit_status;
    let failure = Failure::from(ClientError::Problem(problem));
    match status {
        Some(status) => failure.with_status(status),
        None => failure,
    }
}

/// Adds the local terminal's variables that are not set explicitly.
fn with_terminal(mut env: BTreeMap<String, String>) -> BTreeMap<String, String> {
    for (name, value) in terminal::environment() {
        env.entry(name).or_insert(value);
    }
    env
}

/// The command runs in a session, so that its input is the window's, but standard input is redirected here.
fn redirected_input(args: &Args) -> Failure {
    let session = args.session.as_deref().unwrap_or_default();
    let mut words = vec!["shed", "exec", "-n", "-S", session];
    words.extend(args.workdir.iter().flat_map(|dir| ["-w", dir]));
    words.extend(args.env.iter().flat_map(|variable| ["-e", variable]));
    words.extend([&args.name, "--"]);
    words.extend(args.command.iter().map(String::as_str));
    Failure::usage("a command in a session reads from its window, not from standard input")
        .hint(command_line(words))
}

/// Whether standard input is a pipe, a file or a socket: not a terminal and not `/dev/null`.
fn is_piped() -> bool {
    fstat(std::io::stdin()).is_ok_and(|stat| {
        let kind = FileType::from_raw_mode(stat.st_mode);
        matches!(kind, FileType::Fifo | FileType::RegularFile | FileType::Socket)
    })
}
