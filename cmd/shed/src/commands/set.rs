//! `shed set`.

use clap_complete::ArgValueCandidates;
use shed_api::shed::PatchShed;

use crate::candidates::sheds;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;

/// Change limits and options of a shed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed set web --memory 8G --cpus 4
  shed set web --agent-forwarding true")]
pub(crate) struct Args {
    /// Shed
    #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    name: String,
    /// CPUs, for example 1.5
    #[arg(long, value_name = "N")]
    cpus: Option<f64>,
    /// Memory, for example 512M or 4G
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Maximum number of processes and threads
    #[arg(long, value_name = "N")]
    pids: Option<u32>,
    /// Allow ssh agent forwarding (`ssh -A`) into the shed
    #[arg(long, value_name = "true|false")]
    agent_forwarding: Option<bool>,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let request = PatchShed {
        cpus: args.cpus,
        memory: args.memory,
        pids: args.pids,
        allow_agent_forwarding: args.agent_forwarding,
    };
    if request == PatchShed::default() {
        return Err(Failure::usage("no change given").hint("shed set --help"));
    }
    let shed = context.client()?.patch(&args.name, &request).await?;
    context.out.say(&format!("shed {} was changed", args.name));
    context.out.data(&shed, String::new)?;
    Ok(0)
}
