//! `shed sessions show`.

use shed_api::name::printable;
use shed_api::session::Session;
use shed_client::Client;

use super::list::status;
use crate::clock::ago;
use crate::commands::target::Target;
use crate::commands::workers;
use crate::context::Context;
use crate::failure::Outcome;
use shed_report::pairs;

/// Prints all details of a session.
pub(super) async fn run(client: &Client, target: &Target, context: &Context) -> Outcome {
    let session = client.session(&target.name, &target.session).await?;
    context.out.data(&session, || text(&session))?;
    Ok(0)
}

fn text(session: &Session) -> String {
    let mut rows = vec![
        ("name", format!("{}/{}", session.shed_name, session.name)),
        ("id", session.id.clone()),
        ("status", status(session)),
    ];
    let mut row = |key: &'static str, value: Option<String>| {
        rows.extend(value.map(|value| (key, printable(&value))));
    };
    row("reason", session.reason.clone());
    for note in &session.notes {
        row("note", Some(note.clone()));
    }
    row("title", session.title.clone());
    row("tags", (!session.tags.is_empty()).then(|| session.tags.join(", ")));
    let created = format!("{} ({})", session.created_at.to_rfc3339(), ago(session.created_at));
    row("created", Some(created));
    row("type", session.kind.map(|kind| kind.to_string()));
    row("directory", session.directory.clone());
    row("branch", session.branch.clone());
    let base = session.base.clone().or_else(|| session.base_commit.clone());
    row("base", base);
    row("template", session.template.clone());
    row("auto-respond", session.auto_respond.map(|how| how.to_string()));
    row("confined", session.confined.then(|| "yes".to_owned()));
    row("first port", session.port.map(|port| port.to_string()));
    row("tmux", session.tmux_id.clone());
    row("windows", Some(session.window_count.to_string()));
    for worker in &session.workers {
        let command = workers::program(worker);
        row("worker", Some(format!("{}: {}, {command}", worker.name, workers::status(worker))));
    }
    pairs(&rows)
}
