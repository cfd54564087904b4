//! `shed batch`.

use shed_api::name::printable;
use shed_api::session::SessionStatus;
use shed_api::work::{Batch, BatchFilter, BatchItem, BatchOp};

use clap_complete::ArgValueCandidates;

use crate::candidates::sheds;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;
use shed_report::table;

/// Run one operation on many sessions
///
/// Selects sessions by id, or all that match every given filter. All are tried; the first failure gives the exit
/// status.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed batch terminate --shed web --tag old --dry-run
  shed batch delete --shed web --status ended
  shed batch restart --agent claude --continue
  shed batch input --tag review --text continue
  shed batch tag --status failed --add-tag check")]
pub(crate) struct Args {
    /// Operation: terminate, restart, delete, freeze, thaw, checkpoint, input or tag
    #[arg(value_name = "OP")]
    op: BatchOp,
    /// Select a session by id (repeatable)
    #[arg(long = "id", value_name = "ID", conflicts_with_all = ["shed", "tag", "status", "agent"])]
    ids: Vec<String>,
    /// Select the sessions of this shed
    #[arg(long, value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    shed: Option<String>,
    /// Select the sessions with this tag
    #[arg(long)]
    tag: Option<String>,
    /// Select the sessions with this status
    #[arg(long)]
    status: Option<SessionStatus>,
    /// Select the sessions with a worker that runs this agent
    #[arg(long)]
    agent: Option<String>,
    /// For input: line to type, followed by Enter
    #[arg(long)]
    text: Option<String>,
    /// For tag: tag to add (repeatable)
    #[arg(long, value_name = "TAG")]
    add_tag: Vec<String>,
    /// For restart: agents continue their conversation
    #[arg(long = "continue")]
    continues: bool,
    /// For delete: delete uncommitted and unpushed work too
    #[arg(short, long)]
    force: bool,
    /// Show what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let request = request(args)?;
    let result = context.client()?.batch(&request).await?;
    context.out.data(&result, || rows(&result.items))?;
    if result.items.is_empty() && !context.out.is_json() {
        context.out.say("no session matches");
    }
    let failed = result.items.iter().find_map(|item| item.problem.as_ref());
    Ok(failed.map_or(0, |problem| problem.code.exit_status()))
}

fn request(args: Args) -> Result<Batch, Failure> {
    let filter = BatchFilter {
        shed: args.shed,
        tag: args.tag,
        status: args.status,
        agent: args.agent,
        all: false,
    };
    let filter = (filter != BatchFilter::default()).then_some(filter);
    if filter.is_none() && args.ids.is_empty() {
        // Leaving out all filters must not select every session of every shed.
        return Err(Failure::usage(
            "no sessions selected; expected --id, --shed, --tag, --status or --agent",
        ));
    }
    let check = |is_given: bool, op: BatchOp, flag: &str| match (is_given, args.op == op) {
        (true, false) => Err(Failure::usage(format!("{flag} is only for {op}"))),
        (false, true) => Err(Failure::usage(format!("{op} needs {flag}"))),
        _ => Ok(()),
    };
    check(args.text.is_some(), BatchOp::Input, "--text")?;
    check(!args.add_tag.is_empty(), BatchOp::Tag, "--add-tag")?;
    Ok(Batch {
        ids: args.ids,
        filter,
        op: args.op,
        dry_run: args.dry_run,
        force: args.force,
        continues: args.continues,
        text: args.text,
        tags: args.add_tag,
    })
}

fn rows(items: &[BatchItem]) -> String {
    let rows = items.iter().map(|item| {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let result = match &item.problem {
            Some(problem) => format!("{}: {}", problem.code.as_str(), problem.detail),
            None => or_dash(&item.effect),
        };
        let session = item.name.clone().unwrap_or_else(|| item.id.clone());
        vec![or_dash(&item.shed), printable(&session), printable(&result)]
    });
    table(&["SHED", "SESSION", "RESULT"], rows.collect())
}
