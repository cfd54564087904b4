//! Candidates for shell completion: the names of sheds, sessions and workers as they are on the server now.

use std::ffi::OsStr;
use std::time::Duration;

use clap_complete::CompletionCandidate;
use clap_complete::engine::{ArgValueCompleter, PathCompleter, ValueCompleter as _};
use shed_api::Session;

use crate::context::Context;
use crate::globals::Globals;
use crate::output::Out;

/// How long one completion may take: a shell is blocked meanwhile.
const TIME_LIMIT: Duration = Duration::from_millis(500);

/// Sheds of the selected server.
pub(crate) fn sheds() -> Vec<CompletionCandidate> {
    let sheds = ask(async |client| client.sheds().await.ok());
    let sheds = sheds.map(|list| list.sheds).unwrap_or_default();
    sheds
        .into_iter()
        .map(|shed| CompletionCandidate::new(shed.name).help(Some(shed.status.to_string().into())))
        .collect()
}

/// Source or target of a copy: a local file, or `NAME:` of a shed.
pub(crate) fn copy_paths() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let mut found = PathCompleter::any().complete(word);
        let prefix = word.to_string_lossy();
        if !prefix.contains(['/', ':']) {
            let names = sheds().into_iter().filter_map(|shed| {
                let name = shed.get_value().to_str()?;
                name.starts_with(&*prefix).then(|| {
                    CompletionCandidate::new(format!("{name}:")).help(shed.get_help().cloned())
                })
            });
            found.extend(names);
        }
        found
    })
}

/// Sessions of the shed on the command line, or of all sheds when it names none.
pub(crate) fn sessions() -> Vec<CompletionCandidate> {
    let words = line();
    let sessions = ask(async |client| client.all_sessions().await.ok());
    let sessions = sessions.map(|list| list.sessions).unwrap_or_default();
    let of_shed: Vec<_> = sessions.iter().filter(|row| words.contains(&row.shed_name)).collect();
    let shown = if of_shed.is_empty() { sessions.iter().collect() } else { of_shed };
    shown
        .into_iter()
        .map(|row| {
            CompletionCandidate::new(row.name.clone()).help(Some(row.shed_name.clone().into()))
        })
        .collect()
}

/// Workers of the session on the command line, or of the whole shed when it names no session.
pub(crate) fn workers() -> Vec<CompletionCandidate> {
    let words = line();
    let sessions = ask(async |client| client.all_sessions().await.ok());
    let mut shown = sessions.map(|list| list.sessions).unwrap_or_default();
    shown.retain(|row| words.contains(&row.shed_name));
    if shown.iter().any(|row| words.contains(&row.name)) {
        shown.retain(|row| words.contains(&row.name));
    }
    let of_session = |row: Session| {
        row.workers.into_iter().map(move |worker| {
            CompletionCandidate::new(worker.name).help(Some(row.name.clone().into()))
        })
    };
    shown.into_iter().flat_map(of_session).collect()
}

/// The words of the command line that is being completed.
fn line() -> Vec<String> {
    std::env::args().collect()
}

/// Asks the server that the command line selects. `None` on any failure: completion prints no errors.
fn ask<T>(ask: impl AsyncFnOnce(shed_client::Client) -> Option<T>) -> Option<T> {
    let globals = Globals::of_incomplete_line(&line());
    let client = Context::new(&globals, Out::new(false)).ok()?.client().ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async { tokio::time::timeout(TIME_LIMIT, ask(client)).await.ok()? })
}
