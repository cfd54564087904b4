//! `shed batch`.

use shed_api::name::printable;
use shed_api::session::SessionStatus;
use shed_api::work::{Batch, BatchFilter, BatchItem, BatchOp};

use clap_complete::ArgValueCandidates;

use super::completions::sheds;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;
use shed_report::table;

/// Do one thing with many sessions
///
/// Sessions by their ids, or all for which everything said is so. Each is tried; the first that fails gives the exit
/// status.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed batch terminate --shed web --tag old --dry-run
  shed batch delete --shed web --status ended
  shed batch restart --agent claude --continue
  shed batch input --tag review --text 'go on'
  shed batch tag --status failed --add-tag look")]
pub(crate) struct Args {
    /// terminate, restart, delete, freeze, thaw, checkpoint, input or tag
    #[arg(value_name = "OP")]
    op: BatchOp,
    /// Session, by id
    #[arg(long = "id", value_name = "ID", conflicts_with_all = ["shed", "tag", "status", "agent"])]
    ids: Vec<String>,
    /// Those of this shed
    #[arg(long, value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    shed: Option<String>,
    /// Those with this tag
    #[arg(long)]
    tag: Option<String>,
    /// Those in this status
    #[arg(long)]
    status: Option<SessionStatus>,
    /// Those with a worker of this agent
    #[arg(long)]
    agent: Option<String>,
    /// For input: the line that is typed
    #[arg(long)]
    text: Option<String>,
    /// For tag: added to their tags
    #[arg(long, value_name = "TAG")]
    add_tag: Vec<String>,
    /// For restart: agents go on with their conversation
    #[arg(long = "continue")]
    continues: bool,
    /// For delete: also where work would be lost
    #[arg(short, long)]
    force: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let request = request(args)?;
    let result = context.client()?.batch(&request).await?;
    context.out.data(&result, || rows(&result.items))?;
    if result.items.is_empty() && !context.out.is_json() {
        context.out.say("there is no such session");
    }
    let failed = result.items.iter().find_map(|item| item.problem.as_ref());
    Ok(failed.map_or(0, |problem| problem.code.exit_status()))
}

fn request(args: Args) -> Result<Batch, Failure> {
    let filter =
        BatchFilter { shed: args.shed, tag: args.tag, status: args.status, agent: args.agent };
    let filter = (filter != BatchFilter::default()).then_some(filter);
    if filter.is_none() && args.ids.is_empty() {
        // Every session of every shed is nothing anybody says by leaving something out.
        return Err(Failure::usage("say which sessions: --id, --shed, --tag, --status or --agent"));
    }
    let needs = |needed: bool, op: BatchOp, flag: &str| {
        if needed == (args.op == op) {
            return Ok(());
        }
        Err(Failure::usage(format!("{op} and {flag} belong together")))
    };
    needs(args.text.is_some(), BatchOp::Input, "--text")?;
    needs(!args.add_tag.is_empty(), BatchOp::Tag, "--add-tag")?;
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
        let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let what = match &item.problem {
            Some(problem) => format!("{}: {}", problem.code.as_str(), problem.detail),
            None => known(&item.effect),
        };
        let session = item.name.clone().unwrap_or_else(|| item.id.clone());
        vec![known(&item.shed), printable(&session), printable(&what)]
    });
    table(&["SHED", "SESSION", "RESULT"], rows.collect())
}
