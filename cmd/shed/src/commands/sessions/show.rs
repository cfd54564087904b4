//! Everything about a session.

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

/// Prints it.
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
    let mut known = |key: &'static str, value: Option<String>| {
        rows.extend(value.map(|value| (key, printable(&value))));
    };
    known("reason", session.reason.clone());
    known("title", session.title.clone());
    known("tags", (!session.tags.is_empty()).then(|| session.tags.join(", ")));
    let created = format!("{} ({})", session.created_at.to_rfc3339(), ago(session.created_at));
    known("created", Some(created));
    known("type", session.kind.map(|kind| kind.to_string()));
    known("directory", session.directory.clone());
    known("branch", session.branch.clone());
    let base = session.base.clone().or_else(|| session.base_commit.clone());
    known("base", base);
    known("template", session.template.clone());
    known("auto-respond", session.auto_respond.map(|how| how.to_string()));
    known("confined", session.confined.then(|| "yes".to_owned()));
    known("first port", session.port.map(|port| port.to_string()));
    known("tmux", session.tmux_id.clone());
    known("windows", Some(session.window_count.to_string()));
    for worker in &session.workers {
        let command = match &worker.agent {
            Some(agent) => agent.clone(),
            None if worker.command.is_empty() => "login shell".to_owned(),
            None => worker.command.join(" "),
        };
        known("worker", Some(format!("{}: {}, {command}", worker.name, workers::status(worker))));
    }
    pairs(&rows)
}
