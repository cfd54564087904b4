//! `shed delete`.

use clap_complete::ArgValueCandidates;
use shed_api::name::printable;
use shed_api::session::{Session, SessionType};
use shed_client::Client;

use super::each::each;
use crate::candidates::sheds;
use crate::context::Context;
use crate::failure::Outcome;
use crate::names;
use crate::prompt::confirm;
use shed_report::counted;

/// Delete sheds and their volumes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed delete web
  shed delete web --keep-volume          a later `shed create web` reattaches the volumes
  shed delete -f web api")]
pub(crate) struct Args {
    /// Sheds
    #[arg(required = true, value_name = "NAME", value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    names: Vec<String>,
    /// Keep the volumes
    #[arg(long)]
    keep_volume: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    force: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    let delete = async |name: &str| {
        let shed = client.shed(name).await?;
        if !args.force {
            let what = if args.keep_volume { "its container" } else { "all its files" };
            let listed = client.sessions(name).await?.sessions;
            let sessions = counted(listed.len() as u64, "session");
            if !args.keep_volume {
                say_work(&client, name, &listed, context).await;
            }
            let question = format!("delete shed {name} ({}, {sessions}) and {what}?", shed.status);
            let keep = if args.keep_volume { " --keep-volume" } else { "" };
            confirm(&question, format!("shed delete --force{keep} {name}"), context.out)?;
        }
        client.delete(name, args.keep_volume).await?;
        context.out.say(&format!("shed {name} was deleted"));
        Ok(())
    };
    Ok(each(&args.names, context, delete).await)
}

/// Says what only the worktrees of the sessions have.
async fn say_work(client: &Client, shed: &str, sessions: &[Session], context: &Context) {
    let mut unknown = Vec::new();
    let of_worktree = |session: &&Session| session.kind == Some(SessionType::Worktree);
    for session in sessions.iter().filter(of_worktree) {
        let Ok(risk) = client.session_risk(shed, &session.id).await else {
            unknown.push(printable(&session.name));
            continue;
        };
        let files = risk.dirty + risk.untracked;
        let parts = [(risk.unpushed, "unpushed commit"), (files, "uncommitted file")];
        let parts: Vec<String> =
            parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| counted(*n, what)).collect();
        if !parts.is_empty() {
            let name = printable(&session.name);
            context.out.say(&format!("session {shed}/{name} has {}", parts.join(" and ")));
        }
    }
    if !unknown.is_empty() {
        let names = unknown.join(", ");
        context.out.say(&format!(
            "not examined for unpushed work: {names}; to examine: shed start {shed}"
        ));
    }
}
