//! `shed exec`.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use clap_complete::ArgValueCandidates;
use rustix::fs::{FileType, fstat};
use shed_api::stream::{ExecOpen, ExecSpec};
use shed_client::{ClientError, Frame};

use super::completions::{sessions, sheds};
use super::create::env_item;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;
use crate::process::{Seat, in_pipes, in_terminal};
use crate::terminal::{self, Raw};

/// Run a command in a shed
///
/// The words are the command's, as they are: no shell reads them. Shed's own flags stand before the command's first word.
/// Input is piped, output and errors are separate, the exit status is the command's. With --session it runs in a
/// background window of that session: its directory, its environment, its terminal's bytes; anyone attached can look.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed exec web make test
  shed exec web -- sh -c 'echo $HOME'
  tar c . | shed exec web tar x -C /tmp
  shed exec web -S default npm run build
  shed exec --root web apt-get install -y jq")]
pub(crate) struct Args {
    /// Run in a background window of this session
    #[arg(short = 'S', long, value_parser = names::session, add = ArgValueCandidates::new(sessions))]
    session: Option<String>,
    /// With a terminal
    #[arg(short = 't', long, overrides_with = "no_tty")]
    tty: bool,
    /// Without a terminal
    #[arg(short = 'T', long, overrides_with = "tty")]
    no_tty: bool,
    /// Where it runs; /workspace by default
    #[arg(short = 'w', long, value_name = "DIR")]
    workdir: Option<String>,
    /// Variable for the command; without a value, taken from here
    #[arg(short, long, value_name = "K[=V]")]
    env: Vec<String>,
    /// As root. Needs admin
    #[arg(long, conflicts_with = "session")]
    root: bool,
    /// Start it, print an id, and leave it; its end is an event
    #[arg(long)]
    detach: bool,
    /// Shed
    #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    name: String,
    /// The command and its words
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Runs the command.
pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    let in_session = args.session.is_some();
    if in_session && is_piped() {
        return Err(Failure::usage(
            "a command in a session's window has that window's input: it takes none from here",
        )
        .hint("the same with < /dev/null"));
    }
    let env = args.env.iter().map(|item| env_item(item)).collect::<Result<BTreeMap<_, _>, _>>()?;
    let with_tty =
        !in_session && !args.no_tty && !args.detach && (args.tty || terminal::is_interactive());
    let open = ExecOpen {
        exec: ExecSpec {
            argv: args.command,
            env: if with_tty { with_terminal(env) } else { env },
            directory: args.workdir,
            session: args.session,
            root: args.root,
        },
        tty: with_tty.then(terminal::tty),
        stdin: !with_tty && !in_session && !args.detach && !std::io::stdin().is_terminal(),
        wait_for_output: false,
        detach: args.detach,
    };
    let mut stream = client.exec_stream(&args.name, &open).await?;
    // A refusal must come before the terminal is touched.
    match stream.reader.next().await? {
        Frame::Problem(problem) => return Err(ClientError::Problem(problem).into()),
        Frame::Detached(id) => {
            context.out.data(&serde_json::json!({ "id": id }), || format!("{id}\n"))?;
            return Ok(0);
        }
        _ => {}
    }
    if with_tty && std::io::stdin().is_terminal() {
        let raw = Raw::enter()?;
        let end = in_terminal(stream, &mut Seat::take()?, context.out).await;
        drop(raw);
        return end?.outcome();
    }
    let with_input = open.stdin || with_tty;
    in_pipes(stream, with_input, context.out).await?.outcome()
}

fn with_terminal(mut env: BTreeMap<String, String>) -> BTreeMap<String, String> {
    for (name, value) in terminal::environment() {
        env.entry(name).or_insert(value);
    }
    env
}

/// Whether something is piped into us: a pipe, a file, a socket. Not a terminal and not `/dev/null`.
fn is_piped() -> bool {
    fstat(std::io::stdin()).is_ok_and(|stat| {
        let kind = FileType::from_raw_mode(stat.st_mode);
        matches!(kind, FileType::Fifo | FileType::RegularFile | FileType::Socket)
    })
}
