//! `shed stats`.

use clap_complete::ArgValueCandidates;
use shed_api::shed::StatsList;
use shed_api::size::show_size;

use super::each::each;
use crate::candidates::sheds;
use crate::context::Context;
use crate::failure::Outcome;
use crate::names;
use shed_report::table;

/// Show the CPU, memory and network usage of running sheds
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed stats
  shed stats web --json")]
pub(crate) struct Args {
    /// Sheds (default: all running)
    #[arg(value_name = "NAME", value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    names: Vec<String>,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    let mut list = StatsList { stats: Vec::new() };
    if args.names.is_empty() {
        list = client.all_stats().await?;
    }
    let ask = async |name: &str| {
        list.stats.push(client.stats(name).await?);
        Ok(())
    };
    let status = each(&args.names, context, ask).await;
    context.out.data(&list, || {
        let rows = list.stats.iter().map(|one| {
            vec![
                one.name.clone(),
                format!("{:.2}", one.cpus),
                format!("{} / {}", show_size(one.memory_bytes), show_size(one.memory_limit_bytes)),
                one.pids.to_string(),
                show_size(one.network_in_bytes),
                show_size(one.network_out_bytes),
            ]
        });
        table(&["SHED", "CPUS", "MEMORY", "PROCESSES", "NET IN", "NET OUT"], rows.collect())
    })?;
    Ok(status)
}
