//! `shed show`.

use clap_complete::ArgValueCandidates;
use shed_api::Shed;
use shed_api::size::show_size;

use super::each::each;
use crate::candidates::sheds;
use crate::clock::ago;
use crate::context::Context;
use crate::failure::Outcome;
use crate::names;
use crate::pager::Paging;
use shed_report::pairs;

/// Show all details of sheds
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed show web
  shed show web --json")]
pub(crate) struct Args {
    /// Sheds
    #[arg(required = true, value_name = "NAME", value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    names: Vec<String>,
    #[command(flatten)]
    paging: Paging,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    args.paging.begin(context.out);
    let mut separator = "";
    let show = async |name: &str| {
        let shed = client.shed(name).await?;
        context.out.data(&shed, || format!("{separator}{}", text(&shed)))?;
        separator = "\n";
        Ok(())
    };
    Ok(each(&args.names, context, show).await)
}

fn text(shed: &Shed) -> String {
    let yes_or_no = |value: bool| if value { "yes" } else { "no" }.to_owned();
    let mut rows = vec![
        ("name", shed.name.clone()),
        ("status", format!("{}, since {}", shed.status, ago(shed.status_since))),
    ];
    if let Some(reason) = &shed.reason {
        rows.push(("reason", reason.clone()));
    }
    rows.push(("created", format!("{} ({})", shed.created_at.to_rfc3339(), ago(shed.created_at))));
    rows.push(("image", shed.image.clone()));
    if let Some(repo) = &shed.repo {
        let branch = shed.branch.as_ref().map(|branch| format!(" ({branch})")).unwrap_or_default();
        rows.push(("repo", format!("{repo}{branch}")));
    }
    rows.extend(shed.notes.iter().map(|note| ("note", note.clone())));
    let limits = &shed.limits;
    let memory = show_size(limits.memory_bytes);
    rows.push((
        "limits",
        format!("{} CPUs, {memory} memory, {} processes", limits.cpus, limits.pids),
    ));
    rows.push(("network", shed.network.as_str().to_owned()));
    for mount in &shed.mounts {
        let access = if mount.read_only { " (read-only)" } else { "" };
        rows.push(("mount", format!("{} at {}{access}", mount.source, mount.target)));
    }
    if !shed.env.is_empty() {
        rows.push(("variables", shed.env.join(" ")));
    }
    rows.push(("agent forwarding", yes_or_no(shed.allow_agent_forwarding)));
    rows.push(("sessions", shed.session_count.to_string()));
    let link = &shed.link;
    rows.push(("user", link.user.clone().unwrap_or_else(|| "-".to_owned())));
    rows.push(("tmux", link.tmux.clone().unwrap_or_else(|| "-".to_owned())));
    let init = link.version.clone().unwrap_or_else(|| "no connection".to_owned());
    let outdated = format!(" (outdated; to update: shed restart {})", shed.name);
    rows.push(("shed-init", if link.outdated { init + &outdated } else { init }));
    rows.push(("container", shed.container_id.clone().unwrap_or_else(|| "-".to_owned())));
    pairs(&rows)
}
