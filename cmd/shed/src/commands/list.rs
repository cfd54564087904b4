//! `shed list`.

use serde::Serialize;
use shed_api::Shed;
use shed_api::size::show_size;

use super::sessions::with_reasons;
use crate::clock::ago;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use shed_report::table;

/// List sheds
///
/// With --all it asks all servers; one that does not answer is listed as unreachable, with the reason below the table.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed list
  shed list --all --json")]
pub(crate) struct Args {
    /// Ask all configured servers
    #[arg(short, long)]
    all: bool,
    /// Exit with status 5 if a server does not answer
    #[arg(long)]
    strict: bool,
}

/// A shed and its server.
#[derive(Debug, Serialize)]
struct Row {
    server: String,
    #[serde(flatten)]
    shed: Shed,
}

/// A server that does not answer.
#[derive(Debug, Serialize)]
struct Missing {
    server: String,
    reason: String,
}

#[derive(Debug, Serialize)]
struct List {
    sheds: Vec<Row>,
    unreachable: Vec<Missing>,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let servers = if args.all { context.all_servers()? } else { vec![context.server()?] };
    let answers =
        Context::ask_all(&servers, async |client| client.sheds().await.map_err(Failure::from))
            .await;
    let mut list = List { sheds: Vec::new(), unreachable: Vec::new() };
    for (server, answer) in servers.iter().zip(answers) {
        match answer {
            Ok(answer) => list.sheds.extend(
                answer.sheds.into_iter().map(|shed| Row { server: server.name.clone(), shed }),
            ),
            Err(failure) if !args.all => return Err(failure),
            Err(failure) => {
                list.unreachable
                    .push(Missing { server: server.name.clone(), reason: failure.text });
            }
        }
    }
    context.out.data(&list, || text(&list, args.all))?;
    if list.sheds.is_empty() && list.unreachable.is_empty() && !context.out.is_json() {
        context.out.say("no sheds; try: shed create NAME");
    }
    let missing = args.strict && !list.unreachable.is_empty();
    Ok(if missing { shed_api::problem::exit::UNREACHABLE } else { 0 })
}

fn text(list: &List, all: bool) -> String {
    let mut rows: Vec<Vec<String>> = list.sheds.iter().map(|row| cells(row, all)).collect();
    for Missing { server, .. } in &list.unreachable {
        let mut cells = vec!["-".to_owned(), server.clone(), "unreachable".to_owned()];
        cells.resize(8, String::new());
        rows.push(cells);
    }
    let head: &[&str] = if all {
        &["SHED", "SERVER", "STATUS", "SESSIONS", "CPUS", "MEMORY", "CREATED", "REPO"]
    } else {
        &["SHED", "STATUS", "SESSIONS", "CPUS", "MEMORY", "CREATED", "REPO"]
    };
    let reasons =
        list.unreachable.iter().map(|Missing { server, reason }| format!("{server}: {reason}"));
    with_reasons(table(head, rows), reasons)
}

fn cells(row: &Row, all: bool) -> Vec<String> {
    let shed = &row.shed;
    let mut cells = vec![shed.name.clone()];
    if all {
        cells.push(row.server.clone());
    }
    let is_unreachable = shed.status == shed_api::ShedStatus::Running && !shed.link.connected;
    cells.extend([
        if is_unreachable { "running (no answer)".to_owned() } else { shed.status.to_string() },
        shed.session_count.to_string(),
        shed.limits.cpus.to_string(),
        show_size(shed.limits.memory_bytes),
        ago(shed.created_at),
        shed.repo.clone().unwrap_or_else(|| "-".to_owned()),
    ]);
    cells
}
