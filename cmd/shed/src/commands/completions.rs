//! `shed completions`, and what could come next: names of servers, sheds, sessions and workers as they are
//! now.

use std::ffi::OsStr;
use std::time::Duration;

use clap::Parser as _;
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, PathCompleter, ValueCompleter as _,
};
use clap_complete::{CompletionCandidate, Shell};
use shed_api::Session;

use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// How long a person at the Tab key waits.
const TAB_LIMIT: Duration = Duration::from_millis(500);

/// Print the shell code that completes commands, sheds and sessions
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(shed completions bash)
  shed completions zsh > ~/.zfunc/_shed
  shed completions fish > ~/.config/fish/completions/shed.fish")]
pub(crate) struct Args {
    /// Which shell
    shell: Shell,
}

/// Runs the command: the shell's code asks this program each time.
pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    let own = std::env::current_exe().map_err(Failure::io("no path to myself"))?;
    let output = std::process::Command::new(&own)
        .env("COMPLETE", args.shell.to_string())
        .output()
        .map_err(Failure::io("cannot run myself"))?;
    context.out.raw(&output.stdout)?;
    Ok(0)
}

/// Configured servers.
pub(crate) fn servers() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let config = crate::config::Files::find().and_then(|files| files.read());
        let names =
            config.map(|config| config.servers.into_keys().collect::<Vec<_>>()).unwrap_or_default();
        names
            .into_iter()
            .chain([crate::config::LOCAL.to_owned()])
            .map(CompletionCandidate::new)
            .collect()
    })
}

/// Sheds of the server that is meant.
pub(crate) fn sheds() -> Vec<CompletionCandidate> {
    let sheds = ask(async |client| client.sheds().await.ok());
    let sheds = sheds.map(|list| list.sheds).unwrap_or_default();
    sheds
        .into_iter()
        .map(|shed| CompletionCandidate::new(shed.name).help(Some(shed.status.to_string().into())))
        .collect()
}

/// One side of a copy: a file, or `NAME:` of a shed.
pub(crate) fn sides() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let mut found = PathCompleter::any().complete(word);
        let begun = word.to_string_lossy();
        if !begun.contains(['/', ':']) {
            let names = sheds().into_iter().filter_map(|shed| {
                let name = shed.get_value().to_str()?;
                name.starts_with(&*begun).then(|| {
                    CompletionCandidate::new(format!("{name}:")).help(shed.get_help().cloned())
                })
            });
            found.extend(names);
        }
        found
    })
}

/// Sessions of the server that is meant, of the shed on the line if there is one.
pub(crate) fn sessions() -> Vec<CompletionCandidate> {
    let words: Vec<String> = std::env::args().collect();
    let sessions = ask(async |client| client.all_sessions().await.ok());
    let sessions = sessions.map(|list| list.sessions).unwrap_or_default();
    let named: Vec<_> = sessions.iter().filter(|row| words.contains(&row.shed_name)).collect();
    let shown = if named.is_empty() { sessions.iter().collect() } else { named };
    shown
        .into_iter()
        .map(|row| {
            CompletionCandidate::new(row.name.clone()).help(Some(row.shed_name.clone().into()))
        })
        .collect()
}

/// Workers of the sessions on the line, or of the shed on it.
pub(crate) fn workers() -> Vec<CompletionCandidate> {
    let words: Vec<String> = std::env::args().collect();
    let sessions = ask(async |client| client.all_sessions().await.ok());
    let mut shown = sessions.map(|list| list.sessions).unwrap_or_default();
    shown.retain(|row| words.contains(&row.shed_name));
    if shown.iter().any(|row| words.contains(&row.name)) {
        shown.retain(|row| words.contains(&row.name));
    }
    let of = |row: Session| {
        row.workers.into_iter().map(move |worker| {
            CompletionCandidate::new(worker.name).help(Some(row.name.clone().into()))
        })
    };
    shown.into_iter().flat_map(of).collect()
}

/// Asks the server that the words on the line mean. Nobody who presses Tab wants to read an error.
fn ask<T>(ask: impl AsyncFnOnce(shed_client::Client) -> Option<T>) -> Option<T> {
    let words: Vec<String> = std::env::args().collect();
    let server = words.iter().enumerate().find_map(|(at, word)| match word.as_str() {
        "-s" | "--server" => words.get(at + 1).cloned(),
        word => word.strip_prefix("--server=").map(str::to_owned),
    });
    let line = ["shed", "list"].map(str::to_owned).into_iter();
    let line = line.chain(server.into_iter().flat_map(|server| ["-s".to_owned(), server]));
    let cli = crate::cli::Cli::try_parse_from(line).ok()?;
    let context = Context::new(&cli, crate::output::Out::new(false)).ok()?;
    let client = context.client().ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async { tokio::time::timeout(TAB_LIMIT, ask(client)).await.ok()? })
}
