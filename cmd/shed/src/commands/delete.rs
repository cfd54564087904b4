//! `shed delete`.

use clap_complete::ArgValueCandidates;

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
            let sessions = counted(u64::from(shed.session_count), "session");
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
